"""The network under a delivery: connects to addresses that were checked, and reads no more than a bound.

httpcore2 is told to connect to the receiver's name, for which it sends SNI and checks the certificate; the
connection it gets from here leads to one of the checked addresses, whatever the name means by now.
"""

import errno
import os
import ssl
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain, zip_longest
from typing import Final

import httpcore2

from jobs.egress.target import IPAddress
from worker.webhooks.forward_proxy import ForwardProxy, ProxyError

ADDRESSES_MAX: Final = 4
"""So many of a name's addresses are tried. With all of them, a delivery could be made a scan of other hosts."""

_OURS: Final = frozenset(
    {
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EADDRNOTAVAIL,
        errno.ENETUNREACH,
        errno.ENETDOWN,
    }
)
"""Errors of connecting that are this machine's: no descriptors, memory, ports or route left."""


class ConnectFailedError(Exception):
    """None of the addresses could be connected to. `ours`: a fault on our side was all there was."""

    def __init__(self, message: str, *, ours: bool) -> None:
        super().__init__(message)
        self.ours = ours


class AnswerTooLargeError(Exception):
    """The receiver's answer has more bytes than are read of it."""


class CheckedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to the first of `addresses` that lets it, and to nothing else; made for one connection.

    An attempt on one address takes `connect_s` at most. Of each answer over the connection `answer_max_bytes`
    are read; asking for more raises AnswerTooLargeError.
    """

    def __init__(
        self,
        addresses: Sequence[IPAddress],
        *,
        connect_s: float,
        answer_max_bytes: int,
        ssl_context: ssl.SSLContext,
        proxy: ForwardProxy | None,
    ) -> None:
        self._addresses = alternate_families(addresses)[:ADDRESSES_MAX]
        self._connect_s = connect_s
        self._answer_max_bytes = answer_max_bytes
        self._ssl_context = ssl_context
        self._proxy = proxy
        self._sockets = _Sockets()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore2's signature)
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """A stream to a checked address; `host` is only what it is called. Raises ConnectFailedError."""
        failures: list[ConnectFailedError] = []
        for address in self._addresses:
            try:
                stream = await self._connect(address, port)
            except ConnectFailedError as failure:
                failures.append(failure)
            else:
                return _BoundedStream(stream, self._answer_max_bytes)
        raise next((failure for failure in failures if not failure.ours), failures[0])

    async def aclose(self) -> None:
        """Close the socket, also one that httpcore2 let go of in the middle of a TLS handshake."""
        for stream in self._sockets.opened:
            await stream.aclose()

    async def _connect(self, address: IPAddress, port: int) -> httpcore2.AsyncNetworkStream:
        try:
            if self._proxy is None:
                return await self._sockets.connect_tcp(str(address), port, self._connect_s)
            return await self._proxy.open_tunnel(
                address, port, self._sockets, ssl_context=self._ssl_context, connect_s=self._connect_s
            )
        except ProxyError as error:
            raise ConnectFailedError(str(error), ours=error.ours) from error
        except httpcore2.ConnectTimeout as error:
            raise ConnectFailedError(f"no connection within {self._connect_s:g} s", ours=False) from error
        except httpcore2.ConnectError as error:
            number = _errno_of(error)
            reason = os.strerror(number).lower() if number else "no connection"
            raise ConnectFailedError(f"connecting failed: {reason}", ours=number in _OURS) from error


def alternate_families(addresses: Sequence[IPAddress]) -> list[IPAddress]:
    """The addresses in their order, but IPv4 and IPv6 in turn, so that one broken family costs one attempt."""
    first = [address for address in addresses if address.version == addresses[0].version]
    second = [address for address in addresses if address.version != addresses[0].version]
    return [address for address in chain(*zip_longest(first, second)) if address is not None]


class _Sockets(httpcore2.AnyIOBackend):
    """TCP connections, each kept in mind until it is closed."""

    def __init__(self) -> None:
        self.opened: list[httpcore2.AsyncNetworkStream] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore2's signature)
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        stream = await super().connect_tcp(host, port, timeout, local_address, socket_options)
        self.opened.append(stream)
        return stream


class _BoundedStream(httpcore2.AsyncNetworkStream):
    """A stream of which, after each write, `max_bytes` can be read (what TLS itself sends does not count).

    What is written goes out with the next read, so that the head of a request and its body are one packet.
    """

    def __init__(self, stream: httpcore2.AsyncNetworkStream, max_bytes: int) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._left_bytes = max_bytes
        self._unsent = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 (as above)
        if self._unsent:
            unsent, self._unsent = self._unsent, b""
            # As httpcore2 does it: who hangs up in the middle of a request may have answered before.
            with suppress(httpcore2.WriteError):
                await self._stream.write(unsent, timeout)
        if self._left_bytes == 0:
            raise AnswerTooLargeError
        data = await self._stream.read(min(max_bytes, self._left_bytes), timeout)
        self._left_bytes -= len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 (as above)
        self._left_bytes = self._max_bytes
        self._unsent += buffer

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 (as above)
    ) -> httpcore2.AsyncNetworkStream:
        stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        return _BoundedStream(stream, self._max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def _errno_of(error: BaseException) -> int | None:
    """The system's error number at the root of `error`; asyncio and anyio wrap it in errors without one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause.errno
        cause = cause.__cause__
    return None
