"""Checks a second of a rate-limiting library: `python limiters.py LIBRARY REDIS_URL CALLS REPETITIONS`, a JSON list."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable

Check = Callable[[int], Awaitable[object]]
COROUTINES = 32


def limits_check(url: str) -> Check:
    """`limits`, the library behind slowapi and Flask-Limiter."""
    from limits import RateLimitItemPerMinute
    from limits.aio.storage import RedisStorage
    from limits.aio.strategies import SlidingWindowCounterRateLimiter

    limiter = SlidingWindowCounterRateLimiter(RedisStorage("async+" + url, implementation="redispy"))
    item = RateLimitItemPerMinute(10**9)

    async def check(number: int) -> None:
        await limiter.hit(item, f"user{number % 1000}", cost=1000)

    return check


def throttled_check(url: str) -> Check:
    """`throttled-py`."""
    from throttled.asyncio import RateLimiterType, Throttled, rate_limiter, store

    throttle = Throttled(
        using=RateLimiterType.SLIDING_WINDOW.value,
        quota=rate_limiter.per_min(10**9),
        store=store.RedisStore(server=url),
    )

    async def check(number: int) -> None:
        await throttle.limit(f"user{number % 1000}", cost=1000)

    return check


async def rate(check: Check, calls: int) -> float:
    numbers = iter(range(calls))

    async def some() -> None:
        for number in numbers:
            await check(number)

    began = time.perf_counter()
    await asyncio.gather(*(some() for _ in range(COROUTINES)))
    return calls / (time.perf_counter() - began)


async def main() -> None:
    library, url, calls, repetitions = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    check = {"limits": limits_check, "throttled": throttled_check}[library](url)
    await rate(check, calls // 4)
    print(json.dumps([await rate(check, calls) for _ in range(repetitions)]))


asyncio.run(main())
