"""The faults that replace an answer: refusals and errors as values, all others as a wrong way of sending."""

import asyncio
import functools
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from simulator.errors import ApiError
from simulator.exchange import HTML, JSON, Exchange, Headers
from simulator.faults import QUOTA, Fault
from simulator.ratelimits import retry_headers

ELSEWHERE = "/_elsewhere"

Sleep = Callable[[float], Awaitable[None]]

_GARBAGE = b"<html><head><title>502 Bad Gateway</title></head><body><center>nginx</center></body></html>"
_HUGE_PART = b"a" * 65536
_BOMB_BLOCK = b" " * 2**20
_BOMB_BLOCKS = 256
_REDIRECTED = b'{"redirected": true}'


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer that would have been right, as it would have been sent."""

    body: bytes
    content_type: bytes
    headers: Headers


def refusal(fault: Fault) -> ApiError | None:
    """The error to give at once, charging nothing, if `fault` is a refusal (a 4xx); else None."""
    if fault.name == "retry-after":
        headers = ((b"retry-after", fault.value.encode()),) if fault.value else ()
        return _rate_limited(headers)
    if fault.name != "fail":
        return None
    if fault.value == QUOTA:
        return ApiError(
            429,
            "You exceeded your current quota, please check your plan and billing details.",
            kind="insufficient_quota",
            code="insufficient_quota",
        )
    status = int(fault.value)
    if status == 429:
        return _rate_limited(retry_headers(1))
    if status == 401:
        return ApiError(401, "Incorrect API key provided.", code="invalid_api_key")
    if status < 500:
        return ApiError(status, f"The simulator was told to refuse this with {status}.")
    return None


def failure(fault: Fault) -> ApiError | None:
    """The error to give in place of the answer, after its latency, if `fault` is a 5xx; else None."""
    if fault.name != "fail" or fault.value == QUOTA or int(fault.value) < 500:
        return None
    status = int(fault.value)
    kind = "overloaded_error" if status == 529 else "server_error"
    return ApiError(
        status, "The server had an error while processing your request. Sorry about that!", kind=kind
    )


async def hang() -> None:
    """Never return; the guard of the connection ends it."""
    await asyncio.get_running_loop().create_future()


async def misbehave(fault: Fault, exchange: Exchange, reply: Reply, sleep: Sleep) -> None:
    """Send `reply` in the way of `fault`, which is neither a refusal nor a failure nor `hang`."""
    await _WAYS[fault.name](exchange, reply, sleep)


async def _reset(exchange: Exchange, _reply: Reply, _sleep: Sleep) -> None:
    exchange.connection.reset()
    await hang()


async def _garbage(exchange: Exchange, reply: Reply, _sleep: Sleep) -> None:
    await exchange.whole(200, HTML, reply.headers, _GARBAGE)


async def _cut(exchange: Exchange, reply: Reply, _sleep: Sleep) -> None:
    await exchange.begin(200, reply.content_type, reply.headers, len(reply.body))
    await exchange.part(reply.body[: len(reply.body) // 2])
    exchange.connection.close()
    await hang()


async def _huge(exchange: Exchange, reply: Reply, _sleep: Sleep) -> None:
    await exchange.begin(200, JSON, reply.headers)
    await exchange.part(b'{"id": "')
    while True:
        await exchange.part(_HUGE_PART)
        # A fast reader never makes the send wait, and would keep everyone else from being served.
        await asyncio.sleep(0)


async def _gzip_bomb(exchange: Exchange, reply: Reply, _sleep: Sleep) -> None:
    bomb = await asyncio.to_thread(_bomb)
    await exchange.whole(200, JSON, [*reply.headers, (b"content-encoding", b"gzip")], bomb)


async def _drip(exchange: Exchange, reply: Reply, sleep: Sleep) -> None:
    await exchange.begin(200, reply.content_type, reply.headers, len(reply.body))
    for index in range(len(reply.body)):
        await exchange.part(reply.body[index : index + 1])
        await sleep(1)
    await exchange.end()


async def _redirect(exchange: Exchange, reply: Reply, _sleep: Sleep) -> None:
    await exchange.whole(307, JSON, [*reply.headers, (b"location", ELSEWHERE.encode())], _REDIRECTED)


_WAYS: Mapping[str, Callable[[Exchange, Reply, Sleep], Awaitable[None]]] = {
    "reset": _reset,
    "garbage": _garbage,
    "cut": _cut,
    "huge": _huge,
    "gzip-bomb": _gzip_bomb,
    "drip": _drip,
    "redirect": _redirect,
}


def _rate_limited(headers: tuple[tuple[bytes, bytes], ...]) -> ApiError:
    return ApiError(
        429, "Rate limit reached: told to refuse.", kind="tokens", code="rate_limit_exceeded", headers=headers
    )


@functools.cache
def _bomb() -> bytes:
    """256 MiB of spaces in about 256 KB of gzip."""
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return b"".join([*(packer.compress(_BOMB_BLOCK) for _ in range(_BOMB_BLOCKS)), packer.flush()])
