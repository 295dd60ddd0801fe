"""How much of a provider's tokens per minute is used under saturation, and whether any minute passes the limit.

    python -m bench.utilisation [--minutes 20] [--only strict-actual]

The real scripts on a real Valkey, workers and provider in simulated time: a job is claimed, reaches the provider within
the margin, and is settled when its call ends. The provider keeps its own log of what it counts and when; windows are
summed over that log alone.
"""

import argparse
import asyncio
import heapq
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.server import valkey
from jobs.claims import Claims
from jobs.config import Config
from jobs.connection import connect
from jobs.record import ClaimedJob, NewJob, State, Usage
from jobs.store import JobStore
from jobs.users import Users

LIMIT = 1_000_000
PROMPT, MEAN_ANSWER, CAP, CALL_S = 100, 900, 3900, 6.0
BACKLOG = 300
START_MS = 1_800_000_000_000
WARM_UP_MIN = 3


@dataclass(frozen=True, slots=True)
class Case:
    """One way to count, and the share of the limit that is to be reached (`goal`)."""

    name: str
    accounting: str
    window: str
    estimates: str
    goal: float


CASES = (
    Case("strict-openai", "openai", "strict", "cap", 0.96),
    # U of limits.md for caps of 4,000 for answers of 1,000 and calls of 6 s.
    Case(
        "strict-actual",
        "actual",
        "strict",
        "cap",
        0.96 / (1 + (PROMPT + CAP) / (PROMPT + MEAN_ANSWER) * CALL_S / 60),
    ),
    Case("learned-actual", "actual", "strict", "learned", 0.93),
)


@dataclass
class Provider:
    """What the provider counted: (ms, tokens), in the order of time once sorted."""

    accounting: str
    charges: list[tuple[int, int]] = field(default_factory=list)

    def arrived(self, at_ms: int, job: ClaimedJob) -> None:
        if self.accounting == "openai":
            self.charges.append((at_ms, job.prompt_tokens + job.output_tokens))

    def answered(self, at_ms: int, usage: Usage) -> None:
        if self.accounting == "actual":
            self.charges.append((at_ms, usage.total_tokens))

    def most_in_60s(self) -> int:
        """The most tokens of any 60 seconds."""
        self.charges.sort()
        most = total = first = 0
        for at_ms, tokens in self.charges:
            total += tokens
            while self.charges[first][0] <= at_ms - 60_000:
                total -= self.charges[first][1]
                first += 1
            most = max(most, total)
        return most

    def windows_over(self) -> float:
        """The share of all 60-second windows that hold more than the limit, one ending every 100 ms."""
        self.charges.sort()
        first = last = total = over = looked = 0
        for at_ms in range(self.charges[0][0], self.charges[-1][0], 100):
            while self.charges[last][0] <= at_ms:
                total += self.charges[last][1]
                last += 1
            while self.charges[first][0] <= at_ms - 60_000:
                total -= self.charges[first][1]
                first += 1
            looked += 1
            over += total > LIMIT
        return over / looked

    def used(self, start_ms: int, end_ms: int) -> float:
        """The share of the limit that was used between two times."""
        tokens = sum(tokens for at_ms, tokens in self.charges if start_ms <= at_ms < end_ms)
        return tokens / (LIMIT * (end_ms - start_ms) / 60_000)


def _config(case: Case) -> Config:
    provider = {
        "base_url": "http://127.0.0.1:9/v1", "accounting": case.accounting, "window": case.window,
        "estimates": case.estimates, "tokens_per_minute": LIMIT, "timeout_s": 60.0,
        "models": {"m": {"max_output_tokens": CAP}},
    }  # fmt: skip
    return Config.model_validate({"tiers": {"open": {}}, "providers": {"sim": provider}})


def _answer(chance: random.Random) -> tuple[int, float]:
    """Tokens of an answer (exponential about their mean, within the cap) and seconds of its call."""
    tokens = max(1, min(CAP, round(chance.expovariate(1 / MEAN_ANSWER))))
    return tokens, CALL_S * chance.uniform(0.5, 1.5)


async def run(url: str, case: Case, minutes: int, seed: int) -> dict[str, Any]:
    """One run; figures as a dict for the table and for JSON."""
    chance = random.Random(seed)
    now = START_MS
    redis = connect(url, client_name="bench")
    await redis.flushall()
    store = JobStore(redis, clock=lambda: now)
    await store.start()
    await store.publish(_config(case))
    await Users(redis).create("ann", "open", {})
    claims = [Claims(redis, f"worker-{n}", lease_ms=600_000, clock=lambda: now) for n in range(4)]
    for claim in claims:
        await claim.start()
    provider = Provider(case.accounting)
    ids = itertools.count()
    waiting = 0
    turns: Iterator[Claims] = itertools.cycle(claims)
    sequence = itertools.count()
    order = itertools.count()
    # (ms, tie, what): None is a worker waking up, else a call that ends.
    events: list[tuple[int, int, tuple[Claims, ClaimedJob, Usage] | None]] = [(now, next(order), None)]
    end = START_MS + minutes * 60_000
    done = 0
    while events[0][0] < end:
        now, _, ended = heapq.heappop(events)
        if ended is not None:
            owner, job, usage = ended
            provider.answered(now - chance.randrange(1, 20), usage)
            await owner.settle(job, State.SUCCEEDED, charge=usage, window="charged", result=b"{}")
            done += 1
            if case.accounting == "openai":
                continue
        elif events and any(event[0] == now and event[2] is None for event in events[:3]):
            continue
        while waiting < BACKLOG:
            await store.submit(NewJob(f"job_{next(ids):026d}", "ann", "m", b"{}", PROMPT, CAP))
            waiting += 1
        worker = next(turns)
        claimed = await worker.claim(next(sequence), 100)
        for job in claimed.jobs:
            waiting -= 1
            arrival = now + chance.randrange(1, 300)
            provider.arrived(arrival, job)
            tokens, seconds = _answer(chance)
            usage = Usage(PROMPT, tokens, PROMPT + tokens)
            heapq.heappush(events, (arrival + round(seconds * 1000), next(order), (worker, job, usage)))
        if ended is None or not claimed.jobs:
            heapq.heappush(events, (now + max(1, claimed.wait_ms), next(order), None))
    passed = int(await redis.hget("learned:sim", "p") or 0)  # type: ignore[misc]  # typed for both clients
    await redis.aclose()
    return {
        "case": case.name,
        "minutes": minutes,
        "jobs": done,
        "used": round(provider.used(START_MS + WARM_UP_MIN * 60_000, end), 4),
        "goal": round(case.goal, 4),
        "most_in_60s": round(provider.most_in_60s() / LIMIT, 4),
        "windows_over": round(provider.windows_over(), 6),
        "passed": passed,
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=int, default=20, help="simulated minutes of each run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=[case.name for case in CASES])
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    rows = []
    with valkey() as url:
        for case in CASES:
            if chosen.only in (None, case.name):
                rows.append(await run(url, case, chosen.minutes, chosen.seed))
    if chosen.json:
        print(json.dumps(rows))
        return
    table = Table(
        "case", "simulated minutes", "jobs", "used of the limit", "goal", "most in any 60 s", "windows over"
    )
    for row in rows:
        table.add_row(
            row["case"], str(row["minutes"]), f"{row['jobs']:,}", f"{row['used']:.1%}", f"{row['goal']:.1%}",
            f"{row['most_in_60s']:.1%}", f"{row['windows_over']:.3%}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    asyncio.run(main())
