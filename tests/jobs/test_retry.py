"""A job put back between attempts: what counts, what it keeps, and what its attempt leaves in the windows."""

import pytest
from redis.asyncio import Redis

from jobs.claims import RetryCause, WindowEffect
from jobs.record import State, Usage
from tests.jobs.builders import ALICE, BOB, MINUTE_MS, SECOND_MS, Desk, config, provider


async def test_a_job_put_back_waits_for_its_backoff_and_then_runs_again(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit()
    hand = await desk.worker()
    first = await hand.take_one()
    began = desk.clock.now_ms
    assert await hand.put_back(first, after_ms=3000)
    view = await desk.read(first)
    assert (view.state, view.attempts, view.blocked_on) == (State.QUEUED, 1, "backoff")
    assert (view.estimated_start_ms, view.started_ms) == (began + 3000, began)
    assert await desk.scores("leases") == {}
    desk.clock.advance(2999)
    assert await hand.take() == []
    desk.clock.advance(1)
    again = await hand.take_one()
    assert (again.id, again.attempt, again.token != first.token) == (first.id, 2, True)
    assert (await desk.read(first)).started_ms == began


async def test_an_attempt_that_does_not_count_is_not_counted(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit()
    hand = await desk.worker()
    await hand.put_back(await hand.take_one(), counts=False)
    assert (await hand.take_one()).attempt == 1


async def test_a_job_put_back_without_backoff_keeps_its_place_before_later_ones(server: Redis) -> None:
    desk = await Desk.open(server)
    first = await desk.submit()
    await desk.submit()
    hand = await desk.worker()
    await hand.put_back(await hand.take_one())
    assert (await hand.take_one()).id == first.id


async def test_the_hold_on_the_budget_stays_from_attempt_to_attempt(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, tokens_per_day=100)
    await desk.submit(tokens=100, on_budget="wait")
    hand = await desk.worker()
    job = await hand.take_one()
    today = desk.clock.day
    await hand.put_back(job, after_ms=1000)
    assert (await desk.refused(tokens=1)).reason == "budget_exhausted"
    desk.clock.advance(desk.clock.midnight_ms - desk.clock.now_ms)
    again = await hand.take_one()
    assert (await desk.tokens(), await desk.tokens(day=today)) == (0, 100)
    await hand.succeed(again, 60)
    assert (await desk.tokens(), await desk.tokens(day=today)) == (0, 60)


async def test_a_repeated_put_back_changes_nothing(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit()
    hand = await desk.worker()
    job = await hand.take_one()
    assert await hand.put_back(job, after_ms=1000)
    before = await desk.snapshot()
    assert not await hand.put_back(job, after_ms=1000)
    assert await desk.snapshot() == before


async def counts_after(desk: Desk, causes: list[RetryCause], *, counts: bool = True) -> tuple[int, int, int]:
    """Throttled in a row, unconnected in a row, unknown in all, after attempts that came to these."""
    await desk.submit()
    hand = await desk.worker()
    job = await hand.take_one()
    for cause in causes:
        await hand.put_back(job, cause=cause, counts=counts)
        job = await hand.take_one()
    await hand.succeed(job)
    return job.throttled_in_row, job.unconnected_in_row, job.unknown_attempts


async def test_what_earlier_attempts_came_to_is_counted_in_a_row_or_in_all(server: Redis) -> None:
    desk = await Desk.open(server)
    assert await counts_after(desk, []) == (0, 0, 0)
    assert await counts_after(desk, ["throttled", "throttled"]) == (2, 0, 0)
    assert await counts_after(desk, ["throttled", "connect"]) == (0, 1, 0)
    assert await counts_after(desk, ["connect", "connect", "throttled"]) == (1, 0, 0)
    assert await counts_after(desk, ["unknown", "throttled", "unknown"]) == (0, 0, 2)
    assert await counts_after(desk, ["throttled", ""]) == (0, 0, 0)


async def test_an_attempt_that_failed_on_our_side_leaves_the_rows_as_they_were(server: Redis) -> None:
    desk = await Desk.open(server)
    assert await counts_after(desk, ["throttled", "throttled", ""], counts=False) == (2, 0, 0)


@pytest.mark.parametrize(
    ("accounting", "window", "expected"),
    [
        # (charged, in flight, requests) of a claim of 10 + 90 put back
        ("openai", "kept", (100, 0, 1)),
        ("openai", "tokens_back", (0, 0, 1)),
        ("openai", "given_back", (0, 0, 0)),
        ("openai", "in_flight", (100, 0, 1)),
        ("anthropic", "kept", (100, 0, 1)),
        ("anthropic", "tokens_back", (0, 0, 1)),
        ("anthropic", "given_back", (0, 0, 0)),
        ("anthropic", "in_flight", (10, 90, 1)),
        ("actual", "kept", (100, 0, 1)),
        ("actual", "tokens_back", (0, 0, 1)),
        ("actual", "given_back", (0, 0, 0)),
        ("actual", "in_flight", (0, 100, 1)),
    ],
)
async def test_the_windows_get_back_what_the_provider_did_not_charge(
    server: Redis, accounting: str, window: WindowEffect, expected: tuple[int, int, int]
) -> None:
    desk = await Desk.open(server, config(providers={"p": provider(tokens=1000, accounting=accounting)}))
    await desk.submit(tokens=100, prompt=10)
    hand = await desk.worker()
    await hand.put_back(await hand.take_one(), after_ms=1000, window=window)
    assert await desk.window() == expected
    unsettled = 1 if window == "in_flight" else 0
    assert len(await desk.hash("receipts")) == len(await desk.scores("receipts:due")) == unsettled


async def test_an_attempt_nobody_knows_the_end_of_is_in_the_ledger_under_the_operator(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit(tokens=100, prompt=30)
    hand = await desk.worker()
    await hand.put_back(await hand.take_one(), window="in_flight", cause="unknown")
    await hand.succeed(await hand.take_one(), 50)
    lines = [(line["user"], line["kind"], line["in"], line["out"]) for line in await desk.ledger()]
    assert lines == [("op:lost", "lost", "30", "70"), (ALICE, "charged", "1", "49")]
    assert await desk.tokens() == 50


async def test_a_job_cancelled_meanwhile_ends_instead_of_waiting_again(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit()
    hand = await desk.worker()
    job = await hand.take_one()
    await desk.store.cancel(ALICE, job.id)
    assert await hand.put_back(job, after_ms=1000, window="tokens_back", cause="throttled")
    view = await desk.read(job)
    assert (view.state, view.usage) == (State.CANCELLED, None)
    assert await desk.tokens() == 0
    assert await desk.scores("due") == {}


async def test_a_job_cancelled_in_an_attempt_of_unknown_outcome_is_charged_its_estimate(
    server: Redis,
) -> None:
    desk = await Desk.open(server)
    await desk.submit(tokens=100, prompt=30)
    hand = await desk.worker()
    job = await hand.take_one()
    await desk.store.cancel(ALICE, job.id)
    assert await hand.put_back(job, window="in_flight", cause="unknown")
    view = await desk.read(job)
    assert (view.state, view.usage) == (State.CANCELLED, Usage(30, 70, 100, 0, "estimated"))
    assert await desk.tokens() == 100


async def test_a_job_that_expired_meanwhile_ends_as_expired(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit(expires_after_ms=5 * SECOND_MS)
    hand = await desk.worker()
    job = await hand.take_one()
    desk.clock.advance(5 * SECOND_MS)
    await desk.store.sweep()
    assert await hand.put_back(job, window="tokens_back", cause="throttled")
    view = await desk.read(job)
    assert view.error is not None
    assert (view.state, view.error.code) == (State.EXPIRED, "expired")


async def test_a_put_back_frees_the_users_slot_for_another_of_his_jobs(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(BOB, max_concurrent=1)
    await desk.submit(BOB)
    second = await desk.submit(BOB)
    hand = await desk.worker()
    job = await hand.take_one()
    assert await hand.take() == []
    await hand.put_back(job, after_ms=MINUTE_MS)
    assert (await hand.take_one()).id == second.id
