"""taskiq for the same jobs, with the plain HTTP call by aiohttp: `python -m bench.peers.taskiq_jobs submit ...`.

Its worker is `taskiq worker bench.peers.taskiq_jobs:broker`, told by BENCH_REDIS and BENCH_PROVIDER. The broker is the
list with a blocking pop, its quickest: a job that a worker has popped is lost with it.
"""

import os
from typing import Any

import aiohttp
import uvloop
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from bench.pacing import arguments, submit_all

_url = os.environ["BENCH_REDIS"]
broker: Any = ListQueueBroker(_url).with_result_backend(RedisAsyncResultBackend(_url, result_ex_time=3600))
sessions: list[aiohttp.ClientSession] = []


# Named, since the one that submits knows this module as __main__.
@broker.task(task_name="call")
async def call(body: dict[str, Any]) -> str:
    """The job: one request, the text of its answer."""
    if not sessions:
        sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    async with sessions[0].post(f"{os.environ['BENCH_PROVIDER']}/chat/completions", json=body) as answer:
        text: str = (await answer.json())["choices"][0]["message"]["content"]
        return text


async def submit(numbers: range, gap_s: float) -> None:
    """Enqueues a job for each number."""
    await broker.startup()
    await submit_all(call.kiq, numbers, gap_s)
    await broker.shutdown()


if __name__ == "__main__":
    told = arguments(__doc__).parse_args()
    uvloop.run(submit(range(told.first, told.first + told.count), told.gap))
