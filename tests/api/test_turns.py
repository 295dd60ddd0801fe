"""Large bodies of one user take turns; another user's do not wait for them."""

import asyncio
from typing import Any

import pytest

from api.body import INLINE_BYTES
from api.turns import Turns
from jobs.tokens.estimate import Estimate
from tests.api.corpus import with_prompt
from tests.api.harness import Api
from tests.support.waiting import eventually

JSON = {"content-type": "application/json"}


async def test_one_has_one_turn_at_a_time_and_keeps_nobody_else_waiting() -> None:
    turns = Turns()
    order: list[str] = []

    async def work(user: str, name: str, release: asyncio.Event) -> None:
        async with turns.of(user):
            order.append(name)
            await release.wait()

    first, later = asyncio.Event(), asyncio.Event()
    later.set()
    eves = [asyncio.create_task(work("eve", name, first)) for name in ("eve 1", "eve 2", "eve 3")]
    await asyncio.sleep(0)
    await asyncio.create_task(work("ann", "ann 1", later))
    assert order == ["eve 1", "ann 1"]
    eves[1].cancel()
    first.set()
    await asyncio.gather(*eves, return_exceptions=True)
    assert order == ["eve 1", "ann 1", "eve 3"]
    async with turns.of("eve"):
        pass
    assert turns.waiting == 0


async def test_large_prompts_of_one_user_are_counted_one_at_a_time(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting: list[str] = []
    release = asyncio.Event()
    estimator = api.app.service.estimator
    estimate = estimator.estimate

    async def watched(*args: Any, **kwargs: Any) -> Estimate:
        counting.append("a prompt")
        await release.wait()
        return await estimate(*args, **kwargs)

    monkeypatch.setattr(estimator, "estimate", watched)
    eve, ann = await api.user("eve"), await api.user("ann")
    large = with_prompt(b"x" * INLINE_BYTES)

    async def sent(user: dict[str, str]) -> int:
        return (await api.http.post("/v1/jobs", content=large, headers=user | JSON)).status_code

    all_sent = [asyncio.create_task(sent(user)) for user in (eve, eve, eve, ann)]
    await eventually(lambda: len(counting) == 2 and api.app.service.turns.waiting == 2)
    release.set()
    assert await asyncio.gather(*all_sent) == [202] * 4
