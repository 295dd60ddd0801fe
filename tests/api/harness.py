"""The real application over a real Valkey, without a socket between; and a worker's hand to move its jobs along."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from api.app import Application, create_app
from jobs.claims import Claims
from jobs.config import Config
from jobs.egress import Resolver
from jobs.environment import Environment
from jobs.record import ClaimedJob, State, Usage
from jobs.secrets import digest, new_key
from jobs.users import KeyRecord, Users
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from redis.asyncio import Redis

SECRET = "a pepper that is used in tests alone"
ADMIN_KEY = "an-admin-key-for-tests-alone"
ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}

CONFIG: Mapping[str, Any] = {
    "tiers": {
        "free": {
            "requests_per_minute": 20,
            "block_s": 60,
            "tokens_per_day": 50_000,
            "max_concurrent": 5,
            "max_queued_jobs": 1000,
        },
        "open": {},
    },
    "providers": {
        "sim": {
            "base_url": "http://127.0.0.1:9/v1",
            "tokens_per_minute": 200_000,
            "models": {
                "m": {"context_tokens": 128_000, "max_output_tokens": 4096},
                "small": {"tokens_per_minute": 6_000, "context_tokens": 8_000, "max_output_tokens": 2_000},
            },
        }
    },
}


def config(**changes: Any) -> Config:
    """The configuration of these tests, with parts of it replaced."""
    return Config.model_validate({**CONFIG, **changes})


def own_environment() -> Environment:
    """An environment that names no configuration file which could be there."""
    return Environment.load(
        secret=SECRET, admin_key=ADMIN_KEY, config_path=Path("/nonexistent/penstock.yaml")
    )


def chat(prompt: str = "Say hello", **fields: Any) -> dict[str, Any]:
    """A provider's request body."""
    return {
        "model": "m",
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 50,
        **fields,
    }


@dataclass
class Api:
    """One API process: the application, a client of it, and what a test needs to set the scene."""

    app: Application
    clock: "Clock"
    http: httpx2.AsyncClient
    redis: "Redis"
    claims: Claims
    _sequence: int = 0

    async def key(
        self, user: str, tier: str = "open", scopes: tuple[str, ...] = ("jobs", "usage"), **times: int | None
    ) -> str:
        """A new key of this user, who is registered if new."""
        key_id, text = new_key()
        record = KeyRecord(
            key_id,
            user,
            scopes,
            created_ms=times.get("created_ms") or 1,
            expires_ms=times.get("expires_ms"),
            last_used_ms=None,
            digest=digest(SECRET, text),
        )
        authenticator = self.app.service.authenticator
        known = authenticator.generation
        await Users(self.redis).put_key(record, tier=tier)
        await eventually(lambda: authenticator.generation > known)
        return text

    async def user(self, user: str, tier: str = "open", **settings: Any) -> dict[str, str]:
        """The headers with which this user asks."""
        return {"authorization": f"Bearer {await self.key(user, tier, **settings)}"}

    async def submit(self, headers: Mapping[str, str], **fields: Any) -> httpx2.Response:
        """POST /v1/jobs; `body` is a small chat unless given."""
        return await self.http.post("/v1/jobs", json={"body": chat(), **fields}, headers=headers)

    async def submitted(self, headers: Mapping[str, str], **fields: Any) -> str:
        """The id of a job that must be accepted."""
        answer = await self.submit(headers, **fields)
        assert answer.status_code == 202, answer.text
        job_id: str = answer.json()["id"]
        return job_id

    async def claim(self, slots: int = 1) -> list[ClaimedJob]:
        """What a worker gets that asks for jobs now."""
        self._sequence += 1
        return list((await self.claims.claim(self._sequence, slots)).jobs)

    async def claimed(self) -> ClaimedJob:
        """The next job, as soon as there is one."""
        async with asyncio.timeout(20):
            while True:
                for job in await self.claim():
                    return job
                await asyncio.sleep(0.01)

    async def succeed(self, job: ClaimedJob, answer: bytes = b'{"choices":[]}') -> None:
        """End a claimed job well."""
        usage = Usage(prompt_tokens=9, completion_tokens=3, total_tokens=12)
        assert await self.claims.settle(
            job, State.SUCCEEDED, charge=usage, window="charged", result=answer, cost_nano_usd=1500
        )

    async def stop(self, job: ClaimedJob) -> None:
        """End a claimed job as it was asked to end."""
        assert await self.claims.settle(job, None, charge=None, window="given_back")

    async def run_all(self) -> None:
        """Claim and end all jobs that may go."""
        while jobs := await self.claim(100):
            for job in jobs:
                await self.succeed(job)


NOON_MS = 1_795_435_200_000
"""12:00 UTC on 2026-11-23."""


class Clock:
    """The time of a test, in Unix ms; it stands still unless told."""

    def __init__(self, now_ms: int = NOON_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_ms += round(seconds * 1000)


@contextlib.asynccontextmanager
async def running_api(
    redis: "Redis",
    configuration: Config | None = None,
    clock: Clock | None = None,
    environment: Environment | None = None,
    *,
    require_durable: bool = False,
    resolver: Resolver | None = None,
) -> AsyncIterator[Api]:
    """An API process that has started and hears, on this Redis."""
    clock = clock or Clock()
    app = create_app(
        configuration or config(),
        environment or own_environment(),
        redis,
        require_durable=require_durable,
        clock=clock,
        resolver=resolver,
    )
    async with app.router.lifespan_context(app), client(app) as http:
        await asyncio.wait_for(app.service.subscription.hearing.wait(), 20)
        claims = Claims(redis, "worker-1", lease_ms=60_000, clock=clock)
        await claims.start()
        yield Api(app, clock, http, redis, claims)


@contextlib.asynccontextmanager
async def client(app: Application, address: str = "127.0.0.1") -> AsyncIterator[httpx2.AsyncClient]:
    """A client that comes from this address."""
    transport = httpx2.ASGITransport(app=app, client=(address, 50_000), raise_app_exceptions=True)
    async with httpx2.AsyncClient(transport=transport, base_url="http://penstock.test") as http:
        yield http


PROBLEM_MEMBERS = {"type", "title", "status", "detail", "instance", "code", "error"}


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The body of an answer that must be this problem, in the one shape all problems have."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"]
    body: dict[str, Any] = json.loads(answer.content)
    assert body.keys() >= PROBLEM_MEMBERS
    assert (body["status"], body["code"]) == (status, code)
    assert body["error"].keys() == {"message", "type", "code", "param"}
    assert (body["error"]["code"], body["error"]["message"]) == (code, body["detail"])
    return body
