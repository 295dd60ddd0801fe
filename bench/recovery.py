"""How long until the jobs of a worker that was killed are sent again, and until jobs flow after an outage of Redis?

Real processes: an API, workers with the default lease, a Valkey that keeps every write, and the simulator, whose log
tells when a request arrived. Workers are killed with kill -9 at random moments, a part of them at once, while others
live and have free slots. arq's own recovery is read off the key that keeps a job from being run again.
"""

import asyncio
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from arq.connections import RedisSettings, create_pool

from bench.arguments import Arguments, parsed
from bench.figures import Spread, percentile
from bench.report import Report
from bench.server import valkey
from tests.chaos.caller import Caller
from tests.chaos.processes import Process
from tests.chaos.system import Shape, System, running_system
from tests.chaos.waiting import until
from tests.support.valkey import ValkeyProcess

LEASE_S = 6.0
WORKERS, KILLED_AT_ONCE, JOBS = 6, 3, 12
CALL_S = 40
OUTAGE_S = (0.2, 3.0)
STALL_S = 4.0
"""How long everything stands still, in some of the rounds: longer than half a lease, after which that is noticed."""
MOST_S = 200.0
"""After that no more workers are killed, were they fewer than wanted: a busy machine is long in starting them."""
ARQ_PEER = Path(__file__).parent / "peers" / "arq_recovery.py"


async def killed(
    system: System, ann: Caller, chance: random.Random, *, stalls: bool = False
) -> tuple[list[float], int]:
    """Seconds from the kills of some workers to the next send, for each of their jobs; and how many were killed.

    `stalls`: within a lease after that, everything stands still for a while.
    """
    ids = {}
    for _ in range(JOBS):
        # One after the other, so that they go to different workers.
        marker = system.marker()
        ids[marker] = await ann.accepted(marker, f"[[slow:{CALL_S}x1]]")
        await system.until_sent(marker)
    held: dict[Process, list[str]] = {}
    for marker, job_id in ids.items():
        held.setdefault(await system.holder(job_id), []).append(marker)
    victims = chance.sample(list(held), min(KILLED_AT_ONCE, len(held) - 1))
    at: dict[str, float] = {}
    for victim in victims:
        await asyncio.sleep(chance.uniform(0, LEASE_S / 3))
        now = time.time()
        victim.kill()
        # As a supervisor would.
        victim.start()
        at |= dict.fromkeys(held[victim], now)
    if stalls:
        await asyncio.sleep(chance.uniform(0, LEASE_S))
        await _stand_still(system)
    took = [(await system.until_sent(marker, 2))[1].arrived_at - since for marker, since in at.items()]
    for job_id in ids.values():
        await ann.ask("POST", f"/v1/jobs/{job_id}/cancel")
    await asyncio.gather(*(system.until_ready(victim) for victim in victims))
    await system.forget()
    return took, len(victims)


async def _stand_still(system: System) -> None:
    """As when the machine is paused: Valkey, workers and APIs all stop, and go on."""
    everything: list[ValkeyProcess | Process] = [system.valkey, *system.processes]
    for one in everything:
        one.freeze()
    await asyncio.sleep(STALL_S)
    for one in everything:
        one.thaw()


async def away(system: System, ann: Caller, chance: random.Random) -> float:
    """Seconds from Valkey's answering again to the arrival of a job that is submitted as soon as it is accepted."""
    await asyncio.to_thread(system.valkey.kill)
    await asyncio.sleep(chance.uniform(*OUTAGE_S))
    await asyncio.to_thread(system.valkey.start)
    back = time.time()
    marker = system.marker()

    async def is_accepted() -> bool:
        return (await ann.submit(marker, key=marker)).status_code == 202

    await until(is_accepted)
    took = (await system.until_sent(marker))[0].arrived_at - back
    await system.forget()
    return took


async def arq_s() -> float:
    """Seconds for which no other arq worker may run the job of one that was just killed."""
    with valkey() as url:
        pool = await create_pool(RedisSettings.from_dsn(url))
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(ARQ_PEER), url, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            job = await pool.enqueue_job("work")
            assert job is not None
            key = f"arq:in-progress:{job.job_id}"

            async def runs() -> bool:
                return bool(await pool.exists(key))

            await until(runs)
        finally:
            process.kill()
            await process.wait()
        left_s = await pool.pttl(key) / 1000
        await pool.aclose()
    return float(left_s)


@dataclass(slots=True)
class Measured:
    """Seconds until each job of killed workers was sent again, without and with a stall; and back from outages."""

    recovered: list[float] = field(default_factory=list)
    stalled: list[float] = field(default_factory=list)
    back: list[float] = field(default_factory=list)
    kills: int = 0
    kills_and_stalls: int = 0


async def measure(arguments: Arguments) -> Measured:
    """Outages of Valkey, then kills, then kills and stalls."""
    rounds, stalls, outages = (1, 1, 2) if arguments.quick else (12, 3, 15)
    chance = random.Random(1)
    shape = Shape(workers=WORKERS, lease_s=LEASE_S, slots=2 * JOBS, timeout_s=2.0 * CALL_S)
    found = Measured()
    with tempfile.TemporaryDirectory() as folder:
        async with running_system(Path(folder) / "system", shape) as system:
            ann = await system.caller()
            begun = time.monotonic()
            for _ in range(outages):
                found.back.append(await away(system, ann, chance))
            while found.kills < rounds * KILLED_AT_ONCE and time.monotonic() - begun < MOST_S:
                took, workers = await killed(system, ann, chance)
                found.recovered += took
                found.kills += workers
            for _ in range(stalls):
                took, workers = await killed(system, ann, chance, stalls=True)
                found.stalled += took
                found.kills_and_stalls += workers
    return found


def main() -> None:
    arguments = parsed(__doc__)
    found = asyncio.run(measure(arguments))
    arq = asyncio.run(arq_s())
    report = Report("recovery", "How soon does work go on when something has died?")
    report.judge("p99_s", percentile(found.recovered, 0.99))
    report.judge("redis_p99_s", percentile(found.back, 0.99))
    report.table(
        "Seconds until jobs go on",
        ["", "times", "p50", "p99", "longest"],
        [
            [
                f"kill -9 of {found.kills} workers: each of their jobs is sent again",
                len(found.recovered),
                *_figures(found.recovered),
            ],
            [
                f"kill -9 of {found.kills_and_stalls} workers, then everything stands still for {STALL_S:g} s",
                len(found.stalled),
                *_figures(found.stalled),
            ],
            [
                "kill -9 of Valkey: from its answering again to a new job's send",
                len(found.back),
                *_figures(found.back),
            ],
            ["arq alone, kill -9 of its worker: until another may take the job", 1, arq, arq, arq],
        ],
    )
    report.bars(
        "recovery",
        "seconds until the job of a killed worker runs again",
        {"penstock": Spread.of(found.recovered), "arq": Spread.of([arq])},
    )
    report.note(
        f"The lease is {LEASE_S:g} s, the default; a worker renews every third of it, and what is not renewed is found "
        "within a second after its end. While everything stands still nothing can be sent, and no lease ends: "
        "that time comes on top."
    )
    report.note(
        "arq's figure is what is left of its in-progress key after the kill (job_timeout + 10 s, by default 310 s): it "
        "was read, not waited for."
    )
    report.write(arguments.results)


def _figures(values: list[float]) -> list[float]:
    return [percentile(values, 0.5), percentile(values, 0.99), max(values)]


if __name__ == "__main__":
    main()
