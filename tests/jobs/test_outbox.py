"""The outbox: no end of a job without its deliveries, none before it; by which schedule, to whom, and until when."""

import json

import pytest
from redis.asyncio import Redis
from ulid import ULID

from jobs.config import Retention
from jobs.dead import DeadJobs
from jobs.record import JobError, State
from jobs.webhooks import EVENT_TYPES
from jobs.webhooks.endpoints import TooManyEndpointsError
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
from tests.jobs.post import URL, Post, own_url

HOUR_MS = 60 * MINUTE_MS
SCHEDULE_MS = [
    5 * SECOND_MS,
    5 * MINUTE_MS,
    30 * MINUTE_MS,
    2 * HOUR_MS,
    5 * HOUR_MS,
    10 * HOUR_MS,
    14 * HOUR_MS,
    20 * HOUR_MS,
    24 * HOUR_MS,
]


async def opened(server: Redis) -> tuple[Desk, Post]:
    desk = await Desk.open(server)
    return desk, await Post.open(desk)


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


async def test_attempts_follow_the_schedule_and_then_it_has_failed(server: Redis) -> None:
    desk, post = await opened(server)
    job_id = await post.finished_job(**own_url())
    sender = await post.sender()
    waits = []
    for _ in range(9):
        await sender.send("failed")
        due_ms = (await post.only()).next_attempt_ms
        assert due_ms is not None
        waits.append(due_ms - desk.clock.now_ms)
        desk.clock.now_ms = due_ms - 1
        await post.desk.redis.delete(*[key for key in await desk.keys() if key.startswith("receiver:")])
        assert await sender.take() == []
        desk.clock.advance(1)
    assert waits == SCHEDULE_MS
    await sender.send("failed")
    delivery = await post.only()
    assert (delivery.status, delivery.attempts, delivery.next_attempt_ms) == ("failed", 10, None)
    view, _ = await desk.store.read(ALICE, job_id)
    assert view is not None
    assert (view.webhook.status, view.webhook.attempts, view.webhook.last_status_code) == ("failed", 10, 500)
    assert 29 * DAY_MS < await server.pttl(f"delivery:{delivery.id}") <= 30 * DAY_MS
    assert 29 * DAY_MS < await server.pttl(f"job:{job_id}") <= 30 * DAY_MS
    check(await kept(server))


async def test_waits_are_spread_and_a_longer_retry_after_is_kept(server: Redis) -> None:
    desk, post = await opened(server)
    await post.finished_job(**own_url())
    sender = await post.sender()
    one = await sender.prepare(await sender.take_one())
    await sender.settle(one, "failed", spread=1.2)
    assert (await post.only()).next_attempt_ms == desk.clock.now_ms + 6 * SECOND_MS
    desk.clock.advance(6 * SECOND_MS)
    await sender.settle(await sender.take_one(), "failed", retry_after_ms=HOUR_MS)
    assert (await post.only()).next_attempt_ms == desk.clock.now_ms + HOUR_MS


async def test_a_settle_may_be_repeated_and_an_old_lease_changes_nothing(server: Redis) -> None:
    desk, post = await opened(server)
    await post.finished_job(**own_url())
    sender = await post.sender()
    first = await sender.prepare(await sender.take_one())
    assert await sender.settle(first, "failed")
    before = await desk.snapshot()
    assert await sender.settle(first, "failed")
    assert await desk.snapshot() == before
    desk.clock.advance(5 * SECOND_MS)
    second = await sender.take_one()
    before = await desk.snapshot()
    assert not await sender.settle(first, "delivered")
    assert await sender.outbox.prepare(first, b"other") is None
    assert await desk.snapshot() == before
    await sender.settle(second)


async def test_a_claim_that_is_repeated_gives_the_same_deliveries(server: Redis) -> None:
    _, post = await opened(server)
    await post.endpoint()
    for _ in range(3):
        await post.finished_job()
    sender = await post.sender()
    first = await sender.take(2)
    assert await sender.take_again(2) == first
    assert len(await sender.take(2)) == 1


@pytest.mark.parametrize("step", ["claimed", "prepared"])
async def test_what_a_dead_worker_had_is_sent_by_another_and_costs_its_receiver_nothing(
    server: Redis, step: str
) -> None:
    desk, post = await opened(server)
    job_id = await post.finished_job(**own_url())
    dead, other = await post.sender("s1"), await post.sender("s2")
    held = await dead.take_one()
    if step == "prepared":
        held = await dead.prepare(held)
    desk.clock.advance(LEASE_MS)
    await desk.store.sweep()
    [again] = await other.send()
    assert again.delivery.event_id == held.delivery.event_id
    if step == "prepared":
        assert again.body == held.body
    assert not await dead.settle(held, "failed")
    found = await post.deliveries.get(ALICE, again.delivery.id)
    assert found is not None
    delivery, attempts = found
    assert delivery.status == "delivered"
    assert [one.ours for one in attempts] == [True, False]
    view, _ = await desk.store.read(ALICE, job_id)
    assert view is not None
    assert view.webhook.status == "delivered"
    check(await kept(server))


async def test_a_delivery_that_takes_every_worker_with_it_waits_longer_each_time(server: Redis) -> None:
    desk, post = await opened(server)
    await post.finished_job(**own_url())
    waits = []
    for number in range(4):
        sender = await post.sender(f"s{number}")
        await sender.take_one()
        desk.clock.advance(LEASE_MS)
        await desk.store.sweep()
        due_ms = (await post.only()).next_attempt_ms
        assert due_ms is not None
        waits.append(due_ms - desk.clock.now_ms)
        desk.clock.now_ms = due_ms
    assert waits == [0, 10_000, 20_000, 40_000]


async def test_leases_run_on_while_they_are_renewed_and_an_outage_is_no_death(server: Redis) -> None:
    desk, post = await opened(server)
    await post.finished_job(**own_url())
    hand, sender = await desk.worker("s1"), await post.sender("s1")
    held = await sender.take_one()
    mine = (held.delivery.id, held.token)
    for _ in range(4):
        desk.clock.advance(LEASE_MS // 2)
        renewal = await hand.claims.renew([], slots=1, deliveries=[mine])
        assert renewal.lost == ()
        await desk.store.sweep()
    # Nobody is heard for longer than a lease: that is an outage of Redis, and counts for no lease.
    desk.clock.advance(2 * LEASE_MS)
    await desk.store.sweep()
    assert await sender.settle(held)
    assert (await hand.claims.renew([], slots=1, deliveries=[mine])).lost == (held.token,)


async def test_our_own_faults_are_not_charged_and_do_not_open_the_breaker(server: Redis) -> None:
    desk, post = await opened(server)
    await post.finished_job(**own_url())
    sender = await post.sender()
    waits = []
    for _ in range(8):
        await sender.send("ours")
        due_ms = (await post.only()).next_attempt_ms
        assert due_ms is not None
        waits.append((due_ms - desk.clock.now_ms) // 1000)
        desk.clock.now_ms = due_ms
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]
    await sender.send("failed")
    assert (await post.only()).next_attempt_ms == desk.clock.now_ms + 5 * SECOND_MS


async def test_a_lane_gets_four_at_once_and_lanes_take_turns(server: Redis) -> None:
    _, post = await opened(server)
    one, two = await post.endpoint(), await post.endpoint(url="https://b.example.com/")
    for _ in range(6):
        await post.finished_job()
    sender = await post.sender()
    taken = await sender.take(6)
    assert [sum(held.delivery.endpoint == lane.id for held in taken) for lane in (one, two)] == [3, 3]
    taken += await sender.take(10)
    assert [sum(held.delivery.endpoint == lane.id for held in taken) for lane in (one, two)] == [4, 4]
    assert await sender.take(10) == []
    await sender.settle(await sender.prepare(taken[0]))
    assert len(await sender.take(10)) == 1
    check(await kept(server))


async def test_a_user_with_many_urls_leaves_room_for_the_others(server: Redis) -> None:
    desk, post = await opened(server)
    for number in range(30):
        for _ in range(4):
            await post.finished_job(**own_url(url=f"https://h{number}.example.com/"))
    await post.finished_job(BOB, **own_url(BOB))
    sender = await post.sender()
    taken = await sender.take(200)
    desk.clock.advance(1)
    taken += await sender.take(200)
    assert sum(held.delivery.user == ALICE for held in taken) == 80
    assert sum(held.delivery.user == BOB for held in taken) == 1


async def test_after_five_failures_in_a_row_one_is_tried_at_growing_intervals(server: Redis) -> None:
    desk, post = await opened(server)
    await post.endpoint()
    sender = await post.sender()
    for _ in range(12):
        await post.finished_job()
    await sender.send("failed", slots=5)
    await sender.send("failed", slots=1)
    assert await sender.take() == []
    intervals = []
    for _ in range(8):
        before = desk.clock.now_ms
        while not (probe := await sender.take()):
            desk.clock.advance(5 * SECOND_MS)
        assert len(probe) == 1
        intervals.append((desk.clock.now_ms - before) // 1000)
        assert await sender.take() == []
        await sender.settle(await sender.prepare(probe[0]), "failed")
    assert intervals == [30, 60, 120, 240, 480, 960, 1800, 1800]
    tried = sum(one.attempts for one in await post.all())
    assert tried == 5 + 8
    desk.clock.advance(30 * MINUTE_MS)
    [probe_held] = await sender.take()
    await sender.settle(await sender.prepare(probe_held))
    assert len(await sender.take()) == 4
    check(await kept(server))


async def test_a_receiver_down_for_a_day_gets_everything_once_it_is_back(server: Redis) -> None:
    desk, post = await opened(server)
    await post.endpoint()
    sender = await post.sender()
    jobs = set()
    up_again_ms = desk.clock.now_ms + DAY_MS
    for _ in range(48):
        jobs.add(await post.finished_job())
        await sender.send("failed")
        desk.clock.advance(30 * MINUTE_MS)
    assert desk.clock.now_ms >= up_again_ms
    got: list[str | None] = []
    while len(got) < len(jobs):
        for one in await sender.send():
            got.append(one.delivery.job)
        assert desk.clock.now_ms < up_again_ms + 2 * DAY_MS, "the schedule should have been enough"
        desk.clock.advance(5 * MINUTE_MS)
    assert sorted(map(str, got)) == sorted(jobs)
    assert {one.status for one in await post.all()} == {"delivered"}


async def test_what_waits_behind_a_breaker_burns_no_attempts_and_its_schedule_ends(server: Redis) -> None:
    desk, post = await opened(server)
    await post.endpoint()
    sender = await post.sender()
    for _ in range(6):
        await post.finished_job()
    await sender.send("failed", slots=4)
    await sender.send("failed", slots=1)
    waiting = (await post.all())[-1]
    assert waiting.attempts == 0
    desk.clock.advance(4 * DAY_MS)
    await desk.store.sweep()
    ended = (await post.all())[-1]
    assert (ended.status, ended.attempts) == ("failed", 0)
    assert ended.reason is not None
    assert await server.pttl(f"job:{ended.job}") > 29 * DAY_MS
    check(await kept(server))


async def test_410_puts_a_registered_endpoint_out_of_use_until_it_is_enabled(server: Redis) -> None:
    desk, post = await opened(server)
    endpoint = await post.endpoint()
    sender = await post.sender()
    for _ in range(2):
        await post.finished_job()
    await sender.settle(await sender.prepare((await sender.take(1))[0]), "gone")
    found = await post.endpoints.get(ALICE, endpoint.id)
    assert found is not None
    assert "410" in found.disabled
    await post.finished_job()
    assert len(await post.all()) == 2
    desk.clock.advance(10 * MINUTE_MS)
    assert await sender.take() == []
    check(await kept(server))
    await post.endpoints.change(ALICE, endpoint.id, {"disabled": ""})
    assert len(await sender.send()) == 2
    await post.finished_job()
    assert len(await post.all()) == 3


async def test_the_deliveries_of_a_deleted_endpoint_fail(server: Redis) -> None:
    _, post = await opened(server)
    endpoint = await post.endpoint()
    sender = await post.sender()
    for _ in range(3):
        await post.finished_job()
    held = (await sender.take(1))[0]
    assert await post.endpoints.delete(ALICE, endpoint.id)
    assert await sender.take() == []
    assert {one.status for one in await post.all()} == {"pending", "failed"}
    await sender.settle(await sender.prepare(held), "failed")
    assert await sender.take() == []
    statuses = [one.status for one in await post.all()]
    assert statuses.count("failed") == 2
    assert await post.deliveries.redeliver(ALICE, (await post.all())[-1].id) == "deleted"
    assert await post.endpoints.get(ALICE, endpoint.id) is None


async def test_a_failed_delivery_can_be_sent_again_by_a_new_schedule(server: Redis) -> None:
    desk, post = await opened(server)
    endpoint = await post.endpoint()
    sender = await post.sender()
    for _ in range(3):
        await post.finished_job()
    desk.clock.advance(4 * DAY_MS)
    await desk.store.sweep()
    assert {one.status for one in await post.all()} == {"failed"}
    one, *_ = await post.all()
    again = await post.deliveries.redeliver(ALICE, one.id)
    assert not isinstance(again, str)
    assert (again.status, again.attempts) == ("pending", 0)
    assert await post.endpoints.get(BOB, endpoint.id) is None
    assert await post.deliveries.recover(BOB, endpoint.id, since_ms=0) is None
    assert await post.deliveries.recover(ALICE, endpoint.id, since_ms=desk.clock.now_ms) == 0
    assert await post.deliveries.recover(ALICE, endpoint.id, since_ms=desk.clock.now_ms - 5 * DAY_MS) == 2
    assert len(await sender.send()) == 3
    assert {one.status for one in await post.all()} == {"delivered"}
    check(await kept(server))


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


async def test_a_user_may_have_twenty_endpoints_and_his_list_is_his(server: Redis) -> None:
    _, post = await opened(server)
    made = [(await post.endpoint()).id for _ in range(20)]
    with pytest.raises(TooManyEndpointsError):
        await post.endpoint()
    await post.endpoint(BOB)
    page, more = await post.endpoints.list(ALICE, limit=15, after=None)
    rest, end = await post.endpoints.list(ALICE, limit=15, after=page[-1].id)
    assert (more, end) == (True, False)
    assert sorted(one.id for one in (*page, *rest)) == sorted(made)
    assert {one.event_types for one in page} == {EVENT_TYPES}


async def test_a_secret_is_readable_with_the_pepper_alone_and_signs_on_for_a_day_if_asked(
    server: Redis,
) -> None:
    desk, post = await opened(server)
    endpoint, first = await post.endpoints.create(
        ALICE, f"we_{ULID()}", url=URL, event_types=EVENT_TYPES, name=""
    )
    rotated = await post.endpoints.rotate(ALICE, endpoint.id, keep_old=True)
    assert rotated is not None
    default = await post.endpoints.rotate(ALICE, None, keep_old=False)
    assert default is not None
    stored = str(await desk.snapshot())
    for secret in (first, rotated[1], default[1]):
        assert secret not in stored
        assert secret.removeprefix("whsec_") not in stored
    sender = await post.sender()
    await post.finished_job()
    [held] = await sender.send("failed")
    assert [post.box.open(one, ALICE) for one in (held.secret, held.old_secret)] == [rotated[1], first]
    desk.clock.advance(DAY_MS)
    [held] = await sender.send("failed")
    assert (post.box.open(held.secret, ALICE), held.old_secret) == (rotated[1], "")
    await post.endpoints.rotate(ALICE, endpoint.id, keep_old=False)
    desk.clock.advance(DAY_MS)
    [held] = await sender.send()
    assert held.old_secret == ""
    assert await post.endpoints.rotate(BOB, endpoint.id, keep_old=True) is None


async def test_a_user_without_a_default_secret_gets_one_with_the_first_delivery(server: Redis) -> None:
    _, post = await opened(server)
    for _ in range(2):
        await post.finished_job(**own_url())
    sender = await post.sender()
    first, second = await sender.take()
    ready, also = await sender.prepare(first), await sender.prepare(second)
    assert ready.secret == also.secret != ""
    assert post.box.open(ready.secret, ALICE).startswith("whsec_")


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
