"""The bytes of a call: an httpx2 transport over aiohttp, given to the openai SDK in place of its own.

It stands between the SDK and the socket for what neither offers: nothing is written after `write_by`, the
caller knows whether anything was written, an answer is read whole but never more of it than allowed, and none
that came before its request is taken for its answer.
(aiohttp also takes about half the CPU of the default transport, and hardly more with 500 calls in flight.)
"""

import asyncio
import zlib
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

import aiohttp
import httpx2
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import StreamWriter

REFUSAL_MAX_BYTES: Final = 65_536
"""Of an answer other than 2xx no more is read: its status says what it is, its message is short."""

KEEP_ALIVE_S: Final = 4.0
"""Idle connections are closed sooner than servers do it (uvicorn: 5 s): a request written into a connection
that the server is just closing has an unknown outcome."""

SENT_HEADERS = ("accept", "content-type", "user-agent", "authorization")
_DROPPED_HEADERS = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


class AnswerUnusableError(Exception):
    """An answer that cannot be read: too large, cut, or in an encoding nobody asked for."""


class NotWrittenError(Exception):
    """The gate was closed when the request came to be written; not a byte of it left."""


@dataclass(slots=True)
class Sending:
    """One call on its way: until when it may be written, and whether it was.

    `write_by` and `deadline` are times of the running loop; `timer` is the timeout around the call.
    """

    write_by: float
    deadline: float
    timer: asyncio.Timeout
    on_sent: Callable[[], None] | None
    sent: bool = False
    late: bool = False
    stale: bool = False

    def pass_gate(self, writer: AbstractStreamWriter) -> None:
        """Called in the same step of the loop as the write, and just before it; raises to prevent it.

        It lets one write through and no second, so that no library below can send a request again.
        """
        if self.sent:
            raise NotWrittenError("the request was written before")
        if asyncio.get_running_loop().time() >= self.write_by:
            self.late = True
            raise NotWrittenError("the time to write the request is over")
        if not _is_clean(writer):
            self.stale = True
            raise NotWrittenError("the kept connection cannot be used any more")
        self.timer.reschedule(self.deadline)
        self.sent = True
        if self.on_sent is not None:
            self.on_sent()


current_sending: ContextVar[Sending] = ContextVar("current_sending")
"""The call that the running task makes: the SDK has no way to hand it through."""


class GatedTransport(httpx2.AsyncBaseTransport):
    """Sends each request through the gate of its `current_sending`; answers come back read and decompressed.

    Raises what aiohttp raises, AnswerUnusableError, or OSError; never follows, retries, or keeps cookies,
    and takes no proxy, header or key from the environment.
    """

    def __init__(self, *, ssl: bool, authorized: bool, max_response_bytes: int) -> None:
        self._ssl_context = httpx2.create_ssl_context() if ssl else None
        self._sent_headers = SENT_HEADERS if authorized else SENT_HEADERS[:-1]
        self._max_response_bytes = max_response_bytes
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One exchange; see the class."""
        sending = current_sending.get()
        while True:
            # Each turn uses up one kept connection that had gone stale; nothing was written into it.
            sending.stale = False
            try:
                response = await self._exchange(request, sending)
            except aiohttp.ClientError:
                if not sending.stale:
                    raise
            else:
                if response is not None:
                    return response

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def _exchange(self, request: httpx2.Request, sending: Sending) -> httpx2.Response | None:
        headers = {name: request.headers[name] for name in self._sent_headers}
        headers["accept-encoding"] = "gzip"
        async with self._open_session().request(
            request.method,
            str(request.url),
            data=_GatedBody(request.content, sending),
            headers=headers,
            allow_redirects=False,
        ) as answer:
            if not sending.sent:
                # It came before the request was written: a gateway's 408, or the answer to somebody else.
                answer.close()
                return None
            content = await self._read(answer)
        kept = [(name, value) for name, value in answer.raw_headers if name.lower() not in _DROPPED_HEADERS]
        return httpx2.Response(answer.status, headers=kept, content=content, request=request)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Made by the first call, because it belongs to the loop in which it is made.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, keepalive_timeout=KEEP_ALIVE_S, ssl=self._ssl_context or True
                ),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        succeeded = 200 <= answer.status < 300
        room = self._max_response_bytes if succeeded else REFUSAL_MAX_BYTES
        inflate = _decompressor(answer.headers.get("content-encoding", ""))
        content, received = bytearray(), 0
        async for chunk in answer.content.iter_any():
            received += len(chunk)
            # Asking for one byte more than there is room for stops a bomb as soon as it shows.
            content += inflate.decompress(chunk, room + 1 - len(content)) if inflate else chunk
            if len(content) > room or received > room:
                answer.close()
                if succeeded:
                    raise AnswerUnusableError(f"the answer is larger than {room} bytes")
                return bytes(content[:room])
        if inflate and received and not inflate.eof:
            raise AnswerUnusableError("the compressed answer was cut")
        return bytes(content)


class _GatedBody(aiohttp.Payload):
    """A request's body. aiohttp holds the headers back until its first bytes: what stops these, stops all."""

    def __init__(self, content: bytes, sending: Sending) -> None:
        super().__init__(content, content_type="application/json")
        self._content = content
        self._sending = sending

    @property
    def size(self) -> int:
        return len(self._content)

    @property
    def autoclose(self) -> bool:
        return True

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._content.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        self._sending.pass_gate(writer)
        await writer.write(self._content)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await self.write(writer)


def _is_clean(writer: AbstractStreamWriter) -> bool:
    """Whether the connection is open and has nothing on it that could be taken for the answer.

    From Python 3.12 on this is asked before aiohttp reads what may lie there; before, it has read it by now,
    and that shows in an answer to a request that was not sent.
    """
    protocol = writer.protocol if isinstance(writer, StreamWriter) else None
    return isinstance(protocol, ResponseHandler) and protocol.is_connected() and not protocol.should_close


def _decompressor(encoding: str) -> "zlib._Decompress | None":
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(_GZIP_OR_ZLIB)
    raise AnswerUnusableError(f"the answer is encoded as {encoding[:50]!r}, only gzip was asked for")
