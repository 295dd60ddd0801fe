"""The connection under a request, for what ASGI has no words for: resetting it, learning at once of its loss.

`SimulatorProtocol` is uvicorn's httptools protocol; it puts a `Connection` into each request's scope.
"""

import asyncio
import socket
import struct
from types import TracebackType
from typing import Any, Self

from starlette.types import Scope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

_STATE_KEY = "simulator_connection"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class ClientGoneError(Exception):
    """The connection ended before the answer did."""


class Connection:
    """One client's connection; `ended_by_us` once the simulator itself has cut it."""

    def __init__(self, transport: asyncio.Transport | None = None) -> None:
        self.ended_by_us = False
        self._transport = transport
        self._guard: Guard | None = None

    def guard(self) -> "Guard":
        """A context that the loss of the connection ends with a `ClientGoneError`, whatever it awaits."""
        self._guard = Guard(self)
        return self._guard

    def reset(self) -> None:
        """Drop the connection with a TCP reset; what has not been sent is lost."""
        transport = self._end()
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()

    def close(self) -> None:
        """Send what has been written, then close."""
        self._end().close()

    def lost(self) -> None:
        """Told by the protocol that the connection has ended."""
        if self._guard is not None:
            self._guard.interrupt()

    def unguard(self) -> None:
        """Told by a guard that it has ended."""
        self._guard = None

    def _end(self) -> asyncio.Transport:
        if self._transport is None:
            raise RuntimeError(
                "cutting a connection needs a real one: start the simulator with simulator.serve"
            )
        self.ended_by_us = True
        return self._transport


class Guard:
    """See `Connection.guard`. Works as `asyncio.timeout` does: by cancelling the task, and knowing that it
    did.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._task: asyncio.Task[Any] | None = None
        self._interrupted = False

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.unguard()
        if self._interrupted and self._task is not None:
            self._task.uncancel()
            if kind is asyncio.CancelledError:
                raise ClientGoneError from None

    def interrupt(self) -> None:
        """End the context."""
        if self._task is not None and not self._interrupted:
            self._interrupted = True
            self._task.cancel()


def connection_of(scope: Scope) -> Connection:
    """The connection of a request; one that cannot be cut if another server than ours runs the app."""
    connection = scope.get("state", {}).get(_STATE_KEY)
    return connection if isinstance(connection, Connection) else Connection()


class SimulatorProtocol(HttpToolsProtocol):
    """uvicorn's protocol on httptools, never with an access log, and with its `Connection` in every request's
    state.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.access_log = False
        self._connection = Connection()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._connection = Connection(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._connection.lost()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][_STATE_KEY] = self._connection
