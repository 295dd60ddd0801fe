"""An answer in one packet: head and body go out in one write.

uvicorn writes the one and then the other. The second trip into the kernel, with a client that is woken twice, was a
tenth of what a submission costs this process.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle


class OnePacket:
    """The application as one request's cycle calls it. What is no whole answer is left to uvicorn, as it comes."""

    def __init__(self, app: ASGIApp, cycle: RequestResponseCycle) -> None:
        self._app = app
        self._cycle = cycle
        self._start: Message | None = None
        self._length: int | None = None

    async def __call__(self, scope: Scope, receive: Receive, _send: Send) -> None:
        await self._app(scope, receive, self._send)

    async def _send(self, message: Message) -> None:
        """Keeps back the head of an answer of known length until its body comes, which is at once."""
        cycle = self._cycle
        start, self._start = self._start, None
        if start is None:
            if message["type"] == "http.response.start" and self._is_whole(message):
                self._start = message
            else:
                await cycle.send(message)  # type: ignore[arg-type]  # uvicorn has a type for each message
        elif message.get("more_body") or len(message["body"]) != self._length or cycle.flow.write_paused:
            await cycle.send(start)  # type: ignore[arg-type]
            await cycle.send(message)  # type: ignore[arg-type]
        elif not cycle.disconnected:
            self._write(start, message["body"])

    def _is_whole(self, start: Message) -> bool:
        """Whether this head tells how long the body is that follows."""
        cycle = self._cycle
        if cycle.response_started or cycle.scope["method"] == "HEAD":
            return False
        lengths = [int(value) for name, value in start["headers"] if name == b"content-length"]
        self._length = lengths[0] if lengths else None
        return bool(lengths)

    def _write(self, start: Message, body: bytes) -> None:
        """All that uvicorn's cycle does for the two messages."""
        cycle = self._cycle
        lines = [STATUS_LINE[start["status"]]]
        headers = [*cycle.default_headers, *start["headers"]]
        if (b"connection", b"close") in headers:
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            headers.append((b"connection", b"close"))
        for name, value in headers:
            lines += (name, b": ", value, b"\r\n")
        head = b"".join((*lines, b"\r\n"))
        if not head.count(b"\r") == head.count(b"\n") == len(headers) + 2:
            raise RuntimeError("a header has a line break in it")
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        cycle.transport.writelines((head, body))
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
