"""An operator's forward proxy for deliveries: where it is, and the tunnel through it to one checked address.

It is asked to CONNECT to an address, never to a name: a proxy that looked names up itself could be led
elsewhere than the guard has looked. Plain http goes through a tunnel as well, for the same reason.
"""

import base64
import ssl
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import unquote, urlsplit

import httpcore2

from jobs.egress.target import IPAddress

_FAR_END_FAILED: Final = frozenset({502, 504})
"""With these a proxy says that the far end, not the proxy, is the trouble (RFC 9110, 15.6)."""


class ProxyError(Exception):
    """No tunnel; the message says why. `ours`: it is the proxy's fault, not the receiver's."""

    def __init__(self, message: str, *, ours: bool) -> None:
        super().__init__(message)
        self.ours = ours


@dataclass(frozen=True, slots=True)
class ForwardProxy:
    """`authorization` is the value of the header Proxy-Authorization."""

    scheme: str
    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """From `http://proxy:3128` or `https://user:password@proxy:3129`; a ValueError does not repeat it."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise ValueError("a forward proxy is given as a URL such as http://proxy.internal:3128")
        authorization = None
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(parts.scheme, parts.hostname, port, authorization)

    async def open_tunnel(
        self,
        address: IPAddress,
        port: int,
        network: httpcore2.AsyncNetworkBackend,
        *,
        ssl_context: ssl.SSLContext,
        connect_s: float,
    ) -> httpcore2.AsyncNetworkStream:
        """A stream to `address` behind the proxy, which is reached over `network`; raises ProxyError.

        `connect_s` is the time for reaching the proxy, `ssl_context` for one with https.
        """
        connection = httpcore2.AsyncHTTPConnection(
            httpcore2.Origin(self.scheme.encode("ascii"), self.host.encode("ascii"), self.port),
            ssl_context=ssl_context,
            network_backend=network,
        )
        try:
            answer = await connection.handle_async_request(self._connect_request(address, port, connect_s))
        except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError) as error:
            raise ProxyError("the forward proxy cannot be used", ours=True) from error
        if not 200 <= answer.status < 300:
            message = f"the forward proxy opened no tunnel, it answered {answer.status}"
            raise ProxyError(message, ours=answer.status not in _FAR_END_FAILED)
        stream: httpcore2.AsyncNetworkStream = answer.extensions["network_stream"]
        return stream

    def _connect_request(self, address: IPAddress, port: int, connect_s: float) -> httpcore2.Request:
        far_end = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
        headers: list[tuple[bytes | str, bytes | str]] = [("Host", far_end)]
        if self.authorization is not None:
            headers.append(("Proxy-Authorization", self.authorization))
        return httpcore2.Request(
            "CONNECT",
            httpcore2.URL(scheme=self.scheme, host=self.host, port=self.port, target=far_end),
            headers=headers,
            extensions={"timeout": {"connect": connect_s}},
        )
