"""Does hostile input hold up anybody else?

Real processes: an API, a worker, a Valkey that keeps every write, and the simulator. Attackers send the whole corpus of
tests/api/corpus.py over connections of their own, again and again, several at once: bodies whole and in chunks, large
prompts, what is no proper HTTP. Meanwhile a probe asks for /healthz, and another user's jobs are submitted and awaited.
In every second
round nobody attacks: that is what the machine does by itself.
"""

import asyncio
import contextlib
import itertools
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from bench.arguments import Arguments, parsed
from bench.figures import Spread, percentile
from bench.report import Cell, Report
from tests.api.corpus import BODIES, LARGE, POST, PROMPTS, REQUESTS, with_prompt
from tests.chaos.caller import Caller
from tests.chaos.system import Shape, System, running_system

ATTACKERS = 4
SPAWN = multiprocessing.get_context("spawn")
PROBE_EVERY_S = 0.02
ROUND_S, QUICK_ROUND_S = 12.0, 4.0
PATIENCE_S = 30.0


def attacks(key: str) -> list[list[bytes]]:
    """What is written on one connection each, in pieces."""
    head = POST.replace(b"Host: x", b"Host: x\r\nAuthorization: Bearer " + key.encode())
    bodies = [body for body, _ in BODIES.values()]
    bodies += [with_prompt(prompt) for prompt in PROMPTS.values()] + list(LARGE.values())
    made = [list(parts) for parts, _, _ in REQUESTS.values()]
    for body in bodies:
        made.append([head + b"Content-Length: %d\r\n\r\n" % len(body), body])
        chunks = [body[at : at + 65_536] for at in range(0, len(body), 65_536)]
        made.append(
            [
                head + b"Transfer-Encoding: chunked\r\n\r\n",
                *[b"%x\r\n%b\r\n" % (len(one), one) for one in chunks],
                b"0\r\n\r\n",
            ]
        )
    return made


async def attack(port: int, parts: list[bytes], seen: Counter[str]) -> None:
    """Send it, and read what comes until there is an answer or the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send() -> None:
        with contextlib.suppress(ConnectionError):
            for part in parts:
                writer.write(part)
                await writer.drain()

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(PATIENCE_S):
            line = await reader.readline()
        seen[line.decode("latin-1").split(" ")[1] if line else "closed"] += 1
    except TimeoutError:
        seen["no answer"] += 1
    except ConnectionError:
        seen["closed"] += 1
    finally:
        sending.cancel()
        writer.close()


async def over_and_over(work: Callable[[], Awaitable[None]], until: float) -> None:
    while time.monotonic() < until:
        await work()


class Round:
    """One stretch of time: milliseconds of each probe, and of each job of the other user."""

    def __init__(self, system: System, ann: Caller) -> None:
        self._system = system
        self._ann = ann
        self._names = itertools.count()
        self.probes_ms: list[float] = []
        self.jobs_ms: list[float] = []

    async def probe(self) -> None:
        begun = time.perf_counter()
        answer = await self._system.http.get(f"{self._system.urls[0]}/healthz")
        answer.raise_for_status()
        self.probes_ms.append((time.perf_counter() - begun) * 1000)
        await asyncio.sleep(PROBE_EVERY_S)

    async def job(self) -> None:
        begun = time.perf_counter()
        job_id = await self._ann.accepted(f"job-{next(self._names)}")
        view = await self._ann.view(job_id, wait_s=int(PATIENCE_S))
        assert view.status == "succeeded", view
        self.jobs_ms.append((time.perf_counter() - begun) * 1000)


def assail(port: int, key: str, seconds: float) -> Counter[str]:
    """Attackers in a process of their own: what they were answered."""
    made = itertools.cycle(attacks(key))
    seen: Counter[str] = Counter()

    async def all_of_them() -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(
            *(over_and_over(lambda: attack(port, next(made), seen), until) for _ in range(ATTACKERS))
        )

    asyncio.run(all_of_them())
    return seen


async def measured(system: System, ann: Caller, seconds: float) -> Round:
    """A round of probes and jobs."""
    one, until = Round(system, ann), time.monotonic() + seconds
    await asyncio.gather(over_and_over(one.probe, until), over_and_over(one.job, until))
    return one


async def run(arguments: Arguments) -> Report:
    """Rounds with and without attacks, in turn."""
    report = Report("hostile", "Does hostile input hold up anybody else?")
    seconds = QUICK_ROUND_S if arguments.quick else ROUND_S
    seen: Counter[str] = Counter()
    quiet: list[Round] = []
    attacked: list[Round] = []
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, mp_context=SPAWN) as processes:
        async with running_system(Path(folder) / "system", Shape(latency_s=0.02)) as system:
            ann, eve = await system.caller("ann"), await system.caller("eve")
            port = urlsplit(system.urls[0]).port or 0
            loop = asyncio.get_running_loop()
            for _ in range(arguments.repetitions):
                quiet.append(await measured(system, ann, seconds))
                attackers = loop.run_in_executor(processes, assail, port, eve.key, seconds)
                attacked.append(await measured(system, ann, seconds))
                seen += await attackers
    rows: list[list[Cell]] = []
    for name, rounds in (("quiet", quiet), ("attacked", attacked)):
        measures = {
            "/healthz": [one.probes_ms for one in rounds],
            "a job": [one.jobs_ms for one in rounds],
        }
        for what, values in measures.items():
            middle = Spread.of([percentile(one, 0.5) for one in values])
            high = Spread.of([percentile(one, 0.99) for one in values])
            rows.append([f"{what}, {name}", sum(map(len, values)), middle, high])
    report.table("Milliseconds", ["", "number", "p50", "p99"], rows)
    answers: list[list[Cell]] = [[name, count] for name, count in sorted(seen.items())]
    report.table("Attacks by answer", ["answer", "number"], answers)
    report.judge("probe_p99_ms", Spread.of([percentile(one.probes_ms, 0.99) for one in attacked]))
    report.judge("server_errors", float(sum(n for name, n in seen.items() if name.startswith("5"))))
    report.judge("unanswered", float(seen["no answer"]))
    report.judge("least_jobs", float(min(len(one.jobs_ms) for one in attacked)))
    report.note(
        f"{ATTACKERS} attackers at once, in a process of their own. The client, the attackers, Valkey, the worker "
        "and the simulator share the machine's cores with the API."
    )
    return report


def main() -> None:
    arguments = parsed(__doc__)
    report = asyncio.run(run(arguments))
    report.write(arguments.results)
    print(report.markdown())


if __name__ == "__main__":
    main()
