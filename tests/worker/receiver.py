"""A receiver of webhooks on loopback, and a client whose policy lets it go there."""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from jobs.config import Webhooks
from jobs.egress import Policy, Resolver
from tests.jobs.names import Answer as Addresses
from tests.jobs.names import Names
from tests.worker.raw_provider import Answer, RawProvider
from worker.webhooks.forward_proxy import ForwardProxy
from worker.webhooks.guarded import LOOKUP_S, TOTAL_S, Delivered, Failed, GuardedClient

HOST: Final = "hooks.example.com"
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BODY: Final = b'{"id": "evt_1"}'
HEADERS: Final = {"content-type": "application/json", "webhook-id": "evt_1"}

_DATA = Path(__file__).parent / "data"
CA = _DATA / "ca.pem"


class Receiver(RawProvider):
    """Answers the nth delivery with the nth of its answers; over TLS as hooks.example.com if asked to.

    `server_names` are those that clients sent for TLS (SNI), None where one sent none.
    """

    def __init__(self, *answers: Answer, tls: bool = False) -> None:
        super().__init__(*answers)
        self._tls = tls
        self.server_names: list[str | None] = []

    async def __aenter__(self) -> Self:
        if not self._tls:
            return await super().__aenter__()
        context = serving()
        context.sni_callback = lambda _, name, __: self.server_names.append(name)
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=context)
        return self

    @property
    def port(self) -> int:
        """Its port on 127.0.0.1."""
        return int(self.address.rpartition(":")[2])

    @property
    def authority(self) -> str:
        """Its name and port, as an operator allows them."""
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """Its URL under the name hooks.example.com."""
        return f"{'https' if self._tls else 'http'}://{HOST}:{self.port}/in?a=b"


def serving() -> ssl.SSLContext:
    """A server's context with the certificate for hooks.example.com and 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_DATA / "hooks.pem", _DATA / "hooks.key")
    return context


def trusting() -> ssl.SSLContext:
    """A context that trusts the tests' authority alone."""
    return ssl.create_default_context(cafile=_DATA / "ca.pem")


class Sender:
    """A GuardedClient, closed at the end; its names lead to `addresses`, and it may go where `allow` says."""

    def __init__(
        self,
        *allow: str,
        addresses: Mapping[str, Sequence[Addresses]] | None = None,
        resolver: Resolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
        proxy: ForwardProxy | None = None,
        total_s: float = TOTAL_S,
        lookup_s: float = LOOKUP_S,
    ) -> None:
        self.names = Names(addresses or {HOST: [("127.0.0.1",)]})
        self.client = GuardedClient(
            Policy.of(Webhooks(allow=allow, allow_http=True)),
            resolver or self.names,
            proxy=proxy,
            ssl_context=ssl_context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            total_s=total_s,
            lookup_s=lookup_s,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.client.aclose()

    async def post(self, url: str, body: bytes = BODY) -> Delivered | Failed:
        """One delivery."""
        return await self.client.post(url, body, HEADERS)

    async def delivered(self, url: str, body: bytes = BODY) -> Delivered:
        """One delivery that must be answered."""
        outcome = await self.post(url, body)
        assert isinstance(outcome, Delivered), outcome
        return outcome

    async def failed(self, url: str) -> Failed:
        """One delivery that must not be answered."""
        outcome = await self.post(url)
        assert isinstance(outcome, Failed), outcome
        return outcome
