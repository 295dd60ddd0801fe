"""Sums of what was charged, over hashes such as settle writes them."""

import re
from collections.abc import Awaitable, Sequence
from typing import cast

import pytest
from redis.asyncio import Redis

from jobs import keys
from jobs.record import UsageRow
from jobs.usage import MAX_DAYS, Group, UsageLedger, days

MINI, LLAMA = "gpt-4o-mini", "ollama/llama3:8b:q4"
BATCHES = 600
"""Users of one day: more than one batch of reads, and than one step of a scan."""


@pytest.fixture
def usage(server: Redis) -> UsageLedger:
    return UsageLedger(server)


async def charge(server: Redis, user: str, day: str, model: str, *, jobs: int = 1, tokens: int = 0) -> None:
    """What settle adds for `jobs` jobs of `tokens` tokens in, twice as many out, and 1 nano-USD a token in."""
    amounts = {
        "jobs": jobs,
        "in": tokens * jobs,
        "out": 2 * tokens * jobs,
        "cached": 3 * jobs,
        "cost": tokens * jobs,
    }
    async with server.pipeline() as pipe:
        for metric, amount in amounts.items():
            pipe.hincrby(keys.usage(user, day), f"{metric}:{model}", amount)
        pipe.sadd(keys.usage_users(day), user)
        await pipe.execute()


@pytest.fixture
async def _three_users_over_three_days(server: Redis) -> None:
    await charge(server, "bob", "2026-11-22", MINI, jobs=2, tokens=10)
    await charge(server, "ann", "2026-11-22", LLAMA, tokens=100)
    await charge(server, "ann", "2026-11-23", MINI, tokens=1000)
    await charge(server, "ann", "2026-11-23", LLAMA, tokens=10_000)
    await charge(server, "ip:2001:db8::", "2026-11-24", MINI, tokens=100_000)


def row(
    jobs: int, tokens: int, *, day: str | None = None, model: str | None = None, user: str | None = None
) -> UsageRow:
    return UsageRow(day, model, user, jobs, tokens, 2 * tokens, 3 * jobs, tokens / 1e9)


@pytest.mark.usefixtures("_three_users_over_three_days")
@pytest.mark.parametrize(
    ("group_by", "rows"),
    [
        (
            ["day", "model", "user"],
            [
                row(1, 100, day="2026-11-22", user="ann", model=LLAMA),
                row(2, 20, day="2026-11-22", user="bob", model=MINI),
                row(1, 1000, day="2026-11-23", user="ann", model=MINI),
                row(1, 10_000, day="2026-11-23", user="ann", model=LLAMA),
                row(1, 100_000, day="2026-11-24", user="ip:2001:db8::", model=MINI),
            ],
        ),
        (
            ["user"],
            [row(3, 11_100, user="ann"), row(2, 20, user="bob"), row(1, 100_000, user="ip:2001:db8::")],
        ),
        (["model"], [row(4, 101_020, model=MINI), row(2, 10_100, model=LLAMA)]),
        (
            ["day"],
            [
                row(3, 120, day="2026-11-22"),
                row(2, 11_000, day="2026-11-23"),
                row(1, 100_000, day="2026-11-24"),
            ],
        ),
        ([], [row(6, 111_120)]),
    ],
)
async def test_everyones_usage_by_any_grouping_with_its_total(
    usage: UsageLedger, group_by: Sequence[Group], rows: list[UsageRow]
) -> None:
    found, total = await usage.usage(user=None, start="2026-11-22", end="2026-11-24", group_by=group_by)

    assert found == rows
    assert total == row(6, 111_120)
    assert total.total_tokens == 3 * 111_120


@pytest.mark.usefixtures("_three_users_over_three_days")
async def test_the_order_in_which_the_groups_are_named_does_not_matter(usage: UsageLedger) -> None:
    one = await usage.usage(user=None, start="2026-11-22", end="2026-11-24", group_by=["user", "day"])
    other = await usage.usage(user=None, start="2026-11-22", end="2026-11-24", group_by=["day", "user"])

    assert one == other


@pytest.mark.usefixtures("_three_users_over_three_days")
async def test_one_user_sees_nothing_of_the_others(usage: UsageLedger) -> None:
    rows, total = await usage.usage(user="ann", start="2026-11-22", end="2026-11-24", group_by=["day"])

    assert rows == [row(1, 100, day="2026-11-22"), row(2, 11_000, day="2026-11-23")]
    assert total == row(3, 11_100)


@pytest.mark.usefixtures("_three_users_over_three_days")
async def test_both_ends_of_the_span_are_within_it(usage: UsageLedger) -> None:
    rows, _ = await usage.usage(user=None, start="2026-11-22", end="2026-11-23", group_by=["day"])
    one_day, total = await usage.usage(user=None, start="2026-11-23", end="2026-11-23", group_by=["day"])

    assert [found.day for found in rows] == ["2026-11-22", "2026-11-23"]
    assert one_day == [row(2, 11_000, day="2026-11-23")]
    assert total == row(2, 11_000)


@pytest.mark.parametrize("user", [None, "ann"])
async def test_where_nothing_was_charged_there_are_no_rows(usage: UsageLedger, user: str | None) -> None:
    assert await usage.usage(user=user, start="2026-11-22", end="2026-11-24", group_by=["day"]) == (
        [],
        row(0, 0),
    )


async def test_metrics_of_a_newer_version_are_passed_over(usage: UsageLedger, server: Redis) -> None:
    await charge(server, "ann", "2026-11-22", MINI, tokens=10)
    await cast(Awaitable[int], server.hincrby(keys.usage("ann", "2026-11-22"), f"reasoning:{MINI}", 5))

    rows, _ = await usage.usage(user="ann", start="2026-11-22", end="2026-11-22", group_by=["model"])

    assert rows == [row(1, 10, model=MINI)]


async def test_every_user_of_a_crowded_day_is_counted_once(usage: UsageLedger, server: Redis) -> None:
    async with server.pipeline(transaction=False) as pipe:
        for n in range(BATCHES):
            pipe.hset(keys.usage(f"user-{n}", "2026-11-22"), f"in:{MINI}", str(n))
            pipe.sadd(keys.usage_users("2026-11-22"), f"user-{n}")
        await pipe.execute()

    rows, total = await usage.usage(user=None, start="2026-11-22", end="2026-11-22", group_by=["user"])

    assert {found.user: found.prompt_tokens for found in rows} == {f"user-{n}": n for n in range(BATCHES)}
    assert total.prompt_tokens == sum(range(BATCHES))


async def test_costs_are_summed_exactly_before_they_become_dollars(usage: UsageLedger, server: Redis) -> None:
    for n in range(10):
        day = keys.usage("ann", f"2026-11-1{n}")
        await cast(Awaitable[int], server.hincrby(day, f"cost:{MINI}", 100_000_000))

    _, total = await usage.usage(user="ann", start="2026-11-10", end="2026-11-19", group_by=[])

    # Ten times 0.1 is 0.9999999999999999 in floating point.
    assert total.cost_usd == 1.0


def test_days_run_over_the_ends_of_months_and_leap_days() -> None:
    assert days("2028-02-28", "2028-03-01") == ["2028-02-28", "2028-02-29", "2028-03-01"]
    assert days("2026-12-31", "2026-12-31") == ["2026-12-31"]


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        ("2026-11-23", "2026-11-22", "before it starts"),
        ("2026-01-01", "2026-04-03", f"93 days are more than the {MAX_DAYS}"),
        ("2026-02-30", "2026-03-01", "day"),
        ("yesterday", "2026-03-01", "yesterday"),
    ],
)
async def test_a_span_that_cannot_be_summed_is_refused(
    usage: UsageLedger, start: str, end: str, reason: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        await usage.usage(user=None, start=start, end=end, group_by=["day"])
