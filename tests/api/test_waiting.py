"""Long polls: woken by the end, and only by it, whatever happens to Redis, to the client, and to this process."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest

from api import subscription
from jobs.connection import connect
from tests.api.harness import Api, problem, running_api
from tests.support.valkey import ValkeyProcess, running_valkey
from tests.support.waiting import DEADLINE_S, eventually

if TYPE_CHECKING:
    pass


MANY = 2000
MOST_CONNECTIONS = 100
"""Of the client's pool, for the reads before the wait."""


def poll(api: Api, job_id: str, headers: dict[str, str], wait_s: int = 60) -> "asyncio.Task[httpx2.Response]":
    return asyncio.create_task(api.http.get(f"/v1/jobs/{job_id}?wait={wait_s}", headers=headers))


async def waiting(api: Api, count: int = 1) -> None:
    """Returns when so many requests wait."""
    await eventually(lambda: api.app.service.waiters.count == count)


async def test_a_long_poll_is_answered_at_the_end(api: Api) -> None:
    ann = await api.user("ann")
    job_id = await api.submitted(ann)
    claimed = await api.claimed()
    polls = [poll(api, job_id, ann) for _ in range(20)]
    await waiting(api, 20)
    await api.redis.config_resetstat()
    await api.succeed(claimed)
    for answer in await asyncio.gather(*polls):
        assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    await waiting(api, 0)


async def test_while_it_waits_redis_is_not_asked(api: Api) -> None:
    ann = await api.user("ann")
    job_id = await api.submitted(ann)
    polling = poll(api, job_id, ann, wait_s=1)
    await waiting(api)
    await api.redis.config_resetstat()
    assert (await polling).json()["status"] == "queued"
    stats = await api.redis.info("commandstats")
    # One look at the end of the wait, and the sweeps of this process.
    assert stats["cmdstat_evalsha"]["calls"] <= 5


async def test_a_finished_job_is_answered_at_once(api: Api) -> None:
    ann = await api.user("ann")
    job_id = await api.submitted(ann)
    await api.run_all()
    async with asyncio.timeout(DEADLINE_S):
        assert (await poll(api, job_id, ann)).json()["status"] == "succeeded"


async def test_an_end_by_cancel_wakes_too(api: Api) -> None:
    ann = await api.user("ann")
    job_id = await api.submitted(ann)
    polling = poll(api, job_id, ann)
    await waiting(api)
    await api.http.post(f"/v1/jobs/{job_id}/cancel", headers=ann)
    assert (await polling).json()["status"] == "cancelled"


async def test_the_end_of_another_job_wakes_nobody(api: Api) -> None:
    ann = await api.user("ann")
    polling = poll(api, await api.submitted(ann), ann)
    await waiting(api)
    other = await api.submitted(ann)
    await api.http.post(f"/v1/jobs/{other}/cancel", headers=ann)
    assert (await poll(api, other, ann)).json()["status"] == "cancelled"
    assert not polling.done()
    polling.cancel()


async def test_a_stopping_process_answers_with_the_job_as_it_is(api: Api) -> None:
    ann = await api.user("ann")
    job_id = await api.submitted(ann)
    polling = poll(api, job_id, ann)
    await waiting(api)
    api.app.service.waiters.drain()
    answer = await polling
    assert (answer.status_code, answer.json()["status"]) == (200, "queued")
    assert (await poll(api, job_id, ann)).json()["status"] == "queued"


async def test_a_key_that_was_revoked_meanwhile_gets_no_answer(api: Api) -> None:
    ann, other = await api.user("ann"), await api.user("ann")
    job_id = await api.submitted(ann)
    claimed = await api.claimed()
    polling = poll(api, job_id, ann)
    await waiting(api)
    key_id = ann["authorization"].split("_")[1]
    assert await api.app.service.users.revoke_key(key_id)
    await api.succeed(claimed)
    problem(await polling, 401, "invalid_key")
    assert (await poll(api, job_id, other)).status_code == 200


@pytest.mark.parametrize("wait", ["ten", "-1", "1.5", ""])
async def test_a_wait_that_is_no_number_is_refused(api: Api, wait: str) -> None:
    ann = await api.user("ann")
    answer = await api.http.get(f"/v1/jobs/{await api.submitted(ann)}?wait={wait}", headers=ann)
    assert problem(answer, 422, "invalid_request")["errors"][0]["pointer"] == "?wait"


async def test_thousands_who_wait_cost_one_subscription_and_miss_nothing_through_a_cut(api: Api) -> None:
    ann = await api.user("ann")
    ids = [await api.submitted(ann) for _ in range(20)]
    connections = int((await api.redis.info("clients"))["connected_clients"])
    polls: list[asyncio.Task[httpx2.Response]] = []
    # In parts: a loop that is busy for seconds with all of them would be too late for the answers of Redis.
    while len(polls) < MANY:
        polls += [poll(api, job_id, ann, wait_s=60) for job_id in ids for _ in range(5)]
        await waiting(api, len(polls))
    assert await api.redis.pubsub_numsub("done") == [(b"done", 1)]
    assert int((await api.redis.info("clients"))["connected_clients"]) <= connections + MOST_CONNECTIONS
    await api.redis.client_kill_filter(_type="pubsub")
    await api.run_all()
    answers = await asyncio.gather(*polls)
    assert {(answer.status_code, answer.json()["status"]) for answer in answers} == {(200, "succeeded")}
    await asyncio.wait_for(api.app.service.subscription.hearing.wait(), DEADLINE_S)
    assert await api.redis.pubsub_numsub("done") == [(b"done", 1)]


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[ValkeyProcess]:
    with running_valkey(tmp_path, aof=True) as valkey:
        yield valkey


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "PING_INTERVAL_S", 0.1)


@pytest.fixture
async def own_api(own_valkey: ValkeyProcess) -> AsyncIterator[Api]:
    """An API process on a Redis that a test may kill."""
    redis = connect(own_valkey.url, client_name="tests", timeout_s=2, read_timeout_s=2)
    async with running_api(redis) as api:
        yield api
    await redis.aclose()


async def test_an_end_while_the_subscription_was_cut_is_not_missed(api: Api) -> None:
    ann = await api.user("ann")
    job_id = await api.submitted(ann)
    claimed = await api.claimed()
    polling = poll(api, job_id, ann)
    await waiting(api)
    await api.redis.client_kill_filter(_type="pubsub")
    await api.succeed(claimed)
    assert (await polling).json()["status"] == "succeeded"


async def test_a_restart_of_redis_is_survived(own_valkey: ValkeyProcess, own_api: Api) -> None:
    ann = await own_api.user("ann")
    job_id = await own_api.submitted(ann)
    claimed = await own_api.claimed()
    polling = poll(own_api, job_id, ann)
    await waiting(own_api)
    own_valkey.kill()
    await eventually(lambda: not own_api.app.service.subscription.hearing.is_set())
    own_valkey.start()
    await eventually(own_api.app.service.subscription.hearing.is_set)
    await own_api.succeed(claimed)
    answer = await polling
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")


@pytest.mark.usefixtures("impatient")
async def test_a_frozen_redis_is_noticed_by_its_silence(own_valkey: ValkeyProcess, own_api: Api) -> None:
    own_valkey.freeze()
    try:
        await eventually(lambda: not own_api.app.service.subscription.hearing.is_set())
    finally:
        own_valkey.thaw()
    await eventually(own_api.app.service.subscription.hearing.is_set)
