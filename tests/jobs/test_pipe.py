"""The one connection of all scripts: answers find their callers whatever happens, and nothing is sent twice."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

import pytest
import uvloop
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from jobs.connection import Client, connect
from jobs.pipe import MOST_UNDER_WAY
from tests.support.valkey import HOST, ValkeyProcess, running_valkey
from tests.support.waiting import DEADLINE_S, SOON_S
from tests.worker.receiver import CA, serving

ECHO = "return ARGV[1]"
COUNT = "return redis.call('INCR', 'n')"


@asynccontextmanager
async def connected(url: str, **options: float | None) -> AsyncIterator[Client]:
    client = connect(url, client_name="tests", **options)  # type: ignore[arg-type]  # one kind of option each
    try:
        yield client
    finally:
        await client.aclose()


class Peer:
    """A server that says what `answer` says to each command but those of a handshake; None hangs up."""

    def __init__(self, answer: Callable[[int], bytes | None]) -> None:
        self._answer = answer
        self.commands = 0
        self.connections = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(ConnectionError):
            while header := await reader.readline():
                words = [await self._word(reader) for _ in range(int(header[1:]))]
                answer: bytes | None = b"+OK\r\n"
                if words[0] != b"CLIENT":
                    self.commands += 1
                    answer = self._answer(self.commands)
                if answer is None:
                    break
                writer.write(answer)
        writer.close()

    @staticmethod
    async def _word(reader: asyncio.StreamReader) -> bytes:
        length = int((await reader.readline())[1:])
        return (await reader.readexactly(length + 2))[:-2]

    @asynccontextmanager
    async def running(self, *, tls: bool = False) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, HOST, 0, ssl=serving() if tls else None)
        async with server:
            port = server.sockets[0].getsockname()[1]
            yield f"rediss://{HOST}:{port}?ssl_ca_certs={CA}" if tls else f"redis://{HOST}:{port}"


async def names_of(redis: Redis) -> list[str]:
    clients = cast(list[dict[str, str]], await redis.client_list())
    return [one["name"] for one in clients]


async def test_all_that_run_at_once_share_one_connection(valkey: ValkeyProcess, redis: Redis) -> None:
    sha = await redis.script_load(ECHO)
    async with connected(valkey.url) as client:
        answers = await asyncio.gather(*(client.evalsha(sha, 0, number) for number in range(500)))

        assert answers == [str(number).encode() for number in range(500)]
        # The fixture's client has the name too, and has loaded the script over its pool.
        assert (await names_of(redis)).count("tests") == 2


async def test_a_busy_process_gives_the_server_no_more_than_it_answers_together() -> None:
    full = asyncio.Event()

    def answer(count: int) -> bytes:
        if count == MOST_UNDER_WAY:
            full.set()
        return b"" if count <= MOST_UNDER_WAY else b":1\r\n"

    peer = Peer(answer)
    async with peer.running() as url, connected(url) as client, connected(url) as other:
        calls = asyncio.gather(
            *(client.evalsha("sha", 0) for _ in range(3 * MOST_UNDER_WAY)), return_exceptions=True
        )
        async with asyncio.timeout(DEADLINE_S):
            await full.wait()
        assert await other.evalsha("sha", 0) == 1
        came = peer.commands
        await client.aclose()

        assert came == MOST_UNDER_WAY + 1
        assert {type(one) for one in await calls} == {RedisConnectionError}


async def test_callers_that_give_up_do_not_shift_the_answers_of_the_others(
    valkey: ValkeyProcess, redis: Redis
) -> None:
    sha = await redis.script_load(ECHO)
    chance = random.Random(1)
    async with connected(valkey.url) as client:
        for _ in range(50):
            tasks = [asyncio.ensure_future(client.evalsha(sha, 0, number)) for number in range(40)]
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)
            for task in tasks:
                if chance.random() < 0.5:
                    task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)

            kept = {number: one for number, one in enumerate(answers) if isinstance(one, bytes)}
            assert kept == {number: str(number).encode() for number in kept}
        assert (await names_of(redis)).count("tests") == 2


async def test_who_is_cancelled_while_connecting_leaves_the_connection_to_the_others(
    valkey: ValkeyProcess, redis: Redis
) -> None:
    sha = await redis.script_load(ECHO)
    async with connected(valkey.url) as client:
        first, second = (asyncio.ensure_future(client.evalsha(sha, 0, name)) for name in "ab")
        await asyncio.sleep(0)
        first.cancel()

        assert await second == b"b"


async def test_an_error_is_its_own_callers_alone(valkey: ValkeyProcess, redis: Redis) -> None:
    good = await redis.script_load(ECHO)
    bad = await redis.script_load("return redis.error_reply('EPOCH gone')")
    async with connected(valkey.url) as client:
        answers = await asyncio.gather(
            client.evalsha(good, 0, "a"), client.evalsha(bad, 0), client.evalsha("0" * 40, 0),
            client.evalsha(good, 0, "b"), return_exceptions=True,
        )  # fmt: skip

        assert (answers[0], answers[3]) == (b"a", b"b")
        assert isinstance(answers[1], ResponseError)
        assert str(answers[1]) == "EPOCH gone"
        assert isinstance(answers[2], NoScriptError)


async def test_what_cannot_be_sent_stops_nobody(valkey: ValkeyProcess, redis: Redis) -> None:
    sha = await redis.script_load(ECHO)
    async with connected(valkey.url) as client:
        whole = asyncio.ensure_future(client.evalsha(sha, 0, "a"))
        with pytest.raises(UnicodeEncodeError):
            await client.evalsha(sha, 0, "\ud800")
        assert await whole == b"a"


async def test_a_connection_that_breaks_fails_all_that_wait_and_the_next_gets_a_new_one() -> None:
    peer = Peer(lambda count: None if count == 2 else b":1\r\n")
    async with peer.running() as url, connected(url) as client:
        answers = await asyncio.gather(*(client.evalsha("sha", 0) for _ in range(5)), return_exceptions=True)

        assert answers[0] == 1
        assert [type(one) for one in answers[1:]] == [RedisConnectionError] * 4
        assert await client.evalsha("sha", 0) == 1
        # The second hung up; those behind it were never read, and none was sent again.
        assert (peer.commands, peer.connections) == (3, 2)


async def test_a_late_answer_is_nobody_elses_and_nothing_runs_twice(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as valkey:
        async with connected(valkey.url) as other, connected(valkey.url, read_timeout_s=0.5) as client:
            sha = await other.script_load(COUNT)
            assert await client.evalsha(sha, 0) == 1
            valkey.freeze()
            started = time.monotonic()
            late = await asyncio.gather(*(client.evalsha(sha, 0) for _ in range(3)), return_exceptions=True)
            assert time.monotonic() - started < SOON_S
            assert [type(one) for one in late] == [RedisTimeoutError] * 3
            valkey.thaw()

            assert 2 <= await client.evalsha(sha, 0) <= 5
            assert int(await other.get("n") or 0) <= 5


async def test_calls_that_wait_longer_than_others_outlive_their_timeout() -> None:
    """A connection with a call that came too late is left, but who still waits on it gets his answer."""
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while header := await reader.readline():
                words = [await Peer._word(reader) for _ in range(int(header[1:]))]
                if words[0] != b"CLIENT":
                    await release.wait()
                writer.write(b"$1\r\n" + words[-1] + b"\r\n" if words[0] == b"EVALSHA" else b"+OK\r\n")
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        url = f"redis://{HOST}:{server.sockets[0].getsockname()[1]}"
        async with connected(url, read_timeout_s=0.9) as client:
            first = asyncio.ensure_future(client.evalsha("sha", 0, "a"))
            await asyncio.sleep(0.6)
            second = asyncio.ensure_future(client.evalsha("sha", 0, "b"))
            with pytest.raises(RedisTimeoutError):
                await first
            release.set()
            assert await second == b"b"
            assert await client.evalsha("sha", 0, "c") == b"c"


async def test_a_server_that_stops_reading_is_given_up_and_what_waits_is_not_piled_up(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as valkey:
        async with connected(valkey.url, read_timeout_s=0.5) as client:
            sha = await client.script_load(ECHO)
            assert await client.evalsha(sha, 0, "a") == b"a"
            valkey.freeze()
            large = asyncio.ensure_future(client.evalsha(sha, 0, bytes(50_000_000)))
            for _ in range(5):
                await asyncio.sleep(0)
            started = time.monotonic()
            outcomes = await asyncio.gather(large, client.evalsha(sha, 0, "b"), return_exceptions=True)
            assert [type(one) for one in outcomes] == [RedisTimeoutError] * 2
            assert time.monotonic() - started < SOON_S
            valkey.thaw()
            assert await client.evalsha(sha, 0, "c") == b"c"


async def test_what_is_no_answer_breaks_the_connection() -> None:
    peer = Peer(lambda count: b"HTTP/1.1 400 Bad Request\r\n\r\n" if count == 1 else b":1\r\n")
    async with peer.running() as url, connected(url) as client:
        with pytest.raises(RedisConnectionError, match="no answer"):
            await client.evalsha("sha", 0)
        assert await client.evalsha("sha", 0) == 1


async def test_an_answer_that_nobody_asked_for_breaks_the_connection() -> None:
    peer = Peer(lambda count: b":1\r\n:2\r\n" if count == 1 else b":3\r\n")
    async with peer.running() as url, connected(url) as client:
        assert await client.evalsha("sha", 0) == 1
        # Not 2: which would have shifted all that follow.
        with suppress(RedisConnectionError):
            assert await client.evalsha("sha", 0) == 3
        assert await client.evalsha("sha", 0) == 3


async def test_after_a_failover_the_primary_is_looked_for_again() -> None:
    peer = Peer(lambda count: b"-READONLY You can't write\r\n" if count == 1 else b":1\r\n")
    async with peer.running() as url, connected(url) as client:
        with pytest.raises(ReadOnlyError):
            await client.evalsha("sha", 0)
        assert await client.evalsha("sha", 0) == 1
        assert peer.connections == 2


async def test_closing_fails_what_still_waits() -> None:
    asked = asyncio.Event()

    def silence(_: int) -> bytes:
        asked.set()
        return b""

    async with Peer(silence).running() as url, connected(url) as client:
        waiting = asyncio.ensure_future(client.evalsha("sha", 0))
        await asked.wait()
        await client.aclose()
        with pytest.raises(RedisConnectionError, match="closed"):
            await waiting


@pytest.mark.parametrize("tls", [False, True])
def test_on_the_loop_that_processes_run_on(tls: bool) -> None:
    async def scenario() -> None:
        peer = Peer(lambda count: b":%d\r\n" % count if count != 100 else None)
        async with peer.running(tls=tls) as url, connected(url) as client:
            assert await asyncio.gather(*(client.evalsha("s", 0, "x" * 1000) for _ in range(99))) == list(
                range(1, 100)
            )
            with pytest.raises(RedisConnectionError):
                await client.evalsha("s", 0)
            assert await client.evalsha("s", 0) == 101

    uvloop.run(scenario())
