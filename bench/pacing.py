"""Submits numbered jobs, at once or one after the other, and tells when each was accepted: for every queue the same.

Needs nothing but the standard library, so that the programs in bench/peers/ can use it too.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bench.settings import numbered

AT_ONCE = 16
"""Submissions under way at a time where there is no gap."""

Submit = Callable[[dict[str, Any]], Awaitable[object]]


def arguments(description: str | None, *calls: str) -> argparse.ArgumentParser:
    """`work` or `submit` on a Redis, with what those need."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("what", choices=["work", "submit"])
    parser.add_argument("--redis", required=True)
    parser.add_argument("--provider", default="", help="the URL that /chat/completions is appended to")
    parser.add_argument("--slots", type=int, default=100)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first job")
    parser.add_argument("--gap", type=float, default=0.0, help="seconds between two submissions")
    if calls:
        parser.add_argument("--call", choices=calls, required=True)
    return parser


async def submit_all(submit: Submit, numbers: Sequence[int], gap_s: float) -> None:
    """Submits a job for each number, and prints [[number, begun, accepted], ...] in monotonic seconds."""
    accepted: list[tuple[int, float, float]] = []

    async def one(number: int) -> None:
        body = numbered(number)
        begun = time.monotonic()
        await submit(body)
        accepted.append((number, begun, time.monotonic()))

    if gap_s:
        for number in numbers:
            await one(number)
            await asyncio.sleep(gap_s)
    else:
        waiting = iter(numbers)

        async def several() -> None:
            for number in waiting:
                await one(number)

        await asyncio.gather(*(several() for _ in range(AT_ONCE)))
    print(json.dumps(accepted))
