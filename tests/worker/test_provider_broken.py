"""Answers that are cut, garbled, endless or too large: their outcome is unknown, and they cost us little."""

import asyncio
import gzip
import json
import zlib

import pytest

from jobs.record import Usage
from tests.support.waiting import DEADLINE_S
from tests.worker.raw_provider import (
    API_KEY,
    Answer,
    RawProvider,
    answered,
    call,
    completion,
    error,
    failed,
    http,
    then_close,
)
from worker.outcome import Completion, Failure, FailureKind
from worker.provider import ProviderClient

LIMIT_BYTES = 100_000
PLAIN = json.dumps(completion()).encode()


def reset_after(data: bytes) -> Answer:
    """Sends `data` and resets the connection."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.transport.abort()

    return answer


class Endless:
    """Answers `head` and then `piece` for ever; counts what it got rid of, and ends with the connection."""

    def __init__(self, head: bytes, piece: bytes, *, wait_s: float = 0.0) -> None:
        self._head, self._piece, self._wait_s = head, piece, wait_s
        self.written_bytes = 0
        self.ended = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(self._head)
            while not reader.at_eof():
                writer.write(self._piece)
                self.written_bytes += len(self._piece)
                await writer.drain()
                await asyncio.sleep(self._wait_s)
        finally:
            self.ended.set()


@pytest.mark.parametrize(
    "answer",
    [
        then_close(b""),
        reset_after(b""),
        then_close(b"HTTP/1.1 200 OK\r\nContent-Le"),
        then_close(http(PLAIN, length=len(PLAIN) + 1)),
        reset_after(http(PLAIN, length=len(PLAIN) + 1)),
        http(PLAIN, length=len(PLAIN) - 1),
        then_close(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"cho'),
        then_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        then_close(b"HTTP/1.0 200 OK\r\n\r\n" + PLAIN[:-1]),
        http(gzip.compress(PLAIN)[:-9], headers={"Content-Encoding": "gzip"}),
        http(b"no gzip at all", headers={"Content-Encoding": "gzip"}),
        http(PLAIN, headers={"Content-Encoding": "br"}),
        http(PLAIN, headers={"Content-Encoding": "gzip, gzip"}),
        then_close(b"no HTTP at all\r\n\r\n"),
        then_close(b"\x00\x01\x02\x03"),
        then_close(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 50_000 + b"\r\n\r\n"),
        then_close(http(error("cut"), status="500 Oh", length=9_999)),
        then_close(http(error("cut"), status="429 Slow", length=9_999)),
        then_close(http(error("cut"), status="400 Bad", length=9_999)),
    ],
)
async def test_an_answer_that_is_not_whole_leaves_the_outcome_unknown(answer: Answer) -> None:
    async with RawProvider(answer) as provider, ProviderClient(provider.base_url, API_KEY) as client:
        outcome = await call(client)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.sent) == (FailureKind.UNKNOWN, True)
    assert outcome.message
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no JSON object"),
        (b"<!doctype html><title>Welcome</title>", "HTML"),
        (b"event: done\ndata: {}\n\n", "no JSON object"),
        (b'{"choices": [', "cut"),
        (b"[]", "no JSON object"),
        (b"null", "no JSON object"),
        (b'"text"', "no JSON object"),
        (b"{}", "no choices"),
        (b'{"choices": null}', "no choices"),
        (b'{"choices": []}', "no choices"),
        (b'{"choices": {}}', "no choices"),
        (b'{"choices": [7]}', "no choices"),
        (b'{"choices": [{}]}', "no choices"),
        (b'{"choices": [{"message": "hi"}]}', "no choices"),
        (b'{"choices": [{"message": {}}, null]}', "no choices"),
        (b'{"error": {"message": "upstream is away"}}', "upstream is away"),
        (b'{"choices": [{"message": {"content": 1e999}}], "x": NaN}', "no JSON object"),
        (b'{"a":' * 5_000, "no JSON object"),
        (b"[" * 90_000, "no JSON object"),
        (b'{"choices": ' + b"9" * 5_000 + b"}", "no JSON object"),
    ],
)
async def test_a_200_that_is_no_chat_completion_is_no_success(body: bytes, said: str) -> None:
    outcome = await failed(http(body))
    assert (outcome.kind, outcome.status, outcome.sent) == (FailureKind.UNKNOWN, 200, True)
    assert said in outcome.message


async def test_usage_told_without_choices_is_kept() -> None:
    outcome = await failed(http(completion(choices=[])))
    assert outcome.usage == Usage(9, 4, 13, 0, "provider")


async def test_an_answer_over_the_bound_is_left_unread() -> None:
    fits = json.dumps(completion(content="x" * (LIMIT_BYTES - len(PLAIN) + len("hi there")))).encode()
    assert len(fits) == LIMIT_BYTES
    assert isinstance(await answered(http(fits), max_response_bytes=LIMIT_BYTES), Completion)
    outcome = await answered(http(fits + b" "), max_response_bytes=LIMIT_BYTES)
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.UNKNOWN
    assert f"larger than {LIMIT_BYTES} bytes" in outcome.message


@pytest.mark.parametrize("status", ["200 OK", "500 Internal Server Error", "400 Bad Request"])
async def test_a_gigabyte_is_cut_off_early(status: str) -> None:
    head = http(status=status, length=10**9)
    endless = Endless(head, b"x" * 65_536)
    outcome = await answered(endless, max_response_bytes=LIMIT_BYTES)
    async with asyncio.timeout(DEADLINE_S):
        await endless.ended.wait()
    # What lies in the sockets' buffers has been written too.
    assert endless.written_bytes < 50_000_000
    assert isinstance(outcome, Failure)
    expected = {"2": FailureKind.UNKNOWN, "5": FailureKind.SERVER_ERROR, "4": FailureKind.REJECTED}
    assert outcome.kind is expected[status[0]]


@pytest.mark.parametrize(
    ("status", "kind"), [("200 OK", FailureKind.UNKNOWN), ("500 Oh", FailureKind.SERVER_ERROR)]
)
async def test_a_compressed_bomb_is_not_unpacked(
    status: str, kind: FailureKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = 0

    class Counting:
        def __init__(self, wbits: int) -> None:
            self._real = real(wbits)

        @property
        def eof(self) -> bool:
            return self._real.eof

        def decompress(self, data: bytes, max_length: int) -> bytes:
            nonlocal unpacked
            out = self._real.decompress(data, max_length)
            unpacked += len(out)
            return out

    real = zlib.decompressobj
    bomb = gzip.compress(b"\0" * 50_000_000)
    monkeypatch.setattr("worker.transport.zlib.decompressobj", Counting)
    answer = http(bomb, status=status, headers={"Content-Encoding": "gzip"})
    outcome = await answered(answer, max_response_bytes=LIMIT_BYTES)
    assert isinstance(outcome, Failure)
    assert outcome.kind is kind
    assert 0 < unpacked <= LIMIT_BYTES + 1


async def test_compressed_bytes_that_unpack_to_nothing_are_bounded_too() -> None:
    nothing = b"\x00\x00\x00\xff\xff" * 40_000
    packed = gzip.compress(b"")[:10] + nothing
    outcome = await answered(
        http(packed, headers={"Content-Encoding": "gzip"}), max_response_bytes=LIMIT_BYTES
    )
    assert isinstance(outcome, Failure)
    assert "larger" in outcome.message


async def test_one_byte_at_a_time_does_not_outlast_the_deadline() -> None:
    drip = Endless(http(length=10**6), b" ", wait_s=0.005)
    started = asyncio.get_running_loop().time()
    outcome = await answered(drip, within_s=0.5)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.sent) == (FailureKind.UNKNOWN, True)
    assert "within 0." in outcome.message
    assert drip.written_bytes > 1
    assert asyncio.get_running_loop().time() - started < DEADLINE_S
    async with asyncio.timeout(DEADLINE_S):
        await drip.ended.wait()


async def test_no_answer_at_all_ends_with_the_deadline() -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    outcome = await failed(silence, within_s=0.5)
    assert (outcome.kind, outcome.sent, outcome.status) == (FailureKind.UNKNOWN, True, None)


async def test_a_kept_connection_that_the_provider_closes_on_the_request_is_unknown_and_not_sent_again() -> (
    None
):
    async with (
        RawProvider(http(completion()), then_close(b""), http(completion())) as provider,
        ProviderClient(provider.base_url, API_KEY) as client,
    ):
        assert isinstance(await call(client), Completion)
        broken = await call(client)
        assert len(provider.requests) == 2
        assert provider.connections == 1
        assert isinstance(await call(client), Completion)
    assert isinstance(broken, Failure)
    assert (broken.kind, broken.sent) == (FailureKind.UNKNOWN, True)


async def test_no_library_below_can_send_a_request_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiohttp.client.IDEMPOTENT_METHODS", frozenset({"POST"}))
    async with (
        RawProvider(http(completion()), then_close(b""), http(completion())) as provider,
        ProviderClient(provider.base_url, API_KEY) as client,
    ):
        assert isinstance(await call(client), Completion)
        broken = await call(client)
    assert isinstance(broken, Failure)
    assert (broken.kind, broken.sent) == (FailureKind.UNKNOWN, True)
    assert len(provider.requests) == 2


@pytest.mark.parametrize(
    "unasked", [http(completion(content="of another user")), http(status="408 Request Timeout")]
)
@pytest.mark.parametrize("closes", [True, False])
async def test_an_answer_that_came_before_the_request_is_not_taken_for_its_own(
    unasked: bytes, closes: bool
) -> None:
    idle, said = asyncio.Event(), asyncio.Event()

    async def answer_twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http(completion()))
        await idle.wait()
        writer.write(unasked)
        if closes:
            writer.close()
        said.set()

    async with (
        RawProvider(answer_twice, http(completion(content="mine"))) as provider,
        ProviderClient(provider.base_url, API_KEY) as client,
    ):
        assert isinstance(await call(client), Completion)
        idle.set()
        await said.wait()
        for _ in range(3):
            await asyncio.sleep(0)
        second = await call(client)
    assert isinstance(second, Completion)
    assert b"mine" in second.body
    assert (len(provider.requests), provider.connections) == (2, 2)


async def test_bytes_after_an_answer_do_not_become_the_next_ones_answer() -> None:
    forged = http(completion(content="of another user"))
    async with (
        RawProvider(http(completion()) + forged, http(completion(content="mine"))) as provider,
        ProviderClient(provider.base_url, API_KEY) as client,
    ):
        assert isinstance(await call(client), Completion)
        second = await call(client)
    assert isinstance(second, Completion)
    assert b"mine" in second.body
