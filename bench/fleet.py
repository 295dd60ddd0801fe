"""Whether a fleet that follows `recommended` settles after a step in load, and stays within what the provider allows.

    python -m bench.fleet [--quick]

The real scripts on a real Valkey and the real advice, in simulated time: jobs arrive at random, workers take a while to
start and drain when they go, and an autoscaler asks every POLL_S how many there should be, as KEDA does.
"""

import argparse
import asyncio
import heapq
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from bench.report import RESULTS, Cell, Report
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
SEEDS = (1, 2, 3, 4)


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

    @property
    def words(self) -> str:
        """The load's steps."""
        return ", ".join(f"{rate:g}" for _, rate in self.load) + " jobs/s"

    @property
    def allows(self) -> str:
        """What the provider allows, where the load passes it."""
        most = max(rate for _, rate in self.load)
        return f", of which the provider allows {self.most_jobs:g}" if self.most_jobs < most else ""


CASES = (
    Case("step", ((0, 2), (180, 8), (540, 2)), 900),
    Case("limit", ((0, 2), (180, 12), (420, 2)), 1080, tokens_per_minute=360_000),
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


@dataclass(frozen=True, slots=True)
class Settled:
    """How the advice went after a step in load: seconds until its last change, how often it turned back, and
    what was advised once SETTLED_S had passed.

    Where the load before was more than the provider allows, the seconds count from `drained_s` after the step on, when
    what that has left is done: until then as many workers are needed as before.
    """

    drained_s: int
    after_s: int
    turned: int
    fewest: int
    most: int


def settled(samples: Sequence[Sample], case: Case, step: int) -> Settled:
    """The advice after a step in load, until the next one."""
    since = case.load[step][0]
    until = case.load[step + 1][0] if step + 1 < len(case.load) else case.end_s
    seen = [sample for sample in samples if since <= sample.second < until]
    drained = since
    if case.load[step - 1][1] > case.most_jobs:
        drained = next(each.second for each in seen if each.waiting <= each.load * WORKER_START_S)
    changes = [
        (b.second, b.recommended > a.recommended)
        for a, b in itertools.pairwise(seen)
        if a.recommended != b.recommended
    ]
    turned = sum(a != b for (_, a), (_, b) in itertools.pairwise(changes))
    late = [sample.recommended for sample in seen if sample.second >= drained + SETTLED_S]
    last = max((second for second, _ in changes), default=drained)
    return Settled(drained - since, max(0, last - drained), turned, min(late), max(late))


def beyond_useful(samples: Sequence[Sample]) -> int:
    """By how many workers the fleet or its advice passed, at the most, what is useful at the most."""
    return max(
        max(sample.workers, sample.recommended) - sample.useful_max
        for sample in samples
        if sample.useful_max is not None
    )


async def played(report: Report, seeds: Sequence[int]) -> None:
    """Every case with every seed."""
    runs: dict[str, list[list[Sample]]] = {}
    with valkey() as url:
        redis = connect(url, client_name="bench")
        for case in CASES:
            runs[case.name] = [await play(redis, case, seed) for seed in seeds]
        await redis.aclose()
    rows: list[list[Cell]] = []
    steps: list[Settled] = []
    for case in CASES:
        for step in range(1, len(case.load)):
            of_seeds = [settled(samples, case, step) for samples in runs[case.name]]
            steps += of_seeds
            before, after = case.load[step - 1][1], case.load[step][1]
            rows.append([
                f"from {before:g} to {after:g} jobs/s{case.allows}", min(after, case.most_jobs) / case.per_worker,
                *(max(getattr(each, what) for each in of_seeds) for what in ("drained_s", "after_s", "turned")),
                f"{min(each.fewest for each in of_seeds)} to {max(each.most for each in of_seeds)}",
            ])  # fmt: skip
        _draw(report, case, runs[case.name][0])
    report.judge("settles_within_s", max(each.after_s for each in steps))
    report.judge("turns_back", max(each.turned for each in steps))
    report.judge("beyond_useful", max(beyond_useful(samples) for each in runs.values() for samples in each))
    report.table(
        f"Steps in load, {len(seeds)} runs each",
        ["", "workers needed", "backlog done after (s)", "settled then after (s)", "turned back", "advised from then"],
        rows,
    )  # fmt: skip
    report.note(
        f"A worker has {CASES[0].slots} slots, calls take {CASES[0].call_s:g} s give or take a half, jobs arrive at "
        f"random; a worker begins {WORKER_START_S} s after it was asked for, and the autoscaler asks every {POLL_S} s. "
        "What the provider did not allow is left when the load falls: that is done first, by as many workers as before."
    )


def _draw(report: Report, case: Case, samples: Sequence[Sample]) -> None:
    lines: dict[str, list[tuple[float, float]]] = {
        "what the load needs": [(sample.second, sample.load / case.per_worker) for sample in samples],
        "recommended": [(sample.second, sample.recommended) for sample in samples],
        "workers": [(sample.second, sample.workers) for sample in samples],
    }
    if case.allows:
        lines["useful at most"] = [
            (sample.second, sample.useful_max) for sample in samples if sample.useful_max is not None
        ]
    report.lines(case.name, f"Workers while load goes {case.words}{case.allows}", lines, x="s", y="workers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one run of each that is not kept")
    quick = parser.parse_args().quick
    report = Report(
        "fleet",
        "Does a fleet that follows the advice settle after a step in load, within what the provider allows?",
    )
    asyncio.run(played(report, SEEDS[:1] if quick else SEEDS))
    if quick:
        print(report.markdown())
    else:
        report.write(RESULTS)


if __name__ == "__main__":
    main()
