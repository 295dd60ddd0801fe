"""Whose turn it is: equal users, weights, a light user beside a crowd, a large job, routes, priorities, parked lanes.

    python -m bench.fairness [--quick]

The real scripts on a real Valkey in simulated time (bench/line.py).
"""

import argparse
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import mean
from typing import Any, cast

from bench.line import START_MS, TIER, Answer, Line, Simulation
from bench.report import RESULTS, Cell, Report
from bench.server import valkey
from jobs.config import Config
from jobs.record import ClaimedJob, Priority

LIMIT = 1_000_000
SECOND_MS, MINUTE_MS = 1000, 60_000
EVEN_MS = 2 * MINUTE_MS
TURN_MS = 61_500
"""After this a token that was admitted has left the window: the minute, the margin of a second, and the slice."""
SEED = 5


def _config(
    accounting: str = "openai", *, routes: Mapping[str, list[str]] | None = None, limit: int = LIMIT
) -> Config:
    def provider(model: str) -> dict[str, Any]:
        return {
            "base_url": "http://127.0.0.1:9/v1", "accounting": accounting, "tokens_per_minute": limit,
            "timeout_s": 60.0, "models": {model: {}},
        }  # fmt: skip

    return Config.model_validate(
        {
            "tiers": {TIER: {}},
            "providers": {"p": provider("m"), "q": provider("n")},
            "routes": dict(routes or {}),
        }
    )


def _fill_evenly(simulation: Simulation, users: Sequence[str]) -> int:
    """The window gets full by small jobs at an even pace, as an hour of work leaves it; the time (ms) when it is.

    Filled at once it would be empty again at once, a minute later, and in between nobody would be admitted.
    """
    line = simulation.line

    def submit(user: str) -> None:
        line.submit([line.job(user, LIMIT * 250 // TURN_MS)], simulation.now_ms)

    for step in range(EVEN_MS // 250):
        simulation.at(START_MS + step * 250, partial(submit, users[step % len(users)]))
    return START_MS + EVEN_MS


class Backlogs:
    """Users who from a time on always have `depth` jobs waiting, of sizes drawn by `sizes`, and the tokens received.

    `apart`: by how much these differ, in largest jobs, less what was in flight when the one who is ahead last began a
    job; since then nothing was decided in his favour. `strictly`: less what is in flight at that very moment.
    """

    def __init__(
        self, simulation: Simulation, sizes: Mapping[str, tuple[int, int]], depth: int = 100, name: str = "m",
        from_ms: int = START_MS,
    ) -> None:  # fmt: skip
        self.received: Counter[str] = Counter()
        self.flying: Counter[str] = Counter()
        self.largest = max(most for _, most in sizes.values())
        self.apart: list[tuple[float, float]] = []
        self.strictly = 0.0
        self._flew: dict[str, int] = {}
        self._simulation, self._sizes, self._name = simulation, sizes, name
        self._chance = random.Random(SEED)
        self._from_ms = from_ms
        for user in sizes:
            simulation.at(from_ms, partial(self._fill, user, depth))
        simulation.taken, simulation.ended = self._taken, self._ended

    def _fill(self, user: str, count: int) -> None:
        line = self._simulation.line
        line.submit(
            [line.job(user, self._chance.randint(*self._sizes[user]), name=self._name) for _ in range(count)],
            self._simulation.now_ms,
        )

    def _taken(self, job: ClaimedJob) -> None:
        self.flying[job.user] += job.prompt_tokens + job.output_tokens
        self._flew[job.user] = self.flying.total()
        if self._simulation.now_ms >= self._from_ms:
            self._fill(job.user, 1)

    def _ended(self, job: ClaimedJob, used: int) -> None:
        self.flying[job.user] -= job.prompt_tokens + job.output_tokens
        self.received[job.user] += used
        ahead = max(self.received, key=lambda user: self.received[user])
        apart = self.received[ahead] - min(self.received[user] for user in self._sizes)
        minutes = (self._simulation.now_ms - START_MS) / MINUTE_MS
        self.apart.append((minutes, max(0, apart - self._flew[ahead]) / self.largest))
        self.strictly = max(self.strictly, (apart - self.flying.total()) / self.largest)


def _answers(tokens: int | None) -> Answer:
    """Answers of so many tokens, or of as many as was estimated; calls of 1 to 6 s."""
    chance = random.Random(SEED)
    return lambda job: (tokens or job.prompt_tokens + job.output_tokens, chance.randint(1000, 6000))


def equal_users(url: str, report: Report, minutes: int) -> None:
    caps = "caps of 4,000 and of 1,000 for answers of 1,000"
    cases = (
        (
            "answers as large as estimated, of 100 to 9,000 and of 100 to 3,000 tokens",
            (100, 9000), (100, 3000), None, ["p/m"], 40,
        ),
        (caps, (4000, 4000), (1000, 1000), 1000, ["p/m"], 40),
        (f"{caps}, a route over two pools", (4000, 4000), (1000, 1000), 1000, ["p/m", "q/n"], 40),
        (f"{caps}, two pools, 160 at once", (4000, 4000), (1000, 1000), 1000, ["p/m", "q/n"], 160),
    )  # fmt: skip
    rows: list[list[Cell]] = []
    worst, lines = 0.0, {}
    for what, of_ann, of_bob, answer, pools, slots in cases:
        config = _config("actual", limit=LIMIT // 2 // len(pools), routes={"r": pools})
        line = Line(url, config, ("ann", "bob"))
        simulation = Simulation(line, _answers(answer), slots=slots)
        users = Backlogs(simulation, {"ann": of_ann, "bob": of_bob}, name="r")
        simulation.run(START_MS + minutes * MINUTE_MS)
        most = max(apart for _, apart in users.apart)
        worst = max(worst, most)
        lines[what] = users.apart[:: max(1, len(users.apart) // 200)]
        rows.append([what, users.received["ann"], users.received["bob"], most, users.strictly])
    report.judge("equal_weights", worst)
    report.table(
        "Two equal users with standing backlogs",
        ["", "tokens of the one", "of the other", "largest jobs apart, less what is in flight", "strictly"], rows,
    )  # fmt: skip
    report.note(
        "Equal users: in flight is what was when the one who is ahead last began a job; since then nothing was decided "
        "in his favour. Strictly: less what is in flight at the very moment, in which answers of the one behind may "
        "just have come, far shorter than their caps, one in each pool and another, before there is room for his next."
    )
    report.lines(
        "equal",
        "Tokens received apart, less what is in flight",
        lines,
        x="simulated minutes",
        y="largest jobs",
    )


def weights(url: str, report: Report, minutes: int) -> None:
    weight_of = {"one": 1, "four": 4, "sixteen": 16}
    sizes = {"one": (500, 1500), "four": (200, 600), "sixteen": (500, 1500)}
    line = Line(url, _config())
    for user, weight in weight_of.items():
        line.add_users([user], weight=weight)
    simulation = Simulation(line, lambda job: (job.prompt_tokens + job.output_tokens, 2000))
    users = Backlogs(simulation, sizes, depth=60)
    simulation.run(START_MS + minutes * MINUTE_MS)
    rows: list[list[Cell]] = []
    total, worst = sum(users.received.values()), 0.0
    for user, weight in weight_of.items():
        due = weight / sum(weight_of.values())
        off = abs(users.received[user] / total / due - 1)
        worst = max(worst, off)
        rows.append([f"weight {weight}", users.received[user], due, users.received[user] / total, off])
    report.judge("weights", worst)
    report.table("Users by weight", ["", "tokens", "share due", "share received", "off by"], rows)


def _light_waits(url: str, minutes: int, depth: int, *, evenly: bool) -> list[float]:
    """The waits (s) of a user with one job each 10 s, of 1 % of the limit, beside one who has `depth` jobs queued.

    evenly: those come to a window that is evenly full, and not all at once to an idle one.
    """
    line = Line(url, _config(), ("heavy", "light"))
    simulation = Simulation(line, lambda job: (job.prompt_tokens + job.output_tokens, 2000))
    chance = random.Random(SEED)
    asked: dict[str, int] = {}
    waits: list[float] = []
    from_ms = _fill_evenly(simulation, ["heavy"]) if evenly else START_MS

    def fill(count: int) -> None:
        line.submit([line.job("heavy", chance.randint(2000, 8000)) for _ in range(count)], simulation.now_ms)

    def taken(job: ClaimedJob) -> None:
        if job.user == "light":
            waits.append((simulation.now_ms - asked[job.id]) / 1000)
        elif simulation.now_ms >= from_ms:
            fill(1)

    def ask() -> None:
        job = line.job("light", LIMIT // 100)
        asked[job.id] = simulation.now_ms
        line.submit([job], simulation.now_ms)

    simulation.taken = taken
    simulation.at(from_ms, lambda: fill(depth))
    simulation.at(from_ms + MINUTE_MS, lambda: simulation.every(10 * SECOND_MS, ask))
    simulation.run(from_ms + (1 + minutes) * MINUTE_MS)
    return waits


def light_user(url: str, report: Report, minutes: int) -> None:
    worst, rows = 0.0, list[list[Cell]]()
    for evenly in (True, False):
        few, many = (_light_waits(url, minutes, depth, evenly=evenly) for depth in (5, 5000))
        worst = max(worst, mean(many) / mean(few))
        window = "a window evenly full" if evenly else "a window filled at once"
        rows += [[window, 5, len(few), mean(few), max(few)], [window, 5000, len(many), mean(many), max(many)]]
    report.judge("light_user", worst)
    report.table(
        "A light user's waits (s), under a saturated window",
        ["", "jobs queued beside him", "his jobs", "mean", "longest"], rows,
    )  # fmt: skip
    report.note(
        "What comes at once into an idle window is admitted at once, up to the limit, and leaves the window at "
        "once a minute later: in between nobody is admitted, whoever he is and however few are queued. That, not "
        "the order of turns, is what a light user waits for in the last two rows."
    )


def _used_with_large(
    url: str, minutes: int, small: int, each_minutes: int | None
) -> tuple[float, list[float]]:
    """How full the window is, and the waits (s) of jobs of a third of it beside so many users of small ones.

    It is evenly full at first: what a large job needs leaves it only little by little. How full it is on the average
    says how much of the limit is used, whatever large job is admitted just before or after the end.
    """
    users = [f"u{n}" for n in range(small)]
    line = Line(url, _config(), ("large", *users))
    simulation = Simulation(line, lambda job: (job.prompt_tokens + job.output_tokens, 2000))
    from_ms = _fill_evenly(simulation, users)
    Backlogs(simulation, dict.fromkeys(users, (2000, 8000)), depth=40, from_ms=from_ms)
    asked: dict[str, int] = {}
    waits: list[float] = []
    full: list[float] = []
    refill = simulation.taken

    def look() -> None:
        state = json.loads(cast(bytes, line.redis.get("window:p")))
        full.append((state[2] + state[4]) / LIMIT)

    def taken(job: ClaimedJob) -> None:
        if job.user == "large":
            waits.append((simulation.now_ms - asked[job.id]) / 1000)
        else:
            refill(job)

    def ask() -> None:
        job = line.job("large", LIMIT // 3)
        asked[job.id] = simulation.now_ms
        line.submit([job], simulation.now_ms)

    simulation.taken = taken
    simulation.ended = lambda job, used: None
    simulation.at(from_ms + SECOND_MS, lambda: simulation.every(SECOND_MS, look))
    if each_minutes:
        simulation.at(from_ms, lambda: simulation.every(each_minutes * MINUTE_MS, ask))
    simulation.run(from_ms + minutes * MINUTE_MS)
    assert len(asked) - len(waits) <= 1, "a large job was starved"
    return mean(full), waits


def large_job(url: str, report: Report, minutes: int) -> None:
    rows: list[list[Cell]] = []
    cost = 0.0
    for small in (1, 5):
        alone, _ = _used_with_large(url, minutes, small, None)
        beside = f"{small} users of small jobs" if small > 1 else "a user of small jobs"
        rows.append([f"{beside}, alone", alone, 0, 0.0])
        for each in (4, 2):
            used, waits = _used_with_large(url, minutes, small, each)
            cost = max(cost, 1 - used / alone)
            rows.append([f"{beside}, and one large job each {each} minutes", used, len(waits), max(waits)])
    report.judge("large_job_cost", cost)
    report.table(
        "A job as large as a third of the limit among small ones",
        ["", "how full the window is", "large jobs served", "longest wait (s)"], rows,
    )  # fmt: skip


def routes(url: str, report: Report, minutes: int) -> None:
    line = Line(url, _config(routes={"best": ["p/m", "q/n"]}), ("ann",))
    simulation = Simulation(line, lambda job: (job.prompt_tokens + job.output_tokens, 2000))
    Backlogs(simulation, {"ann": (2000, 8000)}, depth=100, name="best")
    admitted: Counter[str] = Counter()
    refill = simulation.taken

    def taken(job: ClaimedJob) -> None:
        refill(job)
        if simulation.now_ms >= START_MS + 2 * MINUTE_MS:
            admitted[job.pool] += job.prompt_tokens + job.output_tokens

    simulation.taken = taken
    simulation.run(START_MS + minutes * MINUTE_MS)
    used = {pool: admitted[pool] / (LIMIT * (minutes - 2)) for pool in ("p/m", "q/n")}
    report.judge("route_pools", min(used.values()))
    line.redis.hset(
        "pause:p/m", mapping={"until": simulation.now_ms + 10 * MINUTE_MS, "level": 0, "reason": "bench"}
    )
    before = admitted["p/m"]
    simulation.run(simulation.now_ms + 2 * MINUTE_MS)
    assert admitted["p/m"] == before, "a paused pool was sent jobs"
    report.table(
        "A route over two pools, saturated", ["pool", "share of its limit admitted"],
        [[pool, share] for pool, share in used.items()],
    )  # fmt: skip
    report.note("While the first pool was paused it was sent nothing, and the second stayed as full.")


def priorities(url: str, report: Report, jobs: int) -> None:
    line = Line(url, _config(limit=10**9), ("ann",))
    shares: dict[Priority, int] = {"interactive": 8, "standard": 4, "batch": 1}
    order: tuple[Priority, ...] = ("batch", "standard", "interactive")
    for priority in order:
        line.submit([line.job("ann", 1000, priority=priority) for _ in range(jobs)], START_MS)
    taken, worst, rows = Counter[str](), 0.0, list[list[Cell]]()
    while sum(taken.values()) < jobs:
        for job in line.claim(50, START_MS)[0]:
            taken[order[(int(job.id[4:]) - 1) // jobs]] += 1
    total = sum(taken.values())
    for name, share in shares.items():
        off = abs(taken[name] / total / (share / 13) - 1)
        worst = max(worst, off)
        rows.append([name, share, taken[name], off])
    report.judge("priorities", worst)
    report.table("One's own jobs by priority", ["", "weight", "jobs", "off by"], rows)


def bounded(url: str, report: Report, lanes: int) -> None:
    """Commands of a claim that can take nothing, beside lanes that cannot go and beside lanes that are parked."""
    rows: list[list[Cell]] = []
    figures = []
    for count in (10, lanes):
        line = Line(url, _config(limit=1000))
        names = [f"u{n}" for n in range(count)]
        line.add_users(names)
        line.submit([line.job(user, 900) for user in names], START_MS)
        line.claim(1, START_MS)
        figures.append(line.commands(partial(line.claim, 10, START_MS + 1)))
        rows.append([f"{count:,} lanes that do not fit the window", figures[-1]])
    report.judge("claim_commands", figures[-1])
    costs = []
    for count in (0, lanes):
        line = Line(url, _config(), ("ann",))
        names = [f"u{n}" for n in range(count)]
        line.add_users(names, max_concurrent=0)
        line.submit([line.job(user, 900) for user in names], START_MS)
        for turn in range(1 + count // 30):
            line.claim(10, START_MS + turn)
        line.submit([line.job("ann", 1) for _ in range(10)], START_MS)
        costs.append(line.commands(partial(line.claim, 1, START_MS + MINUTE_MS)))
        rows.append([f"{count:,} parked lanes beside one that may go", costs[-1]])
    report.judge("parked_lanes", costs[1] / costs[0])
    report.table("Commands of one claim", ["", "commands"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="short runs that are not kept")
    quick = parser.parse_args().quick
    report = Report("fairness", "Does everybody get a turn, and as much as is his?")
    with valkey() as url:
        equal_users(url, report, 3 if quick else 10)
        weights(url, report, 4 if quick else 10)
        light_user(url, report, 5 if quick else 12)
        large_job(url, report, 6 if quick else 18)
        routes(url, report, 4 if quick else 8)
        priorities(url, report, 260 if quick else 1300)
        bounded(url, report, 300 if quick else 2000)
    if quick:
        print(report.markdown())
    else:
        report.write(RESULTS)


if __name__ == "__main__":
    main()
