"""The client of Redis: every way there, above all that no command is sent twice; and the checks of the server."""

import asyncio
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from jobs.connection import ServerFacts, connect, durability_problems, server_facts
from tests.support.valkey import HOST, ValkeyProcess, free_port, running_valkey
from tests.support.waiting import DEADLINE_S, SOON_S

HEALTHY = ServerFacts(
    flavour="valkey",
    version=(9, 1, 2),
    aof_enabled=True,
    aof_fsync="always",
    maxmemory_policy="noeviction",
    maxmemory_bytes=0,
    used_memory_bytes=1_000_000,
    cluster_enabled=False,
    role="master",
    loading=False,
    clock_offset_ms=3,
)


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[Redis]:
    client = connect(url, client_name="tests", **options)
    try:
        yield client
    finally:
        await client.aclose()


class HangsUp:
    """A server that does what a client's handshake asks, and hangs up on the first `times` other commands."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.commands: list[bytes] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while header := await reader.readline():
                words = [await self._word(reader) for _ in range(int(header[1:]))]
                if words[0] != b"CLIENT":
                    self.commands.append(words[0])
                    if len(self.commands) <= self.times:
                        break
                writer.write(b"+OK\r\n")
        writer.close()

    @staticmethod
    async def _word(reader: asyncio.StreamReader) -> bytes:
        length = int((await reader.readline())[1:])
        return (await reader.readexactly(length + 2))[:-2]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, HOST, 0)
        async with server:
            yield f"redis://{HOST}:{server.sockets[0].getsockname()[1]}"


async def until(look: Callable[[], Awaitable[object]], expected: object) -> None:
    async with asyncio.timeout(DEADLINE_S):
        found = await look()
        while found != expected:
            await asyncio.sleep(0.01)
            found = await look()


async def popped(client: Redis, wait_s: float) -> object:
    return await cast(Awaitable[object], client.blpop(["list"], timeout=cast(int, wait_s)))


async def blocked_clients(client: Redis) -> object:
    return cast(dict[str, object], await client.info("clients"))["blocked_clients"]


# The ways


async def test_over_tcp_by_number_name_and_with_bytes(valkey: ValkeyProcess) -> None:
    async with connected(f"redis://{HOST}:{valkey.port}/7") as client:
        await client.set("where", "in 7")
        described = cast(dict[str, object], await client.client_info())

        assert await client.get("where") == b"in 7"
        assert (described["db"], described["name"]) == (7, "tests")
        await client.flushdb()


async def test_over_a_socket_in_the_file_system(tmp_path: Path) -> None:
    path = tmp_path / "r.sock"
    with running_valkey(tmp_path, f'unixsocket "{path}"'):
        async with connected(f"unix://{path}?db=3") as client:
            described = cast(dict[str, object], await client.client_info())

    assert (described["db"], described["name"]) == (3, "tests")


async def test_with_a_users_password(valkey: ValkeyProcess, redis: Redis) -> None:
    await redis.acl_setuser("ann", enabled=True, passwords=["+p@ss/word"], commands=["+@all"], keys=["*"])
    async with connected(f"redis://ann:p%40ss%2Fword@{HOST}:{valkey.port}") as client:
        assert await client.acl_whoami() == "ann"
    await redis.acl_deluser("ann")


def test_over_tls_only_to_the_host_of_the_certificate() -> None:
    def context_of(url: str) -> ssl.SSLContext:
        pool: Any = connect(url, client_name="tests").connection_pool
        connection = pool.make_connection()
        assert isinstance(connection, SSLConnection)
        return connection.ssl_context.get()

    careful = context_of("rediss://h:6380/1")
    careless = context_of("rediss://h:6380/1?ssl_cert_reqs=none")

    assert (careful.verify_mode, careful.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (careless.verify_mode, careless.check_hostname) == (ssl.CERT_NONE, False)


async def test_through_sentinels_to_whichever_server_is_the_primary(tmp_path: Path) -> None:
    with running_valkey(tmp_path / "old") as old, running_valkey(tmp_path / "new") as new:
        sentinel = ValkeyProcess(
            tmp_path / "sentinel", f"sentinel monitor main {HOST} {old.port} 1", sentinel=True
        )
        sentinel.start()
        # The first of the two is not there.
        url = f"redis+sentinel://{HOST}:1,{HOST}:{sentinel.port}/main/2"
        try:
            async with connected(url) as client, connected(sentinel.url) as sentinel_client:
                await client.set("on", "old")

                control: Any = sentinel_client
                await control.sentinel_remove("main")
                await control.sentinel_monitor("main", HOST, new.port, 1)
                old.kill()
                # What was under way when the old primary died fails: it may have run.
                with pytest.raises(RedisConnectionError):
                    await client.set("on", "lost")
                await client.set("on", "new")

            async with connected(f"redis://{HOST}:{new.port}/2") as direct:
                assert await direct.get("on") == b"new"
        finally:
            sentinel.stop()


def test_a_url_that_cannot_be_used_is_refused_before_anything_is_connected() -> None:
    with pytest.raises(ValueError, match="Redis URL"):
        connect("http://127.0.0.1", client_name="tests")


# Never twice


Call = Callable[[Redis], Awaitable[object]]


async def in_a_pipeline(client: Redis) -> object:
    async with client.pipeline(transaction=False) as pipe:
        pipe.lpush("n", "a")
        return await pipe.execute()


async def in_a_transaction(client: Redis) -> object:
    async with client.pipeline(transaction=True) as pipe:
        pipe.lpush("n", "a")
        return await pipe.execute()


@pytest.mark.parametrize(
    ("call", "sent"),
    [
        (lambda client: client.lpush("n", "a"), [b"LPUSH"]),
        (lambda client: client.eval("return 1", 0), [b"EVAL"]),
        (lambda client: client.evalsha("sha", 0), [b"EVALSHA"]),
        (in_a_pipeline, [b"LPUSH"]),
        (in_a_transaction, [b"MULTI"]),
    ],
)
async def test_a_command_whose_answer_was_lost_is_not_sent_again(call: Call, sent: list[bytes]) -> None:
    peer = HangsUp(times=1)
    async with peer.running() as url, connected(url) as client:
        with pytest.raises(RedisConnectionError):
            await call(client)
        assert peer.commands == sent

        # The next one finds a new connection by itself.
        assert await client.set("n", 1)


async def test_a_command_that_is_not_answered_in_time_is_not_sent_again(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as valkey:
        async with connected(valkey.url) as other, connected(valkey.url, read_timeout_s=0.5) as client:
            await client.set("n", 0)
            valkey.freeze()
            started = time.monotonic()
            with pytest.raises(RedisTimeoutError):
                await client.incr("n")
            assert time.monotonic() - started < SOON_S
            valkey.thaw()

            # It was read when the server woke up: to send it again would have counted it twice.
            await until(lambda: other.get("n"), b"1")
            assert await client.incr("n") == 2


async def test_connections_that_broke_while_idle_are_made_again_unnoticed(tmp_path: Path) -> None:
    with running_valkey(tmp_path, aof=True) as valkey:
        async with connected(valkey.url) as client:
            await asyncio.gather(*(client.incr("n") for _ in range(20)))
            await asyncio.to_thread(valkey.kill)
            await asyncio.to_thread(valkey.start)

            assert sorted(await asyncio.gather(*(client.incr("n") for _ in range(20)))) == list(range(21, 41))


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "refused"),
        ConnectionResetError(104, "reset"),
        socket.gaierror(-3, "try again"),
    ],
)
async def test_connecting_is_tried_again(
    valkey: ValkeyProcess, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    failures = [error, error, error]
    open_connection = asyncio.open_connection

    async def unreliable(**arguments: Any) -> object:
        if failures:
            raise failures.pop()
        return await open_connection(**arguments)

    monkeypatch.setattr(asyncio, "open_connection", unreliable)
    async with connected(valkey.url) as client:
        assert await client.ping()
    assert not failures


async def test_where_nobody_listens_connecting_ends_soon() -> None:
    with socket.socket() as reserved:
        reserved.bind((HOST, 0))
        async with connected(f"redis://{HOST}:{reserved.getsockname()[1]}") as client:
            started = time.monotonic()
            with pytest.raises(RedisConnectionError):
                await client.ping()
            assert time.monotonic() - started < SOON_S


async def test_a_server_that_accepts_but_says_nothing_is_given_up_within_the_timeout() -> None:
    with socket.create_server((HOST, 0)) as silent:
        async with connected(f"redis://{HOST}:{silent.getsockname()[1]}", read_timeout_s=0.1) as client:
            started = time.monotonic()
            with pytest.raises(RedisTimeoutError):
                await client.ping()
            assert time.monotonic() - started < SOON_S


async def test_a_server_that_accepts_and_hangs_up_is_given_up_soon() -> None:
    accepted = 0

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        writer.close()

    full = await asyncio.start_server(hang_up, HOST, 0)
    async with full, connected(f"redis://{HOST}:{full.sockets[0].getsockname()[1]}") as client:
        async with asyncio.timeout(SOON_S):
            with pytest.raises(RedisConnectionError):
                await client.ping()
    assert accepted <= 4


async def test_a_peer_that_vanished_without_a_word_is_noticed_by_the_kernel(valkey: ValkeyProcess) -> None:
    async with connected(valkey.url, read_timeout_s=None) as client:
        pool: Any = client.connection_pool
        connection = await pool.get_connection()
        connected_socket = connection._writer.get_extra_info("socket")

        assert connected_socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert connected_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 5
        assert connected_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
        await pool.release(connection)


async def test_a_cancellation_is_not_lost_whenever_it_comes(valkey: ValkeyProcess) -> None:
    stopped = asyncio.Event()

    async def work(client: Redis) -> None:
        while not stopped.is_set():
            await client.ping()

    async with connected(valkey.url) as client:
        await client.ping()
        for turn in range(200):
            task = asyncio.create_task(work(client))
            for _ in range(turn % 23):
                await asyncio.sleep(0)
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=DEADLINE_S)
            stopped.set()
            await asyncio.wait([task])
            assert done, f"it went on after its cancellation in turn {turn % 23}"
            stopped.clear()


async def test_a_server_that_stops_reading_is_given_up_within_the_timeout(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as valkey:
        async with connected(valkey.url, read_timeout_s=0.5) as client:
            await client.ping()
            valkey.freeze()
            started = time.monotonic()
            with pytest.raises(RedisTimeoutError, match="writing"):
                await client.set("a", bytes(50_000_000))
            assert time.monotonic() - started < SOON_S
            valkey.thaw()
            assert await client.ping()


# The pool


async def test_whoever_finds_all_connections_in_use_waits_for_one(
    valkey: ValkeyProcess, redis: Redis
) -> None:
    async with connected(valkey.url, max_connections=2) as client:
        counts = await asyncio.gather(*(client.incr("n") for _ in range(50)))
        clients = cast(list[dict[str, str]], await redis.client_list())

        assert sorted(counts) == list(range(1, 51))
        # The fixture's client has the name too.
        assert len([one for one in clients if one["name"] == "tests"]) == 3


async def test_the_wait_for_a_connection_has_an_end(valkey: ValkeyProcess, redis: Redis) -> None:
    async with connected(valkey.url, timeout_s=0.05, max_connections=1) as client:
        blocked = asyncio.ensure_future(popped(client, wait_s=5))
        await until(lambda: blocked_clients(redis), 1)

        with pytest.raises(RedisConnectionError, match="No connection available"):
            await client.ping()
        await cast(Awaitable[int], redis.rpush("list", "a"))
        assert await blocked == (b"list", b"a")


async def test_a_cancelled_waiter_does_not_take_a_free_connection_with_it(valkey: ValkeyProcess) -> None:
    chance = random.Random(1)
    async with connected(valkey.url, max_connections=2, timeout_s=2) as client:

        async def work() -> None:
            for _ in range(3):
                await client.ping()

        for _ in range(100):
            tasks = [asyncio.create_task(work()) for _ in range(20)]
            for _ in range(chance.randrange(40)):
                await asyncio.sleep(0)
            for task in tasks:
                if chance.random() < 0.7:
                    task.cancel()
                if chance.random() < 0.2:
                    await asyncio.sleep(0)
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)

            assert [one for one in outcomes if one and not isinstance(one, asyncio.CancelledError)] == []


async def test_a_blocking_command_may_wait_for_longer_than_an_answer_takes(
    redis: Redis, valkey: ValkeyProcess
) -> None:
    async with connected(valkey.url, timeout_s=0.5, read_timeout_s=None) as patient:
        assert await popped(patient, wait_s=0.8) is None
    async with connected(valkey.url, read_timeout_s=0.05) as hasty:
        with pytest.raises(RedisTimeoutError):
            await popped(hasty, wait_s=0.2)


# The server


async def test_facts_of_a_real_server(tmp_path: Path) -> None:
    limits = ("maxmemory 50mb", "maxmemory-policy allkeys-lru")
    with running_valkey(tmp_path, *limits, aof=True) as valkey:
        async with connected(valkey.url) as client:
            facts = await server_facts(client)

    assert facts == ServerFacts(
        flavour="valkey",
        version=facts.version,
        aof_enabled=True,
        aof_fsync="always",
        maxmemory_policy="allkeys-lru",
        maxmemory_bytes=50 * 1024 * 1024,
        used_memory_bytes=facts.used_memory_bytes,
        cluster_enabled=False,
        role="master",
        loading=False,
        clock_offset_ms=facts.clock_offset_ms,
    )
    assert facts.version >= (9, 1)
    assert facts.used_memory_bytes is not None
    assert 100_000 < facts.used_memory_bytes < 50_000_000
    assert abs(facts.clock_offset_ms) < 1000


@pytest.mark.parametrize("ahead_s", [3600, -3600])
async def test_a_clock_that_differs_is_measured(redis: Redis, ahead_s: int) -> None:
    facts = await server_facts(redis, clock=lambda: time.time() - ahead_s)

    assert abs(facts.clock_offset_ms - ahead_s * 1000) < 1000


async def test_a_server_that_forbids_config_still_tells_the_rest(redis: Redis, valkey: ValkeyProcess) -> None:
    await redis.acl_setuser("guest", enabled=True, nopass=True, commands=["+@all", "-config"], keys=["*"])
    async with connected(f"redis://guest:any@{HOST}:{valkey.port}") as client:
        facts = await server_facts(client)
    await redis.acl_deluser("guest")

    assert facts.aof_fsync is None
    assert facts.aof_enabled is False
    assert facts.maxmemory_policy == "noeviction"


@pytest.mark.parametrize(
    ("info", "flavour", "version", "aof_enabled"),
    [
        ({"redis_version": "6.2.14", "aof_enabled": 1}, "redis", (6, 2, 14), True),
        # redis-py reads a version of two numbers as a float.
        ({"redis_version": 7.4}, "redis", (7, 4), None),
        ({"redis_version": "7.2.4", "valkey_version": "8.0.1"}, "valkey", (8, 0, 1), None),
    ],
)
async def test_facts_of_servers_that_say_less(
    redis: Redis, info: dict[str, Any], flavour: str, version: tuple[int, ...], aof_enabled: bool | None
) -> None:
    def instead(response: object, **_options: object) -> dict[str, Any]:
        return info

    redis.set_response_callback("INFO", instead)

    facts = await server_facts(redis)

    assert (facts.flavour, facts.version, facts.aof_enabled) == (flavour, version, aof_enabled)
    assert facts.maxmemory_policy is None
    assert facts.maxmemory_bytes is None


async def test_a_cluster_and_a_replica_are_recognised(tmp_path: Path) -> None:
    # By default it is 10,000 above the server's own, which may be no port at all.
    with running_valkey(tmp_path / "a", "cluster-enabled yes", f"cluster-port {free_port()}") as node:
        async with connected(node.url) as client:
            assert (await server_facts(client)).cluster_enabled is True
        with running_valkey(tmp_path / "b", f"replicaof {HOST} 1") as replica:
            async with connected(replica.url) as client:
                assert (await server_facts(client)).role == "slave"


def test_a_healthy_server_has_no_problems() -> None:
    assert durability_problems(HEALTHY) == []


@pytest.mark.parametrize(
    ("changes", "severity", "message"),
    [
        ({"flavour": "redis", "version": (6, 0, 16)}, "error", "Redis 6.0.16 is too old"),
        ({"flavour": "valkey", "version": (7, 1)}, "error", "Valkey 7.1 is too old"),
        ({"cluster_enabled": True}, "error", "single primary"),
        ({"role": "slave"}, "error", "let REDIS_URL name the primary"),
        ({"aof_enabled": False}, "error", "set appendonly yes"),
        ({"aof_enabled": None}, "warning", "does not say whether it keeps an append-only file"),
        ({"aof_fsync": None}, "warning", "appendfsync"),
        ({"aof_fsync": "no"}, "warning", "set everysec or always"),
        ({"aof_fsync": "everysec"}, "info", "last second"),
        ({"maxmemory_policy": "volatile-lru"}, "error", "volatile-lru"),
        ({"maxmemory_policy": None}, "warning", "maxmemory-policy noeviction"),
        ({"maxmemory_bytes": 1_050_000}, "warning", "95% of the server's memory"),
        ({"clock_offset_ms": 2001}, "warning", "2.0 s ahead of"),
        ({"clock_offset_ms": -3_600_000}, "warning", "3600.0 s behind"),
    ],
)
def test_each_problem_is_told_once_with_what_to_change(
    changes: dict[str, Any], severity: str, message: str
) -> None:
    [problem] = durability_problems(replace(HEALTHY, **changes))

    assert problem.severity == severity
    assert message in problem.message


@pytest.mark.parametrize(
    "changes",
    [
        {"flavour": "redis", "version": (6, 2)},
        {"version": (7, 2, 0)},
        {"maxmemory_bytes": 1_200_000},
        {"used_memory_bytes": None, "maxmemory_bytes": 10},
        {"clock_offset_ms": -1999},
        {"role": ""},
    ],
)
def test_what_is_good_enough_is_no_problem(changes: dict[str, Any]) -> None:
    assert durability_problems(replace(HEALTHY, **changes)) == []


def test_the_worst_problem_comes_first() -> None:
    facts = replace(HEALTHY, aof_fsync="everysec", clock_offset_ms=5000, maxmemory_policy="allkeys-lru")

    assert [problem.severity for problem in durability_problems(facts)] == ["error", "warning", "info"]
