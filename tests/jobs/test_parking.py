"""Lanes set aside until what they wait for can have changed: a budget, or a free place among the user's own."""

from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from jobs.config import Anonymous, Tier
from jobs.record import ClaimedJob, JobView
from tests.jobs.builders import (
    ALICE,
    BOB,
    MINUTE_MS,
    Desk,
    Hand,
    config,
)


async def test_a_user_at_his_concurrency_is_parked_until_one_of_his_jobs_ends(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, max_concurrent=2)
    for _ in range(4):
        await desk.submit(ALICE)
    await desk.submit(BOB)
    hand = await desk.worker()
    taken = await hand.take(10)
    assert sorted(job.user for job in taken) == [ALICE, ALICE, BOB]
    assert await desk.hash("parked:alice") == {"m": "concurrency"}
    await desk.submit(ALICE)
    assert await desk.hash("parked:alice") == {"m": "concurrency"}
    assert await desk.scores("fair:ready:lanes:m") == {}
    assert await hand.take(10) == []
    await hand.succeed(next(job for job in taken if job.user == ALICE))
    assert [job.user for job in await hand.take(10)] == [ALICE]
    await hand.put_back(next(job for job in reversed(taken) if job.user == ALICE), after_ms=MINUTE_MS)
    assert [job.user for job in await hand.take(10)] == [ALICE]
    assert (await desk.limits()).running == 2


async def test_a_raised_concurrency_lets_the_next_job_go(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, max_concurrent=1)
    await desk.submit()
    await desk.submit()
    hand = await desk.worker()
    assert len(await hand.take(2)) == 1
    await desk.user(ALICE, max_concurrent=2)
    assert len(await hand.take(2)) == 1


async def parked_for_its_budget(desk: Desk) -> tuple[Hand, ClaimedJob, JobView]:
    """Alice's job of 80 of 100 tokens runs, and one of 50 has been parked."""
    await desk.user(ALICE, tokens_per_day=100)
    await desk.submit(tokens=80)
    hand = await desk.worker()
    running = await hand.take_one()
    waiting = await desk.submit(tokens=50, on_budget="wait")
    assert await hand.take() == []
    assert await desk.hash("parked:alice") == {"m": "user_budget"}
    assert await desk.scores("midnight") == {ALICE: desk.clock.midnight_ms}
    return hand, running, waiting


async def settled(desk: Desk, hand: Hand, running: ClaimedJob) -> None:
    await hand.succeed(running, 50)


async def released(desk: Desk, hand: Hand, running: ClaimedJob) -> None:
    await hand.fail(running)


async def raised(desk: Desk, hand: Hand, running: ClaimedJob) -> None:
    await desk.user(ALICE, tokens_per_day=130)


async def at_midnight(desk: Desk, hand: Hand, running: ClaimedJob) -> None:
    await hand.renew(running)
    desk.clock.advance(desk.clock.midnight_ms - desk.clock.now_ms)


@pytest.mark.parametrize("change", [settled, released, raised, at_midnight])
async def test_a_job_parked_for_its_budget_goes_when_that_has_room(
    server: Redis, change: Callable[[Desk, Hand, ClaimedJob], Awaitable[None]]
) -> None:
    desk = await Desk.open(server)
    hand, running, waiting = await parked_for_its_budget(desk)
    await change(desk, hand, running)
    taken = await hand.take()
    assert [job.id for job in taken] == [waiting.id]
    assert await desk.hash("parked:alice") == {}
    assert await desk.scores("midnight") == {}


async def test_a_job_parked_for_its_budget_goes_when_a_promise_is_cancelled(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, tokens_per_day=100)
    promised = await desk.submit(tokens=80, not_before_ms=desk.clock.now_ms + MINUTE_MS)
    waiting = await desk.submit(tokens=50, on_budget="wait")
    hand = await desk.worker()
    assert await hand.take() == []
    await desk.store.cancel(ALICE, promised.id)
    assert (await hand.take_one()).id == waiting.id


async def test_a_job_that_has_its_turn_in_a_lane_parked_for_a_larger_one_goes(server: Redis) -> None:
    desk = await Desk.open(server)
    hand, _, _ = await parked_for_its_budget(desk)
    await desk.submit(tokens=10, on_budget="wait")
    assert await hand.take() == []
    smaller = await desk.submit(tokens=20, on_budget="wait", priority="batch")
    assert (await hand.take_one()).id == smaller.id


async def test_a_job_parked_for_its_budget_goes_when_its_tiers_limit_is_raised(server: Redis) -> None:
    tiers = {"small": Tier(tokens_per_day=100)}
    desk = await Desk.open(server, config(tiers=tiers))
    await desk.users.create("carol", "small", {})
    await desk.submit("carol", tokens=100)
    waiting = await desk.submit("carol", tokens=100, on_budget="wait")
    hand = await desk.worker()
    await hand.take_one()
    assert await hand.take() == []
    await desk.store.publish(config(tiers={"small": Tier(tokens_per_day=200)}))
    assert (await hand.take_one()).id == waiting.id


async def test_however_many_are_parked_all_are_looked_at_again_when_limits_change(server: Redis) -> None:
    """Far more than one script looks at: the sweeps go on where the change of the configuration left off."""
    desk = await Desk.open(server, config(tiers={"small": Tier(tokens_per_day=100)}))
    users = [f"user{n}" for n in range(12)]
    for user in users:
        await desk.users.create(user, "small", {})
        await desk.submit(user, tokens=100, not_before_ms=desk.clock.now_ms + MINUTE_MS)
        await desk.submit(user, tokens=100, on_budget="wait")
    hand = await desk.worker()
    assert await hand.take(20) == []
    others = {f"other{n}": desk.clock.midnight_ms for n in range(1500)}
    await server.zadd("midnight", others)
    await desk.store.publish(config(tiers={"small": Tier(tokens_per_day=200)}))
    for _ in range(5):
        await desk.store.sweep()
    assert {job.user for job in await hand.take(20)} == set(users)
    assert "relook" not in await desk.keys()


async def test_waiting_jobs_hold_their_tokens_of_the_day_on_which_they_are_claimed(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, tokens_per_day=100)
    await desk.submit(tokens=60, on_budget="wait")
    await desk.submit(tokens=60, on_budget="wait")
    hand = await desk.worker()
    job = await hand.take_one()
    assert (await desk.limits()).tokens_reserved == 60
    assert await hand.take() == []
    today = desk.clock.day
    desk.clock.advance(desk.clock.midnight_ms - desk.clock.now_ms)
    await hand.renew(job)
    other = await hand.take_one()
    assert (await desk.tokens(), await desk.tokens(day=today)) == (60, 60)
    await hand.succeed(job, 10)
    await hand.succeed(other, 20)
    assert (await desk.tokens(), await desk.tokens(day=today)) == (20, 10)


async def test_jobs_that_wait_for_a_budget_never_stand_in_the_way_of_promised_ones(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, tokens_per_day=100)
    holding = await desk.submit(tokens=60, not_before_ms=desk.clock.now_ms + MINUTE_MS)
    waiting = await desk.submit(tokens=50, on_budget="wait")
    first = await desk.submit(tokens=20)
    hand = await desk.worker()
    assert [job.id for job in await hand.take(5)] == [first.id]
    assert await desk.hash("parked:alice") == {"m": "user_budget"}
    second = await desk.submit(tokens=20)
    assert [job.id for job in await hand.take(5)] == [second.id]
    assert await desk.hash("parked:alice") == {"m": "user_budget"}
    await desk.store.cancel(ALICE, holding.id)
    assert [job.id for job in await hand.take(5)] == [waiting.id]


async def test_a_waiting_job_of_an_anonymous_user_takes_of_both_budgets(server: Redis) -> None:
    desk = await Desk.open(
        server,
        config(tiers={"guest": Tier()}, anonymous=Anonymous(tier="guest", tokens_per_day=100)),
    )
    await desk.submit("ip:192.0.2.1", tokens=70, on_budget="wait")
    await desk.submit("ip:192.0.2.2", tokens=70, on_budget="wait")
    hand = await desk.worker()
    job = await hand.take_one()
    assert (await desk.tokens(job.user), await desk.tokens("ip:all")) == (70, 70)
    assert await hand.take() == []
    await hand.succeed(job, 30)
    assert (await desk.tokens(job.user), await desk.tokens("ip:all")) == (30, 30)
    assert len(await hand.take()) == 1
