"""Whether a fleet that follows `recommended` settles after a step in load, and stays within what the provider allows.

    python -m bench.fleet [--only step] [--json] [--plot fleet.png]

The real scripts on a real Valkey and the real advice, in simulated time: jobs arrive at random, workers take a while to
start and drain when they go, and an autoscaler asks every POLL_S how many there should be, as KEDA does.
"""

import argparse
import asyncio
import heapq
import itertools
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from bench.server import valkey
from jobs.claims import Claims
from jobs.config import Config
from jobs.connection import connect
from jobs.figures import FiguresStore
from jobs.record import ClaimedJob, NewJob, State, Usage
from jobs.scaling import advise
from jobs.store import JobStore
from jobs.users import Users

START_MS = 1_800_000_000_000
LEASE_MS = 60_000
PROMPT, CAP, ANSWER = 100, 900, 400
POLL_S, WORKER_START_S, SETTLED_S = 10, 12, 120


@dataclass(frozen=True, slots=True)
class Case:
    """Load as (from second, jobs a second); a worker of `slots` with calls of `call_s`; the provider's limit."""

    name: str
    load: tuple[tuple[int, float], ...]
    end_s: int
    slots: int = 4
    call_s: float = 4.0
    tokens_per_minute: int = 10_000_000

    @property
    def per_worker(self) -> float:
        """Jobs a second that one worker carries."""
        return self.slots / self.call_s

    @property
    def most_jobs(self) -> float:
        """Jobs a second that the provider allows: it counts prompt and cap on arrival."""
        return self.tokens_per_minute / (PROMPT + CAP) / 60


CASES = (
    Case("step", ((0, 2), (180, 8), (540, 2)), 900),
    Case("limit", ((0, 2), (180, 12), (540, 2)), 900, tokens_per_minute=360_000),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen when the autoscaler asked."""

    second: int
    load: float
    waiting: int
    workers: int
    recommended: int
    useful_max: int | None


@dataclass
class _Worker:
    claims: Claims
    running: int = 0
    draining: bool = False
    sequence: Any = field(default_factory=itertools.count)


class Fleet:
    """One run. Events are (ms, order, what, with)."""

    def __init__(self, redis: Redis, case: Case, seed: int) -> None:
        self.case = case
        self.now = START_MS
        self.samples: list[Sample] = []
        self._redis = redis
        self._chance = random.Random(seed)
        self._store = JobStore(redis, lease_ms=LEASE_MS, clock=lambda: self.now)
        self._figures = FiguresStore(redis, lease_ms=LEASE_MS, clock=lambda: self.now)
        self._events: list[tuple[int, int, str, Any]] = []
        self._order = itertools.count()
        self._names = itertools.count()
        self._workers: list[_Worker] = []
        self._starting = 0
        self._looks_at = 0

    def _at(self, after_ms: float, what: str, about: Any = None) -> None:
        heapq.heappush(self._events, (self.now + max(1, round(after_ms)), next(self._order), what, about))

    @property
    def _second(self) -> float:
        return (self.now - START_MS) / 1000

    def _load(self) -> float:
        return [rate for since, rate in self.case.load if since <= self._second][-1]

    async def run(self) -> list[Sample]:
        """Play the case to its end."""
        provider = {
            "base_url": "http://127.0.0.1:9/v1", "accounting": "openai", "timeout_s": 60.0,
            "tokens_per_minute": self.case.tokens_per_minute, "models": {"m": {"max_output_tokens": CAP}},
        }  # fmt: skip
        await self._store.start()
        await self._figures.start()
        await self._store.publish(
            Config.model_validate({"tiers": {"open": {}}, "providers": {"sim": provider}})
        )
        await Users(self._redis).create("ann", "open", {})
        self._at(0, "sweep")
        self._at(1, "ask")
        self._at(1, "arrival")
        acts: dict[str, Callable[[Any], Awaitable[None]]] = {
            "sweep": self._sweep, "ask": self._ask, "arrival": self._arrival, "end": self._end, "look": self._look,
            "start": self._start_worker, "renew": self._renew,
        }  # fmt: skip
        while self._events[0][0] < START_MS + self.case.end_s * 1000:
            self.now, _, what, about = heapq.heappop(self._events)
            await acts[what](about)
        return self.samples

    async def _sweep(self, _: None) -> None:
        await self._store.sweep()
        self._at(1000, "sweep")

    async def _arrival(self, _: None) -> None:
        await self._store.submit(NewJob(f"job_{next(self._names):026d}", "ann", "m", b"{}", PROMPT, CAP))
        self._at(1000 * self._chance.expovariate(self._load()), "arrival")
        await self._claim()

    async def _claim(self) -> None:
        """Workers with a free slot look for work, until one finds less than it has room for."""
        for worker in self._workers:
            free = self.case.slots - worker.running
            if worker.draining or free == 0:
                continue
            claim = await worker.claims.claim(next(worker.sequence), free)
            worker.running += len(claim.jobs)
            for job in claim.jobs:
                self._at(1000 * self.case.call_s * self._chance.uniform(0.5, 1.5), "end", (worker, job))
            if len(claim.jobs) < free:
                self._looks_at = self.now + claim.wait_ms
                self._at(claim.wait_ms, "look", self._looks_at)
                return

    async def _look(self, at: int) -> None:
        if at == self._looks_at:
            await self._claim()

    async def _end(self, ended: tuple[_Worker, ClaimedJob]) -> None:
        worker, job = ended
        usage = Usage(PROMPT, ANSWER, PROMPT + ANSWER)
        await worker.claims.settle(job, State.SUCCEEDED, charge=usage, window="charged", result=b"{}")
        worker.running -= 1
        if worker.draining and worker.running == 0:
            await worker.claims.goodbye()
            self._workers.remove(worker)
        await self._claim()

    async def _start_worker(self, _: None) -> None:
        self._starting -= 1
        worker = _Worker(
            Claims(self._redis, f"worker-{next(self._names)}", lease_ms=LEASE_MS, clock=lambda: self.now)
        )
        await worker.claims.start()
        self._workers.append(worker)
        await self._renew(worker)
        await self._claim()

    async def _renew(self, worker: _Worker) -> None:
        if worker in self._workers:
            await worker.claims.renew([], slots=self.case.slots)
            self._at(LEASE_MS / 3, "renew", worker)

    async def _ask(self, _: None) -> None:
        figures = await self._figures.read()
        advice = advise(figures, slots=self.case.slots)
        await self._figures.hold(figures.held, advice.held)
        staying = [worker for worker in self._workers if not worker.draining]
        missing = advice.recommended - len(staying) - self._starting
        for _n in range(missing):
            self._starting += 1
            self._at(WORKER_START_S * 1000, "start")
        for worker in staying[: max(0, -missing)]:
            worker.draining = True
            if worker.running == 0:
                await worker.claims.goodbye()
                self._workers.remove(worker)
        waiting = sum(name.jobs for name in figures.names)
        self.samples.append(
            Sample(
                round(self._second),
                self._load(),
                waiting,
                len(staying),
                advice.recommended,
                advice.useful_max,
            )
        )
        self._at(POLL_S * 1000, "ask")


async def play(redis: Redis, case: Case, seed: int = 1) -> list[Sample]:
    """A case on this Redis, which is emptied first."""
    await redis.flushall()
    return await Fleet(redis, case, seed).run()


def settled_after(samples: Sequence[Sample], case: Case, step: int) -> tuple[int, int, int]:
    """Seconds from a step in load to the last change of advice, and the fewest and most advised after SETTLED_S."""
    since = case.load[step][0]
    until = case.load[step + 1][0] if step + 1 < len(case.load) else case.end_s
    seen = [sample for sample in samples if since <= sample.second < until]
    changes = [b.second for a, b in itertools.pairwise(seen) if a.recommended != b.recommended]
    late = [sample.recommended for sample in seen if sample.second >= since + SETTLED_S]
    return max(changes, default=since) - since, min(late), max(late)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=[case.name for case in CASES])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", metavar="FILE", help="draw the runs; needs matplotlib")
    chosen = parser.parse_args()
    runs: dict[str, list[Sample]] = {}
    with valkey() as url:
        redis = connect(url, client_name="bench")
        for case in CASES:
            if chosen.only in (None, case.name):
                runs[case.name] = await play(redis, case, chosen.seed)
        await redis.aclose()
    if chosen.plot:
        _plot(runs, chosen.plot)
    if chosen.json:
        print(json.dumps({name: [asdict(sample) for sample in samples] for name, samples in runs.items()}))
        return
    for name, samples in runs.items():
        _show(next(case for case in CASES if case.name == name), samples)


def _show(case: Case, samples: Sequence[Sample]) -> None:
    table = Table("second", "jobs/s", "waiting", "workers", "recommended", "useful at most", title=case.name)
    for sample in samples:
        table.add_row(
            str(sample.second), f"{sample.load:g}", str(sample.waiting), str(sample.workers),
            str(sample.recommended), "-" if sample.useful_max is None else str(sample.useful_max),
        )  # fmt: skip
    console = Console()
    console.print(table)
    for step in range(1, len(case.load)):
        last_s, fewest, most = settled_after(samples, case, step)
        need = min(case.load[step][1], case.most_jobs) / case.per_worker
        console.print(
            f"{case.name}: to {case.load[step][1]:g} jobs/s, which {need:.1f} workers carry: last change after "
            f"{last_s} s, {fewest} to {most} advised after {SETTLED_S} s"
        )


def _plot(runs: dict[str, list[Sample]], path: str) -> None:
    try:
        from matplotlib import pyplot
    except ImportError:
        raise SystemExit("--plot needs matplotlib: pip install matplotlib") from None
    _, axes = pyplot.subplots(len(runs), 1, squeeze=False, figsize=(8, 3.2 * len(runs)))
    for axis, (name, samples) in zip(axes[:, 0], runs.items(), strict=True):
        case = next(case for case in CASES if case.name == name)
        seconds = [sample.second for sample in samples]
        axis.step(seconds, [sample.load / case.per_worker for sample in samples], where="post", label="load")
        axis.step(seconds, [sample.recommended for sample in samples], where="post", label="recommended")
        axis.step(seconds, [sample.workers for sample in samples], where="post", label="workers")
        axis.step(seconds, [sample.useful_max or float("nan") for sample in samples], where="post",
                  linestyle=":", label="useful at most")  # fmt: skip
        if case.most_jobs < 100:
            axis.set_ylim(0, 2 * max(sample.recommended for sample in samples))
        axis.set(title=name, xlabel="s", ylabel="workers")
        axis.legend()
    pyplot.tight_layout()
    pyplot.savefig(path)


if __name__ == "__main__":
    asyncio.run(main())
