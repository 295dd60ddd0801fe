"""What a job costs the server, from 1,000 to 1,000,000 waiting jobs and from 10 to 100,000 users.

    python -m bench.scale [--quick]

The server's own CPU time, in small turns of which the median counts, and the commands that run inside it. A second
server with the fewest is measured in turn with the one that fills up: what else the machine does is the same for both.
Waiting jobs are submitted by the real script. Memory is that of the whole server, before and after, less the bodies.

Where this machine has jemalloc, the servers have it too: Redis and Valkey are built with it where they are installed.
The embedded server has the C library's allocator, which spreads what scripts allocate over all the memory of a large
server; what many users cost then is told beside it.
"""

import argparse
import itertools
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

from bench.line import START_MS, TIER, Line
from bench.report import RESULTS, Report
from bench.server import jemalloc, valkey
from jobs.config import Config
from jobs.record import ClaimedJob, JobView, NewJob

TURNS, EACH = 40, 25
BATCH, LOADERS = 1000, 4
USERS, JOBS_OF_EACH = 100, 2
TOKENS = 1000
KINDS = ("submit", "claim", "settle", "read")


@dataclass(frozen=True, slots=True)
class Cost:
    """Per job: µs of the server's CPU, and commands inside it, by kind of call."""

    us: dict[str, float]
    commands: dict[str, float]


def _config() -> Config:
    provider = {
        "base_url": "http://127.0.0.1:9/v1", "accounting": "openai", "tokens_per_minute": 10**12,
        "requests_per_minute": 10**9, "timeout_s": 60.0, "models": {"m": {}},
    }  # fmt: skip
    return Config.model_validate(
        {"tiers": {TIER: {"tokens_per_day": 10**12, "max_concurrent": 10**6}}, "providers": {"p": provider}}
    )


class Crowd:
    """A line that is filled further and further, in simulated time; each job's user is the next of the circle."""

    def __init__(self, url: str, users: int) -> None:
        names = [f"user{n:06d}" for n in range(users)]
        self.line = Line(url, _config())
        for first in range(0, users, BATCH):
            self.line.add_users(names[first : first + BATCH])
        random.Random(1).shuffle(names)
        self._names: Iterator[str] = itertools.cycle(names)
        self._now_ms = START_MS
        self.waiting = 0

    def _jobs(self, count: int) -> list[NewJob]:
        return [self.line.job(next(self._names), TOKENS) for _ in range(count)]

    def _later(self) -> int:
        self._now_ms += 1
        return self._now_ms

    def fill(self, jobs: int) -> None:
        """Submit until so many wait, over several connections, so that the server has always something to do."""
        missing = jobs - self.waiting

        def load(first: int) -> None:
            self.line.load(self._jobs(min(BATCH, missing - first)), self._now_ms)

        self._later()
        with ThreadPoolExecutor(LOADERS) as loaders:
            list(loaders.map(load, range(0, missing, BATCH)))
        self.waiting = jobs

    def used_bytes(self) -> int:
        return int(self.line.info("memory")["used_memory"])

    def _life(
        self, made: list[NewJob], views: list[JobView], found: list[ClaimedJob]
    ) -> dict[str, Callable[[], object]]:
        return {
            "submit": lambda: views.extend(self.line.submit(made, self._later())),
            "read": lambda: self.line.read([(view.user, view.id) for view in views], self._later()),
            "claim": lambda: found.extend(self.line.claim(EACH, self._later())[0]),
            "settle": lambda: self.line.settle([(job, TOKENS) for job in found], self._later()),
        }

    def turn(self, call_with: Callable[[Callable[[], object]], float]) -> dict[str, float]:
        """Some jobs are submitted and read, as many claimed and settled: as many wait after it. What each kind of call
        came to, for each job."""
        found: list[ClaimedJob] = []
        views: list[JobView] = []
        came_to = {
            kind: call_with(call) / EACH for kind, call in self._life(self._jobs(EACH), views, found).items()
        }
        assert len(found) == EACH, found
        return came_to


def costs(*crowds: Crowd) -> list[Cost]:
    """What a job costs beside each of them, measured in turns."""
    turns: list[list[dict[str, float]]] = [[] for _ in crowds]
    for _ in range(TURNS):
        for crowd, seen in zip(crowds, turns, strict=True):
            seen.append(crowd.turn(crowd.line.server_us))
    return [
        Cost(
            {kind: median(one[kind] for one in seen) for kind in KINDS},
            crowd.turn(crowd.line.commands),
        )
        for crowd, seen in zip(crowds, turns, strict=True)
    ]


def by_jobs(url: str, beside: str, report: Report, sizes: list[int]) -> None:
    few, crowd = Crowd(beside, USERS), Crowd(url, USERS)
    few.fill(sizes[0])
    crowd.fill(1)
    before = crowd.used_bytes()
    found: dict[int, tuple[Cost, Cost]] = {}
    memory: dict[int, float] = {}
    for size in sizes:
        crowd.fill(size)
        memory[size] = (crowd.used_bytes() - before) / size
        of_few, cost = costs(few, crowd)
        found[size] = cost, of_few
    _tell(report, "jobs", f"waiting jobs, of {USERS} users", found)
    last, of_few = found[sizes[-1]]
    report.judge("submit_million_jobs", last.us["submit"] / of_few.us["submit"])
    report.judge("claim_million_jobs", last.us["claim"] / of_few.us["claim"])
    report.judge("bytes_per_waiting_job", memory[sizes[-1]])
    report.table(
        "Memory of a waiting job, its indexes and its share of its user included, with a body of 2 bytes",
        ["waiting jobs", "bytes each"], [[size, each] for size, each in memory.items()],
    )  # fmt: skip


def by_users(report: Report, sizes: list[int]) -> None:
    found = _of_users(jemalloc(), sizes)
    _tell(report, "users", f"users, each with {JOBS_OF_EACH} waiting jobs", found)
    last, of_few = found[sizes[-1]]
    report.judge("submit_100000_users", last.us["submit"] / of_few.us["submit"])
    report.judge("claim_100000_users", last.us["claim"] / of_few.us["claim"])
    if jemalloc():
        last, of_few = _of_users(None, sizes[-1:], sizes[0])[sizes[-1]]
        report.table(
            f"{sizes[-1]:,} users with the allocator of the embedded server", ["", *KINDS],
            [
                ["µs of the server's CPU a job", *(last.us[kind] for kind in KINDS)],
                [f"of those beside {sizes[0]:,}", *(last.us[kind] / of_few.us[kind] for kind in KINDS)],
            ],
        )  # fmt: skip


def _of_users(
    preload: str | None, sizes: list[int], fewest: int | None = None
) -> dict[int, tuple[Cost, Cost]]:
    """By so many users: the costs beside them, and those beside the fewest in turn. On servers of their own: one that
    gave a million jobs' memory back has what it keeps scattered over it."""
    found: dict[int, tuple[Cost, Cost]] = {}
    with valkey(preload=preload) as url, valkey(preload=preload) as beside:
        few = Crowd(beside, fewest or sizes[0])
        few.fill(JOBS_OF_EACH * (fewest or sizes[0]))
        for size in sizes:
            crowd = Crowd(url, size)
            crowd.fill(JOBS_OF_EACH * size)
            of_few, cost = costs(few, crowd)
            found[size] = cost, of_few
    return found


def _tell(report: Report, name: str, what: str, found: dict[int, tuple[Cost, Cost]]) -> None:
    costs = {size: cost for size, (cost, _) in found.items()}
    report.table(
        f"µs of the server's CPU a job, by {what}", ["", *KINDS],
        [[size, *(cost.us[kind] for kind in KINDS)] for size, cost in costs.items()],
    )  # fmt: skip
    report.table(
        f"Of those beside {min(costs):,}, measured in turn", ["", *KINDS],
        [[size, *(cost.us[kind] / few.us[kind] for kind in KINDS)] for size, (cost, few) in found.items()],
    )  # fmt: skip
    report.table(
        f"Commands inside the server a job, by {what}", ["", *KINDS],
        [[size, *(cost.commands[kind] for kind in KINDS)] for size, cost in costs.items()],
    )  # fmt: skip
    report.lines(
        name, f"CPU of the server a job, by {what}",
        {kind: [(float(size), cost.us[kind]) for size, cost in costs.items()] for kind in KINDS},
        x=what, y="µs", log_x=True,
    )  # fmt: skip


def sizes_to(most: int) -> list[int]:
    """1,000 and ten times as many again and again, up to `most`."""
    sizes = [1000]
    while sizes[-1] * 10 <= most:
        sizes.append(sizes[-1] * 10)
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="short runs that are not kept")
    parser.add_argument("--jobs", type=int, default=1_000_000, help="the most jobs that wait")
    chosen = parser.parse_args()
    quick = chosen.quick
    report = Report("scale", "What does a job cost the server, whatever waits?")
    with valkey(preload=jemalloc()) as url, valkey(preload=jemalloc()) as beside:
        by_jobs(url, beside, report, [1000, 10_000] if quick else sizes_to(chosen.jobs))
    by_users(report, [10, 1000] if quick else [10, 1000, 100_000])
    report.note(
        f"The servers' allocator: {jemalloc() or 'that of the C library, since this machine has no jemalloc'}."
    )
    report.note(
        "A lane from which the last job is taken leaves the order of turns, and comes back into it with the next: that "
        "costs about ten commands, however many users there are, and no lane here becomes empty."
    )
    report.note(f"Calls come {EACH} at a time, and a claim takes {EACH} jobs; medians of {TURNS} such turns.")
    if quick:
        print(report.markdown())
    else:
        report.write(RESULTS)


if __name__ == "__main__":
    main()
