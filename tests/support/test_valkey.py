"""The fixtures themselves: were a server not empty, not real or not back, other tests would prove nothing."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import cast

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from jobs.connection import connect
from tests.support.valkey import ValkeyProcess, running_valkey


@pytest.mark.parametrize("time", ["first", "second"])
async def test_every_test_finds_its_server_empty(server: Redis, redis: Redis, fake: Redis, time: str) -> None:
    for client in (redis, fake):
        assert await client.dbsize() == 0
    assert await server.dbsize() == 0
    await server.set("left behind", time)
    await redis.set("left behind", time)


async def test_both_backends_take_their_turns(backend: ValkeyProcess | None, server: Redis) -> None:
    assert await cast(Awaitable[bytes], server.eval("return redis.call('SET', 'a', 'b')", 0)) == b"OK"
    assert type(server).__module__.startswith("fakeredis") is (backend is None)


async def test_a_restarted_server_is_where_it_was_with_what_it_kept(tmp_path: Path) -> None:
    with running_valkey(tmp_path, aof=True) as valkey:
        client = connect(valkey.url, client_name="tests")
        await client.set("a", "b")
        url, pid = valkey.url, valkey.process.pid
        valkey.kill()
        valkey.start()

        assert (valkey.url, valkey.process.pid != pid) == (url, True)
        await client.connection_pool.disconnect()
        assert await client.get("a") == b"b"
        await client.aclose()


async def test_a_frozen_server_answers_nothing_until_it_is_thawed(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as valkey:
        client = connect(valkey.url, client_name="tests", read_timeout_s=0.1)
        await client.ping()
        valkey.freeze()
        with pytest.raises(RedisTimeoutError):
            await client.ping()
        valkey.thaw()
        assert await client.ping()
        await client.aclose()


def test_a_killed_run_leaves_no_server_behind(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from tests.support.valkey import ValkeyProcess\n"
        "valkey = ValkeyProcess(Path(sys.argv[1])); valkey.start(); print(valkey.url, flush=True); time.sleep(60)"
    )
    run = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    url = run.stdout.readline().strip()
    run.kill()
    run.communicate()

    deadline = time.monotonic() + 10
    with contextlib.closing(BlockingRedis.from_url(url)) as client:
        while time.monotonic() < deadline:
            try:
                client.ping()
            except RedisConnectionError:
                return
            time.sleep(0.01)
    pytest.fail("the server outlived the run that started it")
