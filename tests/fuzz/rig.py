"""The real application on a real Valkey, asked without a socket: each request runs on a loop of the fuzzer's own.

The scene is the same for every run: users with and without limits, jobs in every state under ids that never change,
and a worker's hand that moves the jobs along.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final
from unittest import mock
from urllib.parse import unquote

import uvloop
from starlette.types import Message, Scope

from api.app import Application, create_app
from jobs.claims import Claims
from jobs.connection import connect
from jobs.egress.resolver import NameUnknownError
from jobs.egress.target import IPAddress
from jobs.record import ClaimedJob, JobError, NewJob, State, Usage
from jobs.secrets import digest, new_key
from jobs.users import KeyRecord, KeyTakenError, Users
from jobs.webhooks import EVENT_TYPES
from jobs.webhooks.endpoints import Endpoints
from tests.api.harness import ADMIN_KEY, NOON_MS, SECRET, Clock, config, own_environment

WAIT_S = 20.0
MODELS: Final = ("m", "small")
TIERS: Final = ("free", "open")
OTHERS: Final = ("bo", "cy")
"""Users whom administrators change, which those who ask must not suffer from."""

JOBS: Final = tuple(f"job_01M8FFKSEPNJ3VSKD5EQYQ{number:04d}" for number in range(12))
DELIVERIES: Final = tuple(f"dlv_{job_id.removeprefix('job_')}_0" for job_id in JOBS)
ENDPOINTS: Final = tuple(f"we_01M8FFKSEPNJ3VSKD5EQYQ{number:04d}" for number in range(3))
HOOK_URL: Final = "https://example.com/hook"
KEYS: Final = tuple(f"FuzzedKey{number:03d}" for number in range(6))


@dataclass(frozen=True)
class Asked:
    """A request as the server hands it over."""

    method: str
    target: str
    """The raw path and query."""
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes = b""
    pieces: int = 1
    """In how many parts the body comes."""


@dataclass(frozen=True)
class Answered:
    """What came back, whole."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass
class Rig:
    """One API process. `as_user` gives the headers of somebody who may ask; `ask` is one request, run to its end."""

    app: Application
    loop: asyncio.AbstractEventLoop
    claims: Claims
    users: Users
    keys: Mapping[str, str]
    asked: int = 0
    _sequence: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def as_user(self, user: str) -> dict[str, str]:
        """The Authorization header of `ann`, `limited`, `admin` or `guest`, who may do nothing but read usage."""
        return {"Authorization": f"Bearer {self.keys[user]}"}

    def ask(self, request: Asked) -> Answered:
        """The answer. The client hangs up when its request is sent and an answer has begun: nothing is waited for."""
        self.asked += 1
        if self.asked % 40 == 0:
            self.loop.run_until_complete(self._work())
        return self.loop.run_until_complete(self._ask(request))

    async def _ask(self, request: Asked) -> Answered:
        path, _, query = request.target.partition("?")
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode("latin-1"),
            "query_string": query.encode("latin-1"),
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in request.headers],
            "client": ("127.0.0.1", 50_000),
            "server": ("penstock.test", 80),
            "state": {},
        }
        size = max(1, -(-len(request.body) // request.pieces))
        parts = [request.body[start : start + size] for start in range(0, len(request.body), size)] or [b""]
        status, headers, body = 0, [], bytearray()
        begun = asyncio.Event()

        async def receive() -> Message:
            if parts:
                part = parts.pop(0)
                return {"type": "http.request", "body": part, "more_body": bool(parts)}
            if scope["path"].endswith("/events"):
                await begun.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], list(message["headers"])
            else:
                body.extend(message.get("body", b""))
                begun.set()

        async with asyncio.timeout(WAIT_S):
            await self.app(scope, receive, send)
        return Answered(status, headers, b"" if request.method == "HEAD" else bytes(body))

    async def _work(self) -> None:
        """A worker's hand: of what may run, a part succeeds, a part fails, and some is left running.

        What was erased and revoked meanwhile is there again.
        """
        await _stage(self.app, self.users)
        for number, job in enumerate((await self.claims.claim(next(self._sequence), 20)).jobs):
            await self._end(job, number)

    async def _end(self, job: ClaimedJob, number: int) -> None:
        if number % 4 == 3:
            return
        if number % 4 == 2:
            error = JobError("provider_failed", "it did not answer", job.attempt, 500)
            await self.claims.settle(
                job, State.FAILED, charge=None, window="charged", error=error, replayable=True
            )
            return
        usage = Usage(prompt_tokens=9, completion_tokens=3, total_tokens=12)
        result = b'{"choices":[]}'
        await self.claims.settle(
            job, State.SUCCEEDED, charge=usage, window="charged", result=result, cost_nano_usd=1500
        )


@contextlib.contextmanager
def running_rig(url: str) -> Iterator[Rig]:
    """A rig on the Valkey at this address, which is emptied."""
    loop = uvloop.new_event_loop()
    redis = connect(url, client_name="fuzz")
    clock = Clock()
    providers = {
        "sim": {
            "base_url": "http://127.0.0.1:9/v1",
            "models": {name: {"context_tokens": 10**9, "max_output_tokens": 10**6} for name in MODELS},
        }
    }
    app = create_app(
        config(providers=providers),
        own_environment(),
        redis,
        require_durable=False,
        clock=clock,
        resolver=_Names(),
    )
    lifespan = app.router.lifespan_context(app)

    async def enter() -> Rig:
        await redis.flushall()
        await lifespan.__aenter__()
        await asyncio.wait_for(app.service.subscription.hearing.wait(), WAIT_S)
        claims = Claims(redis, "worker-1", lease_ms=10**9, clock=clock)
        await claims.start()
        users = Users(redis)
        return Rig(app, loop, claims, users, await _askers(users))

    async def leave() -> None:
        await lifespan.__aexit__(None, None, None)
        await redis.aclose()

    try:
        rig = loop.run_until_complete(enter())
        loop.run_until_complete(rig._work())
        # Nobody delivers here, so a test event is told of as it is.
        with mock.patch("api.routes.webhooks.TEST_WAIT_S", 0.0):
            yield rig
        loop.run_until_complete(leave())
    finally:
        loop.close()


async def _askers(users: Users) -> dict[str, str]:
    """Their keys."""
    everything = ("jobs", "usage", "webhooks", "metrics")
    texts = {"admin": ADMIN_KEY}
    for user, tier, scopes in (
        ("ann", "open", everything),
        ("eve", "open", everything),
        ("limited", "free", everything),
        ("guest", "open", ("usage",)),
    ):
        key_id, texts[user] = new_key()
        await users.put_key(_key(key_id, digest(SECRET, texts[user]), user, scopes), tier=tier)
    return texts


async def _stage(app: Application, users: Users) -> None:
    for number, key_id in enumerate(KEYS):
        user = OTHERS[number % len(OTHERS)]
        with contextlib.suppress(KeyTakenError):
            # Nobody asks with these: their ids are all that counts.
            await users.put_key(_key(key_id, "0" * 64, user, ("jobs",)), tier="open")
    await _register(app.service.hooks.endpoints)
    for job_id in JOBS:
        await app.service.store.submit(_job(job_id))


async def _register(endpoints: Endpoints) -> None:
    """Ann's endpoints are there, and no others, of which there may be only so many."""
    for found in (await endpoints.list("ann", limit=100, after=None))[0]:
        if found.id not in ENDPOINTS:
            await endpoints.delete("ann", found.id)
    for endpoint_id in ENDPOINTS:
        if await endpoints.get("ann", endpoint_id) is None:
            await endpoints.create("ann", endpoint_id, url=HOOK_URL, event_types=EVENT_TYPES, name="")


class _Names:
    """A resolver that knows one name."""

    async def resolve(self, name: str) -> tuple[IPAddress, ...]:
        if name != "example.com":
            raise NameUnknownError(name)
        return (ip_address("93.184.216.34"),)


def _key(key_id: str, hashed: str, user: str, scopes: tuple[str, ...]) -> KeyRecord:
    return KeyRecord(key_id, user, scopes, NOON_MS, expires_ms=None, last_used_ms=None, digest=hashed)


def _job(job_id: str) -> NewJob:
    return NewJob(id=job_id, user="ann", name="m", body=b"{}", prompt_tokens=9, output_tokens=50)
