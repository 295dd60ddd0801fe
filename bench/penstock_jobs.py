"""Submits jobs to Penstock over HTTP: `python -m bench.penstock_jobs submit --redis KEY --provider http://API ...`.

The key takes the place of the Redis, and the API that of the provider: whoever submits knows nothing else.
"""

import aiohttp
import uvloop

from bench.pacing import arguments, submit_all


async def submit(address: str, key: str, numbers: range, gap_s: float) -> None:
    """Posts a job for each number; raises aiohttp's errors for all but a 202."""
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"}) as session:

        async def post(body: object) -> None:
            async with session.post(f"{address}/v1/jobs", json={"body": body}) as answer:
                await answer.read()
                answer.raise_for_status()

        await submit_all(post, numbers, gap_s)


if __name__ == "__main__":
    told = arguments(__doc__).parse_args()
    uvloop.run(submit(told.provider, told.redis, range(told.first, told.first + told.count), told.gap))
