"""Ten thousand jobs wait when a worker starts: it gets the first of them as from any other queue."""

import asyncio
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis

from tests.jobs.builders import Desk

WAITING, AT_ONCE, USERS = 10_000, 200, 20
COMMANDS_A_JOB = 100
"""A claim's commands for each job it takes: what matters is that they are not for each that waits."""


def commands(stats: Mapping[str, Any]) -> int:
    """How many commands a server has run, those of scripts included."""
    return sum(int(one["calls"]) for one in stats.values())


async def test_ten_thousand_waiting_jobs_cost_the_first_claim_nothing(redis: Redis) -> None:
    desk = await Desk.open(redis)
    users = [await desk.user(f"u{n}") for n in range(USERS)]
    for start in range(0, WAITING, AT_ONCE):
        await asyncio.gather(*(desk.submit(users[n % USERS]) for n in range(start, start + AT_ONCE)))
    late = await desk.submit("bob")
    hand = await desk.worker()
    before = commands(await redis.info("commandstats"))
    await desk.store.sweep()
    taken = await hand.take(2 * USERS)
    used = commands(await redis.info("commandstats")) - before
    assert used < 2 * USERS * COMMANDS_A_JOB
    assert late.id in {job.id for job in taken}, "who comes last with one job waits for no backlog"
    assert {job.user for job in taken} == {*users, "bob"}
