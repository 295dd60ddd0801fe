"""Deliveries through an operator's forward proxy: it is told addresses that were checked, never names."""

import asyncio
from contextlib import suppress
from typing import Self

import pytest

from tests.worker.raw_provider import Listener
from tests.worker.receiver import HOST, OK, Receiver, Sender, serving, trusting
from worker.webhooks.forward_proxy import ForwardProxy


class Proxy(Listener):
    """Opens the tunnels it is asked for, or answers `refusal`; `heads` keeps what it was asked."""

    def __init__(self, refusal: bytes | None = None, *, tls: bool = False) -> None:
        super().__init__()
        self._refusal = refusal
        self._tls = tls
        self.heads: list[list[str]] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", 0, ssl=serving() if self._tls else None
        )
        return self

    @property
    def url(self) -> str:
        """Its URL, with a user and a password."""
        return f"{'https' if self._tls else 'http'}://user:pass%20word@{self.address}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One tunnel."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        self.heads.append(head)
        if self._refusal is not None:
            writer.write(self._refusal)
            return
        host, _, port = head[0].split()[1].rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.mark.parametrize("proxy_tls", [False, True])
@pytest.mark.parametrize("tls", [False, True])
async def test_the_tunnel_leads_to_the_checked_address_and_the_name_stays_inside(
    tls: bool, proxy_tls: bool
) -> None:
    async with Proxy(tls=proxy_tls) as proxy, Receiver(OK, tls=tls) as receiver:
        through = ForwardProxy.from_url(proxy.url)
        allow = f"127.0.0.1:{receiver.port}"
        async with Sender(allow, proxy=through, ssl_context=trusting()) as sender:
            for _ in range(2):
                assert (await sender.delivered(receiver.url)).status == 200

        assert proxy.heads == [
            [
                f"CONNECT 127.0.0.1:{receiver.port} HTTP/1.1",
                f"Host: 127.0.0.1:{receiver.port}",
                "Proxy-Authorization: Basic dXNlcjpwYXNzIHdvcmQ=",
            ]
        ]
        assert receiver.requests[0].line == "POST /in?a=b HTTP/1.1"
        assert receiver.requests[0].headers["host"] == f"{HOST}:{receiver.port}"
        assert "proxy-authorization" not in receiver.requests[0].headers
        assert receiver.server_names == ([HOST] if tls else [])


async def test_an_ipv6_address_is_asked_for_in_brackets() -> None:
    async with Proxy(b"HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n") as proxy:
        async with Sender("[fd00::1]:9000", proxy=ForwardProxy.from_url(proxy.url)) as sender:
            await sender.failed("https://[fd00::1]:9000/")

        assert proxy.heads[0][:2] == ["CONNECT [fd00::1]:9000 HTTP/1.1", "Host: [fd00::1]:9000"]


async def test_a_forbidden_address_is_refused_before_the_proxy_is_asked() -> None:
    async with Proxy() as proxy, Sender(proxy=ForwardProxy.from_url(proxy.url)) as sender:
        failed = await sender.failed(f"https://{HOST}/")

        assert failed.forbidden
        assert proxy.connections == 0


@pytest.mark.parametrize(
    ("status", "our_fault"), [(403, True), (407, True), (500, True), (503, True), (502, False), (504, False)]
)
async def test_a_proxy_that_fails_is_told_from_a_receiver_it_cannot_reach(
    status: int, our_fault: bool
) -> None:
    refusal = f"HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n".encode()
    async with (
        Proxy(refusal) as proxy,
        Sender(f"{HOST}:9000", proxy=ForwardProxy.from_url(proxy.url)) as sender,
    ):
        failed = await sender.failed(f"https://{HOST}:9000/")
        await proxy.all_closed()

    assert failed.reason == f"the forward proxy opened no tunnel, it answered {status}"
    assert failed.our_fault is our_fault
    assert not failed.forbidden


@pytest.mark.parametrize("refusal", [b"", b"SSH-2.0-OpenSSH\r\n\r\n"])
async def test_a_proxy_that_is_none_is_our_fault(refusal: bytes) -> None:
    async with (
        Proxy(refusal) as proxy,
        Sender(f"{HOST}:9000", proxy=ForwardProxy.from_url(proxy.url)) as sender,
    ):
        failed = await sender.failed(f"https://{HOST}:9000/")

    assert failed.our_fault
    assert failed.reason == "the forward proxy cannot be used"


async def test_a_proxy_that_is_away_is_our_fault() -> None:
    async with Proxy() as proxy:
        address = proxy.address
    async with Sender(f"{HOST}:9000", proxy=ForwardProxy.from_url(f"http://{address}")) as sender:
        assert (await sender.failed(f"https://{HOST}:9000/")).our_fault


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy.internal:3128", ForwardProxy("http", "proxy.internal", 3128)),
        ("http://proxy.internal/", ForwardProxy("http", "proxy.internal", 80)),
        ("https://proxy.internal", ForwardProxy("https", "proxy.internal", 443)),
        ("https://[fd00::1]:8080", ForwardProxy("https", "fd00::1", 8080)),
        ("http://u:p@10.0.0.1:1", ForwardProxy("http", "10.0.0.1", 1, "Basic dTpw")),
    ],
)
def test_a_proxy_is_read_from_its_url(url: str, proxy: ForwardProxy) -> None:
    assert ForwardProxy.from_url(url) == proxy


@pytest.mark.parametrize(
    "url", ["", "proxy:3128", "socks5://secret@proxy", "http://", "http://secret@proxy/path"]
)
def test_what_is_no_proxy_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"http://proxy\.internal:3128") as raised:
        ForwardProxy.from_url(url)
    assert "secret" not in str(raised.value)


def test_the_password_is_not_in_what_is_printed_of_a_proxy() -> None:
    assert "Basic" not in repr(ForwardProxy.from_url("http://u:p@proxy:3128"))
