"""How much of a provider's tokens per minute is used under saturation, and does any minute pass the limit?

The real scripts on a real Valkey; workers and provider in simulated time: a job is claimed, reaches the provider within
the margin, and is settled when its call ends. The provider has the simulator's bucket, and keeps its own log of what it
counts and when; windows are summed over that log alone. `bench.saturation` asks the same of real processes.
"""

import asyncio
import heapq
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench.arguments import parsed
from bench.charges import Minutes, minutes
from bench.report import Report
from bench.server import valkey
from jobs.claims import Claims, Heard, PoolPause
from jobs.config import Config
from jobs.connection import connect
from jobs.record import ClaimedJob, NewJob, State, Usage
from jobs.store import JobStore
from jobs.users import Users
from simulator.bucket import Bucket

LIMIT = 1_000_000
PROMPT, MEAN_ANSWER, CAP, CALL_S = 100, 900, 3900, 6.0
U = 1 / (1 + (PROMPT + CAP) / (PROMPT + MEAN_ANSWER) * CALL_S / 60)
"""The most of the limit that can be used while every call in flight is counted at its cap."""
LATENESS_MS = 300
"""A request is so long on its way at most; `window_margin_s` allows a second."""
BACKLOG = 300
WORKERS, SLOTS = 4, 100
START_MS = 1_800_000_000_000
WARM_UP_MIN, MINUTES, QUICK_MINUTES = 4, 15, 8


@dataclass(frozen=True, slots=True)
class Case:
    """One way to count, and the goal of its share of what can be used."""

    goal: str
    accounting: str
    window: str = "strict"
    estimates: str = "cap"


CASES = (
    Case("strict_openai", "openai"),
    Case("strict_actual", "actual"),
    Case("learned_actual", "actual", estimates="learned"),
    Case("mirror", "openai", window="mirror"),
)


@dataclass(frozen=True, slots=True)
class Result:
    """What the provider's log says of one run. `given` is of what a bucket of the limit gives in that time."""

    jobs: int
    refused: int
    windows: Minutes
    given: float


@dataclass
class Provider:
    """Counts tokens as its accounting says, and refuses what its bucket does not hold. Times in Unix ms."""

    accounting: str
    charges: list[tuple[float, int]] = field(default_factory=list)
    refused: int = 0
    bucket: Bucket = field(default_factory=lambda: Bucket(LIMIT, START_MS / 1000))

    def takes(self, at_ms: int, job: ClaimedJob) -> bool:
        """Whether it admits the request that arrives."""
        needed = job.prompt_tokens + (job.output_tokens if self.accounting == "openai" else 0)
        if not self.bucket.holds(needed, at_ms / 1000):
            self.refused += 1
            return False
        if self.accounting == "openai":
            self._charge(at_ms, needed)
        return True

    def answered(self, at_ms: int, usage: Usage) -> None:
        if self.accounting == "actual":
            self._charge(at_ms, usage.total_tokens)

    def _charge(self, at_ms: int, tokens: int) -> None:
        self.bucket.charge(tokens, at_ms / 1000)
        self.charges.append((at_ms / 1000, tokens))


def config(case: Case) -> Config:
    provider = {
        "base_url": "http://127.0.0.1:9/v1", "accounting": case.accounting, "window": case.window,
        "estimates": case.estimates, "tokens_per_minute": LIMIT, "timeout_s": 60.0,
        "models": {"m": {"max_output_tokens": CAP}},
    }  # fmt: skip
    return Config.model_validate({"tiers": {"open": {}}, "providers": {"sim": provider}})


def an_answer(chance: random.Random) -> tuple[int, int]:
    """Tokens of an answer (exponential about their mean, within the cap) and ms of its call."""
    tokens = max(1, min(CAP, round(chance.expovariate(1 / MEAN_ANSWER))))
    return tokens, round(CALL_S * chance.uniform(0.5, 1.5) * 1000)


@dataclass(frozen=True, slots=True)
class Call:
    """A job on its way to the provider, then (with its usage) on its way back."""

    worker: Claims
    job: ClaimedJob
    usage: Usage | None = None


async def run(url: str, case: Case, simulated_min: int) -> Result:
    """Saturate a provider for so many simulated minutes."""
    chance = random.Random(1)
    now = START_MS
    redis = connect(url, client_name="bench")
    await redis.flushall()
    store = JobStore(redis, clock=lambda: now)
    await store.start()
    await store.publish(config(case))
    await Users(redis).create("ann", "open", {})
    claims = [Claims(redis, f"worker-{n}", lease_ms=600_000, clock=lambda: now) for n in range(WORKERS)]
    for claim in claims:
        await claim.start()
    turns: Iterator[Claims] = itertools.cycle(claims)
    provider = Provider(case.accounting)
    ids, sequence, order = itertools.count(), itertools.count(), itertools.count()
    waiting = done = 0
    # (ms, tie, what): None is a worker that wakes up.
    events: list[tuple[int, int, Call | None]] = [(now, next(order), None)]
    end = START_MS + simulated_min * 60_000

    def later(at_ms: int, what: Call | None) -> None:
        heapq.heappush(events, (at_ms, next(order), what))

    while events[0][0] < end:
        now, _, what = heapq.heappop(events)
        if what is not None and what.usage is None:
            if not provider.takes(now, what.job):
                wait_ms = 1000
                await what.worker.put_back(
                    what.job, after_ms=wait_ms, counts=False, window="tokens_back", cause="throttled",
                    pause=PoolPause(wait_ms, "throttled", alarm=False), heard=Heard(refused="tokens"),
                )  # fmt: skip
                waiting += 1
                continue
            tokens, lasts_ms = an_answer(chance)
            later(now + lasts_ms, Call(what.worker, what.job, Usage(PROMPT, tokens, PROMPT + tokens)))
            continue
        if what is not None and what.usage is not None:
            provider.answered(now - chance.randrange(1, 20), what.usage)
            await what.worker.settle(
                what.job, State.SUCCEEDED, charge=what.usage, window="charged", result=b"{}"
            )
            done += 1
            if case.accounting == "openai":
                # Its end frees nothing: nobody is woken for it.
                continue
        while waiting < BACKLOG:
            await store.submit(NewJob(f"job_{next(ids):026d}", "ann", "m", b"{}", PROMPT, CAP))
            waiting += 1
        worker = next(turns)
        claimed = await worker.claim(next(sequence), SLOTS)
        waiting -= len(claimed.jobs)
        for job in claimed.jobs:
            later(now + chance.randrange(1, LATENESS_MS), Call(worker, job))
        if what is None:
            later(now + max(1, claimed.wait_ms), None)
    await redis.aclose()
    charged = [(at_s, tokens) for at_s, tokens in provider.charges if at_s < end / 1000]
    return Result(
        jobs=done,
        refused=provider.refused,
        windows=minutes(charged, LIMIT, START_MS / 1000 + WARM_UP_MIN * 60, end / 1000),
        given=sum(tokens for _, tokens in charged) / (LIMIT * (1 + simulated_min)),
    )


async def main() -> None:
    arguments = parsed(__doc__)
    simulated_min = QUICK_MINUTES if arguments.quick else MINUTES
    results: dict[str, Result] = {}
    with valkey() as url:
        for case in CASES:
            results[case.goal] = await run(url, case, simulated_min)
    report = Report("utilisation", (__doc__ or "").partition("\n")[0])
    judge(report, results)
    report.note(
        f"{simulated_min} simulated minutes each, the first {WARM_UP_MIN} left out of the windows; a limit of "
        f"{LIMIT:,} tokens a minute, answers of {PROMPT + MEAN_ANSWER:,} tokens on average, exponentially "
        f"distributed, caps of {PROMPT + CAP:,}, calls of {CALL_S:g} s give or take a half. U = {U:.3f}."
    )
    report.write(arguments.results)


def judge(report: Report, results: dict[str, Result]) -> None:
    """Hold the results against the goals; used alike for simulated time and real processes."""
    learned, mirror = results["learned_actual"], results["mirror"]
    strict = [results["strict_openai"], results["strict_actual"]]
    report.judge("strict_openai", results["strict_openai"].windows.mean)
    report.judge("strict_actual", results["strict_actual"].windows.mean / U)
    report.judge("learned_actual", learned.windows.mean)
    report.judge("mirror", mirror.given)
    report.judge("refused_strict", sum(result.refused for result in strict))
    report.judge("refused_mirror_per_job", mirror.refused / mirror.jobs)
    report.judge("most_in_a_strict_minute", max(result.windows.most for result in strict))
    report.judge("learned_minutes_over", learned.windows.over)
    report.table(
        "What the provider's log says",
        ["", "jobs", "mean of all 60 s", "most in any 60 s", "60 s over the limit", "429s", "of what a bucket gives"],
        [
            [
                name.replace("_", ", "), result.jobs, result.windows.mean, result.windows.most,
                result.windows.over, result.refused, result.given,
            ]
            for name, result in results.items()
        ],
    )  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main())
