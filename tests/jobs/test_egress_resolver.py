"""Looking names up with the operating system's resolver."""

import asyncio
import errno
import socket
import threading
from ipaddress import ip_address

import pytest

from jobs.egress import NameServerError, NameUnknownError, SystemResolver
from tests.support.waiting import DEADLINE_S


async def test_the_hosts_file_is_asked() -> None:
    addresses = await SystemResolver().resolve("localhost")

    assert addresses
    assert all(address.is_loopback for address in addresses)


def answers_with(monkeypatch: pytest.MonkeyPatch, answer: Exception | list[str]) -> None:
    def getaddrinfo(name: str, port: None, type: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        if isinstance(answer, Exception):
            raise answer
        return [(0, type, 0, "", (text, 0)) for text in answer]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


async def test_every_address_is_given_once_in_order_and_without_its_zone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers_with(monkeypatch, ["fe80::1%eth0", "8.8.8.8", "10.0.0.1", "8.8.8.8"])

    addresses = await SystemResolver().resolve("hooks.example.com")

    assert addresses == (ip_address("fe80::1"), ip_address("8.8.8.8"), ip_address("10.0.0.1"))


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), NameUnknownError),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), NameServerError),
        (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure"), NameServerError),
        (OSError(errno.EMFILE, "Too many open files"), NameServerError),
    ],
)
async def test_an_unknown_name_is_told_from_a_name_server_that_fails(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, error: type[Exception]
) -> None:
    answers_with(monkeypatch, failure)

    with pytest.raises(error):
        await SystemResolver().resolve("hooks.example.com")


async def test_abandoned_look_ups_keep_their_place_until_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    started, may_end = threading.Semaphore(0), threading.Event()
    names: list[str] = []

    def getaddrinfo(name: str, port: None, type: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        names.append(name)
        started.release()
        may_end.wait(DEADLINE_S)
        return [(0, type, 0, "", ("8.8.8.8", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolver = SystemResolver(at_once=1)
    abandoned = asyncio.create_task(resolver.resolve("slow.example.com"))
    assert await asyncio.to_thread(started.acquire, timeout=DEADLINE_S)
    abandoned.cancel()
    with pytest.raises(asyncio.CancelledError):
        await abandoned

    waiting = asyncio.create_task(resolver.resolve("next.example.com"))
    await asyncio.sleep(0)
    assert names == ["slow.example.com"]
    may_end.set()

    async with asyncio.timeout(DEADLINE_S):
        assert await waiting == (ip_address("8.8.8.8"),)


async def test_no_thread_left_is_a_failure_on_our_side(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolver = SystemResolver(at_once=1)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(NameServerError):
            await resolver.resolve("localhost")

    async with asyncio.timeout(DEADLINE_S):
        assert await resolver.resolve("localhost")
