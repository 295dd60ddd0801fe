"""The floor of the front: the same FastAPI under the same server, with one EVALSHA by redis-py and no logic at all.

    python -m bench.floor --port 9000 --redis redis://127.0.0.1:6379/0

What anybody would write first who wants a request kept in Redis: pydantic in and out, a script that sets one key.
"""

import argparse
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from redis.asyncio import BlockingConnectionPool, Redis

SCRIPT = "return redis.call('SET', KEYS[1], ARGV[1])"


class Body(BaseModel):
    """The request of an OpenAI client."""

    model: str
    messages: list[dict[str, Any]]
    max_tokens: int | None = None


class Submission(BaseModel):
    """As POST /v1/jobs takes it."""

    body: Body
    metadata: dict[str, str] = {}


class Accepted(BaseModel):
    """What the caller gets."""

    id: str
    status: str


def create_app(url: str) -> FastAPI:
    """The application over this Redis."""
    redis = Redis.from_pool(BlockingConnectionPool.from_url(url, max_connections=100))
    loaded: dict[str, str] = {}
    numbers = itertools.count()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        loaded["sha"] = await redis.script_load(SCRIPT)
        yield
        await redis.aclose()

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/jobs", status_code=202)
    async def submit(submission: Submission) -> Accepted:
        job_id = f"job_{next(numbers)}"
        kept: Any = redis.evalsha(loaded["sha"], 1, job_id, submission.model_dump_json())
        await kept
        return Accepted(id=job_id, status="queued")

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis", required=True)
    chosen = parser.parse_args()
    uvicorn.run(
        create_app(chosen.redis), host="127.0.0.1", port=chosen.port, log_level="warning", access_log=False,
        loop="uvloop", http="httptools",
    )  # fmt: skip
