"""arq alone for the same jobs: `python -m bench.arq_jobs work|submit --redis URL --provider URL --call ...`.

`written` is what its users write, openai's `chat.completions.create`, polling every 10 ms; `default` is the same with
arq's own 500 ms. `same` polls every 10 ms and makes the very call that our worker makes, by worker/provider.py.
"""

import asyncio
from typing import Any

import openai
import uvloop
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func

from bench.pacing import arguments, submit_all
from worker.outcome import Completion
from worker.provider import ProviderClient

POLL_S = {"written": 0.01, "same": 0.01, "default": 0.5}


async def written(ctx: dict[Any, Any], body: dict[str, Any]) -> str:
    """The job as its users write it."""
    client: openai.AsyncOpenAI = ctx["openai"]
    completion = await client.chat.completions.create(**body)
    return completion.choices[0].message.content or ""


async def same(ctx: dict[Any, Any], body: dict[str, Any]) -> bytes:
    """The job with our call."""
    provider: ProviderClient = ctx["provider"]
    now = asyncio.get_running_loop().time()
    answer = await provider.chat(body, deadline=now + 30, write_by=now + 10)
    assert isinstance(answer, Completion), answer
    return answer.body


async def work(redis_url: str, provider_url: str, slots: int, poll_s: float) -> None:
    """Works until it is told to stop."""
    async with ProviderClient(provider_url, None) as provider:
        worker = Worker(
            [func(written, name="written"), func(same, name="same")],
            redis_settings=RedisSettings.from_dsn(redis_url), max_jobs=slots, poll_delay=poll_s,
            ctx={"openai": openai.AsyncOpenAI(base_url=provider_url, api_key="none"), "provider": provider},
        )  # fmt: skip
        await worker.async_run()


async def submit(redis_url: str, call: str, numbers: range, gap_s: float) -> None:
    """Enqueues a job for each number."""
    redis = await create_pool(RedisSettings.from_dsn(redis_url))
    function = "same" if call == "same" else "written"
    await submit_all(lambda body: redis.enqueue_job(function, body), numbers, gap_s)
    await redis.aclose()


if __name__ == "__main__":
    told = arguments(__doc__, *POLL_S).parse_args()
    if told.what == "work":
        uvloop.run(work(told.redis, told.provider, told.slots, POLL_S[told.call]))
    else:
        numbers = range(told.first, told.first + told.count)
        uvloop.run(submit(told.redis, told.call, numbers, told.gap))
