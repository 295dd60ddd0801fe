"""One run: users and faults by a seed on a system of real processes, then peace, then the invariants."""

import asyncio
import random
import time
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.crowd import User
from tests.chaos.faults import Havoc
from tests.chaos.invariants import summary, violations, violations_at_rest
from tests.chaos.plan import Plan
from tests.chaos.system import System, running_system

USERS = (("ann", "open"), ("bob", "open"), ("poor", "poor"))


@dataclass(frozen=True, slots=True)
class Report:
    """How a run went."""

    plan: Plan
    took_s: float
    summary: str
    violations: tuple[str, ...]
    logs: str

    def __str__(self) -> str:
        how = "held" if not self.violations else f"{len(self.violations)} violations"
        return f"seed {self.plan.seed}: {self.summary}; {len(self.plan.faults)} faults, {self.took_s:.0f} s: {how}"

    def told(self) -> str:
        """All of it, for whoever has to find out."""
        schedule = "\n".join(str(fault) for fault in self.plan.faults)
        return "\n".join((str(self), schedule, *self.violations, self.logs))


async def run(folder: Path, plan: Plan) -> Report:
    """Play the plan in a new folder."""
    began = time.monotonic()
    async with running_system(folder, plan.shape) as system:
        users = [
            User(await system.caller(name, tier), system, random.Random(f"{name} {plan.seed}"))
            for name, tier in USERS
        ]
        havoc = Havoc(system)
        await _play(plan, havoc, users)
        found = [*havoc.wrong, *await violations(system, users), *await violations_at_rest(system, users)]
        found += await _stopped(system)
        told = summary(users, len(await system.sent()))
        logs = system.logs() if found else ""
    return Report(plan, time.monotonic() - began, told, tuple(found), logs)


async def _play(plan: Plan, havoc: Havoc, users: list[User]) -> None:
    over = asyncio.Event()
    wishing = [asyncio.create_task(user.keep_wishing(over)) for user in users]
    try:
        await havoc.wreak(plan)
    finally:
        over.set()
    await havoc.heal()
    await asyncio.gather(*wishing)
    await asyncio.gather(*(user.until_all_ended() for user in users))


async def _stopped(system: System) -> list[str]:
    """All processes end in order."""
    found = []
    for process in system.processes:
        process.terminate()
    for process in system.processes:
        if (status := await process.ended()) != 0:
            found.append(f"{process.name} ended with {status}")
    return found
