"""When a call may be written, when it ends, and what is known of one that was stopped or did not get out."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import aiohttp
import pytest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from tests.worker.raw_provider import API_KEY, Listener, RawProvider, call, completion, http
from worker.outcome import Completion, Failure, FailureKind
from worker.provider import ProviderClient

Hook = Callable[[Connection], None]


@pytest.fixture
def once_connected(monkeypatch: pytest.MonkeyPatch) -> Callable[[Hook], None]:
    """What is handed to it is done once, between having a connection and writing into it."""
    hooks: list[Hook] = []
    connect = aiohttp.TCPConnector.connect

    async def connect_and_run(
        self: aiohttp.TCPConnector,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  the signature of what it stands in for
    ) -> Connection:
        connection = await connect(self, req, traces, timeout)
        while hooks:
            hooks.pop()(connection)
        return connection

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", connect_and_run)
    return hooks.append


@pytest.fixture
def late_by_s(
    once_connected: Callable[[Hook], None], monkeypatch: pytest.MonkeyPatch
) -> Callable[[float], None]:
    """The loop's clock jumps ahead, once, between having a connection and writing into it."""

    def jump(seconds: float) -> None:
        loop = asyncio.get_running_loop()
        time = loop.time
        monkeypatch.setattr(loop, "time", lambda: time() + seconds)

    return lambda seconds: once_connected(lambda _: jump(seconds))


class Mute(Listener):
    """Answers whatever comes first with `answer`, or never says a word without one."""

    def __init__(self, answer: bytes = b"") -> None:
        super().__init__()
        self._answer = answer
        self.heard = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        self.heard.set()
        writer.write(self._answer)
        if not self._answer:
            await reader.read()


@contextmanager
def unused_address() -> Iterator[str]:
    """Where nobody listens, and nobody else can in the meantime."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


async def test_a_call_whose_time_to_write_is_over_does_not_even_connect() -> None:
    sent: list[bool] = []
    async with (
        RawProvider(http(completion(), headers={"Connection": "close"})) as provider,
        ProviderClient(provider.base_url, API_KEY) as client,
    ):
        assert isinstance(await call(client), Completion)
        outcome = await call(client, write_within_s=0.0, on_sent=lambda: sent.append(True))
        past_the_deadline = await call(client, within_s=-1.0)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.sent) == (FailureKind.TOO_LATE, False)
    assert past_the_deadline == outcome
    assert (provider.connections, sent) == (1, [])


@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
async def test_not_a_byte_is_written_after_the_time_to_write(
    kept: bool, late_by_s: Callable[[float], None]
) -> None:
    sent: list[bool] = []
    async with (
        RawProvider(http(completion())) as provider,
        ProviderClient(provider.base_url, API_KEY) as client,
    ):
        if kept:
            assert isinstance(await call(client), Completion)
        late_by_s(1.5)
        outcome = await call(client, within_s=30.0, write_within_s=1.0, on_sent=lambda: sent.append(True))
        await provider.all_closed()
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.sent) == (FailureKind.TOO_LATE, False)
    assert provider.connections == 1
    assert (provider.received, len(provider.requests), sent) == (kept, kept, [])


async def test_a_write_just_in_time_may_take_its_time_to_be_answered(
    late_by_s: Callable[[float], None],
) -> None:
    asked = asyncio.Event()

    async def later(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked.wait()
        writer.write(http(completion()))

    async with RawProvider(later) as provider, ProviderClient(provider.base_url, API_KEY) as client:
        late_by_s(8.0)
        loop = asyncio.get_running_loop()
        now = loop.time()
        loop.call_at(now + 9.1, asked.set)
        outcome = await call(client, within_s=30.0, write_within_s=9.0)
        assert loop.time() > now + 9.0
    assert isinstance(outcome, Completion)


async def test_a_kept_connection_lost_before_the_write_is_replaced(
    once_connected: Callable[[Hook], None],
) -> None:
    def lose(connection: Connection) -> None:
        assert connection.transport is not None
        connection.transport.close()

    sent: list[bool] = []
    async with (
        RawProvider(http(completion())) as provider,
        ProviderClient(provider.base_url, API_KEY) as client,
    ):
        assert isinstance(await call(client), Completion)
        once_connected(lose)
        assert isinstance(await call(client, on_sent=lambda: sent.append(True)), Completion)
    assert (provider.connections, len(provider.requests), sent) == (2, 2, [True])


async def test_on_sent_is_told_once_before_the_provider_sees_the_request() -> None:
    order: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        order.append("received")
        writer.write(http(completion()))

    async with RawProvider(answer) as provider, ProviderClient(provider.base_url, API_KEY) as client:
        assert isinstance(await call(client, on_sent=lambda: order.append("sent")), Completion)
    assert order == ["sent", "received"]


async def test_a_refused_connection_is_not_sent() -> None:
    sent: list[bool] = []
    with unused_address() as address:
        async with ProviderClient(f"http://{address}/v1", API_KEY) as client:
            outcome = await call(client, on_sent=lambda: sent.append(True))
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.sent, sent) == (FailureKind.NOT_SENT_CONNECT, False, [])
    assert "could not be reached" in outcome.message


async def test_a_name_that_does_not_resolve_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(*args: object, **kwargs: object) -> list[object]:
        raise OSError(None, "no such name")

    monkeypatch.setattr(aiohttp.resolver.DefaultResolver, "resolve", resolve)
    async with ProviderClient("http://provider.invalid/v1", API_KEY) as client:
        outcome = await call(client)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.sent) == (FailureKind.NOT_SENT_CONNECT, False)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x28"])
async def test_a_failed_tls_handshake_is_not_sent(answer: bytes) -> None:
    async with Mute(answer) as server, ProviderClient(f"https://{server.address}/v1", API_KEY) as client:
        outcome = await call(client)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.sent) == (FailureKind.NOT_SENT_CONNECT, False)


async def test_an_address_that_is_none_is_not_sent() -> None:
    async with ProviderClient("ftp://127.0.0.1/v1", API_KEY) as client:
        outcome = await call(client)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.sent) == (FailureKind.NOT_SENT_CONNECT, False)


async def test_connecting_that_takes_its_whole_time_is_the_providers_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.provider.FAIR_CONNECT_S", 0.05)
    async with Mute() as server, ProviderClient(f"https://{server.address}/v1", API_KEY) as client:
        outcome = await call(client, write_within_s=1.0)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.sent) == (FailureKind.NOT_SENT_CONNECT, False)
    assert "no connection within" in outcome.message


async def test_connecting_that_was_given_hardly_any_time_is_too_late() -> None:
    async with Mute() as server, ProviderClient(f"https://{server.address}/v1", API_KEY) as client:
        outcome = await call(client, write_within_s=0.1)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.sent) == (FailureKind.TOO_LATE, False)


async def test_waiting_for_one_of_our_own_connections_is_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.provider.FAIR_CONNECT_S", 0.05)

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with (
        RawProvider(silence) as provider,
        ProviderClient(provider.base_url, API_KEY, max_connections=1) as client,
    ):
        first = asyncio.create_task(call(client))
        await provider.has_request()
        outcome = await call(client, write_within_s=0.1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.sent) == (FailureKind.TOO_LATE, False)
    assert (provider.connections, len(provider.requests)) == (1, 1)


async def test_a_body_that_is_no_json_is_rejected_unsent() -> None:
    async with (
        RawProvider(http(completion())) as provider,
        ProviderClient(provider.base_url, API_KEY) as client,
    ):
        for body in ({"a": {1, 2}}, {"a": float("nan")}, {"a": "\ud800"}):
            outcome = await call(client, body=body)
            assert isinstance(outcome, Failure)
            assert (outcome.kind, outcome.sent) == (FailureKind.REJECTED, False)
    assert provider.connections == 0


async def test_a_call_cancelled_before_it_was_written_never_is() -> None:
    sent: list[bool] = []
    async with Mute() as server, ProviderClient(f"https://{server.address}/v1", API_KEY) as client:
        running = asyncio.create_task(call(client, on_sent=lambda: sent.append(True)))
        await server.heard.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert sent == []


async def test_a_call_cancelled_after_it_was_written_is_known_as_sent_and_hangs_up() -> None:
    sent: list[bool] = []

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with RawProvider(silence) as provider, ProviderClient(provider.base_url, API_KEY) as client:
        running = asyncio.create_task(call(client, on_sent=lambda: sent.append(True)))
        await provider.has_request()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await provider.all_closed()
    assert sent == [True]


async def test_a_large_request_is_written_whole() -> None:
    body = b'{"a":"' + b"x" * 3_000_000 + b'"}'
    async with (
        RawProvider(http(completion())) as provider,
        ProviderClient(provider.base_url, API_KEY) as client,
    ):
        assert isinstance(await call(client, body=body), Completion)
    assert provider.requests[0].body == body


async def test_many_calls_at_once_do_not_mix() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http(completion(content=provider.requests[-1].body.decode())))

    async with RawProvider(echo) as provider, ProviderClient(provider.base_url, API_KEY) as client:
        outcomes = await asyncio.gather(*(call(client, body=b"<%d>" % n) for n in range(50)))
    for n, outcome in enumerate(outcomes):
        assert isinstance(outcome, Completion)
        assert b'"content": "<%d>"' % n in outcome.body
