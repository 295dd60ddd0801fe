"""A provider that costs next to nothing: the same short chat completion for every request, after `--latency` seconds.

    python -m bench.provider --port 9000 --latency 1

Every request whose body holds `#NUMBER#` is noted with the time of its arrival, on the clock that all processes of a
machine share. `GET /arrivals` tells them as [[number, monotonic seconds], ...] and forgets them, `GET /count` how many
have come since then, and how many are under way.
"""

import argparse
import asyncio
import json
import re
import time
import urllib.request
from typing import Final, cast

import uvloop

COMPLETION: Final = json.dumps(
    {
        "id": "chatcmpl-bench", "object": "chat.completion", "created": 1_800_000_000, "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Forty-two."}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 20, "completion_tokens": 4, "total_tokens": 24},
    }
).encode()  # fmt: skip

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_NUMBER = re.compile(rb"#(\d+)#")


class Arrivals:
    """What came, shared by all connections."""

    def __init__(self, latency_s: float) -> None:
        self.latency_s = latency_s
        self.times: list[tuple[int, float]] = []
        self.under_way = 0


class Provider(asyncio.Protocol):
    """One connection, one request at a time, as HTTP clients do it."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = _LENGTH.search(head)
        if len(body) < (int(length[1]) if length else 0):
            return
        now = time.monotonic()
        self._received = b""
        if head.startswith(b"GET "):
            self._tell(head)
            return
        number = _NUMBER.search(body)
        if number:
            self._arrivals.times.append((int(number[1]), now))
        if self._arrivals.latency_s:
            self._arrivals.under_way += 1
            asyncio.get_running_loop().call_later(self._arrivals.latency_s, self._answer_late)
        else:
            self._answer(COMPLETION)

    def _tell(self, head: bytes) -> None:
        if b"/arrivals" in head:
            told: object = self._arrivals.times
            self._arrivals.times = []
        else:
            told = [len(self._arrivals.times), self._arrivals.under_way]
        self._answer(json.dumps(told).encode())

    def _answer_late(self) -> None:
        self._arrivals.under_way -= 1
        self._answer(COMPLETION)

    def _answer(self, body: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(body), body)
            )


def arrivals(port: int) -> list[tuple[int, float]]:
    """What came to the provider on that port since this was last asked."""
    return [(int(number), float(at_s)) for number, at_s in cast(list[list[float]], _asked(port, "arrivals"))]


def count(port: int) -> tuple[int, int]:
    """How many came since the arrivals were last asked for, and how many are under way."""
    came, under_way = cast(list[int], _asked(port, "count"))
    return came, under_way


def _asked(port: int, what: str) -> object:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{what}", timeout=30) as answer:
        return json.load(answer)


async def serve(port: int, latency_s: float) -> None:
    """Serves until it is killed."""
    kept = Arrivals(latency_s)
    server = await asyncio.get_running_loop().create_server(
        lambda: Provider(kept), "127.0.0.1", port, backlog=2048
    )
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--latency", type=float, default=0.0)
    chosen = parser.parse_args()
    uvloop.run(serve(chosen.port, chosen.latency))
