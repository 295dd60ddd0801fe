"""How true is `estimated_start_at`, as the 202 tells it, under a steady load?

    python -m bench.estimates [--quick]

Users of different weights keep backlogs of different depth, from less than their turns would take in a minute to many
times that; what each submission was told is compared with when its job started, in shares of the wait. The real scripts
on a real Valkey in simulated time (bench/line.py).
"""

import argparse
import random
from dataclasses import dataclass

from bench.figures import percentile
from bench.line import START_MS, TIER, Answer, Line, Simulation
from bench.report import RESULTS, Cell, Report
from bench.server import valkey
from jobs.config import Config
from jobs.record import ClaimedJob

LIMIT = 300_000
TOKENS, CALL_MS = (2000, 6000), (3000, 9000)
MINUTE_MS = 60_000
FEW_WORKERS_MIN, WARM_UP_MIN = 3, 4
SHORTEST_WAIT_MS = 5000
MANY = 10_000
SEED = 3
USERS = {"one": (1, 5), "two": (1, 15), "three": (2, 40), "four": (4, 80), "five": (1, 100)}
"""Weight, and how many jobs the user always has waiting."""


@dataclass(frozen=True, slots=True)
class Case:
    """`used`: the share of the estimate that a call uses in the end. `evenly`: workers are few at first: no
    window is full at once, to be empty again at once a minute later."""

    name: str
    accounting: str
    pools: int
    used: float
    evenly: bool


CASES = (
    Case("openai, a window filled at once", "openai", 1, 1.0, evenly=False),
    Case("openai, a window evenly full", "openai", 1, 1.0, evenly=True),
    Case("openai, a route over two pools, filled at once", "openai", 2, 1.0, evenly=False),
    Case("openai, a route over two pools, evenly full", "openai", 2, 1.0, evenly=True),
    Case("actual, answers a quarter of their caps", "actual", 1, 0.25, evenly=False),
)


def _config(case: Case) -> Config:
    providers = {
        f"p{n}": {
            "base_url": "http://127.0.0.1:9/v1", "accounting": case.accounting, "tokens_per_minute": LIMIT,
            "timeout_s": 60.0, "models": {f"m{n}": {}},
        }
        for n in range(case.pools)
    }  # fmt: skip
    routes = {"m": [f"p{n}/m{n}" for n in range(case.pools)]}
    return Config.model_validate({"tiers": {TIER: {}}, "providers": providers, "routes": routes})


def _answers(case: Case) -> Answer:
    chance = random.Random(SEED)
    return lambda job: (
        max(1, round((job.prompt_tokens + job.output_tokens) * case.used)), chance.randint(*CALL_MS)
    )  # fmt: skip


def errors(url: str, case: Case, minutes: int) -> tuple[list[float], list[float], int]:
    """Of jobs that waited for a while: waits (s), by what share of it each was told wrong; how many were not told."""
    line = Line(url, _config(case))
    for user, (weight, _) in USERS.items():
        line.add_users([user], weight=weight)
    slots = case.pools * LIMIT * sum(CALL_MS) // (sum(TOKENS) * MINUTE_MS) + 2
    simulation = Simulation(line, _answers(case), slots=slots if case.evenly else MANY)
    simulation.at(START_MS + FEW_WORKERS_MIN * MINUTE_MS, lambda: simulation.more(MANY))
    chance = random.Random(SEED)
    told: dict[str, tuple[int, int | None]] = {}
    waits: list[float] = []
    off: list[float] = []
    untold = 0

    def fill(user: str, count: int) -> None:
        jobs = [line.job(user, chance.randint(*TOKENS)) for _ in range(count)]
        for view in line.submit(jobs, simulation.now_ms):
            told[view.id] = (simulation.now_ms, view.estimated_start_ms)

    def taken(job: ClaimedJob) -> None:
        nonlocal untold
        asked_ms, start_ms = told.pop(job.id)
        wait_ms = simulation.now_ms - asked_ms
        if asked_ms >= START_MS + WARM_UP_MIN * MINUTE_MS and wait_ms >= SHORTEST_WAIT_MS:
            if start_ms is None:
                untold += 1
            else:
                waits.append(wait_ms / 1000)
                off.append(abs(start_ms - simulation.now_ms) / wait_ms)
        # When the workers have seen all there is, and sleep.
        simulation.at(simulation.now_ms, lambda: fill(job.user, 1))

    for user, (_, depth) in USERS.items():
        fill(user, depth)
    simulation.taken = taken
    simulation.every(5000, lambda: line.sweep(simulation.now_ms))
    simulation.run(START_MS + (WARM_UP_MIN + minutes) * MINUTE_MS)
    return waits, off, untold


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="short runs that are not kept")
    quick = parser.parse_args().quick
    report = Report(
        "estimates", "How true is `estimated_start_at`, as the 202 tells it, under a steady load?"
    )
    rows: list[list[Cell]] = []
    medians, tails = [], []
    with valkey() as url:
        for case in CASES:
            waits, off, untold = errors(url, case, 5 if quick else 16)
            medians.append(percentile(off, 0.5))
            tails.append(percentile(off, 0.95))
            rows.append(
                [case.name, len(off), untold, percentile(waits, 0.5), max(waits), medians[-1], tails[-1]]
            )
    report.judge("median_error", max(medians))
    report.judge("p95_error", max(tails))
    report.table(
        f"Jobs that waited for {SHORTEST_WAIT_MS // 1000} s and more",
        ["", "told a start", "not", "median wait (s)", "longest (s)", "median error", "p95 error"], rows,
    )  # fmt: skip
    report.note(
        "Shorter waits are left out: a second is much of them, and little to whoever waits. Where a window was filled "
        "at once, it lets jobs through once a minute, so that an error there is that of a whole minute, or none."
    )
    if quick:
        print(report.markdown())
    else:
        report.write(RESULTS)


if __name__ == "__main__":
    main()
