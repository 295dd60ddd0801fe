"""What a delivery sends, and how it bounds and reads what a receiver answers."""

import asyncio
import errno
import gzip
import socket

import pytest

from tests.support.waiting import DEADLINE_S
from tests.worker.raw_provider import Answer, Listener
from tests.worker.receiver import BODY, HOST, OK, Receiver, Sender
from worker.webhooks.guarded import ANSWER_MAX_BYTES, SNIPPET_MAX_BYTES


def allowing(receiver: Receiver) -> str:
    return f"{HOST}:{receiver.port}"


async def test_the_request_is_sent_as_given_with_the_names_host() -> None:
    async with Receiver(OK) as receiver, Sender(allowing(receiver)) as sender:
        delivered = await sender.delivered(receiver.url)

        (request,) = receiver.requests
        assert request.line == "POST /in?a=b HTTP/1.1"
        assert request.body == BODY
        assert request.headers == {
            "host": f"{HOST}:{receiver.port}",
            "content-length": str(len(BODY)),
            "content-type": "application/json",
            "webhook-id": "evt_1",
            "accept-encoding": "identity",
            "user-agent": "Penstock",
        }
        assert delivered.status == 200
        assert delivered.snippet == "ok"
        assert delivered.retry_after_s is None
        assert 0 < delivered.duration_s < 15


async def test_head_and_body_go_out_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[bytes] = []
    send = socket.socket.send

    def told(to: socket.socket, data: bytes) -> int:
        pieces.append(bytes(data))
        return send(to, data)

    monkeypatch.setattr(socket.socket, "send", told)
    async with Receiver(OK) as receiver, Sender(allowing(receiver)) as sender:
        for _ in range(2):
            await sender.delivered(receiver.url)

    sent = [piece for piece in pieces if piece != OK]
    assert [piece.startswith(b"POST ") and piece.endswith(BODY) for piece in sent] == [True, True]


@pytest.mark.parametrize("status", [200, 204, 304, 400, 410, 500, 599, 999])
async def test_every_status_is_an_answer(status: int) -> None:
    answer = f"HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n".encode()
    async with Receiver(answer) as receiver, Sender(allowing(receiver)) as sender:
        assert (await sender.delivered(receiver.url)).status == status


async def test_an_early_hint_is_not_the_answer() -> None:
    answer = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK
    async with Receiver(answer) as receiver, Sender(allowing(receiver)) as sender:
        assert (await sender.delivered(receiver.url)).status == 200


async def test_another_protocol_than_http_is_no_answer() -> None:
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    async with Receiver(answer) as receiver, Sender(allowing(receiver)) as sender:
        assert (await sender.failed(receiver.url)).reason == "the answer is not HTTP"
        await receiver.all_closed()


@pytest.mark.parametrize(
    ("header", "retry_after_s"),
    [
        (b"Retry-After: 120", 120.0),
        (b"retry-after: 999999", 3600.0),
        (b"Retry-After: Wed, 21 Oct 2015 07:30:00 GMT\r\nDate: Wed, 21 Oct 2015 07:28:00 GMT", 120.0),
        (b"Retry-After: soon", None),
        (b"Retry-After: \xff", None),
    ],
)
async def test_the_wait_asked_for_is_read(header: bytes, retry_after_s: float | None) -> None:
    answer = b"HTTP/1.1 503 x\r\n" + header + b"\r\nContent-Length: 0\r\n\r\n"
    async with Receiver(answer) as receiver, Sender(allowing(receiver)) as sender:
        assert (await sender.delivered(receiver.url)).retry_after_s == retry_after_s


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_not_followed(status: int) -> None:
    async with Receiver(OK) as inside:
        redirect = f"HTTP/1.1 {status} x\r\nLocation: http://{inside.address}/\r\nContent-Length: 0\r\n\r\n"
        async with (
            Receiver(redirect.encode()) as receiver,
            Sender(allowing(receiver), inside.address) as sender,
        ):
            assert (await sender.delivered(receiver.url)).status == status
            assert receiver.connections == 1
        assert inside.connections == 0


async def test_of_a_huge_answer_the_beginning_is_read() -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
            await writer.drain()
            sent += 1000

    async with Receiver(endless) as receiver, Sender(allowing(receiver)) as sender:
        delivered = await sender.delivered(receiver.url)
        await receiver.all_closed()

    assert delivered.status == 200
    assert delivered.snippet == "x" * SNIPPET_MAX_BYTES
    # Beyond what was read lies only what the two sockets hold.
    assert sent < 20_000_000


@pytest.mark.parametrize("length", [SNIPPET_MAX_BYTES, ANSWER_MAX_BYTES - 100])
async def test_an_answer_within_the_bound_leaves_the_connection_usable(length: int) -> None:
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode() + b"y" * length
    async with Receiver(answer) as receiver, Sender(allowing(receiver)) as sender:
        for _ in range(3):
            assert (await sender.delivered(receiver.url)).snippet == "y" * SNIPPET_MAX_BYTES
        assert receiver.connections == 1


async def test_an_answer_of_more_than_the_bound_costs_the_connection() -> None:
    length = ANSWER_MAX_BYTES
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode() + b"y" * length
    async with Receiver(answer) as receiver, Sender(allowing(receiver)) as sender:
        for _ in range(2):
            assert (await sender.delivered(receiver.url)).status == 200
        assert receiver.connections == 2


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000,
        b"HTTP/1.1 103 x\r\n\r\n" * 2000,
        b"HTTP/1.1 200 " + b"x" * 20_000,
    ],
)
async def test_endless_headers_are_no_answer(head: bytes) -> None:
    async with Receiver(head) as receiver, Sender(allowing(receiver)) as sender:
        failed = await sender.failed(receiver.url)

    assert "headers" in failed.reason
    assert not failed.our_fault
    assert not failed.forbidden


async def test_a_bomb_stays_packed() -> None:
    bomb = gzip.compress(b"a" * 1_000_000)
    answer = (
        f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode() + bomb
    )
    async with Receiver(answer) as receiver, Sender(allowing(receiver)) as sender:
        delivered = await sender.delivered(receiver.url)

    assert delivered.status == 200
    assert "a" * 100 not in delivered.snippet


@pytest.mark.parametrize(
    ("content", "snippet"),
    [
        ("é".encode() * 600, "é" * 512),
        (b"x" + "é".encode() * 600, "x" + "é" * 511),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"", ""),
    ],
)
async def test_the_snippet_is_text_and_no_character_is_cut(content: bytes, snippet: str) -> None:
    answer = f"HTTP/1.1 500 x\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content
    async with Receiver(answer) as receiver, Sender(allowing(receiver)) as sender:
        assert (await sender.delivered(receiver.url)).snippet == snippet


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def trickle_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not writer.is_closing():
        writer.write(b"X: y\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def trickle_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 202 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"z")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("answer", [hang, trickle_headers])
async def test_a_receiver_that_is_slow_to_answer_is_left_in_time(answer: Answer) -> None:
    async with Receiver(answer) as receiver, Sender(allowing(receiver), total_s=0.5) as sender:
        failed = await sender.failed(receiver.url)
        await receiver.all_closed()

    assert failed.reason == "no answer within 0.5 s"
    assert not failed.our_fault
    assert 0.5 <= failed.duration_s < 15


async def test_an_answer_counts_although_its_content_does_not_end() -> None:
    async with Receiver(trickle_body) as receiver, Sender(allowing(receiver), total_s=2.0) as sender:
        delivered = await sender.delivered(receiver.url)
        await receiver.all_closed()

    assert delivered.status == 202
    assert delivered.snippet.strip("z") == ""


async def test_an_answer_counts_although_its_content_is_cut() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 202 OK\r\nContent-Length: 1000000\r\n\r\nz")
        writer.write_eof()
        await reader.read()

    async with Receiver(cut) as receiver, Sender(allowing(receiver)) as sender:
        delivered = await sender.delivered(receiver.url)

    assert delivered.status == 202
    assert delivered.snippet == "z"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 abc\r\n\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "the answer is not HTTP"),
        (None, "the connection was closed without an answer"),
    ],
)
async def test_what_is_no_answer_is_a_failure_that_quotes_nothing(answer: bytes | None, reason: str) -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write_eof()
        await reader.read()

    async with Receiver(answer or close) as receiver, Sender(allowing(receiver)) as sender:
        failed = await sender.failed(receiver.url)

    assert failed.reason == reason
    assert not failed.our_fault
    assert not failed.forbidden


async def test_a_refused_connection_is_the_receivers_failure() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with Sender(f"127.0.0.1:{port}") as sender:
            failed = await sender.failed(f"http://127.0.0.1:{port}/")

    assert failed.reason == "connecting failed: connection refused"
    assert not failed.our_fault
    assert not failed.forbidden


async def test_no_descriptor_left_is_our_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async def exhausted(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", exhausted)
    async with Sender("127.0.0.1:9000") as sender:
        failed = await sender.failed("http://127.0.0.1:9000/")

    assert failed.our_fault
    assert "too many open files" in failed.reason


async def test_a_family_without_a_route_is_not_blamed_where_the_other_one_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[str] = []

    async def fail(protocol: object, host: str, *args: object, **kwargs: object) -> None:
        tried.append(host)
        if ":" in host:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        raise OSError(errno.ECONNREFUSED, "Connection refused")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", fail)
    for addresses in (("::1", "127.0.0.1"), ("127.0.0.1", "::1")):
        async with Sender(HOST, addresses={HOST: [addresses]}) as sender:
            failed = await sender.failed(f"https://{HOST}/")

        assert failed.reason == "connecting failed: connection refused"
        assert not failed.our_fault
        assert tried == list(addresses)
        tried.clear()

    async with Sender(HOST, addresses={HOST: [("::1",)]}) as sender:
        assert (await sender.failed(f"https://{HOST}/")).our_fault


async def test_proxies_and_logins_of_the_environment_are_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    netrc = tmp_path_factory.mktemp("home") / ".netrc"
    netrc.write_text(f"machine {HOST} login user password secret\n")
    async with Receiver(OK) as proxy, Receiver(OK) as receiver:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{proxy.address}")
        monkeypatch.setenv("NETRC", str(netrc))
        async with Sender(allowing(receiver)) as sender:
            await sender.delivered(receiver.url)

        assert proxy.connections == 0
        assert "authorization" not in receiver.requests[0].headers


async def test_cookies_are_not_kept() -> None:
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
    async with Receiver(answer) as receiver, Sender(allowing(receiver)) as sender:
        for _ in range(2):
            await sender.delivered(receiver.url)

        assert "cookie" not in receiver.requests[1].headers


async def test_a_body_written_into_a_connection_being_closed_is_sent_again() -> None:
    class Closing(Listener):
        """Answers one request per connection, then closes as the next one arrives."""

        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(BODY)
            writer.write(OK)
            await reader.readuntil(BODY)

    async with Closing() as receiver, Sender(receiver.address) as sender:
        for _ in range(3):
            assert (await sender.delivered(f"http://{receiver.address}/")).status == 200

        assert receiver.connections == 3


async def test_deliveries_at_once_do_not_share_a_connection() -> None:
    arrived = asyncio.Barrier(4)

    async def together(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await arrived.wait()
        writer.write(OK)

    async with Receiver(together) as receiver, Sender(allowing(receiver)) as sender:
        for _ in range(2):
            await asyncio.gather(*(sender.delivered(receiver.url) for _ in range(4)))

        assert receiver.connections == 4


async def test_nothing_is_kept_open_after_the_client_is_closed() -> None:
    arrived, answer_now = asyncio.Event(), asyncio.Event()

    async def later(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await answer_now.wait()
        writer.write(OK)

    async with Receiver(OK, later) as receiver, Sender(allowing(receiver)) as sender:
        await sender.delivered(receiver.url)
        last = asyncio.create_task(sender.delivered(receiver.url))
        async with asyncio.timeout(DEADLINE_S):
            await arrived.wait()
        await sender.client.aclose()
        answer_now.set()

        assert (await last).status == 200
        await receiver.all_closed()
