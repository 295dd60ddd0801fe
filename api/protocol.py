"""HTTP on the wire: uvicorn's httptools protocol with bounds for what it does not bound itself.

A request's head is limited in bytes, number and time; what the parser refuses gets an answer of our shape; and an
answer given before the body has come is not lost, because the connection lingers instead of being reset.
"""

import asyncio
from typing import Any, Final

from httptools import HttpParserError
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from api.body import BODY_IS_HERE
from api.edge import new_request_id
from api.errors import KINDS, Problem, answer
from api.packet import OnePacket

MAX_HEAD_BYTES: Final = 65_536
MAX_HEADERS: Final = 128
HEAD_TIMEOUT_S: Final = 10.0
"""From the first byte of a connection or request to the end of its header."""
LINGER_S: Final = 10.0
"""How long what is left of a body is read and thrown away after its answer."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._in_head = True
        self._refusing = False
        self._problem: Problem | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._arm_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timers()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        if self._refusing:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self._refusing:
            return
        super().data_received(data)
        # The parser hands a header over only when it is complete: one without an end is seen here alone.
        if self._in_head and not self._refusing:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(_head_too_large())
            elif self._head_timer is None:
                self._arm_head_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0
        self._cancel_head_timer()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._cancel_head_timer()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            self._problem = _head_too_large()
            raise HttpParserError(self._problem.detail)
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        super()._start_asgi_task(cycle, OnePacket(app, cycle))  # type: ignore[arg-type]

    def on_message_complete(self) -> None:
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None
            self._arm_keep_alive()
        # Mostly it has all come in one packet, and the application has not begun yet.
        self.scope["extensions"] = {BODY_IS_HERE: {}}
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        cycle = self.cycle
        if cycle.response_complete and cycle.more_body and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._linger_timer = self.loop.call_later(LINGER_S, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for whatever the parser, or one of the methods above, refuses."""
        self._refuse(self._problem or Problem("bad_request", "This is not a request of HTTP/1.1."))

    def _refuse(self, problem: Problem) -> None:
        """Answers outside of the application, then reads and forgets what still comes for a while."""
        self._refusing = True
        self._cancel_timers()
        cycle = self.cycle
        if self.transport.is_closing():
            return
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started or self.pipeline:
                # Another answer is on its way on this connection; ours would end up before it or in its middle.
                self.transport.close()
                return
            # It was this request's body that went wrong: whoever reads it is told that the client is gone.
            cycle.disconnected = True
            cycle.message_event.set()
        response = answer(problem, None)
        lines = [STATUS_LINE[problem.status or KINDS[problem.code].status]]
        for name, value in (
            *self.server_state.default_headers,
            *response.raw_headers,
            (b"x-request-id", new_request_id()),
            (b"connection", b"close"),
        ):
            lines.append(name + b": " + value + b"\r\n")
        self.transport.write(b"".join((*lines, b"\r\n", bytes(response.body))))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._linger_timer = self.loop.call_later(LINGER_S, self.transport.close)

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _arm_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._head_is_late)

    def _head_is_late(self) -> None:
        if self._head_bytes:
            self._refuse(Problem("slow_body", f"The header did not come within {HEAD_TIMEOUT_S:.0f} s."))
        else:
            self.transport.close()

    def _arm_keep_alive(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _cancel_timers(self) -> None:
        self._cancel_head_timer()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None


def _head_too_large() -> Problem:
    return Problem(
        "headers_too_large",
        f"The header may have at most {MAX_HEAD_BYTES} bytes in {MAX_HEADERS} fields.",
        extra={"limit_bytes": MAX_HEAD_BYTES, "limit_fields": MAX_HEADERS},
    )
