"""Valkey full, read-only, out of disk, loading, or its file torn: jobs are refused with the reason, and settled."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import httpx2
import pytest
from redis.exceptions import RedisError, ResponseError

from tests.chaos.system import USUAL, Start, System
from tests.chaos.test_outage import until_flowing
from tests.chaos.test_recovery import check_once
from tests.chaos.waiting import until
from tests.jobs.invariants import check, kept
from tests.support.valkey import HOST

pytestmark = pytest.mark.asyncio(loop_scope="package")

FILLERS, FILLER_BYTES = 2000, 1100
TORN_BYTES = 10


async def full(system: System) -> None:
    """The memory is."""
    await system.redis.config_set("maxmemory", "1")


async def roomy(system: System) -> None:
    await system.redis.config_set("maxmemory", "0")


async def read_only(system: System) -> None:
    """A replica of a primary that is not there."""
    await system.redis.replicaof(HOST, "1")


async def writable(system: System) -> None:
    await system.redis.replicaof("NO", "ONE")


async def out_of_disk(system: System) -> None:
    """The next write to the append-only file fails, and whatever follows is refused."""
    await system.redis.config_set("appendfsync", "everysec")
    system.valkey.room_on_disk(0)

    async def is_refused() -> bool:
        try:
            await system.redis.set("writable", "1", px=1000)
        except ResponseError:
            return True
        return False

    await until(is_refused)


async def disk_found(system: System) -> None:
    system.valkey.room_on_disk(None)
    await system.redis.config_set("appendfsync", "always")


async def ready(system: System, url: str) -> httpx2.Response:
    return await system.http.get(f"{url}/readyz")


@dataclass(frozen=True, slots=True)
class Trouble:
    """What keeps Valkey from writing, what ends that, and the word that readiness tells of it."""

    begins: Callable[[System], Awaitable[None]]
    ends: Callable[[System], Awaitable[None]]
    word: str
    settles: bool = False
    """Whether jobs end all the same."""


async def nothing_accepted_and_nothing_lost(start: Start, trouble: Trouble) -> None:
    """The course of all these tests."""
    async with start(USUAL) as system:
        ann = await system.caller()
        running, refused = system.marker(), system.marker()
        job_id = await ann.accepted(running, "[[slow:1]]", retry="never")
        await system.until_sent(running)
        await trouble.begins(system)

        answer = await ann.submit(refused)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), answer.text
        assert int(answer.headers["retry-after"]) > 0
        for url in system.urls:

            async def says_why(url: str = url) -> bool:
                answer = await ready(system, url)
                return answer.status_code == 503 and trouble.word in answer.json()["detail"]

            await until(says_why)

        async def is_answered() -> bool:
            return (await system.sent(running))[0].finished_at is not None

        await until(is_answered)
        if trouble.settles:
            assert (await ann.end_of(job_id)).status == "succeeded"
        await trouble.ends(system)
        await until_flowing(system, ann)
        await check_once(system, running, job_id, ann, sends=1)
        assert await ann.job_named(refused) == []
        check(await kept(system.redis))


async def test_a_full_valkey_accepts_nothing_and_lets_what_runs_be_settled(start: Start) -> None:
    await nothing_accepted_and_nothing_lost(start, Trouble(full, roomy, "full", settles=True))


async def test_a_read_only_valkey_accepts_nothing_and_what_runs_is_settled_later(start: Start) -> None:
    await nothing_accepted_and_nothing_lost(start, Trouble(read_only, writable, "primary"))


async def test_a_full_disk_accepts_nothing_and_what_runs_is_settled_later(start: Start) -> None:
    await nothing_accepted_and_nothing_lost(start, Trouble(out_of_disk, disk_found, "disk"))


async def test_a_valkey_that_loads_is_waited_for(start: Start) -> None:
    async with start(USUAL) as system:
        ann = await system.caller()
        running, refused = system.marker(), system.marker()
        async with system.redis.pipeline(transaction=False) as pipe:
            for n in range(FILLERS):
                pipe.set(f"filler:{n}", os.urandom(FILLER_BYTES), ex=60)
            await pipe.execute()
        await cast(Awaitable[object], system.redis.bgrewriteaof())  # type: ignore[no-untyped-call]  # as redis-py leaves it

        async def is_rewritten() -> bool:
            told = await system.redis.info("persistence")
            return not told["aof_rewrite_in_progress"] and not told["aof_rewrite_scheduled"]

        await until(is_rewritten)
        job_id = await ann.accepted(running, "[[slow:1]]", retry="never")
        await system.until_sent(running)
        system.valkey.kill()
        # It answers after each key, far longer than needed, until it is told to hurry.
        slowly = ("key-load-delay 9000", "loading-process-events-interval-bytes 1024")
        loading = asyncio.create_task(asyncio.to_thread(system.valkey.start, *slowly))

        async def is_loading() -> bool:
            with suppress(RedisError):
                return bool((await system.redis.info("persistence"))["loading"])
            return False

        await until(is_loading)
        for answer in (await ann.submit(refused), await ready(system, system.urls[0])):
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), answer.text
        await system.redis.config_set("key-load-delay", "0")
        await loading
        await until_flowing(system, ann)
        await check_once(system, running, job_id, ann, sends=1)
        assert await ann.job_named(refused) == []


async def test_a_torn_end_of_the_file_costs_what_was_in_it_and_no_more(start: Start) -> None:
    async with start(USUAL) as system:
        ann = await system.caller()
        kept_whole = system.marker()
        before = await ann.accepted(kept_whole)
        await check_once(system, kept_whole, before, ann, sends=1)
        torn = system.marker()
        job_id = await ann.accepted(torn, "[[slow:1]]")
        await system.until_sent(torn)
        file = system.valkey.append_only_files[-1]
        running_bytes = file.stat().st_size
        await ann.end_of(job_id)
        system.valkey.kill()
        # As after a power cut: of what came then, the settlement too, there is the beginning of a transaction.
        assert file.stat().st_size > running_bytes + TORN_BYTES
        os.truncate(file, running_bytes + TORN_BYTES)
        await asyncio.to_thread(system.valkey.start)
        await until_flowing(system, ann)
        await check_once(system, kept_whole, before, ann, sends=1)
        await check_once(system, torn, job_id, ann, sends=2)
        check(await kept(system.redis))


async def test_scripts_that_are_flushed_again_and_again_are_loaded_again(start: Start) -> None:
    async with start(USUAL) as system:
        ann = await system.caller()
        ids: dict[str, str] = {}
        for _ in range(10):
            await system.redis.script_flush()
            marker = system.marker()
            ids[marker] = await ann.accepted(marker)
        for marker, job_id in ids.items():
            await check_once(system, marker, job_id, ann, sends=1)
