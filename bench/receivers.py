"""Receivers of webhooks in a process of their own: quick ones, slow ones, and such that never answer.

    python -m bench.receivers 80 10 5

Prints the ports as one line of JSON, in this order, and when its stdin ends, what came:
[[place, event id, Unix time], ...].
"""

import asyncio
import json
import sys
import time

HOST = "127.0.0.1"
SLOW_S = 5.0
_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"

Arrivals = list[tuple[int, str, float]]


class Receiver(asyncio.Protocol):
    """One connection to one receiver; `answers_after_s` None: it never answers."""

    def __init__(self, place: int, answers_after_s: float | None, arrivals: Arrivals) -> None:
        self._place = place
        self._answers_after_s = answers_after_s
        self._arrivals = arrivals
        self._received = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, complete, body = self._received.partition(b"\r\n\r\n")
        if not complete:
            return
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in head.split(b"\r\n"))
        }
        length = int(headers.get(b"content-length", 0))
        if len(body) < length:
            return
        self._received = body[length:]
        if b"webhook-id" not in headers:
            # Somebody else of this machine took the port for another's.
            self._answer()
            return
        self._arrivals.append((self._place, headers[b"webhook-id"].decode(), time.time()))
        if self._answers_after_s is not None:
            asyncio.get_running_loop().call_later(self._answers_after_s, self._answer)

    def _answer(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_ANSWER)


async def main(quick: int, slow: int, silent: int) -> None:
    """Serves until stdin ends."""
    loop = asyncio.get_running_loop()
    arrivals: Arrivals = []
    ports = []
    for place, after_s in enumerate([0.0] * quick + [SLOW_S] * slow + [None] * silent):
        server = await loop.create_server(
            lambda place=place, after_s=after_s: Receiver(place, after_s, arrivals),  # type: ignore[misc]
            HOST,
            0,
        )
        ports.append(server.sockets[0].getsockname()[1])
    print(json.dumps(ports), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(json.dumps(arrivals), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:4])))
