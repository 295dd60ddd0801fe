"""What a job costs the server, from 1,000 to 1,000,000 waiting jobs and from 10 to 100,000 users.

    python -m bench.scale [--quick]

The server's own CPU time, in small turns of which the median counts, and the commands that run inside it. The waiting
jobs are submitted by the real script. Memory is that of the whole server, before and after, less the bodies.
"""

import argparse
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from bench.line import START_MS, TIER, Line
from bench.report import RESULTS, Report
from bench.server import valkey
from jobs.config import Config
from jobs.record import ClaimedJob, JobView, NewJob

TURNS, EACH = 40, 25
BATCH = 1000
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
        while self.waiting < jobs:
            count = min(BATCH, jobs - self.waiting)
            self.line.submit(self._jobs(count), self._later())
            self.waiting += count

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

    def cost(self) -> Cost:
        """As many jobs are submitted, read, claimed and settled: as many wait afterwards."""
        us: dict[str, list[float]] = {kind: [] for kind in KINDS}
        commands = dict.fromkeys(KINDS, 0)
        for turn in range(TURNS + 1):
            found: list[ClaimedJob] = []
            views: list[JobView] = []
            made = self._jobs(EACH)
            for kind, call in self._life(made, views, found).items():
                if turn == TURNS:
                    commands[kind] = self.line.commands(call)
                else:
                    us[kind].append(self.line.server_us(call) / EACH)
            assert len(found) == EACH, found
        return Cost(
            {kind: median(values) for kind, values in us.items()},
            {kind: count / EACH for kind, count in commands.items()},
        )


def by_jobs(url: str, report: Report, sizes: list[int]) -> None:
    crowd = Crowd(url, 1000)
    crowd.fill(1)
    before = crowd.used_bytes()
    costs: dict[int, Cost] = {}
    memory: dict[int, float] = {}
    for size in sizes:
        crowd.fill(size)
        memory[size] = (crowd.used_bytes() - before) / size
        costs[size] = crowd.cost()
    _tell(report, "jobs", "waiting jobs, of 1,000 users", costs)
    last = sizes[-1]
    report.judge("submit_million_jobs", costs[last].us["submit"] / costs[sizes[0]].us["submit"])
    report.judge("claim_million_jobs", costs[last].us["claim"] / costs[sizes[0]].us["claim"])
    report.judge("bytes_per_waiting_job", memory[last])
    report.table(
        "Memory of a waiting job, its indexes and its share of its user included, with a body of 2 bytes",
        ["waiting jobs", "bytes each"], [[size, each] for size, each in memory.items()],
    )  # fmt: skip


def by_users(url: str, report: Report, sizes: list[int]) -> None:
    costs: dict[int, Cost] = {}
    for size in sizes:
        crowd = Crowd(url, size)
        crowd.fill(max(1000, size))
        costs[size] = crowd.cost()
    _tell(report, "users", "users, each with a waiting job", costs)
    last = sizes[-1]
    report.judge("submit_100000_users", costs[last].us["submit"] / costs[sizes[0]].us["submit"])
    report.judge("claim_100000_users", costs[last].us["claim"] / costs[sizes[0]].us["claim"])


def _tell(report: Report, name: str, what: str, costs: dict[int, Cost]) -> None:
    report.table(
        f"µs of the server's CPU a job, by {what}", ["", *KINDS],
        [[size, *(cost.us[kind] for kind in KINDS)] for size, cost in costs.items()],
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
    with valkey() as url:
        by_jobs(url, report, [1000, 10_000] if quick else sizes_to(chosen.jobs))
        by_users(url, report, [10, 1000] if quick else [10, 1000, 100_000])
    report.note(f"Calls come {EACH} at a time, and a claim takes {EACH} jobs; medians of {TURNS} such turns.")
    if quick:
        print(report.markdown())
    else:
        report.write(RESULTS)


if __name__ == "__main__":
    main()
