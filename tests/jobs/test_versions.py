"""Two versions at once: what a newer process has written is carried by an older one, and left to who knows it."""

import json
from collections.abc import Awaitable
from typing import Any, cast

from redis.asyncio import Redis

from jobs.record import CHAT, ClaimedJob, JobView
from tests.jobs.builders import MODEL, POOL, Desk
from tests.jobs.invariants import check, kept

NEWER: dict[str, Any] = {"zz": {"deep": [1, "two"]}}


async def head(desk: Desk, job: JobView | ClaimedJob) -> dict[str, Any]:
    stored = await cast(Awaitable[bytes], desk.redis.hget(f"job:{job.id}", "h"))
    return cast(dict[str, Any], json.loads(stored))


async def written_by_a_newer_one(desk: Desk) -> JobView:
    """A waiting job with fields in its head, its info and its record that this version does not know."""
    job = await desk.submit()
    info = await cast(Awaitable[bytes], desk.redis.hget(f"job:{job.id}", "i"))
    changed = {
        "h": json.dumps(await head(desk, job) | NEWER),
        "i": json.dumps(json.loads(info) | NEWER),
        "y": "a new part",
    }
    await cast(Awaitable[int], desk.redis.hset(f"job:{job.id}", mapping=changed))
    return job


async def test_unknown_parts_of_a_record_are_carried_to_its_end(server: Redis) -> None:
    desk = await Desk.open(server)
    job = await written_by_a_newer_one(desk)
    hand = await desk.worker()
    await hand.put_back(await hand.take_one())
    assert (await head(desk, job))["zz"] == NEWER["zz"]
    await hand.succeed(await hand.take_one())
    view = await desk.read(job)
    assert (view.state, view.attempts, view.result) == ("succeeded", 2, b"{}")
    assert (await head(desk, job))["zz"] == NEWER["zz"]
    assert (await desk.hash(f"job:{job.id}"))["y"] == "a new part"
    check(await kept(server))


async def test_unknown_settings_of_a_published_configuration_are_passed_over(server: Redis) -> None:
    desk = await Desk.open(server)
    for key in (f"config:pool:{POOL}", "config:tier:plain", "config:retention", "user:alice"):
        await cast(Awaitable[int], server.hset(key, "newer", "1"))
    await desk.submit()
    hand = await desk.worker()
    assert await hand.succeed(await hand.take_one())
    check(await kept(server))


async def test_a_worker_is_told_the_endpoint_of_a_job(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit()
    await desk.submit(endpoint="/v1/newer")
    hand = await desk.worker()
    assert [job.endpoint for job in await hand.take(2)] == [CHAT, "/v1/newer"]


async def test_what_a_job_is_for_costs_the_usual_one_nothing(server: Redis) -> None:
    desk = await Desk.open(server)
    assert "en" not in await head(desk, await desk.submit(name=MODEL))
