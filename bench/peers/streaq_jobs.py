"""streaq for the same jobs, with the plain call by aiohttp: `python -m bench.peers.streaq_jobs work|submit ...`."""

from typing import Any

import aiohttp
import uvloop
from streaq import Worker

from bench.pacing import arguments, submit_all

told = arguments(__doc__).parse_args()
worker: Any = Worker(redis_url=told.redis, concurrency=told.slots)
sessions: list[aiohttp.ClientSession] = []


@worker.task
async def call(body: dict[str, Any]) -> str:
    """The job: one request, the text of its answer."""
    if not sessions:
        sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    async with sessions[0].post(f"{told.provider}/chat/completions", json=body) as answer:
        text: str = (await answer.json())["choices"][0]["message"]["content"]
        return text


async def submit() -> None:
    """Enqueues a job for each number."""
    async with worker:
        await submit_all(call.enqueue, range(told.first, told.first + told.count), told.gap)


if __name__ == "__main__":
    uvloop.run(worker.run_async() if told.what == "work" else submit())
