"""One request being answered: what is sent is noted in its log entry and carries the provider's headers."""

from starlette.types import Receive, Send

from simulator.connection import Connection
from simulator.log import LogEntry

JSON = b"application/json"
EVENT_STREAM = b"text/event-stream; charset=utf-8"
HTML = b"text/html; charset=utf-8"

Headers = list[tuple[bytes, bytes]]


class Exchange:
    """Sends one answer over `connection`; `entry` learns its status."""

    def __init__(self, send: Send, connection: Connection, entry: LogEntry) -> None:
        self.connection = connection
        self.entry = entry
        self._send = send

    async def begin(
        self, status: int, content_type: bytes, headers: Headers, length: int | None = None
    ) -> None:
        """Send the status and the headers; without a `length` in bytes the body goes in chunks."""
        self.entry.status = status
        sent = [
            (b"content-type", content_type),
            (b"x-request-id", self.entry.request_id.encode()),
            *headers,
        ]
        if length is not None:
            sent.append((b"content-length", str(length).encode()))
        await self._send({"type": "http.response.start", "status": status, "headers": sent})

    async def part(self, data: bytes) -> None:
        """Send a part of the body that is not its last."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Send the last part of the body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def whole(self, status: int, content_type: bytes, headers: Headers, body: bytes) -> None:
        """Send a complete answer."""
        await self.begin(status, content_type, headers, len(body))
        await self.end(body)


async def read_body(receive: Receive) -> bytes | None:
    """The whole body, or None if the client left before it was there."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
