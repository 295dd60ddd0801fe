"""Fifty at once, on a real Valkey and a pool of connections: never over, exactly as many as fit, and nothing lost."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from limiter.limiter import Limiter
from limiter.limits import Refused, RequestLimits, Reserved, Scope, WindowSpec
from tests.limiter.model import LimiterModel
from tests.limiter.rig import DAY, MINUTE_MS, NO_WINDOWS, NOON_MS

AT_ONCE = 50
POOL = WindowSpec((Scope("one", 10_000, 60), Scope("one/small", 7_000, 40)))


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the reservations of a test."""

    budget: int | None = None
    windows: WindowSpec = NO_WINDOWS


@pytest.fixture
async def limiter(redis: Redis) -> Limiter:
    """A limiter whose scripts are loaded, on an empty server."""
    limiter = Limiter(redis)
    await limiter.hit("ana", RequestLimits(limit=1), now_ms=NOON_MS)
    await _reserve(limiter, "job", 1, Limits())
    await limiter.settle("ana", DAY, "job", input_tokens=0, output_tokens=0, now_ms=NOON_MS)
    await redis.flushall()
    return limiter


async def _reserve(limiter: Limiter, job: str, tokens: int, limits: Limits) -> Reserved | Refused:
    return await limiter.reserve(
        "ana",
        job,
        input_tokens=tokens - tokens // 3,
        output_tokens=tokens // 3,
        budget_tokens=limits.budget,
        windows=limits.windows,
        latest_end_ms=NOON_MS + MINUTE_MS,
        deadline_ms=NOON_MS + MINUTE_MS,
        now_ms=NOON_MS,
    )


async def _all_at_once(limiter: Limiter, sizes: list[int], limits: Limits) -> dict[str, Reserved | Refused]:
    jobs = [f"job{number}" for number in range(len(sizes))]
    answers = await asyncio.gather(
        *(_reserve(limiter, job, size, limits) for job, size in zip(jobs, sizes, strict=True))
    )
    return dict(zip(jobs, answers, strict=True))


async def _dumps(redis: Redis) -> dict[bytes, bytes]:
    return {key: await redis.dump(key) for key in await redis.keys("*")}


@pytest.mark.parametrize("size", [1, 7, 100, 333, 2000, 3501, 7000])
@pytest.mark.parametrize(
    ("limits", "room", "most"),
    [
        (Limits(budget=7_000), 7_000, AT_ONCE),
        (Limits(windows=WindowSpec((Scope("one", 7_000),))), 7_000, AT_ONCE),
        (Limits(windows=WindowSpec((Scope("one", 7_000),), "anthropic")), 7_000, AT_ONCE),
        (Limits(windows=WindowSpec((Scope("one", 7_000),), "actual")), 7_000, AT_ONCE),
        (
            Limits(windows=WindowSpec((Scope("one", 7_000, AT_ONCE),), mode="mirror", margin_ms=0)),
            7_000,
            AT_ONCE,
        ),
        (Limits(windows=POOL), 7_000, 40),
        (Limits(budget=9_000, windows=POOL), 7_000, 40),
        (Limits(budget=7_000, windows=WindowSpec((Scope("one", 8_000, 13),))), 7_000, 13),
    ],
    ids=["budget", "window", "anthropic", "actual", "mirror", "pool", "all", "requests"],
)
async def test_of_equal_ones_exactly_as_many_are_granted_as_fit(
    limits: Limits, room: int, most: int, size: int, limiter: Limiter
) -> None:
    answers = await _all_at_once(limiter, [size] * AT_ONCE, limits)
    granted = sum(isinstance(answer, Reserved) for answer in answers.values())
    assert granted == min(room // size, most)
    state = await limiter.state("ana", limits.windows, day=DAY, now_ms=NOON_MS)
    assert state.held_tokens == granted * size
    for window in state.windows:
        assert (window.tokens_charged + window.tokens_in_flight, window.requests) == (granted * size, granted)


@pytest.fixture
async def order(redis: Redis) -> AsyncIterator[Callable[[int], Awaitable[list[str]]]]:
    """The order in which the server has run the scripts of so many jobs."""
    async with redis.monitor() as monitor:

        async def jobs(count: int) -> list[str]:
            seen: list[str] = []
            while len(seen) < count:
                entry = await monitor.next_command()
                if entry["client_type"] != "lua" and entry["command"].startswith("EVALSHA"):
                    seen += re.findall(r"\bjob\d+\b", entry["command"])
            return seen

        yield jobs


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    "limits",
    [
        Limits(budget=7_000),
        Limits(windows=POOL),
        Limits(budget=9_000, windows=POOL),
        Limits(budget=8_000, windows=WindowSpec(POOL.scopes, "actual")),
    ],
    ids=["budget", "pool", "all", "actual"],
)
async def test_of_any_mix_those_are_granted_that_would_be_one_after_another(
    limits: Limits,
    seed: int,
    limiter: Limiter,
    order: Callable[[int], Awaitable[list[str]]],
) -> None:
    dice = random.Random(seed)
    sizes = [dice.choice((1, 10, 99, 500, 1500, 4000, 7001)) for _ in range(AT_ONCE)]
    answers = await _all_at_once(limiter, sizes, limits)
    model = LimiterModel()
    for job in await order(AT_ONCE):
        size = sizes[int(job.removeprefix("job"))]
        assert answers.pop(job) == model.reserve(
            NOON_MS,
            "ana",
            job,
            size - size // 3,
            size // 3,
            budget=limits.budget,
            windows=limits.windows,
            day="",
            deadline=NOON_MS + MINUTE_MS,
        )
    assert answers == {}
    state = await limiter.state("ana", limits.windows, day=DAY, now_ms=NOON_MS)
    assert state == model.state(NOON_MS, "ana", DAY, limits.windows)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(budget=7_000, windows=WindowSpec(POOL.scopes, mode="mirror", margin_ms=0)),
        Limits(budget=7_000, windows=WindowSpec((Scope("one", 9_000), Scope("one/small", 9_000)))),
        Limits(budget=9_000, windows=POOL),
        Limits(budget=9_000, windows=WindowSpec((Scope("one", 7_000), Scope("one/small", 9_000)))),
        Limits(budget=9_000, windows=WindowSpec((Scope("one", 9_000), Scope("one/small", 9_000, 10)))),
        Limits(budget=9_000, windows=WindowSpec(POOL.scopes, "actual")),
    ],
    ids=["budget, mirror", "budget", "model", "provider", "requests", "in flight"],
)
async def test_the_refused_leave_every_key_as_it_was(limits: Limits, limiter: Limiter, redis: Redis) -> None:
    first = await _all_at_once(limiter, [700] * 10, limits)
    assert all(isinstance(answer, Reserved) for answer in first.values())
    before = await _dumps(redis)
    answers = await asyncio.gather(
        *(_reserve(limiter, f"other{number}", 1 + number * 300, limits) for number in range(AT_ONCE))
    )
    assert all(isinstance(answer, Refused) for answer in answers)
    assert await _dumps(redis) == before


async def test_of_fifty_requests_at_once_the_limit_is_let_through(limiter: Limiter) -> None:
    limits = RequestLimits(limit=20, block_ms=MINUTE_MS)
    answers = await asyncio.gather(*(limiter.hit("ana", limits, now_ms=NOON_MS) for _ in range(AT_ONCE)))
    assert sorted(answer.remaining or 0 for answer in answers if answer.allowed) == list(range(20))
    assert {answer.wait_ms for answer in answers if not answer.allowed} == {MINUTE_MS}


async def test_fifty_settles_of_one_job_settle_it_once(limiter: Limiter) -> None:
    for round_ in range(10):
        job = f"job{round_}"
        await _reserve(limiter, job, 700, Limits(9_000, POOL))
        held = await asyncio.gather(
            *(
                limiter.settle("ana", DAY, job, input_tokens=number, output_tokens=0, now_ms=NOON_MS)
                if number % 2
                else limiter.release("ana", DAY, job, now_ms=NOON_MS)
                for number in range(AT_ONCE)
            )
        )
        assert sorted(held, key=str) == [700] + [None] * (AT_ONCE - 1)


async def test_fifty_reservations_of_one_job_take_once(limiter: Limiter) -> None:
    limits = Limits(1_000, WindowSpec((Scope("one", 1_000),)))
    answers = await asyncio.gather(*(_reserve(limiter, "job", 700, limits) for _ in range(AT_ONCE)))
    assert answers == [Reserved(DAY)] * AT_ONCE
    state = await limiter.state("ana", limits.windows, day=DAY, now_ms=NOON_MS)
    assert (state.held_tokens, state.windows[0].tokens_charged) == (700, 700)


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_used_in_the_end_is_what_was_settled(seed: int, limiter: Limiter, redis: Redis) -> None:
    dice = random.Random(seed)
    limits = Limits(7_000, WindowSpec(POOL.scopes, "actual"))
    used = 0

    async def work(job: str, size: int, actual: int | None) -> None:
        nonlocal used
        if isinstance(await _reserve(limiter, job, size, limits), Refused):
            return
        if actual is None:
            await limiter.release("ana", DAY, job, now_ms=NOON_MS)
        else:
            used += actual
            await limiter.settle("ana", DAY, job, input_tokens=actual, output_tokens=0, now_ms=NOON_MS)

    sizes = [dice.randint(1, 900) for _ in range(AT_ONCE)]
    await asyncio.gather(
        *(
            work(f"job{number}", size, dice.choice((None, size, size // 2, 0)))
            for number, size in enumerate(sizes)
        )
    )
    assert 0 < used <= 7_000
    state = await limiter.state("ana", limits.windows, day=DAY, now_ms=NOON_MS)
    assert (state.budget_tokens, state.held_tokens) == (used, 0)
    assert [(window.tokens_charged, window.tokens_in_flight) for window in state.windows] == [(used, 0)] * 2
    assert await redis.exists(f"holds:ana:{DAY}", "receipts", "receipts:due") == 0
