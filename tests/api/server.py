"""The real HTTP server in the test's own loop, and raw connections to it for what no client library would send."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2

from api.app import create_app
from api.serve import Server
from jobs.claims import Claims
from jobs.config import Config
from tests.api.harness import PROBLEM_MEMBERS, Api, Clock, config, own_environment
from tests.support.waiting import DEADLINE_S, eventually

if TYPE_CHECKING:
    from redis.asyncio import Redis

HOST = "127.0.0.1"


@dataclass
class Served:
    """An API process behind a real server; `api.http` is a client of it over TCP."""

    api: Api
    server: Server

    async def raw(self, *parts: bytes, end: bool = True) -> "RawAnswer":
        """What the server answers to these bytes; with `end`, we say that nothing more will come."""
        reader, writer = await asyncio.open_connection(HOST, self.server.port)
        async with asyncio.timeout(DEADLINE_S):
            # The server may answer, and stop reading, before all is sent.
            with contextlib.suppress(ConnectionError):
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                if end:
                    writer.write_eof()
            answer = read_answer(await _received(reader))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        return answer


@dataclass(frozen=True)
class RawAnswer:
    """The first answer on a connection."""

    status: int
    headers: dict[str, str]
    body: bytes

    def problem(self, status: int, code: str) -> dict[str, Any]:
        """The body of an answer that must be this problem."""
        assert self.status == status, self
        assert self.headers["content-type"] == "application/problem+json"
        assert self.headers["x-request-id"]
        body: dict[str, Any] = json.loads(self.body)
        assert body.keys() >= PROBLEM_MEMBERS
        assert body["code"] == code
        return body


async def _received(reader: asyncio.StreamReader) -> bytes:
    """The first answer as it came: its head, and as much body as that announces."""
    received = b""
    while True:
        head, complete, body = received.partition(b"\r\n\r\n")
        if complete:
            length = next(
                (
                    int(line[15:])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                ),
                0,
            )
            if len(body) >= length:
                return received
        piece = await reader.read(65_536)
        assert piece, f"the connection was closed after {received!r}"
        received += piece


def read_answer(received: bytes) -> RawAnswer:
    """An answer from its bytes."""
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return RawAnswer(int(status.split(" ")[1]), headers, body[: int(headers.get("content-length", 0))])


@contextlib.asynccontextmanager
async def serving(redis: "Redis", configuration: Config | None = None) -> AsyncIterator[Served]:
    """An API process that listens on a port of its own and hears, on this Redis."""
    clock = Clock()
    app = create_app(configuration or config(), own_environment(), redis, require_durable=False, clock=clock)
    server = Server(app, host=HOST, port=0)
    task = asyncio.create_task(server.serve())
    await eventually(lambda: server.started or task.done())
    await asyncio.wait_for(app.service.subscription.hearing.wait(), DEADLINE_S)
    claims = Claims(redis, "worker-1", lease_ms=60_000, clock=clock)
    await claims.start()
    url = f"http://{HOST}:{server.port}"
    try:
        async with httpx2.AsyncClient(base_url=url, timeout=DEADLINE_S, trust_env=False) as http:
            yield Served(Api(app, clock, http, redis, claims), server)
    finally:
        server.stop()
        await task
