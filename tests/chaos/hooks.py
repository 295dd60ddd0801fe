"""A receiver of webhooks that looks at the job the moment an event comes, before it answers."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.valkey import HOST

_OK = b"HTTP/1.1 204 No Content\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One attempt that came in whole: its event's id, and the bytes of its body."""

    event_id: str
    body: bytes

    @property
    def job(self) -> dict[str, Any]:
        """The job that it tells of."""
        data: dict[str, Any] = json.loads(self.body)["data"]
        return data


@dataclass
class Hooks:
    """`look` is awaited with each arrival before it is answered."""

    look: Callable[[Arrival], Awaitable[None]]
    port: int = 0
    arrivals: list[Arrival] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    connections: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/hook"

    def of(self, job_id: str) -> list[Arrival]:
        """What came of one job."""
        return [one for one in self.arrivals if one.job["id"] == job_id]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
                body = await reader.readexactly(int(headers["content-length"]))
                arrival = Arrival(headers["webhook-id"], body)
                self.arrivals.append(arrival)
                try:
                    await self.look(arrival)
                except AssertionError as error:
                    self.wrong.append(str(error))
                writer.write(_OK)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # Also where it is cancelled: asyncio 3.11 complains of a connection whose task was.
            return
        finally:
            self.connections.discard(task)
            writer.transport.abort()


@asynccontextmanager
async def receiving(look: Callable[[Arrival], Awaitable[None]]) -> AsyncIterator[Hooks]:
    """The receiver, until the block ends."""
    hooks = Hooks(look)
    server = await asyncio.start_server(hooks._serve, HOST, 0)
    hooks.port = server.sockets[0].getsockname()[1]
    try:
        yield hooks
    finally:
        server.close()
        # Senders keep connections for later.
        left = [*hooks.connections]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        # Whoever has connected and was not yet served goes too.
        await asyncio.sleep(0)
