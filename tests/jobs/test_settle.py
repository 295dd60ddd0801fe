"""The end of a job: the actual usage in place of what was held, once, and only by the worker that has the lease."""

from typing import Any

import pytest
from redis.asyncio import Redis

from jobs.claims import PoolPause, WindowEffect
from jobs.config import Retention
from jobs.record import ClaimedJob, JobError, State, Usage
from jobs.usage import UsageLedger
from tests.jobs.builders import (
    ALICE,
    BOB,
    DAY_MS,
    MINUTE_MS,
    SECOND_MS,
    Desk,
    Hand,
    config,
    provider,
    usage,
)
from tests.support.subscription import next_message, subscribed


async def running(desk: Desk, user: str = ALICE, tokens: int = 100, **fields: Any) -> tuple[Hand, ClaimedJob]:
    """One job, claimed by a worker of its own."""
    await desk.submit(user, tokens, **fields)
    hand = await desk.worker()
    return hand, await hand.take_one()


async def test_a_settled_job_has_its_end_and_the_actual_tokens_take_the_holds_place(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, tokens_per_day=1000)
    hand, job = await running(desk, tokens=600)
    desk.clock.advance(2500)
    charge = Usage(10, 140, 150, 4)
    assert await hand.claims.settle(
        job, State.SUCCEEDED, charge=charge, cost_nano_usd=1_234_567, window="charged", result=b'{"a": 1}\n'
    )
    view = await desk.read(job)
    assert (view.state, view.finished_ms, view.result) == (
        State.SUCCEEDED,
        desk.clock.now_ms,
        b'{"a": 1}\n',
    )
    assert (view.usage, view.error, view.attempts) == (charge, None, 1)
    assert view.cost_usd == pytest.approx(0.001234567)
    limits = await desk.limits()
    assert (limits.tokens_used, limits.tokens_reserved, limits.tokens_remaining) == (150, 0, 850)
    assert (limits.running, limits.queued_jobs) == (0, 0)
    assert await desk.scores("leases") == {}
    assert await desk.scores("expiries") == {}


async def test_a_failure_costs_nothing_and_says_why(server: Redis) -> None:
    desk = await Desk.open(server)
    hand, job = await running(desk)
    error = JobError("provider_rejected", "no \u00fc {}", 1, 400)
    assert await hand.claims.settle(job, State.FAILED, charge=None, window="kept", error=error)
    view = await desk.read(job)
    assert (view.state, view.error, view.usage, view.cost_usd) == (State.FAILED, error, None, None)
    assert await desk.tokens() == 0
    assert await desk.ledger() == []


async def test_a_settle_repeated_is_answered_alike_and_changes_nothing(server: Redis) -> None:
    desk = await Desk.open(server)
    hand, job = await running(desk)
    assert await hand.succeed(job, 70)
    desk.clock.advance(SECOND_MS)
    before = await desk.snapshot()
    assert await hand.succeed(job, 90)
    assert await hand.fail(job)
    assert await desk.snapshot() == before


async def test_a_settle_under_another_lease_is_lost_and_changes_nothing(server: Redis) -> None:
    desk = await Desk.open(server)
    hand, job = await running(desk)
    await hand.put_back(job)
    before = await desk.snapshot()
    assert not await hand.succeed(job)
    assert await desk.snapshot() == before
    again = await hand.take_one()
    before = await desk.snapshot()
    assert not await hand.succeed(job)
    assert not await hand.put_back(job)
    assert await desk.snapshot() == before
    assert await hand.succeed(again)


async def test_a_settle_of_an_erased_job_is_lost(server: Redis) -> None:
    desk = await Desk.open(server)
    hand, job = await running(desk)
    await hand.succeed(job)
    await desk.store.erase(ALICE, job.id)
    before = await desk.snapshot()
    assert not await hand.succeed(job)
    assert await desk.snapshot() == before


async def test_nobody_is_charged_less_than_prompt_and_completion_and_a_greater_total_counts(
    server: Redis,
) -> None:
    desk = await Desk.open(server, config(providers={"p": provider(tokens=1000, accounting="actual")}))
    hand, job = await running(desk)
    await hand.claims.settle(job, State.SUCCEEDED, charge=Usage(10, 20, 5), window="charged")
    assert await desk.tokens() == 30
    hand, job = await running(desk)
    await hand.claims.settle(job, State.SUCCEEDED, charge=Usage(10, 20, 45), window="charged")
    assert await desk.tokens() == 75
    assert [(line["in"], line["out"]) for line in await desk.ledger()] == [("10", "20"), ("10", "35")]
    assert await desk.window() == (75, 0, 2)


async def test_more_than_was_held_is_recorded_and_the_rest_of_the_day_is_refused(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, tokens_per_day=200)
    hand, job = await running(desk)
    await hand.succeed(job, 450)
    limits = await desk.limits()
    assert (limits.tokens_used, limits.tokens_remaining) == (450, 0)
    assert (await desk.refused(tokens=1)).reason == "budget_exhausted"


async def test_a_settle_after_midnight_charges_the_day_of_the_hold(server: Redis) -> None:
    desk = await Desk.open(server)
    today = desk.clock.day
    hand, job = await running(desk)
    desk.clock.advance(DAY_MS)
    await hand.succeed(job, 70)
    assert (await desk.tokens(day=today), await desk.tokens()) == (70, 0)
    assert [line["job"] for line in await desk.ledger(today)] == [job.id]
    assert await desk.ledger() == []


async def test_the_ledger_its_totals_and_the_counter_agree(server: Redis) -> None:
    desk = await Desk.open(server, config(providers={"p": provider("m", "n")}))
    hand = await desk.worker()
    for user, name, tokens in ((ALICE, "m", 30), (ALICE, "n", 50), (ALICE, "m", 70), (BOB, "m", 11)):
        await desk.submit(user, name=name)
        job = await hand.take_one()
        await hand.claims.settle(
            job, State.SUCCEEDED, charge=Usage(5, tokens - 5, tokens, 2), cost_nano_usd=1000, window="charged"
        )
    lines = await desk.ledger()
    assert [(line["user"], line["model"], line["pool"], line["kind"]) for line in lines] == [
        (ALICE, "m", "p/m", "charged"),
        (ALICE, "n", "p/n", "charged"),
        (ALICE, "m", "p/m", "charged"),
        (BOB, "m", "p/m", "charged"),
    ]
    assert {line["source"] for line in lines} == {"provider"}
    rows, total = await UsageLedger(server).usage(
        user=ALICE, start=desk.clock.day, end=desk.clock.day, group_by=("model",)
    )
    assert [
        (row.model, row.jobs, row.prompt_tokens, row.total_tokens, row.cached_tokens) for row in rows
    ] == [
        ("m", 2, 10, 100, 4),
        ("n", 1, 5, 50, 2),
    ]
    of_alice = [line for line in lines if line["user"] == ALICE]
    counted = sum(int(line["in"]) + int(line["out"]) for line in of_alice)
    assert counted == total.total_tokens == await desk.tokens() == 150
    assert total.cost_usd == pytest.approx(3000 / 1e9)
    assert await desk.members(f"charged:{desk.clock.day}") == {ALICE, BOB}


async def test_an_attempt_of_unknown_outcome_that_costs_its_user_nothing_is_the_operators(
    server: Redis,
) -> None:
    desk = await Desk.open(server)
    hand, job = await running(desk, tokens=100, prompt=30)
    await hand.fail(job, window="in_flight")
    assert await desk.tokens() == 0
    [line] = await desk.ledger()
    assert (line["user"], line["kind"], line["in"], line["out"]) == ("op:lost", "lost", "30", "70")
    fields = await desk.hash(f"usage:op:lost:{desk.clock.day}")
    assert (fields["in:m"], fields["out:m"]) == ("30", "70")


@pytest.mark.parametrize(
    ("accounting", "window", "expected"),
    [
        # (charged, in flight, requests) of a claim of 10 + 90 settled with 10 + 20
        ("openai", "charged", (100, 0, 1)),
        ("openai", "kept", (100, 0, 1)),
        ("openai", "tokens_back", (0, 0, 1)),
        ("openai", "given_back", (0, 0, 0)),
        ("openai", "in_flight", (100, 0, 1)),
        ("anthropic", "charged", (30, 0, 1)),
        ("anthropic", "kept", (100, 0, 1)),
        ("anthropic", "tokens_back", (0, 0, 1)),
        ("anthropic", "given_back", (0, 0, 0)),
        ("anthropic", "in_flight", (10, 90, 1)),
        ("actual", "charged", (30, 0, 1)),
        ("actual", "kept", (100, 0, 1)),
        ("actual", "tokens_back", (0, 0, 1)),
        ("actual", "given_back", (0, 0, 0)),
        ("actual", "in_flight", (0, 100, 1)),
    ],
)
async def test_the_windows_are_settled_as_the_provider_counts(
    server: Redis, accounting: str, window: WindowEffect, expected: tuple[int, int, int]
) -> None:
    desk = await Desk.open(server, config(providers={"p": provider(tokens=1000, accounting=accounting)}))
    hand, job = await running(desk, tokens=100, prompt=10)
    await hand.claims.settle(job, State.SUCCEEDED, charge=usage(30, prompt=10), window=window)
    assert await desk.window() == expected
    unsettled = 1 if window == "in_flight" else 0
    assert len(await desk.hash("receipts")) == len(await desk.scores("receipts:due")) == unsettled


async def test_a_finished_job_lives_for_its_retention_and_no_longer(server: Redis) -> None:
    desk = await Desk.open(server, config(retention=Retention(jobs_s=1000)))
    hand, job = await running(desk)
    assert await server.pttl(f"job:{job.id}") == -1
    await hand.succeed(job)
    assert 990 * SECOND_MS < await server.pttl(f"job:{job.id}") <= 1000 * SECOND_MS


async def test_a_job_that_failed_for_good_is_listed_as_dead_and_kept_longer(server: Redis) -> None:
    desk = await Desk.open(server, config(retention=Retention(jobs_s=1000, dead_days=2)))
    hand, job = await running(desk)
    error = JobError("provider_failed", "five times", 5, 500)
    await hand.claims.settle(job, State.FAILED, charge=None, window="kept", error=error, replayable=True)
    assert await desk.scores("dead") == {job.id: desk.clock.now_ms}
    for key in (f"job:{job.id}", "dead"):
        assert 2 * DAY_MS - MINUTE_MS < await server.pttl(key) <= 2 * DAY_MS
    desk.clock.advance(2 * DAY_MS + 1)
    hand, other = await running(desk)
    await hand.claims.settle(other, State.FAILED, charge=None, window="kept", error=error, replayable=True)
    assert set(await desk.scores("dead")) == {other.id}


async def test_a_settle_can_pause_the_pool(server: Redis) -> None:
    desk = await Desk.open(server)
    hand, job = await running(desk)
    await desk.submit()
    error = JobError("provider_rejected", "no", 1, 401)
    await hand.claims.settle(
        job,
        State.FAILED,
        charge=None,
        window="given_back",
        error=error,
        pause=PoolPause(SECOND_MS, "throttled", alarm=False),
    )
    assert await hand.take() == []
    desk.clock.advance(SECOND_MS)
    await hand.take_one()


async def test_the_answer_that_came_before_the_cancel_wins(server: Redis) -> None:
    desk = await Desk.open(server)
    hand, job = await running(desk)
    assert (await desk.store.cancel(ALICE, job.id)).outcome == "requested"
    assert await hand.succeed(job, 40)
    assert await desk.state(job) is State.SUCCEEDED
    assert await desk.tokens() == 40
    assert (await hand.renew())[1] == ()


async def test_a_job_that_was_cancelled_while_it_ran_ends_so_at_what_it_used(server: Redis) -> None:
    desk = await Desk.open(server)
    hand, job = await running(desk)
    await desk.store.cancel(ALICE, job.id)
    assert await hand.claims.settle(job, None, charge=usage(40), window="charged")
    view = await desk.read(job)
    assert (view.state, view.usage, view.error) == (State.CANCELLED, usage(40), None)
    assert await desk.tokens() == 40


async def test_a_job_that_expired_while_it_ran_ends_so(server: Redis) -> None:
    desk = await Desk.open(server)
    hand, job = await running(desk, expires_after_ms=5 * SECOND_MS)
    desk.clock.advance(5 * SECOND_MS)
    await desk.store.sweep()
    estimate = Usage(1, 99, 100, 0, "estimated")
    assert await hand.claims.settle(job, None, charge=estimate, window="in_flight")
    view = await desk.read(job)
    assert view.error is not None
    assert (view.state, view.error.code, view.usage) == (State.EXPIRED, "expired", estimate)
    assert await desk.tokens() == 100


async def test_the_end_of_a_job_is_published(server: Redis) -> None:
    desk = await Desk.open(server)
    hand, job = await running(desk)
    async with subscribed(server, "done") as heard:
        await hand.succeed(job)
        assert await next_message(heard) == job.id.encode()
        cancelled = await desk.submit()
        await desk.store.cancel(ALICE, cancelled.id)
        assert await next_message(heard) == cancelled.id.encode()
