"""What is due by time: leases of dead workers, expiries, receipts nobody settled; each end once, whoever sweeps."""

from typing import Any

import pytest
from redis.asyncio import Redis

from jobs.record import ClaimedJob, State, Usage
from tests.jobs.builders import (
    ALICE,
    DAY_MS,
    LEASE_MS,
    MINUTE_MS,
    SECOND_MS,
    Desk,
    Hand,
    config,
    provider,
)


async def dead(desk: Desk, **fields: Any) -> tuple[Hand, ClaimedJob]:
    """A job whose worker is not heard of again, while another worker lives."""
    await desk.submit(**fields)
    hand = await desk.worker()
    return hand, await hand.take_one()


async def lease_ends(desk: Desk) -> None:
    """A lease passes in which another worker renews."""
    alive = await desk.worker("alive")
    for _ in range(6):
        desk.clock.advance(LEASE_MS // 6)
        await alive.renew()


async def test_a_job_of_a_dead_worker_runs_again_after_one_lease(server: Redis) -> None:
    desk = await Desk.open(server)
    _, job = await dead(desk)
    await lease_ends(desk)
    other = await desk.worker()
    again = await other.take_one()
    assert (again.id, again.attempt, again.unknown_attempts) == (job.id, 2, 1)
    assert (await desk.limits()).running == 1
    await other.succeed(again, 40)
    assert await desk.tokens() == 40
    lines = [(line["user"], line["kind"]) for line in await desk.ledger()]
    assert lines == [("op:lost", "lost"), (ALICE, "charged")]


async def test_a_lease_that_is_renewed_is_not_taken_away(server: Redis) -> None:
    desk = await Desk.open(server)
    hand, job = await dead(desk)
    for _ in range(10):
        desk.clock.advance(LEASE_MS - 1)
        assert await hand.renew(job) == ((), ())
        await desk.store.sweep()
    assert await desk.state(job) is State.RUNNING


async def test_a_job_that_is_never_to_be_sent_twice_ends_with_its_worker(server: Redis) -> None:
    desk = await Desk.open(server)
    _, job = await dead(desk, retry="never", tokens=100, prompt=30)
    await lease_ends(desk)
    await desk.store.sweep()
    view = await desk.read(job)
    assert view.error is not None
    assert (view.state, view.error.code) == (State.FAILED, "outcome_unknown")
    assert view.usage == Usage(30, 70, 100, 0, "estimated")
    assert await desk.tokens() == 100


async def test_a_job_that_took_three_workers_with_it_fails_and_is_listed_as_dead(server: Redis) -> None:
    desk = await Desk.open(server)
    _, job = await dead(desk)
    for attempt in (2, 3):
        await lease_ends(desk)
        taken = await (await desk.worker()).take_one()
        assert taken.attempt == attempt
    await lease_ends(desk)
    await desk.store.sweep()
    view = await desk.read(job)
    assert view.error is not None
    assert (view.state, view.error.code, view.error.attempt) == (State.FAILED, "worker_lost", 3)
    assert set(await desk.scores("dead")) == {job.id}
    assert await desk.tokens() == 0
    assert [line["user"] for line in await desk.ledger()] == ["op:lost"] * 3


async def test_a_third_attempt_of_unknown_outcome_is_the_last(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit()
    hand = await desk.worker()
    for _ in range(2):
        await hand.put_back(await hand.take_one(), window="in_flight", cause="unknown")
    job = await (await desk.worker()).take_one()
    await lease_ends(desk)
    await desk.store.sweep()
    view = await desk.read(job)
    assert view.error is not None
    assert (view.state, view.error.code) == (State.FAILED, "provider_failed")


async def test_a_worker_that_was_frozen_and_wakes_changes_nothing(server: Redis) -> None:
    desk = await Desk.open(server)
    frozen, job = await dead(desk)
    await lease_ends(desk)
    again = await (await desk.worker()).take_one()
    before = await desk.snapshot()
    assert not await frozen.succeed(job, 1)
    assert not await frozen.fail(job)
    assert not await frozen.put_back(job, after_ms=1000)
    assert not await frozen.claims.settle(job, None, charge=None, window="given_back")
    assert await desk.snapshot() == before
    assert (await frozen.renew(job))[0] == (job.token,)
    assert await desk.scores("leases") == {f"{again.id} {again.token}": desk.clock.now_ms + LEASE_MS}


async def test_a_lease_of_another_attempt_says_nothing_of_this_one(server: Redis) -> None:
    desk = await Desk.open(server)
    hand, job = await dead(desk)
    await server.zadd("leases", {f"{job.id} of-before": 0})
    await desk.store.sweep()
    assert list(await desk.scores("leases")) == [f"{job.id} {job.token}"]
    assert await hand.succeed(job)


async def test_a_worker_that_was_frozen_gets_nothing_for_its_claim_of_before(server: Redis) -> None:
    desk = await Desk.open(server)
    frozen, _ = await dead(desk)
    await lease_ends(desk)
    await desk.store.sweep()
    assert (await frozen.claim_again()).jobs == ()


async def test_a_cancelled_job_of_a_dead_worker_ends_as_cancelled_at_its_estimate(server: Redis) -> None:
    desk = await Desk.open(server)
    _, job = await dead(desk, tokens=100, prompt=30)
    await desk.store.cancel(ALICE, job.id)
    await lease_ends(desk)
    await desk.store.sweep()
    view = await desk.read(job)
    assert (view.state, view.usage) == (State.CANCELLED, Usage(30, 70, 100, 0, "estimated"))


async def silence(desk: Desk, ms: int) -> None:
    """Nothing is heard of anybody, as when Redis is away."""
    desk.clock.advance(ms)


async def test_a_silence_of_all_workers_counts_for_no_lease(server: Redis) -> None:
    desk = await Desk.open(server)
    hand, job = await dead(desk)
    other = await desk.worker()
    await desk.submit()
    desk.clock.advance(SECOND_MS)
    later = await other.take_one()
    before = await desk.scores("leases")
    await silence(desk, LEASE_MS)
    await desk.store.sweep()
    leases = {lease: ends_ms + LEASE_MS for lease, ends_ms in before.items()}
    assert await desk.scores("leases") == leases
    # Time passed for nobody, whoever is heard first: who lives has what was left, and it is not told again.
    desk.clock.advance(LEASE_MS - SECOND_MS - 1)
    await other.renew()
    assert await desk.scores("leases") == leases
    assert await hand.succeed(job)
    assert await other.succeed(later)


async def test_a_worker_that_died_before_a_silence_is_found_that_much_later(server: Redis) -> None:
    """The last moment of its lease is not worth another one."""
    desk = await Desk.open(server)
    _, job = await dead(desk)
    other = await desk.worker()
    for _ in range(3):
        desk.clock.advance(LEASE_MS // 3 - 1)
        await other.renew()
    await silence(desk, LEASE_MS)
    await other.renew()
    desk.clock.advance(3)
    await desk.store.sweep()
    assert await desk.state(job) is State.QUEUED


@pytest.mark.parametrize("silence_ms", [LEASE_MS // 2 + 1, LEASE_MS, 10 * LEASE_MS])
async def test_after_a_silence_whoever_lives_has_two_thirds_of_a_lease_to_be_heard(
    server: Redis, silence_ms: int
) -> None:
    desk = await Desk.open(server)
    await desk.submit()
    hand, job = await dead(desk)
    other = await desk.worker()
    also = await other.take_one()
    # It was due for the next renewal when everything stopped, the other one has just been heard.
    desk.clock.advance(LEASE_MS // 3)
    await other.renew(also)
    await silence(desk, silence_ms)
    await other.renew(also)
    desk.clock.advance(LEASE_MS * 2 // 3 - 1)
    await desk.store.sweep()
    assert await hand.succeed(job)
    assert await other.succeed(also)


async def test_jobs_of_workers_that_are_all_dead_are_found_once_however_many_they_are(server: Redis) -> None:
    """What one sweep leaves for the next is not taken for another silence."""
    desk = await Desk.open(server)
    for _ in range(60):
        await desk.submit()
    await (await desk.worker()).take(60)
    await silence(desk, LEASE_MS)
    await desk.store.sweep()
    await silence(desk, LEASE_MS)
    await desk.store.sweep()
    assert len(await desk.scores("leases")) == 10
    # Longer than any process remembers anything.
    await silence(desk, 3 * LEASE_MS)
    await desk.store.sweep()
    assert await desk.scores("leases") == {}


async def test_a_silence_of_several_heartbeats_is_enough(server: Redis) -> None:
    """One worker was due for renewal just before Redis went away, the other just after."""
    desk = await Desk.open(server)
    hand, job = await dead(desk)
    other = await desk.worker()
    desk.clock.advance(LEASE_MS // 3 - 1)
    await other.renew()
    await silence(desk, LEASE_MS - LEASE_MS // 3 + 1)
    await desk.store.sweep()
    assert await hand.succeed(job)


async def test_the_first_worker_heard_after_a_silence_does_not_hide_it_from_the_others(server: Redis) -> None:
    desk = await Desk.open(server)
    hand, job = await dead(desk)
    other = await desk.worker()
    await silence(desk, LEASE_MS - 1)
    await other.renew()
    desk.clock.advance(2)
    await desk.store.sweep()
    assert await hand.succeed(job)


async def test_workers_that_stay_silent_lose_their_jobs_after_that_period(server: Redis) -> None:
    desk = await Desk.open(server)
    _, job = await dead(desk)
    await silence(desk, LEASE_MS + 1)
    await desk.store.sweep()
    assert await desk.state(job) is State.RUNNING
    await silence(desk, LEASE_MS)
    await desk.store.sweep()
    assert await desk.state(job) is State.QUEUED


async def test_the_claim_that_ends_a_silence_does_not_take_the_jobs_of_the_silent(server: Redis) -> None:
    desk = await Desk.open(server)
    hand, job = await dead(desk)
    await silence(desk, 2 * LEASE_MS)
    assert await (await desk.worker()).take() == []
    assert await hand.succeed(job)


async def test_a_queued_job_expires_and_its_tokens_are_free(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, tokens_per_day=100)
    job = await desk.submit(tokens=100, expires_after_ms=5 * SECOND_MS)
    desk.clock.advance(5 * SECOND_MS - 1)
    await desk.store.sweep()
    assert await desk.state(job) is State.QUEUED
    desk.clock.advance(1)
    await desk.store.sweep()
    view = await desk.read(job)
    assert view.error is not None
    assert (view.state, view.error.code) == (State.EXPIRED, "expired")
    assert (view.finished_ms, view.error.message) == (
        desk.clock.now_ms,
        "The job expired while it waited for a free slot.",
    )
    limits = await desk.limits()
    assert (limits.tokens_remaining, limits.queued_jobs) == (100, 0)


async def test_an_expired_job_says_what_it_had_been_waiting_for(server: Redis) -> None:
    desk = await Desk.open(server, config(providers={"p": provider(tokens=100)}))
    await desk.user(ALICE, tokens_per_day=300)
    await desk.submit(tokens=100)
    hand = await desk.worker()
    running = await hand.take_one()
    later = desk.clock.now_ms + MINUTE_MS
    waiting = {
        "not_before": await desk.submit(expires_after_ms=1000, not_before_ms=later),
        "provider's tokens": await desk.submit(expires_after_ms=1000),
        "budget": await desk.submit(expires_after_ms=999, on_budget="wait"),
    }
    await hand.put_back(running, after_ms=DAY_MS)
    desk.clock.advance(1000)
    await desk.store.sweep()
    for reason, job in waiting.items():
        error = (await desk.read(job)).error
        assert error is not None
        assert reason in error.message


async def test_a_running_job_that_expires_is_stopped_by_its_worker(server: Redis) -> None:
    desk = await Desk.open(server)
    hand, job = await dead(desk, expires_after_ms=2 * SECOND_MS)
    desk.clock.advance(2 * SECOND_MS)
    await desk.store.sweep()
    assert await desk.state(job) is State.RUNNING
    assert await hand.renew(job) == ((), (job.id,))
    await hand.claims.settle(job, None, charge=None, window="given_back")
    assert await desk.state(job) is State.EXPIRED
    assert await hand.renew() == ((), ())


async def test_a_running_job_that_expired_is_asked_to_stop_each_second_until_it_has(server: Redis) -> None:
    desk = await Desk.open(server)
    hand, job = await dead(desk, expires_after_ms=2 * SECOND_MS)
    desk.clock.advance(2 * SECOND_MS)
    for _ in range(3):
        await desk.store.sweep()
        assert await desk.scores("expiries") == {job.id: desk.clock.now_ms + SECOND_MS}
        desk.clock.advance(SECOND_MS)
    await hand.claims.settle(job, None, charge=None, window="given_back")
    assert await desk.scores("expiries") == {}


async def test_a_running_job_that_expires_with_its_worker_dead_ends_as_expired(server: Redis) -> None:
    desk = await Desk.open(server)
    _, job = await dead(desk, expires_after_ms=2 * SECOND_MS)
    for _ in range(2):
        await lease_ends(desk)
        await desk.store.sweep()
    view = await desk.read(job)
    assert (view.state, view.usage) == (State.EXPIRED, Usage(1, 99, 100, 0, "estimated"))


async def test_a_job_put_back_after_its_expiry_expires(server: Redis) -> None:
    desk = await Desk.open(server)
    hand, job = await dead(desk, expires_after_ms=2 * SECOND_MS)
    desk.clock.advance(1 * SECOND_MS)
    await hand.put_back(job, after_ms=MINUTE_MS)
    desk.clock.advance(1 * SECOND_MS)
    await desk.store.sweep()
    assert await desk.state(job) is State.EXPIRED
    assert await desk.scores("due") == {}


@pytest.mark.parametrize("accounting", ["openai", "anthropic", "actual"])
async def test_a_receipt_is_charged_when_its_call_has_certainly_ended(server: Redis, accounting: str) -> None:
    desk = await Desk.open(
        server, config(providers={"p": provider(tokens=1000, accounting=accounting, timeout_s=120)})
    )
    hand, job = await dead(desk, tokens=100, prompt=10)
    before = await desk.window()
    await hand.put_back(job, after_ms=DAY_MS, window="in_flight", cause="unknown")
    desk.clock.advance(121 * SECOND_MS - 1)
    await desk.store.sweep()
    in_flight = {"openai": 0, "anthropic": 90, "actual": 100}[accounting]
    assert (before[1], (await desk.window())[1]) == (in_flight, in_flight)
    assert len(await desk.hash("receipts")) == 1
    desk.clock.advance(1)
    await desk.store.sweep()
    assert await desk.hash("receipts") == {}
    charged, flying, _ = await desk.window()
    # What openai counts was counted at the claim, and has left by now.
    assert (charged, flying) == (in_flight, 0)


async def test_the_receipt_of_a_dead_workers_attempt_outlives_the_job(server: Redis) -> None:
    desk = await Desk.open(server, config(providers={"p": provider(tokens=1000, accounting="actual")}))
    await dead(desk, retry="never")
    await lease_ends(desk)
    await desk.store.sweep()
    assert (await desk.window())[1] == 100
    desk.clock.advance(2 * MINUTE_MS)
    await desk.store.sweep()
    assert (await desk.window())[1] == 0


async def test_more_than_one_sweep_can_do_is_done_by_the_next(server: Redis) -> None:
    desk = await Desk.open(server)
    for _ in range(60):
        await desk.submit(expires_after_ms=1000)
    desk.clock.advance(1000)
    await desk.store.sweep()
    left = (await desk.limits()).queued_jobs
    assert left == 10
    await desk.store.sweep()
    assert (await desk.limits()).queued_jobs == 0


async def test_a_sweep_forgets_sleepers_and_workers_that_never_came_back(server: Redis) -> None:
    desk = await Desk.open(server)
    hand = await desk.worker("w1")
    await hand.claim()
    await hand.renew()
    await desk.submit()
    assert await desk.length("wake") == 1
    desk.clock.advance(MINUTE_MS + 1)
    await desk.store.sweep()
    assert (await desk.scores("asleep"), await desk.length("wake"), await desk.scores("workers")) == (
        {},
        0,
        {},
    )
