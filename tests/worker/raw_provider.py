"""A provider made of raw bytes: a TCP server on loopback that answers exactly what a test hands it."""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.support.waiting import DEADLINE_S
from worker.outcome import Completion, Failure
from worker.provider import ProviderClient

API_KEY = "sk-test-0123456789abcdefABCDEF"
BODY: dict[str, object] = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
USAGE: dict[str, object] = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}

Answer = bytes | Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in."""

    line: str
    headers: Mapping[str, str]
    body: bytes


class Listener(ABC):
    """A TCP server on loopback that hands each connection to `serve`, and leaves nothing open at its end."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    @property
    def address(self) -> str:
        """Host and port."""
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def all_closed(self) -> None:
        """Wait until every connection has ended, so that what has not arrived by then never will."""
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(*self._serving, return_exceptions=True)

    @abstractmethod
    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What to do with a connection, until it is to be closed."""

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self.connections += 1
        # A cancel ends the serving and goes no further: asyncio's streams log a cancelled handler as an error.
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            await self.serve(reader, writer)
        writer.close()
        with suppress(ConnectionError, asyncio.CancelledError):
            await writer.wait_closed()
        self._serving.discard(task)


class RawProvider(Listener):
    """Answers the nth request with the nth of `answers`, the last one for ever; `requests` keeps them all.

    An answer is bytes, or a coroutine function that is given the connection and may do anything with it.
    `received` counts requests of which at least one byte arrived.
    """

    def __init__(self, *answers: Answer) -> None:
        super().__init__()
        self._answers = list(answers)
        self._has_request = asyncio.Event()
        self.requests: list[Request] = []
        self.received = 0

    @property
    def base_url(self) -> str:
        """What a ProviderClient is given."""
        return f"http://{self.address}/v1"

    async def has_request(self) -> None:
        """Wait until a request has arrived."""
        async with asyncio.timeout(DEADLINE_S):
            await self._has_request.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request after the other."""
        while True:
            first = await reader.readexactly(1)
            self.received += 1
            head = (first + await reader.readuntil(b"\r\n\r\n")).decode()
            line, *fields = head.rstrip().split("\r\n")
            headers = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}
            body = await reader.readexactly(int(headers["content-length"]))
            self.requests.append(Request(line, headers, body))
            self._has_request.set()
            answer = self._answers[min(len(self.requests), len(self._answers)) - 1]
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(reader, writer)


def completion(*, usage: object = USAGE, content: str = "hi there", **fields: object) -> dict[str, object]:
    """The body of a chat completion; `usage=None` leaves it out."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    answer = {"id": "c1", "object": "chat.completion", "choices": [choice], "usage": usage, **fields}
    return {name: value for name, value in answer.items() if value is not None}


def http(
    body: bytes | Mapping[str, object] = b"",
    *,
    status: str = "200 OK",
    headers: Mapping[str, str] | None = None,
    content_type: str = "application/json",
    length: int | None = None,
) -> bytes:
    """The bytes of an HTTP answer; `length` claims another Content-Length than the true one."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {
        "Content-Type": content_type,
        "Content-Length": str(len(content) if length is None else length),
        **(headers or {}),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + content


def error(message: str, *, code: object = None, kind: str = "", **fields: object) -> dict[str, object]:
    """The body of an error in OpenAI's shape."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}, **fields}


def then_close(data: bytes) -> Answer:
    """Sends `data` and closes the connection."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    return answer


async def call(
    client: ProviderClient,
    *,
    within_s: float = 5.0,
    write_within_s: float = 5.0,
    body: Mapping[str, object] | bytes = BODY,
    on_sent: Callable[[], None] | None = None,
) -> Completion | Failure:
    """One call with times counted from now."""
    now = asyncio.get_running_loop().time()
    return await client.chat(body, deadline=now + within_s, write_by=now + write_within_s, on_sent=on_sent)


async def answered(
    *answers: Answer,
    api_key: str | None = API_KEY,
    max_response_bytes: int = 100_000,
    wall_clock: Callable[[], float] = lambda: 0.0,
    within_s: float = 5.0,
) -> Completion | Failure:
    """The outcome of one call of a provider that answers this."""
    async with (
        RawProvider(*answers) as provider,
        ProviderClient(
            provider.base_url, api_key, max_response_bytes=max_response_bytes, wall_clock=wall_clock
        ) as client,
    ):
        return await call(client, within_s=within_s)


async def completed(*answers: Answer) -> Completion:
    """The completion that this answer is."""
    outcome = await answered(*answers)
    assert isinstance(outcome, Completion), outcome
    return outcome


async def failed(
    *answers: Answer,
    api_key: str | None = API_KEY,
    wall_clock: Callable[[], float] = lambda: 0.0,
    within_s: float = 5.0,
) -> Failure:
    """The failure that this answer is."""
    outcome = await answered(*answers, api_key=api_key, wall_clock=wall_clock, within_s=within_s)
    assert isinstance(outcome, Failure), outcome
    return outcome
