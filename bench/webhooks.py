"""Do dead and slow receivers delay the webhooks of the others, and how many are sent a second?

    python -m bench.webhooks [--quick] [--events 100000] [--endpoints 100] [--rate 300] [--workers 1] [--repetitions 1]

Each endpoint has a user of its own. Jobs are cancelled at an even pace, one endpoint after the other, and each end is
an event; what is measured is the time from right before the cancel to the arrival at the receiver. A tenth of the
endpoints is slow (5 s an answer), a tenth is dead: half of these take the connection and never answer, half refuse it.
"Without them" the others get events at the same pace: a quarter as many before, and as many again behind, so that a
machine that gets slower or faster meets both. The worker, the receivers and Valkey are processes of their own. All
events take ten minutes, at a `--rate` that leaves the machine half idle; `--events 20000` a quarter of that.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ulid import ULID

from bench.arguments import Arguments
from bench.figures import Spread, percentile
from bench.receivers import HOST
from bench.report import Report
from bench.server import valkey
from jobs.config.load import load
from jobs.connection import connect
from jobs.record import NewJob, Submitted
from jobs.store import JobStore
from jobs.users import Users
from jobs.webhooks import EVENT_TYPES
from jobs.webhooks.endpoints import Endpoints
from jobs.webhooks.signing import SecretBox

ROOT = Path(__file__).parents[1]
SECRET = "the secret of a benchmark of webhooks, long enough"
STARTED = "worker started"
WITHIN_S = 120.0
SLOWEST = 50.0
"""Fewer deliveries a second are no figure but a mistake."""
HOUR_MS = 3_600_000
_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent. `endpoints` counts the dead and the slow too, a tenth each; `rate`: events a second to all."""

    events: int
    endpoints: int
    rate: float
    workers: int

    @property
    def bad(self) -> int:
        """Slow ones, and as many dead ones."""
        return self.endpoints // 10

    @property
    def healthy(self) -> int:
        return self.endpoints - 2 * self.bad


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds to the first attempts at healthy receivers, and how many all receivers got a second."""

    first_s: tuple[float, ...]
    per_s: float

    def ms(self, share: float) -> float:
        return 1000 * percentile(self.first_s, share)


@contextmanager
def receivers(load: Load, *, bad: bool) -> Iterator[tuple[list[int], "subprocess.Popen[str]"]]:
    """Their ports: the healthy ones first, then those that are slow, silent, and not there."""
    slow, silent = (load.bad, load.bad // 2) if bad else (0, 0)
    refusing = load.bad - silent if bad else 0
    command = [sys.executable, "-m", "bench.receivers", str(load.healthy), str(slow), str(silent)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        ports: list[int] = json.loads(process.stdout.readline())
        held = [socket.socket() for _ in range(refusing)]
        for one in held:
            # Bound and never listening: nobody else gets the port, and whoever connects is refused.
            one.bind((HOST, 0))
        try:
            yield ports + [one.getsockname()[1] for one in held], process
        finally:
            process.kill()
            for one in held:
                one.close()


@contextmanager
def worker(redis_url: str, config: Path) -> Iterator[None]:
    """A worker that has nothing to do but webhooks."""
    environment = {
        **os.environ, "REDIS_URL": redis_url, "PENSTOCK_CONFIG": str(config), "PENSTOCK_SECRET": SECRET,
        "PENSTOCK_LOG": "json", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    log = config.with_name(f"worker-{time.monotonic_ns()}.log")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "worker"], env=environment, stdout=out, stderr=out
        )
    try:
        deadline_s = time.monotonic() + WITHIN_S
        while STARTED not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise SystemExit(f"the worker did not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


def configuration(folder: Path, ports: Sequence[int]) -> Path:
    """A file that lets webhooks go to these ports of this machine."""
    path = folder / "penstock.yaml"
    allowed = ", ".join(f'"{HOST}:{port}"' for port in ports)
    path.write_text(
        "tiers: {open: {}}\n"
        f"providers: {{none: {{base_url: 'http://{HOST}:9/v1', models: {{m: {{}}}}}}}}\n"
        f"webhooks: {{allow_http: true, allow: [{allowed}]}}\n"
    )
    return path


class Bench:
    """Redis as the API uses it: users, endpoints, jobs that wait, and their ends."""

    def __init__(self, redis_url: str, config: Path) -> None:
        self._redis = connect(redis_url, client_name="bench", max_connections=_AT_ONCE)
        self._store = JobStore(self._redis)
        self._config = config
        self._endpoints = Endpoints(self._redis, SecretBox(SECRET))

    async def open(self, ports: Sequence[int]) -> list[str]:
        """A user for each port, with one endpoint; their names."""
        await self._store.start()
        await self._endpoints.start()
        await self._store.publish(load(self._config))
        users = Users(self._redis)
        names = [f"u{place}" for place in range(len(ports))]
        for name, port in zip(names, ports, strict=True):
            await users.create(name, "open", {})
            await self._endpoints.create(
                name, f"we_{ULID()}", url=f"http://{HOST}:{port}/", event_types=EVENT_TYPES, name=""
            )
        return names

    async def submit(self, users: Sequence[str], count: int) -> list[tuple[str, str]]:
        """So many jobs that nobody claims, by one user after the other: (user, id)."""
        jobs = [(users[n % len(users)], f"job_{ULID()}") for n in range(count)]
        start_ms = int(time.time() * 1000) + HOUR_MS

        async def one(user: str, job_id: str) -> None:
            job = NewJob(
                job_id, user, "m", b"{}", 10, 10, not_before_ms=start_ms, expires_after_ms=2 * HOUR_MS
            )
            assert isinstance(await self._store.submit(job), Submitted)

        for at in range(0, count, _AT_ONCE):
            await asyncio.gather(*(one(*job) for job in jobs[at : at + _AT_ONCE]))
        return jobs

    async def end(self, job: tuple[str, str]) -> float:
        """Ends a job by cancelling it; when that was asked for."""
        at_s = time.time()
        await self._store.cancel(*job)
        return at_s

    async def until_sent(self, count: int) -> None:
        """Returns when so few deliveries are left pending."""
        deadline_s = time.monotonic() + WITHIN_S + await self._redis.zcard("outbox:ends") / SLOWEST
        while await self._redis.zcard("outbox:ends") > count:
            if time.monotonic() > deadline_s:
                raise SystemExit("deliveries are stuck")
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        await self._redis.aclose()


async def paced(load: Load, *, bad: bool) -> Measured:
    """The healthy endpoints' first attempts while events come at their pace, with or without the others."""
    count = load.events if bad else load.events * load.healthy // load.endpoints
    rate = load.rate if bad else load.rate * load.healthy / load.endpoints
    with (
        valkey() as url,
        tempfile.TemporaryDirectory() as folder,
        receivers(load, bad=bad) as (ports, process),
    ):
        bench = Bench(url, configuration(Path(folder), ports))
        users = await bench.open(ports)
        jobs = await bench.submit(users, count)
        with workers(url, Path(folder), load.workers):
            ended = await _ends(bench, jobs, rate)
            # What the dead and the slow have not got is not waited for; the healthy have all of theirs by then.
            await asyncio.sleep(2.0)
            log, _ = await asyncio.to_thread(process.communicate, "")
        await bench.close()
    arrivals: list[tuple[int, str, float]] = json.loads(log)
    healthy = set(users[: load.healthy])
    firsts: dict[str, float] = {}
    for _, event_id, at_s in arrivals:
        firsts.setdefault(event_id, at_s)
    taken = [
        firsts["evt_" + job_id.removeprefix("job_")] - ended[job_id]
        for user, job_id in jobs
        if user in healthy
    ]
    span_s = max(ended.values()) - min(ended.values())
    return Measured(tuple(taken), len(firsts) / span_s)


async def _ends(bench: Bench, jobs: Sequence[tuple[str, str]], rate: float) -> dict[str, float]:
    """Ends the jobs at an even pace; when each was."""
    began_s = time.monotonic()
    tasks = {}
    for number, job in enumerate(jobs):
        wait_s = began_s + number / rate - time.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        tasks[job[1]] = asyncio.create_task(bench.end(job))
    return {job_id: await task for job_id, task in tasks.items()}


async def backlog(load: Load) -> Measured:
    """How many healthy receivers get a second, when all of it waits already."""
    only = replace(load, endpoints=load.healthy)
    with (
        valkey() as url,
        tempfile.TemporaryDirectory() as folder,
        receivers(load, bad=False) as (ports, process),
    ):
        bench = Bench(url, configuration(Path(folder), ports))
        jobs = await bench.submit(await bench.open(ports), only.events)
        for at in range(0, len(jobs), _AT_ONCE):
            await asyncio.gather(*(bench.end(job) for job in jobs[at : at + _AT_ONCE]))
        with workers(url, Path(folder), load.workers):
            await bench.until_sent(0)
            log, _ = await asyncio.to_thread(process.communicate, "")
        await bench.close()
    arrived = sorted(at_s for _, _, at_s in json.loads(log))
    # Between the twentieth and the last: starting is not sending.
    return Measured((), (len(arrived) - 20) / (arrived[-1] - arrived[19]))


@contextmanager
def workers(url: str, folder: Path, count: int) -> Iterator[None]:
    """So many workers."""
    if not count:
        yield
        return
    with worker(url, folder / "penstock.yaml"), workers(url, folder, count - 1):
        yield


async def measured(load: Load) -> tuple[Measured, Measured, Measured]:
    """Once all of it: the healthy ones without the others and beside them, and a backlog."""
    quarter = replace(load, events=load.events // 4)
    before = await paced(quarter, bad=False)
    beside = await paced(load, bad=True)
    behind = await paced(quarter, bad=False)
    alone = Measured(before.first_s + behind.first_s, (before.per_s + behind.per_s) / 2)
    return alone, beside, await backlog(quarter)


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short repetition, kept in .bench/quick")
    parser.add_argument("--events", type=int, default=100_000, help="of one run, to all endpoints")
    parser.add_argument("--endpoints", type=int, default=100, help="a tenth of them slow, a tenth dead")
    parser.add_argument("--rate", type=float, default=300.0, help="events a second")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=1)
    given = parser.parse_args()
    arguments = Arguments(quick=given.quick)
    load = Load(given.events, given.endpoints, given.rate, given.workers)
    if given.quick:
        load = replace(load, events=1200, endpoints=50, rate=60.0)
    runs = [await measured(load) for _ in range(1 if given.quick else given.repetitions)]
    report = Report(
        "webhooks",
        "Do dead and slow receivers delay the others' webhooks, and how many are sent a second?",
        command="python -m bench.webhooks",
    )
    alone, beside = (
        {share: Spread.of([run[place].ms(share) for run in runs]) for share in (0.5, 0.99)}
        for place in (0, 1)
    )
    report.table(
        "From the end of a job to the first attempt at a healthy receiver, ms",
        ["", "p50", "p99"],
        [
            [f"{load.healthy} healthy endpoints alone", alone[0.5], alone[0.99]],
            [f"beside {load.bad} dead and {load.bad} slow ones", beside[0.5], beside[0.99]],
        ],
    )
    report.table(
        "Deliveries a second, when all of them wait already",
        ["", "deliveries/s"],
        [[f"{load.workers} worker, {load.healthy} endpoints", Spread.of([run[2].per_s for run in runs])]],
    )
    report.judge("healthy_p99", beside[0.99].over(alone[0.99]))
    report.note(
        f"{load.events:,} events to {load.endpoints} endpoints at {load.rate:g} a second; the slow ones answer after "
        "5 s, half of the dead ones never, the others refuse the connection."
    )
    report.write(arguments.results)


if __name__ == "__main__":
    asyncio.run(main())
