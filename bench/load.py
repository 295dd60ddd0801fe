"""Load on an HTTP server: requests one after the other on each of many connections. wrk where it is installed (`apt
install wrk`), for it takes least from the machine; else a client of our own in a process of its own.
"""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import cast

from bench.figures import percentile
from bench.processes import ROOT

FIRST_S = 120.0

_WRK = """
wrk.method = "POST"
wrk.body = [==[{body}]==]
{headers}
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('RESULT{{"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "failed": %d}}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run saw; `failed` are answers other than 2xx, and none at all."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failed: int

    @property
    def per_s(self) -> float:
        return self.requests / self.seconds


def generator() -> str:
    """What makes the load on this machine."""
    return "wrk" if shutil.which("wrk") else "an asyncio client in a process of its own"


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, connections: int, seconds: float
) -> Load:  # fmt: skip
    """Posts the same body for that long. Raises RuntimeError if any of the requests failed."""
    wrk = shutil.which("wrk")
    text = (
        _by_wrk(wrk, url, body, headers, connections, seconds)
        if wrk
        else _by_us(url, body, headers, connections, seconds)
    )
    load = Load(**json.loads(text))
    if load.failed or not load.requests:
        raise RuntimeError(f"{load.failed} of {load.requests} requests to {url} failed")
    return load


def once(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """One request, with all the patience that a server's first one may need. Raises OSError if it fails."""
    request = urllib.request.Request(url, data=body, headers=dict(headers))
    urllib.request.urlopen(request, timeout=FIRST_S).close()


def _by_wrk(
    wrk: str, url: str, body: bytes, headers: Mapping[str, str], connections: int, seconds: float
) -> str:
    lines = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items())
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_WRK.format(body=body.decode(), headers=lines))
        script.flush()
        done = subprocess.run(
            [wrk, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s",
             "-s", script.name, url],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    return done.stdout.partition("RESULT")[2]


def _by_us(url: str, body: bytes, headers: Mapping[str, str], connections: int, seconds: float) -> str:
    told = json.dumps([url, body.decode(), dict(headers), connections, seconds])
    done = subprocess.run(
        [sys.executable, "-m", "bench.load"], cwd=ROOT, input=told, capture_output=True, text=True, check=True
    )
    return done.stdout


class _Caller(asyncio.Protocol):
    """One connection: the next request goes out when the last answer is whole."""

    def __init__(self, request: bytes, until: float, seen: list[float], failed: list[bytes]) -> None:
        self._request, self._until = request, until
        self._seen, self._failed = seen, failed
        self._received = b""
        self._sent = 0.0
        self.done = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if len(body) < int(length or b"0"):
            return
        self._received = b""
        now = time.perf_counter()
        self._seen.append(now - self._sent)
        if not head.startswith(b"HTTP/1.1 2"):
            self._failed.append(head)
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if time.perf_counter() < self._until:
            self._failed.append(b"hung up")
        self.done.set()


async def _call(url: str, body: str, headers: Mapping[str, str], connections: int, seconds: float) -> Load:
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    content = body.encode()
    request = (
        f"POST /{path} HTTP/1.1\r\nhost: {host}\r\n{lines}content-length: {len(content)}\r\n\r\n".encode()
        + content
    )
    seen: list[float] = []
    failed: list[bytes] = []
    began = time.perf_counter()
    loop = asyncio.get_running_loop()
    callers = [
        (
            await loop.create_connection(
                lambda: _Caller(request, began + seconds, seen, failed), name, int(port)
            )
        )[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(caller.done.wait() for caller in callers))
    took = time.perf_counter() - began
    return Load(len(seen), took, percentile(seen, 0.5) * 1e3, percentile(seen, 0.99) * 1e3, len(failed))


if __name__ == "__main__":
    import uvloop

    print(json.dumps(asdict(uvloop.run(_call(*json.load(sys.stdin))))))
