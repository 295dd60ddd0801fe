"""A server that takes no writes, or has no memory for more: scripts fail whole, and what must be settled can be."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from jobs.config import Tier
from jobs.connection import connect
from jobs.figures import FiguresStore
from jobs.outage import outage
from jobs.record import ClaimedJob, State
from tests.jobs.builders import ALICE, LEASE_MS, Desk, Hand, config
from tests.jobs.invariants import check, kept
from tests.support.valkey import running_valkey
from tests.support.waiting import DEADLINE_S

LIMITED = "lim"


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Redis]:
    """A client of a server of the test's own, whose files are in `tmp_path`."""
    with running_valkey(tmp_path, "save 3600 1") as valkey:
        client = connect(valkey.url, client_name="tests")
        yield client
        await client.aclose()


async def scene(redis: Redis) -> tuple[Desk, Hand, list[ClaimedJob]]:
    """Jobs that run, jobs that wait, and a user whose oldest request has just left the window of his rate."""
    desk = await Desk.open(redis, config(tiers={"limited": Tier(requests_per_minute=5)}))
    await desk.users.create(LIMITED, "limited", {})
    await desk.submit(LIMITED)
    desk.clock.advance(61_000)
    await desk.submit(LIMITED)
    for _ in range(6):
        await desk.submit()
    hand = await desk.worker()
    return desk, hand, await hand.take(6)


async def test_a_full_server_takes_on_nothing_and_loses_nothing(redis: Redis) -> None:
    desk, hand, _ = await scene(redis)
    before = await desk.snapshot()
    await redis.config_set("maxmemory", "1")
    for refused in (
        desk.ask(),
        desk.ask(LIMITED),
        desk.ask(idempotency_key="k", payload_digest="d"),
        hand.claim(),
    ):
        with pytest.raises(RedisError) as raised:
            await refused
        assert "full" in (outage(raised.value) or "")
        assert await desk.snapshot() == before
    await redis.config_set("maxmemory", "0")
    await desk.submit()
    assert len(await hand.take(10)) == 3
    check(await kept(redis))


async def test_what_runs_is_renewed_settled_stopped_and_recovered_on_a_full_server(redis: Redis) -> None:
    desk, hand, running = await scene(redis)
    await redis.config_set("maxmemory", "1")
    desk.clock.advance(LEASE_MS // 3)
    alive, done, failed, again, stopped, dead = running
    assert await hand.renew(alive, done, failed, again, stopped) == ((), ())
    assert await hand.succeed(done, result=b'{"choices": []}')
    assert await hand.fail(failed)
    assert await hand.put_back(again)
    assert (await desk.store.cancel(stopped.user, stopped.id)).outcome == "requested"
    assert await hand.renew(alive, stopped) == ((), (stopped.id,))
    for _ in range(2):
        desk.clock.advance(LEASE_MS // 3)
        assert await hand.renew(alive, stopped) == ((), (stopped.id,))
    await desk.store.sweep()
    states = [await desk.state(job) for job in running]
    assert states == ["running", "succeeded", "failed", "queued", "running", "queued"]
    assert (await desk.read(dead)).attempts == 1
    assert await hand.claims.claim(hand.sequence, 0)
    check(await kept(redis))


@pytest.mark.parametrize("breaks", ["read-only", "no replicas", "disk full"])
async def test_a_server_that_takes_no_writes_is_changed_by_nothing(
    redis: Redis, tmp_path: Path, breaks: str
) -> None:
    desk, hand, running = await scene(redis)
    limited = await desk.submit(LIMITED)
    past = await desk.submit()
    await desk.store.cancel(ALICE, past.id)
    await redis.delete(f"job:{past.id}")  # as its expiry does
    before = await desk.snapshot()
    in_the_way = tmp_path / "dump.rdb"

    async def saved(*, well: bool) -> None:
        await redis.bgsave()
        wanted = "ok" if well else "err"
        async with asyncio.timeout(DEADLINE_S):
            while True:
                if (await redis.info("persistence"))["rdb_last_bgsave_status"] == wanted:
                    return
                await asyncio.sleep(0.01)

    def what_is_read() -> list[Awaitable[object]]:
        return [
            desk.store.read(LIMITED, limited.id),
            desk.store.read(ALICE, running[0].id),
            desk.store.list(ALICE, limit=9, after=None, status=None, custom_id=None),
            desk.store.list(LIMITED, limit=9, after=None, status=None, custom_id=None),
            desk.store.limits(LIMITED),
        ]

    if breaks == "read-only":
        await redis.replicaof("127.0.0.1", "1")
    elif breaks == "no replicas":
        await redis.config_set("min-replicas-to-write", "1")
    else:
        in_the_way.mkdir()
        await saved(well=False)
    changes: list[Callable[[], Awaitable[object]]] = [
        desk.ask,
        lambda: desk.ask(LIMITED),
        lambda: hand.claims.claim(hand.sequence + 1, 2),
        lambda: hand.renew(*running),
        lambda: hand.succeed(running[0]),
        lambda: hand.put_back(running[1]),
        lambda: desk.store.cancel(ALICE, running[2].id),
        desk.store.sweep,
        desk.store.ping,
    ]
    for change in changes:
        with pytest.raises(RedisError) as raised:
            await change()
        assert outage(raised.value) is not None
    told = [await view for view in what_is_read()]
    assert await desk.snapshot() == before

    if breaks == "read-only":
        await redis.replicaof("NO", "ONE")
    elif breaks == "no replicas":
        await redis.config_set("min-replicas-to-write", "0")
    else:
        in_the_way.rmdir()
        await saved(well=True)
    assert [await view for view in what_is_read()] == told
    for change in changes:
        await change()
    assert await desk.state(running[0]) == State.SUCCEEDED
    check(await kept(redis))


async def test_a_full_server_still_tells_its_figures(redis: Redis) -> None:
    desk, hand, running = await scene(redis)
    store = FiguresStore(redis, lease_ms=LEASE_MS, clock=desk.clock)
    await store.start()
    await redis.config_set("maxmemory", "1")
    await hand.succeed(running[0])
    desk.clock.advance(10_000)
    await store.add({("rejected", "plain", "queue_full"): 1})
    await store.hold("", "advised")
    figures = await store.read()
    assert sum(figures.labelled("finished").values()) == 1
    assert figures.labelled("rejected") == {("plain", "queue_full"): 1}
    assert figures.held == "advised"
