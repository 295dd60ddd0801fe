"""The attempts of a delivery: by which schedule, under whose lease, how many at once, and when one is spared."""

import pytest
from redis.asyncio import Redis

from tests.jobs.builders import (
    ALICE,
    BOB,
    DAY_MS,
    LEASE_MS,
    MINUTE_MS,
    SECOND_MS,
)
from tests.jobs.invariants import check, kept
from tests.jobs.post import opened, own_url

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
