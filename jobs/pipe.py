"""One connection for the scripts of a whole process: commands go out as they come, answers come in their order.

redis-py gives each command a connection of its own and waits for its answer, which costs a process more than anything
else it does for a job (docs/decisions/0010-one-connection-for-scripts.md). Connecting stays redis-py's: TLS, passwords,
Sentinel, timeouts and tries are what jobs/connection.py has set. Here a connected socket is only taken over.
"""

import asyncio
from collections import deque
from typing import Any, Final

import hiredis
from redis._parsers import BaseParser
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

from jobs.pool import Pool, PrimaryConnection

Word = str | bytes | int | float

MOST_AT_ONCE: Final = 4
"""Commands in one write. A turn of a busy loop makes dozens: the server begins with the first while the loop makes the
others, so that neither waits for all that the other does."""

MOST_UNDER_WAY: Final = 16
"""Commands that are sent and not answered; the others wait here. A server answers all that has come together: given
everything, it works while the loop waits, and waits while the loop works. So few keep both busy at once."""

_MORE: Final = object()


class Pipe:
    """Commands over a link that is made when it is wanted; a broken one is left to those that wait on it.

    No command is sent twice: one that raises ConnectionError or TimeoutError may have run.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._timeout_s: float | None = pool.connection_kwargs.get("socket_timeout")
        self._link: _Link | None = None
        self._connecting: asyncio.Task[_Link] | None = None

    async def call(self, *command: Word) -> Any:
        """The answer to one command that neither blocks nor changes the connection's state.

        Raises redis.exceptions.RedisError as redis-py does. A caller that is cancelled leaves its answer to be thrown
        away when it comes.
        """
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # annotated as a tuple of one
        while True:
            link = self._link
            if link is None or not link.usable:
                link = await self._connected()
            if link.writable.is_set():
                return await link.send(packed)
            await self._until_writable(link)

    async def aclose(self) -> None:
        """Close the link; what still waits for an answer raises ConnectionError."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._link is not None:
            self._link.abort("the client was closed")
            await self._link.closed.wait()

    async def _connected(self) -> "_Link":
        """Of all that want a link at a time one makes it, and none that is cancelled takes it from the others."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._has_connected)
        return await asyncio.shield(self._connecting)

    def _has_connected(self, task: "asyncio.Task[_Link]") -> None:
        self._connecting = None
        # Asked for, since whoever wanted the link may have gone.
        if not task.cancelled() and task.exception() is None:
            self._link = task.result()

    async def _connect(self) -> "_Link":
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py 5.3
        await connection.connect()  # type: ignore[no-untyped-call]
        return _Link(connection, self._timeout_s)

    async def _until_writable(self, link: "_Link") -> None:
        """A server that does not read for a while must not make us keep all that was meant for it."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await link.writable.wait()
        except TimeoutError:
            link.retire()
            raise RedisTimeoutError("Timeout writing to socket") from None


class _Link(asyncio.Protocol):
    """One connection. `usable` until it broke, or is not to be trusted any more."""

    def __init__(self, connection: AbstractConnection, timeout_s: float | None) -> None:
        """Takes over a connection that has just been made; raises ConnectionError if it was closed meanwhile."""
        # Kept while the transport lives: it would close it when it goes.
        self._connection = connection
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._unsent: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._answers = hiredis.Reader(
            protocolError=InvalidResponse, replyError=BaseParser.parse_error, notEnoughData=_MORE
        )
        self.usable = True
        self.writable = asyncio.Event()
        self.writable.set()
        self.closed = asyncio.Event()
        reader, writer = connection._reader, connection._writer
        if reader is None or writer is None or reader.at_eof():
            connection._close()  # type: ignore[no-untyped-call]
            raise RedisConnectionError("the server closed the connection")
        self._transport = writer.transport
        # What is written goes out at once, and waits only where the socket is full.
        self._transport.set_write_buffer_limits(high=0)
        self._transport.set_protocol(self)

    def send(self, packed: bytes) -> "asyncio.Future[Any]":
        """The answer to come. A write has what is sent within one turn of the loop, or MOST_AT_ONCE of it; where
        MOST_UNDER_WAY are not answered, it has what there is room for when answers come.
        """
        answer: asyncio.Future[Any] = self._loop.create_future()
        if self._transport.is_closing():
            answer.set_exception(RedisConnectionError("the connection broke before the command was sent"))
            return answer
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(packed)
        if self._timeout_s is None:
            self._waiting.append((answer, 0.0))
        else:
            self._waiting.append((answer, self._loop.time() + self._timeout_s))
            if self._timer is None:
                self._timer = self._loop.call_later(self._timeout_s, self._expire)
        if len(self._unsent) == MOST_AT_ONCE:
            self._flush()
        return answer

    def retire(self) -> None:
        """Take no more commands; close as soon as nobody waits for an answer."""
        self.usable = False
        if all(answer.done() for answer, _ in self._waiting):
            self.abort("it was not needed any more")

    def abort(self, reason: str) -> None:
        """Close it now; whoever waits on it gets a ConnectionError with the reason."""
        self._transport.abort()
        self._broken(RedisConnectionError(f"the connection was closed: {reason}"))

    def _flush(self) -> None:
        room = MOST_UNDER_WAY - (len(self._waiting) - len(self._unsent))
        if room <= 0 or not self._unsent or self._transport.is_closing():
            return
        now, self._unsent = self._unsent[:room], self._unsent[room:]
        self._transport.write(now[0] if len(now) == 1 else b"".join(now))

    def _expire(self) -> None:
        """One timer for all: calls have the same timeout, so that the first in line is the first to be late."""
        self._timer = None
        now = self._loop.time()
        late = False
        for answer, deadline in self._waiting:
            if answer.done():
                continue
            if deadline > now:
                self._timer = self._loop.call_at(deadline, self._expire)
                break
            answer.set_exception(RedisTimeoutError("Timeout reading from the server"))
            late = True
        if late:
            # The peer may have vanished: the next command is better off on a new connection.
            self.retire()

    def _broken(self, error: RedisConnectionError) -> None:
        self.usable = False
        self.writable.set()
        self._unsent.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, deque()
        for answer, _ in waiting:
            if not answer.done():
                answer.set_exception(error)

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        try:
            self._answers.feed(data)
            while (answer := self._answers.gets()) is not _MORE:
                waiting, _ = self._waiting.popleft()
                if not waiting.done():
                    self._hand_over(waiting, answer)
        except (InvalidResponse, IndexError) as error:
            self.abort(f"it brought what is no answer ({type(error).__name__})")
            return
        self._flush()
        if not self.usable:
            self.retire()

    def _hand_over(self, waiting: "asyncio.Future[Any]", answer: object) -> None:
        if not isinstance(answer, Exception):
            waiting.set_result(answer)
            return
        if isinstance(answer, ReadOnlyError):
            # The primary has become a replica: whoever comes next has to look for the new one.
            self.usable = False
            if isinstance(self._connection, PrimaryConnection):
                answer = RedisConnectionError("The previous master is now a slave")
        waiting.set_exception(answer)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._connection._reader = self._connection._writer = None
        self.closed.set()
        self._broken(RedisConnectionError(f"Connection closed by server{f': {error}' if error else ''}"))
