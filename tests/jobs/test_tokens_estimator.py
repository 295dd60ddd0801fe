"""The estimator keeps its event loop free: what takes long is counted beside it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

import pytest

from jobs.config import Config
from jobs.tokens import vocabulary
from jobs.tokens.estimate import estimate
from jobs.tokens.estimator import INLINE_BYTES, TokenEstimator
from jobs.tokens.text import count_text

T = TypeVar("T")

POOLS = Config().pools("gpt-4o-mini")
SMALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}]}
LARGE = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "a" * 500_000}]}


@pytest.fixture(autouse=True)
def _loaded() -> None:
    vocabulary.preload(["o200k_base"])


@pytest.fixture
async def estimator() -> AsyncIterator[TokenEstimator]:
    estimator = TokenEstimator(max_workers=2)
    yield estimator
    estimator.close()


async def _turns_of_the_loop_during(work: Awaitable[T]) -> tuple[int, T]:
    task = asyncio.ensure_future(work)
    turns = 0
    while not task.done():
        turns += 1
        await asyncio.sleep(0)
    return turns, task.result()


async def test_a_small_prompt_is_counted_at_once(estimator: TokenEstimator) -> None:
    turns, made = await _turns_of_the_loop_during(estimator.estimate(SMALL, POOLS, body_bytes=100))

    assert turns == 1
    assert made == estimate(SMALL, POOLS)


async def test_the_loop_goes_on_while_a_large_prompt_is_counted(estimator: TokenEstimator) -> None:
    turns, made = await _turns_of_the_loop_during(estimator.estimate(LARGE, POOLS, body_bytes=500_100))

    assert turns > 10
    assert made == estimate(LARGE, POOLS)


async def test_the_loop_goes_on_while_a_vocabulary_is_loaded(
    estimator: TokenEstimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "_loaded", {})

    turns, made = await _turns_of_the_loop_during(estimator.estimate(SMALL, POOLS, body_bytes=100))

    assert turns > 10
    assert made == estimate(SMALL, POOLS)


async def test_the_limit_of_a_prompt_is_passed_on(estimator: TokenEstimator) -> None:
    made = await estimator.estimate(LARGE, POOLS, body_bytes=500_100, stop_above_tokens=100)

    assert 100 < made.prompt_tokens < estimate(LARGE, POOLS).prompt_tokens


async def test_an_answer_is_counted_on_the_loop_or_beside_it_by_its_length(estimator: TokenEstimator) -> None:
    short, long = "hello " * 10, "hello " * (INLINE_BYTES * 10)

    of_short = await _turns_of_the_loop_during(estimator.count_text(short, "o200k_base"))
    turns_of_long, tokens_of_long = await _turns_of_the_loop_during(estimator.count_text(long, "o200k_base"))

    assert of_short == (1, count_text(short, "o200k_base"))
    assert turns_of_long > 10
    assert tokens_of_long == count_text(long, "o200k_base")


async def test_a_closed_estimator_drops_what_waits() -> None:
    estimator = TokenEstimator(max_workers=1)
    counting = [asyncio.ensure_future(estimator.estimate(LARGE, POOLS, body_bytes=500_100)) for _ in range(5)]
    await asyncio.sleep(0)

    estimator.close()

    outcomes = await asyncio.gather(*counting, return_exceptions=True)
    assert isinstance(outcomes[-1], asyncio.CancelledError)
