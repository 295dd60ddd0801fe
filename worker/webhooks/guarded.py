"""One POST to a URL that a user chose: it reaches a public server, or one that the operator allows, or nothing.

The last step of a delivery. The name is looked up once, all its addresses are judged, and one of these is
connected to. No redirect is followed, no proxy taken from the environment, nothing decompressed; the time and
the bytes read are bounded.
"""

import asyncio
import codecs
import ssl
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final

import httpcore2

from jobs.egress import NameServerError, NameUnknownError, Policy, Refused, Resolver, Target, parse
from jobs.egress.target import IPAddress
from worker.headers import parse_http_date_s, parse_retry_after_s
from worker.webhooks.connecting import AnswerTooLargeError, CheckedBackend, ConnectFailedError
from worker.webhooks.forward_proxy import ForwardProxy
from worker.webhooks.kept import KEPT_S, KeptConnections

TOTAL_S: Final = 15.0
LOOKUP_S: Final = 5.0
CONNECT_S: Final = 4.0
ANSWER_MAX_BYTES: Final = 16_384
SNIPPET_MAX_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver answered, with whatever `status`; what it sent after its headers may have been cut.

    `snippet` is the beginning of the answer (1 KiB before decoding), `retry_after_s` the wait that it asks
    for, within 1 s and 1 h.
    """

    status: int
    duration_s: float
    snippet: str
    retry_after_s: float | None


@dataclass(frozen=True, slots=True)
class Failed:
    """There is no answer. `our_fault`: not the receiver's (name server, forward proxy, this machine).

    `forbidden`: nothing was sent, because webhooks may not go there.
    """

    reason: str
    duration_s: float
    our_fault: bool = False
    forbidden: bool = False


class GuardedClient:
    """Posts deliveries; one for all of a worker's. `policy` and `proxy` may be replaced when the configuration changes.

    `ssl_context` is what receivers' certificates are verified with (by default the system's authorities, or
    those of SSL_CERT_FILE). `proxy` is a forward proxy for everything; it gets checked addresses too.
    """

    def __init__(
        self,
        policy: Policy,
        resolver: Resolver,
        *,
        proxy: ForwardProxy | None = None,
        ssl_context: ssl.SSLContext | None = None,
        total_s: float = TOTAL_S,
        lookup_s: float = LOOKUP_S,
    ) -> None:
        self.policy = policy
        self._resolver = resolver
        self.proxy = proxy
        self._ssl_context = ssl_context or httpcore2.default_ssl_context()
        self._total_s = total_s
        self._lookup_s = lookup_s
        self._kept = KeptConnections()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Delivered | Failed:
        """Send `body` with `headers` (Host and Content-Length are added) and wait for the answer, 15 s at most.

        The receiver may see a body twice: one written into a kept connection that was just being closed is
        sent again over a new one.
        """
        started_s = time.monotonic()
        answer = _Answer()
        reason, our_fault, forbidden = "", False, False
        try:
            async with asyncio.timeout(self._total_s):
                await self._deliver(url, body, headers, answer)
        except _StoppedError as stop:
            reason, our_fault, forbidden = str(stop), stop.our_fault, stop.forbidden
        except ConnectFailedError as failure:
            reason, our_fault = str(failure), failure.ours
        except (
            TimeoutError,
            AnswerTooLargeError,
            httpcore2.NetworkError,
            httpcore2.RemoteProtocolError,
        ) as error:
            reason = self._reason_of(error)
        except ssl.SSLError as error:
            reason = _tls_reason(error)
        duration_s = time.monotonic() - started_s
        if answer.status is None:
            return Failed(reason, duration_s, our_fault, forbidden)
        return Delivered(answer.status, duration_s, answer.snippet(), answer.retry_after_s())

    async def aclose(self) -> None:
        """Close the connections kept for later."""
        await self._kept.aclose()

    async def _deliver(self, url: str, body: bytes, headers: Mapping[str, str], answer: "_Answer") -> None:
        policy, proxy = self.policy, self.proxy
        target = parse(url, policy)
        if isinstance(target, Refused):
            raise _refusal(target)
        request = _request(target, body, headers)
        # With the policy and the proxy, so that no connection outlives what let it through.
        key = (target.port, target.host.text, target.scheme, policy, proxy)
        kept = await self._kept.take(key)
        if kept is not None:
            try:
                return await self._exchange(key, kept, request, answer)
            except (httpcore2.NetworkError, httpcore2.RemoteProtocolError):
                if answer.status is not None:
                    raise
        addresses = await self._look_up(target)
        if (refused := policy.refuse_addresses(target, addresses)) is not None:
            raise _refusal(refused)
        network = CheckedBackend(
            addresses,
            connect_s=CONNECT_S,
            answer_max_bytes=ANSWER_MAX_BYTES,
            ssl_context=self._ssl_context,
            proxy=proxy,
        )
        connection = httpcore2.AsyncHTTPConnection(
            request.url.origin,
            ssl_context=self._ssl_context,
            keepalive_expiry=KEPT_S,
            network_backend=network,
        )
        try:
            await self._exchange(key, connection, request, answer)
        except BaseException:
            await network.aclose()
            raise

    async def _look_up(self, target: Target) -> tuple[IPAddress, ...]:
        if target.host.address is not None:
            return (target.host.address,)
        try:
            async with asyncio.timeout(self._lookup_s):
                return await self._resolver.resolve(target.host.text)
        except NameUnknownError as error:
            raise _StoppedError("the host has no address") from error
        except (NameServerError, TimeoutError) as error:
            raise _StoppedError("the name servers gave no answer", our_fault=True) from error

    async def _exchange(
        self,
        key: Hashable,
        connection: httpcore2.AsyncHTTPConnection,
        request: httpcore2.Request,
        answer: "_Answer",
    ) -> None:
        """Send `request`, read `answer`; the connection is then kept if it can be used again, else closed."""
        try:
            response = await connection.handle_async_request(request)
            answer.begin(response)
            async for chunk in response.aiter_stream():
                answer.add(chunk)
            await response.aclose()
        except BaseException:
            await connection.aclose()
            raise
        if connection.is_idle():
            await self._kept.keep(key, connection)
        else:
            await connection.aclose()

    def _reason_of(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {self._total_s:g} s"
        if isinstance(error, AnswerTooLargeError):
            return f"the answer has no end of its headers within {ANSWER_MAX_BYTES} bytes"
        if isinstance(error, httpcore2.RemoteProtocolError):
            # What h11 says about it quotes the receiver.
            is_cut = error.__cause__ is None
            return "the connection was closed without an answer" if is_cut else "the answer is not HTTP"
        if isinstance(error.__cause__, ssl.SSLError):
            return _tls_reason(error.__cause__)
        return "the connection broke before the answer came"


class _StoppedError(Exception):
    """Why nothing is sent; the fields are those of Failed."""

    def __init__(self, reason: str, *, our_fault: bool = False, forbidden: bool = False) -> None:
        super().__init__(reason)
        self.our_fault = our_fault
        self.forbidden = forbidden


@dataclass(slots=True)
class _Answer:
    """What has come of the answer so far; it counts from the moment its headers are complete."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    start: bytes = b""

    def begin(self, response: httpcore2.Response) -> None:
        self.status = response.status
        self.headers = {
            name.decode("ascii").lower(): value.decode("latin-1") for name, value in response.headers
        }

    def add(self, chunk: bytes) -> None:
        self.start += chunk[: SNIPPET_MAX_BYTES - len(self.start)]

    def snippet(self) -> str:
        # Incremental, so that a character cut in two at the end is left out rather than replaced.
        return codecs.getincrementaldecoder("utf-8")("replace").decode(self.start)

    def retry_after_s(self) -> float | None:
        # A date is read by the receiver's own clock where it tells it.
        dated_s = parse_http_date_s(self.headers.get("date"))
        return parse_retry_after_s(self.headers, time.time() if dated_s is None else dated_s)


def _request(target: Target, body: bytes, headers: Mapping[str, str]) -> httpcore2.Request:
    all_headers: list[tuple[bytes | str, bytes | str]] = [
        ("Host", target.authority),
        ("Content-Length", str(len(body))),
        ("Accept-Encoding", "identity"),
        ("User-Agent", "Penstock"),
        *headers.items(),
    ]
    url = httpcore2.URL(scheme=target.scheme, host=target.host.text, port=target.port, target=target.path)
    return httpcore2.Request("POST", url, headers=all_headers, content=body)


def _refusal(refused: Refused) -> _StoppedError:
    return _StoppedError(f"{refused.rule}: the URL {refused.message}", forbidden=True)


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not good: {error.verify_message}"
    return f"TLS failed: {(error.reason or 'no reason given').lower().replace('_', ' ')}"
