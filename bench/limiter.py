"""How many reservations does the limiter make and settle a second, of what one trivial script call costs?

A pair is `Limiter.reserve` (a user's budget, the provider's tokens and requests, all or nothing) and `Limiter.settle`:
two script calls. The floor is a bare `EVALSHA` of `return 1` over the same client, redis-py, in turns with it; 32
coroutines in one process. Beside them the same over the project's own pipelining connection, which leaves nearly
nothing but the server's time, and the libraries people use instead, which do one check of one limit each.
"""

import asyncio
import itertools
import json
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

from redis.asyncio import BlockingConnectionPool, Redis

from bench.arguments import Arguments, parsed
from bench.environments import PeerMissing, environment
from bench.figures import Spread, interleaved
from bench.report import Report
from bench.server import valkey
from jobs.connection import connect
from limiter.limiter import Limiter
from limiter.limits import Reserved, Scope, WindowSpec

COROUTINES = 32
CALLS, QUICK_CALLS = 3_000, 1_000
WINDOWS = WindowSpec((Scope("provider", 10**12, 10**9), Scope("provider/model", 10**12, 10**9)))
ONE_WINDOW = WindowSpec(WINDOWS.scopes[:1])
BUDGET = 10**12
USERS = (1, 1_000, 100_000)
BARE, PIPED_BARE = "EVALSHA return 1", "EVALSHA return 1, pipelined"
PIPED = "1,000 users, pipelined"
PEERS = {"limits": "limits", "throttled-py": "throttled"}
PEER = Path(__file__).parent / "peers" / "limiters.py"


async def rate(calls: int, call: Callable[[int], Awaitable[None]]) -> float:
    """Calls a second of so many coroutines."""
    numbers = iter(range(calls))

    async def some() -> None:
        for number in numbers:
            await call(number)

    began_s = time.perf_counter()
    await asyncio.gather(*(some() for _ in range(COROUTINES)))
    return calls / (time.perf_counter() - began_s)


async def measure(redis: Redis, piped: Redis, arguments: Arguments) -> dict[str, Spread]:
    """Calls or pairs a second of every variant, in turns; the last ones over the project's own connection."""
    sha = await cast(Awaitable[str], redis.script_load("return 1"))
    jobs = itertools.count()
    calls = QUICK_CALLS if arguments.quick else CALLS

    def bare(client: Redis) -> Callable[[int], Awaitable[None]]:
        async def call(_: int) -> None:
            await cast(Awaitable[object], client.evalsha(sha, 0))

        return call

    def pair(
        users: int, windows: WindowSpec = ONE_WINDOW, client: Redis = redis
    ) -> Callable[[int], Awaitable[None]]:
        limiter = Limiter(client)

        async def reserve_and_settle(number: int) -> None:
            now_ms = int(time.time() * 1000)
            user, job = f"user{number % users}", f"job{next(jobs)}"
            held = await limiter.reserve(
                user, job, input_tokens=100, output_tokens=900, budget_tokens=BUDGET, windows=windows,
                latest_end_ms=now_ms + 86_400_000, deadline_ms=now_ms + 60_000,
            )  # fmt: skip
            assert isinstance(held, Reserved)
            await limiter.settle(user, held.day, job, input_tokens=100, output_tokens=400)

        return reserve_and_settle

    def variant(call: Callable[[int], Awaitable[None]]) -> Callable[[], Awaitable[float]]:
        return lambda: rate(calls, call)

    variants = {BARE: variant(bare(redis))}
    variants |= {_name(users): variant(pair(users)) for users in USERS}
    variants["1,000 users, two windows"] = variant(pair(1_000, WINDOWS))
    variants[PIPED_BARE] = variant(bare(piped))
    variants[PIPED] = variant(pair(1_000, client=piped))
    # All users have their day's counter before anything is measured.
    now_ms = int(time.time() * 1000)
    day = time.strftime("%Y-%m-%d", time.gmtime(now_ms / 1000))
    for first in range(0, USERS[-1], 1000):
        await redis.mset({f"tokens:user{user}:{day}": 1 for user in range(first, first + 1000)})
    measured = await interleaved(variants, repetitions=arguments.repetitions)
    return {name: Spread.of(values) for name, values in measured.items()}


def _name(users: int) -> str:
    return f"{users:,} user{'s' if users > 1 else ''}"


def of_peers(url: str, arguments: Arguments, report: Report) -> dict[str, Spread]:
    """Checks a second of the libraries, as their documentation uses them."""
    found = {}
    for name, peer in PEERS.items():
        calls = QUICK_CALLS if arguments.quick else CALLS
        try:
            told = subprocess.run(
                [environment(peer), PEER, peer, url, str(calls), str(arguments.repetitions)],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
        except PeerMissing as missing:
            report.note(str(missing))
        else:
            found[name] = Spread.of(json.loads(told.stdout))
    return found


def main() -> None:
    arguments = parsed(__doc__)
    report = Report("limiter", (__doc__ or "").partition("\n")[0])
    with valkey() as url:

        async def ours() -> dict[str, Spread]:
            pool = BlockingConnectionPool.from_url(url, max_connections=COROUTINES)
            async with Redis(connection_pool=pool) as stock, connect(url, client_name="bench") as piped:
                return await measure(stock, piped, arguments)

        measured = asyncio.run(ours())
        peers = of_peers(url, arguments, report)
    bare, piped_bare, piped = measured.pop(BARE), measured.pop(PIPED_BARE), measured.pop(PIPED)
    one, most = measured[_name(USERS[0])], measured[_name(USERS[-1])]
    report.judge("pairs_of_evalsha", measured[_name(1_000)].over(bare))
    report.judge("flat_100000_users", one.over(most))
    rows: list[list[str | int | float | Spread]] = [["EVALSHA return 1 (calls)", bare, Spread((1.0,))]]
    rows += [[f"reserve + settle, {name}", spread, spread.over(bare)] for name, spread in measured.items()]
    rows += [[f"{name} (one check)", spread, spread.over(bare)] for name, spread in peers.items()]
    rows += [["EVALSHA return 1, pipelined (calls)", piped_bare, piped_bare.over(bare)]]
    rows += [[f"reserve + settle, {PIPED}", piped, piped.over(bare)]]
    report.table("A second, and of the bare calls in the same run", ["", "a second", "of EVALSHA"], rows)
    report.bars("pairs", "a second, 32 coroutines", {BARE: bare, **measured, **peers, PIPED: piped})
    report.write(arguments.results)


if __name__ == "__main__":
    main()
