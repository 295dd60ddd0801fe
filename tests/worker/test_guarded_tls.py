"""TLS of a delivery: made for the name, over a connection to the checked address."""

import asyncio
import ssl

import pytest

from tests.worker.raw_provider import Listener
from tests.worker.receiver import HOST, OK, Receiver, Sender, trusting


async def test_the_name_is_what_tls_and_host_carry() -> None:
    async with (
        Receiver(OK, tls=True) as receiver,
        Sender(f"127.0.0.1:{receiver.port}", ssl_context=trusting()) as sender,
    ):
        for _ in range(2):
            assert (await sender.delivered(receiver.url)).status == 200

        assert receiver.server_names == [HOST]
        assert receiver.requests[0].headers["host"] == f"{HOST}:{receiver.port}"
        assert receiver.connections == 1


async def test_an_address_is_verified_as_one() -> None:
    async with (
        Receiver(OK, tls=True) as receiver,
        Sender(receiver.address, ssl_context=trusting()) as sender,
    ):
        assert (await sender.delivered(f"https://{receiver.address}/")).status == 200
        assert receiver.server_names == [None]


async def test_a_certificate_for_another_name_is_refused() -> None:
    other = "other.example.com"
    async with (
        Receiver(OK, tls=True) as receiver,
        Sender(
            f"127.0.0.1:{receiver.port}", addresses={other: [("127.0.0.1",)]}, ssl_context=trusting()
        ) as sender,
    ):
        failed = await sender.failed(f"https://{other}:{receiver.port}/")

        assert failed.reason.startswith("the certificate is not good: ")
        assert other in failed.reason
        assert not failed.our_fault
        assert receiver.requests == []


async def test_a_certificate_of_an_authority_unknown_to_us_is_refused() -> None:
    async with (
        Receiver(OK, tls=True) as receiver,
        Sender(f"127.0.0.1:{receiver.port}", ssl_context=ssl.create_default_context()) as sender,
    ):
        failed = await sender.failed(receiver.url)

        assert failed.reason.startswith("the certificate is not good: ")
        assert receiver.requests == []


async def test_a_receiver_without_tls_fails_as_such() -> None:
    class Plain(Listener):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()

    async with Plain() as receiver, Sender(receiver.address, ssl_context=trusting()) as sender:
        failed = await sender.failed(f"https://{receiver.address}/")

    assert failed.reason.startswith("TLS failed: ")


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x03"])
async def test_a_handshake_that_never_ends_is_left_in_time_and_its_socket_closed(first: bytes) -> None:
    class Tarpit(Listener):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(first)
            await reader.read()

    async with Tarpit() as receiver, Sender(receiver.address, ssl_context=trusting(), total_s=0.2) as sender:
        failed = await sender.failed(f"https://{receiver.address}/")
        # Ends only when the other side has closed.
        await receiver.all_closed()

    assert failed.reason == "no answer within 0.2 s"


async def test_over_tls_too_only_the_beginning_of_a_huge_answer_is_read() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 10_000)
            await writer.drain()

    async with (
        Receiver(endless, tls=True) as receiver,
        Sender(f"127.0.0.1:{receiver.port}", ssl_context=trusting()) as sender,
    ):
        delivered = await sender.delivered(receiver.url)
        await receiver.all_closed()

    assert delivered.status == 200
    assert delivered.snippet == "x" * 1024
