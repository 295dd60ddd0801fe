"""The faults that happen at a time: deaths, freezes, drains, and what becomes of Redis.

What goes wrong in single calls is decided where they are made (world.py, provider.py).
"""

import asyncio
from collections.abc import Callable, Iterator

from tests.simulation.users import Act
from tests.simulation.witness import Watch
from tests.simulation.workers import Fleet, Worker
from tests.simulation.world import World


def faults(world: World, watch: Watch, fleet: Fleet) -> Iterator[tuple[float, Act]]:
    """When which fault happens, in simulated seconds."""
    plan = world.plan
    chance, chance_of_cuts = plan.random("faults"), plan.random("cuts")

    def one_of(workers: list[Worker]) -> Worker | None:
        busy = [worker for worker in workers if worker.busy]
        if busy and chance.random() < 0.7:
            return chance.choice(busy)
        return chance.choice(workers) if workers else None

    async def strike(alive: Callable[[Worker], bool]) -> Worker | None:
        """Whom a fault hits: somebody, or who is just being answered by Redis."""
        if chance.random() < 0.5:
            return one_of([worker for worker in fleet.workers if alive(worker)])
        process = await world.next_script(chance.choice(("claim", "claim", "settle", "retry", "renew")), 5.0)
        hit = [worker for worker in fleet.workers if worker.process is process and alive(worker)]
        return hit[0] if hit else None

    async def replace(within_s: float) -> None:
        await asyncio.sleep(chance.random() * within_s)
        if not world.faults_stopped:
            fleet.add(chance.randint(1, 4))

    async def kill() -> None:
        if (worker := await strike(lambda one: not one.process.killed)) is not None:
            world.kill(worker.process)
            await replace(3.0)

    async def freeze() -> None:
        """Shorter than a lease, just longer, or long enough for another worker to have ended the jobs."""
        if (worker := await strike(lambda one: not one.process.gone)) is not None:
            leases = chance.choice((0.3, 1.2, 4.0)) * (0.7 + 0.6 * chance.random())
            world.freeze(worker.process, leases * plan.lease_ms / 1000)

    async def freeze_until_overtaken() -> None:
        """A busy worker, until just then when another one runs one of its jobs."""
        until = world.loop.now_s + 5
        while not (busy := [one for one in fleet.alive if one.busy and one.process.frozen_until == 0]):
            await asyncio.sleep(0.1)
            if world.loop.now_s > until:
                return
        process = chance.choice(busy).process
        world.freeze(process, 4 * plan.lease_ms / 1000)
        while world.loop.now_s < process.frozen_until:
            await asyncio.sleep(0.1)
            if watch.overtaken(process):
                await asyncio.sleep(chance.random() * chance.choice((0.05, 1.0)))
                world.thaw(process)

    async def cut() -> None:
        """A worker dies, or sleeps through its lease, just where a delivery has got to."""
        until = chance_of_cuts.choice(("deliveries_claim", "deliveries_prepare", "post", "deliveries_settle"))
        process = await world.next_script(until, 15.0)
        for worker in fleet.workers:
            if worker.process is process and not worker.process.gone:
                if chance_of_cuts.random() < 0.5:
                    world.kill(worker.process)
                    await replace(3.0)
                else:
                    world.freeze(worker.process, (0.3 + 3 * chance_of_cuts.random()) * plan.lease_ms / 1000)

    async def drain() -> None:
        if (worker := await strike(lambda one: one.alive and one.seam is not None)) is not None:
            worker.sigterm()
            if chance.random() < 0.3:
                await asyncio.sleep(chance.random() * 2)
                worker.sigterm()
            await replace(2.0)

    async def flush() -> None:
        world.note("SCRIPT FLUSH")
        world.wire.call(("SCRIPT", "FLUSH"))

    async def step() -> None:
        # All steps forward together stay within what the margin has room for.
        forward = round(plan.clock_slack_s * 1000) // plan.faults.clock_steps
        step_ms = chance.choice((-1, 1)) * chance.randint(1, forward)
        world.step_ms += step_ms
        world.note(f"Redis's clock is set by {step_ms} ms")

    async def outage() -> None:
        seconds = chance.choice((0.3, 1.2, 3.0)) * plan.lease_ms / 1000 * chance.random()
        world.outage_until = world.loop.now_s + seconds
        world.note(f"Redis is away for {seconds:.3f} s")

    planned: tuple[tuple[Act, int], ...] = (
        (kill, plan.faults.kills),
        (freeze, plan.faults.freezes),
        (freeze_until_overtaken, plan.faults.overtakings),
        (drain, plan.faults.drains),
        (flush, plan.faults.flushes),
        (step, plan.faults.clock_steps),
        (outage, plan.faults.outages),
    )
    for act, times in planned:
        for _ in range(times):
            yield chance.random() * plan.length_s, act
    for _ in range(plan.hooks.cuts if plan.hooks is not None else 0):
        yield chance_of_cuts.random() * plan.length_s, cut
