"""A claim: whose turn it is, what is reserved for it, and what a worker is told when there is nothing for it."""

import pytest
from redis.asyncio import Redis

from jobs.config import Model
from jobs.record import ClaimedJob, State
from tests.jobs.builders import (
    ALICE,
    LEASE_MS,
    MINUTE_MS,
    POOL,
    SECOND_MS,
    Desk,
    Hand,
    config,
    provider,
)

LONGEST_WAIT_MS = SECOND_MS
"""A claim that finds nothing never tells a worker to sleep longer."""


async def test_one_claim_takes_as_many_jobs_as_there_are_slots(server: Redis) -> None:
    desk = await Desk.open(server)
    submitted = [await desk.submit() for _ in range(5)]
    hand = await desk.worker()
    first = await hand.take(3)
    assert [job.id for job in first] == [job.id for job in submitted[:3]]
    assert len({job.token for job in first}) == 3
    assert [job.id for job in await hand.take(3)] == [job.id for job in submitted[3:]]
    assert (await hand.claim(3)).jobs == ()


async def test_a_claimed_job_runs_with_a_lease_and_is_counted_as_running(server: Redis) -> None:
    desk = await Desk.open(server)
    queued = await desk.submit(tokens=300)
    desk.clock.advance(70)
    job = await (await desk.worker("w9")).take_one()
    view = await desk.read(job)
    assert (view.state, view.attempts, view.started_ms) == (State.RUNNING, 1, desk.clock.now_ms)
    assert (view.blocked_on, view.position, view.estimated_start_ms) == (None, None, None)
    assert view.version > queued.version
    assert (job.pool, job.attempt, job.cancel_requested) == (POOL, 1, False)
    limits = await desk.limits()
    assert (limits.running, limits.queued_jobs, limits.queued_tokens) == (1, 0, 0)
    assert await desk.scores("leases") == {f"{job.id} {job.token}": desk.clock.now_ms + LEASE_MS}


async def test_the_same_claim_repeated_gives_the_same_jobs_and_reserves_nothing_twice(server: Redis) -> None:
    desk = await Desk.open(server, config(providers={"p": provider(tokens=10_000, requests=100)}))
    for _ in range(5):
        await desk.submit(on_budget="wait")
    hand = await desk.worker()
    first = await hand.claim(3)
    before = await desk.snapshot()
    again = await hand.claim_again(3)
    assert again.jobs == first.jobs
    assert await desk.snapshot() == before


async def test_a_repeated_claim_leaves_out_what_has_ended_meanwhile(server: Redis) -> None:
    desk = await Desk.open(server)
    for _ in range(3):
        await desk.submit()
    hand = await desk.worker()
    ended, back, running = await hand.take(3)
    await hand.succeed(ended)
    await hand.put_back(back)
    assert (await hand.claim_again(3)).jobs == (running,)


async def test_two_workers_never_get_the_same_job(server: Redis) -> None:
    desk = await Desk.open(server)
    for _ in range(4):
        await desk.submit()
    first, second = await desk.worker(), await desk.worker()
    taken = [*await first.take(2), *await second.take(2)]
    assert len({job.id for job in taken}) == 4


async def test_a_full_window_of_the_model_takes_nothing_of_the_providers(server: Redis) -> None:
    small = {"m": Model(tokens_per_minute=100)}
    desk = await Desk.open(server, config(providers={"p": provider("n", tokens=1000, of_model=small)}))
    await desk.user(ALICE, tokens_per_day=10_000, max_concurrent=5)
    await desk.submit(tokens=80)
    await desk.submit(tokens=80, on_budget="wait")
    hand = await desk.worker()
    await hand.take_one()
    held = await desk.snapshot()
    assert await hand.take() == []
    assert (await desk.window("p"), await desk.window(POOL)) == ((80, 0, 1), (80, 0, 1))
    after = await desk.snapshot()
    for key in ("queue:alice", "receipts", "leases", f"tokens:alice:{desk.clock.day}"):
        assert after[key] == held[key]
    await desk.submit(tokens=500, name="n")
    assert (await hand.take_one()).pool == "p/n"
    assert (await desk.window("p"), await desk.window(POOL)) == ((580, 0, 2), (80, 0, 1))


async def test_a_full_window_of_the_provider_takes_nothing_of_the_models(server: Redis) -> None:
    small = {"m": Model(tokens_per_minute=1000, requests_per_minute=10)}
    desk = await Desk.open(server, config(providers={"p": provider(tokens=100, of_model=small)}))
    await desk.submit(tokens=80)
    await desk.submit(tokens=80)
    hand = await desk.worker()
    assert len(await hand.take(2)) == 1
    assert (await desk.window("p"), await desk.window(POOL)) == ((80, 0, 1), (80, 0, 1))


async def found_exactly(desk: Desk, hand: Hand) -> ClaimedJob:
    """The next job, found at the very ms that the claims before it named, and not sooner."""
    while not (claim := await hand.claim()).jobs:
        assert 1 <= claim.wait_ms <= LONGEST_WAIT_MS
        desk.clock.advance(claim.wait_ms - 1)
        assert (await hand.claim()).jobs == ()
        desk.clock.advance(1)
    return claim.jobs[0]


@pytest.mark.parametrize(("tokens", "requests"), [(100, None), (None, 1)])
async def test_a_full_window_tells_the_exact_time_until_it_has_room(
    server: Redis, tokens: int | None, requests: int | None
) -> None:
    desk = await Desk.open(server, config(providers={"p": provider(tokens=tokens, requests=requests)}))
    desk.clock.advance(137)
    await desk.submit(tokens=60)
    second = await desk.submit(tokens=60)
    hand = await desk.worker()
    await hand.succeed(await hand.take_one())
    began = desk.clock.now_ms
    desk.clock.advance(MINUTE_MS)
    assert (await found_exactly(desk, hand)).id == second.id
    # A part-slice counts in full, and the margin of a second.
    assert desk.clock.now_ms == began - 137 + 500 + MINUTE_MS + SECOND_MS


async def test_a_job_for_later_is_found_exactly_then(server: Redis) -> None:
    desk = await Desk.open(server)
    job = await desk.submit(not_before_ms=desk.clock.now_ms + 2345)
    hand = await desk.worker()
    assert (await found_exactly(desk, hand)).id == job.id
    assert desk.clock.now_ms == job.created_ms + 2345


async def test_a_job_between_attempts_is_found_exactly_when_its_backoff_ends(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit()
    hand = await desk.worker()
    job = await hand.take_one()
    await hand.put_back(job, after_ms=1789)
    began = desk.clock.now_ms
    assert (await found_exactly(desk, hand)).attempt == 2
    assert desk.clock.now_ms == began + 1789


async def test_a_time_in_the_past_is_now(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit(not_before_ms=desk.clock.now_ms - 1)
    await desk.submit(not_before_ms=desk.clock.now_ms)
    assert len(await (await desk.worker()).take(2)) == 2


async def test_a_worker_with_free_slots_is_asleep_and_a_busy_one_is_not(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit()
    await desk.submit()
    hand = await desk.worker("w1")
    await hand.take(1)
    assert await desk.scores("asleep") == {}
    await hand.take(2)
    assert (await desk.scores("asleep"))["w1"] >= desk.clock.now_ms + LONGEST_WAIT_MS
    await desk.submit()
    await hand.take(1)
    assert await desk.scores("asleep") == {}


async def test_a_claim_that_leaves_work_behind_wakes_another_worker(server: Redis) -> None:
    desk = await Desk.open(server)
    sleeper = await desk.worker()
    await sleeper.claim()
    for _ in range(3):
        await desk.submit()
    await desk.redis.delete("wake")  # the token was lost
    await (await desk.worker()).take(2)
    assert await desk.length("wake") == 1


async def test_a_settle_wakes_a_sleeper_and_a_sleeper_that_is_gone_gets_no_token(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit()
    busy, sleeper = await desk.worker(), await desk.worker()
    job = await busy.take_one()
    await sleeper.claim()
    desk.clock.advance(MINUTE_MS)
    await desk.store.cancel(ALICE, (await desk.submit()).id)
    assert await desk.length("wake") == 0
    await sleeper.claim()
    await busy.succeed(job)
    assert await desk.length("wake") == 1


async def test_a_job_whose_model_is_no_longer_served_fails_at_its_turn(server: Redis) -> None:
    desk = await Desk.open(server, config(providers={"p": provider("m", "n")}))
    await desk.user(ALICE, tokens_per_day=100)
    job = await desk.submit(tokens=100)
    await desk.store.publish(config(providers={"p": provider("n")}))
    assert await (await desk.worker()).take() == []
    view = await desk.read(job)
    assert view.error is not None
    assert (view.state, view.error.code, view.error.attempt) == (State.FAILED, "unknown_model", None)
    limits = await desk.limits()
    assert (limits.tokens_remaining, limits.queued_jobs) == (100, 0)


async def test_a_job_that_a_lowered_limit_can_never_hold_fails_at_its_turn(server: Redis) -> None:
    desk = await Desk.open(server, config(providers={"p": provider(tokens=1000)}))
    large, small = await desk.submit(tokens=600), await desk.submit(tokens=500)
    await desk.store.publish(config(providers={"p": provider(tokens=500)}))
    assert (await (await desk.worker()).take_one()).id == small.id
    error = (await desk.read(large)).error
    assert error is not None
    assert error.code == "job_too_large"


async def test_a_route_goes_to_its_next_pool_where_the_first_is_full(server: Redis) -> None:
    desk = await Desk.open(
        server,
        config(
            providers={"p": provider(tokens=100), "q": provider("n", tokens=100)},
            routes={"best": ("p/m", "q/n")},
        ),
    )
    for _ in range(3):
        await desk.submit(tokens=60, name="best")
    hand = await desk.worker()
    assert [job.pool for job in await hand.take(3)] == ["p/m", "q/n"]
    assert (await desk.window("p"), await desk.window("q")) == ((60, 0, 1), (60, 0, 1))


async def test_a_route_goes_to_its_next_pool_where_the_first_could_never_hold_the_job(server: Redis) -> None:
    desk = await Desk.open(
        server,
        config(
            providers={"p": provider(tokens=100), "q": provider("n", tokens=1000)},
            routes={"best": ("p/m", "q/n")},
        ),
    )
    await desk.submit(tokens=500, name="best")
    assert (await (await desk.worker()).take_one()).pool == "q/n"


async def test_one_claim_carries_a_bounded_number_of_bytes_and_the_rest_goes_with_the_next(
    server: Redis,
) -> None:
    desk = await Desk.open(server)
    body = b"x" * (3 * 1024 * 1024)
    submitted = [await desk.submit(body=body) for _ in range(3)]
    hand = await desk.worker()
    claim = await hand.claim(10)
    assert [job.id for job in claim.jobs] == [job.id for job in submitted[:2]]
    assert claim.wait_ms == 1
    assert [job.id for job in await hand.take(10)] == [submitted[2].id]


async def test_one_job_larger_than_that_is_claimed_all_the_same(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit(body=b"x" * (9 * 1024 * 1024))
    await (await desk.worker()).take_one()


async def test_a_cancelled_head_makes_way_for_the_next(server: Redis) -> None:
    desk = await Desk.open(server)
    head, following = await desk.submit(), await desk.submit()
    await desk.store.cancel(ALICE, head.id)
    assert [job.id for job in await (await desk.worker()).take(2)] == [following.id]


async def test_an_expired_head_makes_way_for_the_next(server: Redis) -> None:
    desk = await Desk.open(server)
    head, following = await desk.submit(expires_after_ms=1000), await desk.submit()
    desk.clock.advance(1000)
    assert [job.id for job in await (await desk.worker()).take(2)] == [following.id]
    assert await desk.state(head) is State.EXPIRED


async def test_a_head_whose_record_is_gone_is_cleared_away(server: Redis) -> None:
    desk = await Desk.open(server)
    head, following = await desk.submit(), await desk.submit()
    await desk.redis.delete(f"job:{head.id}")
    assert [job.id for job in await (await desk.worker()).take(2)] == [following.id]
    await desk.redis.delete(f"job:{(await desk.submit()).id}")
    assert await (await desk.worker()).take(2) == []
    assert not {key for key in await desk.keys() if key.startswith(("lane:", "fair:ready", "parked"))}
