"""The books agree after whatever a job went through, and every kind of mistake in them is found."""

import pytest
from redis.asyncio import Redis

from jobs.config import Anonymous
from jobs.ledger import Ledger
from tests.jobs.builders import ALICE, BOB, TIER, Desk, config

GUEST = "ip:192.0.2.7"


async def some_history(desk: Desk) -> None:
    """Answers of two users and a guest, a failure, a lost attempt, a held budget."""
    worker = await desk.worker()
    for user, tokens in ((ALICE, 30), (ALICE, 50), (BOB, 70)):
        await desk.submit(user)
        await worker.succeed(await worker.take_one(), tokens)
    await desk.submit(GUEST, anonymous=True)
    await worker.succeed(await worker.take_one(), 11)
    await desk.submit(BOB)
    await worker.fail(await worker.take_one())
    await desk.submit(BOB)
    await worker.put_back(await worker.take_one(), window="in_flight", cause="unknown")
    await desk.submit(ALICE, 40)


@pytest.fixture
async def desk(server: Redis) -> Desk:
    desk = await Desk.open(server, config(anonymous=Anonymous(tier=TIER, tokens_per_day=1000)))
    await some_history(desk)
    return desk


async def test_the_books_agree_while_jobs_wait_and_after_attempts_were_lost(desk: Desk) -> None:
    found = await Ledger(desk.redis).verify([desk.clock.day])
    assert found.differences == ()
    # Alice, Bob, the guest, all guests together, and the operator who pays for what was lost.
    assert (found.days, found.users, found.lines) == (1, 5, 5)


async def test_a_counter_that_was_changed_is_found(desk: Desk) -> None:
    await desk.redis.incrby(f"tokens:{ALICE}:{desk.clock.day}", 5)
    [wrong] = (await Ledger(desk.redis).verify([desk.clock.day])).differences
    assert (wrong.user, wrong.books) == (ALICE, "totals and counter")
    assert (wrong.first_tokens, wrong.second_tokens) == (80, 85)


async def test_a_line_that_is_missing_is_found(desk: Desk) -> None:
    key = f"ledger:{desk.clock.day}"
    [(line_id, _)] = await desk.redis.xrange(key, count=1)
    await desk.redis.xdel(key, line_id)
    [wrong] = (await Ledger(desk.redis).verify([desk.clock.day])).differences
    assert (wrong.user, wrong.books) == (ALICE, "lines and totals")
    assert (wrong.first_tokens, wrong.second_tokens) == (50, 80)


async def test_the_common_counter_of_anonymous_users_is_checked(desk: Desk) -> None:
    await desk.redis.incrby(f"tokens:ip:all:{desk.clock.day}", -1)
    [wrong] = (await Ledger(desk.redis).verify([desk.clock.day])).differences
    assert (wrong.user, wrong.books) == ("ip:all", "totals and counter")


async def test_a_day_whose_lines_have_expired_is_judged_by_totals_and_counters(desk: Desk) -> None:
    await desk.redis.delete(f"ledger:{desk.clock.day}")
    found = await Ledger(desk.redis).verify([desk.clock.day])
    assert (found.lines, found.differences) == (0, ())
