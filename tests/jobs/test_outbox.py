"""The outbox: no end of a job without its deliveries, none before it; to whom, with which bytes, and for how long."""

import json

from redis.asyncio import Redis

from jobs.config import Retention
from jobs.dead import DeadJobs
from jobs.record import JobError, State
from jobs.webhooks.outbox import Outcome
from tests.jobs.builders import (
    ALICE,
    BOB,
    DAY_MS,
    LEASE_MS,
    MINUTE_MS,
    SECOND_MS,
    Desk,
    config,
)
from tests.jobs.invariants import check, check_at_rest, kept
from tests.jobs.post import URL, Post, opened, own_url

HOUR_MS = 60 * MINUTE_MS


async def test_a_job_that_nobody_wants_to_hear_of_leaves_nothing_in_the_outbox(server: Redis) -> None:
    desk, post = await opened(server)
    await post.endpoint(ALICE, "job.failed")
    await post.endpoint(BOB)
    await post.finished_job()
    assert await post.all() == []
    assert not {key for key in await desk.keys() if key.startswith(("outbox", "delivery", "deliveries"))}


async def test_every_way_to_end_is_told_in_the_step_that_ends_the_job(server: Redis) -> None:
    desk, post = await opened(server)
    await post.endpoint()
    hand = await desk.worker()
    succeeded, failed, lost, _ = [await desk.submit(retry="never") for _ in range(4)]
    jobs = {job.id: job for job in await hand.take(3)}
    await hand.succeed(jobs[succeeded.id])
    await hand.fail(jobs[failed.id])
    await post.finished_job()
    expired = await desk.submit(expires_after_ms=MINUTE_MS, not_before_ms=desk.clock.now_ms + DAY_MS)
    assert [one.event_type for one in await post.all()] == ["job.succeeded", "job.failed", "job.cancelled"]
    desk.clock.advance(MINUTE_MS)
    await desk.store.sweep()
    desk.clock.advance(LEASE_MS)
    await desk.store.sweep()
    told = {str(one.job): one.event_type for one in await post.all()}
    assert told[expired.id] == "job.expired"
    assert told[lost.id] == "job.failed"
    assert len(told) == 5
    for one in await post.all():
        assert one.event_id == f"evt_{str(one.job)[4:]}"
    check(await kept(server))


async def test_a_jobs_own_url_takes_the_place_of_the_registered_endpoints(server: Redis) -> None:
    _, post = await opened(server)
    await post.endpoint(url="https://else.example.com/")
    await post.finished_job(**own_url())
    delivery = await post.only()
    assert (delivery.endpoint, delivery.url) == (None, URL)


async def test_each_endpoint_that_wants_it_gets_the_same_event(server: Redis) -> None:
    _, post = await opened(server)
    first, second = await post.endpoint(), await post.endpoint(ALICE, "job.cancelled")
    await post.endpoint(ALICE, "job.succeeded")
    await post.finished_job()
    sent = await (await post.sender()).send()
    assert {one.delivery.endpoint for one in sent} == {first.id, second.id}
    assert len({one.body for one in sent}) == 1
    assert len({one.delivery.event_id for one in sent}) == 1


async def test_a_delivery_ends_with_a_2xx_and_the_job_tells_so(server: Redis) -> None:
    desk, post = await opened(server)
    job = await desk.submit(**own_url())
    assert (await desk.read(job)).webhook.status == "pending"
    await desk.store.cancel(ALICE, job.id)
    hook = (await desk.read(job)).webhook
    assert (hook.status, hook.attempts, hook.next_attempt_ms) == ("pending", 0, desk.clock.now_ms)
    sender = await post.sender()
    await sender.send()
    hook = (await desk.read(job)).webhook
    assert (hook.status, hook.attempts, hook.last_status_code) == ("delivered", 1, 204)
    assert hook.next_attempt_ms is None
    assert await sender.take() == []
    check(await kept(server))


async def test_every_attempt_sends_the_bytes_of_the_first_under_one_id(server: Redis) -> None:
    desk, post = await opened(server)
    hand = await desk.worker()
    await desk.submit(custom_id="row-1", metadata={"k": "ü"}, **own_url())
    await hand.succeed(await hand.take_one(), result=b'{"choices": [] }')
    sender = await post.sender()
    [first] = await sender.send("failed")
    desk.clock.advance(5 * SECOND_MS)
    again = await sender.take_one()
    assert again.job is None
    assert (again.body, again.delivery.event_id) == (first.body, first.delivery.event_id)
    body = json.loads(first.body)
    assert body["id"] == first.delivery.event_id
    assert (body["object"], body["type"]) == ("event", "job.succeeded")
    assert body["data"]["custom_id"] == "row-1"
    assert body["data"]["result"] == {"choices": []}
    assert "webhook" not in body["data"]
    assert b'"result":{"choices": [] }' in first.body


async def test_a_large_result_is_told_by_its_address(server: Redis) -> None:
    desk, post = await opened(server)
    hand = await desk.worker()
    job = await desk.submit(**own_url())
    await hand.succeed(await hand.take_one(), result=b'"%s"' % (b"x" * 262_144))
    [sent] = await (await post.sender()).send()
    assert len(sent.body) < 4096
    data = json.loads(sent.body)["data"]
    assert data["result_url"] == f"/v1/jobs/{job.id}"
    assert "result" not in data


async def test_a_test_event_goes_the_same_way_before_all_others_and_once(server: Redis) -> None:
    _, post = await opened(server)
    endpoint = await post.endpoint()
    sender = await post.sender()
    for _ in range(6):
        await post.finished_job()
    await sender.send("failed", slots=4)
    await sender.send("failed", slots=1)
    assert await sender.take() == []
    event = {"delivery_id": f"dlv_{'0' * 26}_0", "event_id": f"evt_{'0' * 26}"}
    made = await post.endpoints.test(ALICE, endpoint.id, **event, kind="job.succeeded", body=b"{}")
    assert made is not None
    assert await post.endpoints.test(BOB, endpoint.id, **event, kind="job.succeeded", body=b"{}") is None
    [held] = await sender.take()
    assert (held.delivery.id, held.body) == (made.id, b"{}")
    await sender.settle(held, "failed")
    found = await post.deliveries.get(ALICE, made.id)
    assert found is not None
    assert (found[0].status, found[0].attempts) == ("failed", 1)
    assert found[1][0].answer == "told"
    check(await kept(server))


async def test_erasing_a_job_erases_its_deliveries_at_whatever_they_are(server: Redis) -> None:
    desk, post = await opened(server)
    sender = await post.sender()
    states = []
    for step in ("waiting", "under way", "delivered"):
        job_id = await post.finished_job(**own_url(url=f"https://{len(step)}.example.com/"))
        if step != "waiting":
            held = next(one for one in await sender.take() if one.delivery.job == job_id)
            ready = await sender.prepare(held)
            if step == "delivered":
                await sender.settle(ready)
            states.append(held)
        await desk.store.erase(ALICE, job_id)
        if step == "under way":
            assert not await sender.settle(ready)
        check(await kept(server))
    assert await post.all() == []
    assert not {key for key in await desk.keys() if key.startswith(("outbox", "delivery:"))}


async def test_a_record_lives_as_long_as_something_of_it_may_be_sent(server: Redis) -> None:
    desk = await Desk.open(server, config(retention=Retention(jobs_s=60)))
    post = await Post.open(desk)
    job_id = await post.finished_job(**own_url())
    assert await server.pttl(f"job:{job_id}") > 4 * DAY_MS
    assert await server.pttl("jobs:alice") > 4 * DAY_MS
    await (await post.sender()).send()
    assert 59 * MINUTE_MS < await server.pttl(f"job:{job_id}") <= HOUR_MS
    assert 59 * MINUTE_MS < await server.pttl(f"delivery:{(await post.only()).id}") <= HOUR_MS


async def test_lists_are_of_one_user_of_one_job_and_by_status(server: Redis) -> None:
    _, post = await opened(server)
    await post.endpoint()
    await post.endpoint()
    await post.endpoint(BOB)
    first = await post.finished_job()
    sender = await post.sender()
    await sender.send()
    second = await post.finished_job()
    await post.finished_job(BOB)
    found, more = await post.deliveries.list(ALICE, limit=10, job_id=first)
    assert ([one.status for one in found], more) == (["delivered", "delivered"], False)
    found, _ = await post.deliveries.list(ALICE, limit=10, status="pending")
    assert [one.job for one in found] == [second, second]
    page, more = await post.deliveries.list(ALICE, limit=3)
    assert (len(page), more) == (3, True)
    rest, more = await post.deliveries.list(ALICE, limit=3, after=page[-1].id)
    assert (len(rest), more) == (1, False)
    bobs = await post.only(BOB)
    assert await post.deliveries.get(ALICE, bobs.id) is None
    assert await post.deliveries.redeliver(ALICE, bobs.id) == "not_found"
    assert await post.deliveries.list(ALICE, limit=3, job_id=str(bobs.job)) == ([], False)


async def test_when_all_is_delivered_nothing_is_left_but_what_expires(server: Redis) -> None:
    desk, post = await opened(server)
    await post.endpoint()
    sender = await post.sender()
    await post.finished_job()
    await post.finished_job(**own_url(url="https://own.example.com/"))
    held = await sender.take()
    await sender.settle(await sender.prepare(held[0]), "failed")
    await sender.settle(await sender.prepare(held[1]))
    desk.clock.advance(MINUTE_MS)
    await sender.send()
    hand = await desk.worker("s1")
    await hand.claims.goodbye()
    await desk.store.sweep()
    await check_at_rest(server)


async def test_a_replayed_job_tells_the_same_receiver(server: Redis) -> None:
    desk = await Desk.open(server)
    hand = await desk.worker()
    await desk.submit(**own_url())
    error = JobError("provider_failed", "five times", 1, 500)
    held = await hand.take_one()
    await hand.claims.settle(held, State.FAILED, charge=None, window="kept", error=error, replayable=True)
    dead = DeadJobs(server, clock=desk.clock)
    await dead.start()
    again = await dead.replay(held.id, desk.id())
    assert again is not None
    assert (again.webhook_url, again.webhook_lane) == tuple(own_url().values())


async def test_what_attempts_come_to_is_counted(server: Redis) -> None:
    desk, post = await opened(server)
    endpoint = await post.endpoint()
    sender = await post.sender()
    outcomes: tuple[Outcome, ...] = ("failed", "ours", "delivered")
    for outcome in outcomes:
        await post.finished_job()
        assert len(await sender.send(outcome)) == 1
    await post.endpoints.delete(ALICE, endpoint.id)
    desk.clock.advance(MINUTE_MS)
    assert await sender.take() == []
    await desk.store.sweep()
    counted = await desk.hash("figures")
    told = {name: int(n) for name, n in counted.items() if name.startswith("delivery ")}
    assert told == {"delivery retried": 2, "delivery delivered": 1, "delivery failed": 2}
