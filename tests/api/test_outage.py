"""When Redis is away, read-only, full, loading or emptied: 503, nothing accepted, and back by itself."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest

from api import durability
from api.app import create_app
from api.retraction import Retractions
from jobs.connection import connect
from jobs.record import NewJob, SubmitRefused, Submitted
from jobs.store import JobStore
from tests.api.harness import ADMIN, Api, client, config, own_environment, problem, running_api
from tests.support.valkey import ValkeyProcess, running_valkey
from tests.support.waiting import DEADLINE_S, eventually

if TYPE_CHECKING:
    pass


def unavailable(answer: httpx2.Response) -> None:
    told = problem(answer, 503, "unavailable")
    assert answer.headers["retry-after"] == str(told["retry_after"])
    assert int(answer.headers["retry-after"]) >= 1


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyProcess]:
    """A server that a test may break."""
    with running_valkey(tmp_path, aof=True) as valkey:
        yield valkey


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question about the server's state is asked of the server."""
    monkeypatch.setattr(durability, "LOOK_INTERVAL_S", 0)


@pytest.fixture
async def api(valkey: ValkeyProcess) -> AsyncIterator[Api]:
    """An API process on it, which waits less long than usual."""
    redis = connect(valkey.url, client_name="tests", timeout_s=2, read_timeout_s=1.5)
    async with running_api(redis, require_durable=True) as api:
        yield api
    await redis.aclose()


async def every_call(api: Api, headers: dict[str, str], job_id: str) -> list[httpx2.Response]:
    return await asyncio.gather(
        api.submit(headers),
        api.submit(headers | {"prefer": "wait=5"}),
        api.http.get(f"/v1/jobs/{job_id}", headers=headers),
        api.http.get(f"/v1/jobs/{job_id}?wait=5", headers=headers),
        api.http.get(f"/v1/jobs/{job_id}/events", headers=headers),
        api.http.get("/v1/jobs", headers=headers),
        api.http.post(f"/v1/jobs/{job_id}/cancel", headers=headers),
        api.http.delete(f"/v1/jobs/{job_id}", headers=headers),
        api.http.get("/v1/limits", headers=headers),
        api.http.get("/v1/usage", headers=ADMIN),
        api.http.get("/v1/admin/users", headers=ADMIN),
        api.http.post("/v1/admin/keys", json={"user": "u", "tier": "free"}, headers=ADMIN),
        api.http.get("/readyz"),
    )


async def test_without_redis_everything_but_health_is_503_and_back_soon(
    valkey: ValkeyProcess, api: Api
) -> None:
    ann = await api.user("ann")
    job_id = await api.submitted(ann)
    valkey.kill()
    for answer in await every_call(api, ann, job_id):
        unavailable(answer)
    assert (await api.http.get("/healthz")).status_code == 200
    valkey.start()
    async with asyncio.timeout(DEADLINE_S):
        while True:
            if (await api.http.get("/readyz")).status_code == 200:
                break
            await asyncio.sleep(0.05)
    assert (await api.http.get(f"/v1/jobs/{job_id}", headers=ann)).json()["status"] == "queued"
    await api.submitted(ann)


async def test_who_waits_for_a_job_that_was_accepted_is_told_so(valkey: ValkeyProcess, api: Api) -> None:
    ann = await api.user("ann")
    waiting = asyncio.create_task(api.submit(ann | {"prefer": "wait=2"}))
    await eventually(lambda: api.app.service.waiters.count == 1)
    valkey.kill()
    answer = await waiting
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


async def test_a_full_redis_accepts_nothing_and_still_shows_what_there_is(api: Api) -> None:
    ann = await api.user("ann")
    job_id = await api.submitted(ann)
    await api.redis.config_set("maxmemory", "1")
    unavailable(await api.submit(ann))
    full = await api.http.get("/readyz")
    unavailable(full)
    assert "full" in full.json()["detail"]
    await api.redis.config_set("maxmemory", "0")
    listed = await api.http.get("/v1/jobs", headers=ann)
    assert [job["id"] for job in listed.json()["data"]] == [job_id]
    await api.submitted(ann)


async def test_a_read_only_redis_accepts_nothing(tmp_path: Path, api: Api) -> None:
    ann = await api.user("ann")
    await api.submitted(ann)
    with running_valkey(tmp_path / "primary") as primary:
        await api.redis.replicaof("127.0.0.1", str(primary.port))
        async with asyncio.timeout(DEADLINE_S):
            unavailable(await api.submit(ann))
            unavailable(await api.http.get("/readyz"))


async def test_a_redis_that_was_emptied_is_not_taken_for_the_old_one(api: Api) -> None:
    ann = await api.user("ann")
    job_id = await api.submitted(ann)
    kept = await api.redis.dump(f"key:{ann['authorization'].split('_')[1]}")
    await api.redis.flushall()
    assert kept is not None
    await api.redis.restore(f"key:{ann['authorization'].split('_')[1]}", 0, kept)
    for call in (
        api.submit(ann),
        api.http.get(f"/v1/jobs/{job_id}", headers=ann),
        api.http.get("/v1/limits", headers=ann),
        api.http.get("/readyz"),
    ):
        unavailable(await call)
    assert (await api.http.get("/healthz")).status_code == 200


async def test_scripts_that_were_flushed_are_loaded_again(api: Api) -> None:
    ann = await api.user("ann")
    await api.submitted(ann)
    await api.redis.script_flush()
    await api.submitted(ann)


async def test_a_submission_whose_answer_was_lost_is_one_job(
    valkey: ValkeyProcess, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await api.user("ann")
    await api.submitted(ann)
    attempts = 0
    submit = api.app.service.store.submit

    async def counted(job: NewJob) -> Submitted | SubmitRefused:
        nonlocal attempts
        attempts += 1
        return await submit(job)

    monkeypatch.setattr(api.app.service.store, "submit", counted)
    valkey.freeze()
    submitting = asyncio.create_task(api.submit(ann, custom_id="once"))
    # The first attempt is not answered in time; the second finds what the first has done.
    await eventually(lambda: attempts == 2)
    valkey.thaw()
    answer = await submitting
    assert answer.status_code == 202
    found = await api.http.get("/v1/jobs?custom_id=once", headers=ann)
    assert [job["id"] for job in found.json()["data"]] == [answer.json()["id"]]
    assert answer.headers.get("idempotent-replayed") is None


async def lost(valkey: ValkeyProcess, api: Api, headers: dict[str, str]) -> None:
    """A submission that is answered 503 and reaches Redis all the same: it goes out on a connection that is there."""
    await api.submitted(headers | {"idempotency-key": "another"})
    valkey.freeze()
    try:
        unavailable(await api.submit(headers, custom_id="lost"))
    finally:
        valkey.thaw()


async def reached(api: Api, headers: dict[str, str], status: str) -> None:
    """Returns when there is one such job, in this state."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            answer = await api.http.get("/v1/jobs?custom_id=lost", headers=headers)
            if answer.status_code == 200 and [job["status"] for job in answer.json()["data"]] == [status]:
                return
            await asyncio.sleep(0.05)


async def test_a_submission_that_was_refused_but_ran_is_taken_back(valkey: ValkeyProcess, api: Api) -> None:
    ann = await api.user("ann", "free")
    await lost(valkey, api, ann)
    await reached(api, ann, "cancelled")


async def test_one_with_an_idempotency_key_waits_for_its_caller(valkey: ValkeyProcess, api: Api) -> None:
    ann = await api.user("ann", "free")
    await lost(valkey, api, ann | {"idempotency-key": "k"})
    await reached(api, ann, "queued")
    again = await api.submit(ann | {"idempotency-key": "k"}, custom_id="lost")
    assert (again.status_code, again.headers["idempotent-replayed"]) == (202, "true")


async def test_a_retraction_asks_a_few_times_and_then_forgets(valkey: ValkeyProcess) -> None:
    redis = connect(valkey.url, client_name="tests")
    store = JobStore(redis)
    await store.start()
    retractions = Retractions(store)
    retractions.add("ann", "job_1")
    job = NewJob(id="job_1", user="ann", name="m", body=b"{}", prompt_tokens=1, output_tokens=1)
    await retractions.work()
    await retractions.work()
    await store.submit(job)
    await retractions.work()
    view, _ = await store.read("ann", "job_1")
    assert view is not None
    assert view.state == "cancelled"
    await store.submit(NewJob(id="job_2", user="ann", name="m", body=b"{}", prompt_tokens=1, output_tokens=1))
    for _ in range(3):
        await retractions.work()
    view, _ = await store.read("ann", "job_2")
    assert view is not None
    assert view.state == "queued"
    await redis.aclose()


async def test_a_submission_that_a_drain_cut_off_is_taken_back_before_the_process_ends(
    valkey: ValkeyProcess, api: Api
) -> None:
    await api.user("ann")
    service = api.app.service
    job = NewJob(id="job_1", user="ann", name="m", body=b"{}", prompt_tokens=1, output_tokens=1)
    keyed = replace(job, id="job_2", idempotency_key="k", payload_digest="d")
    valkey.freeze()
    submitting = [asyncio.create_task(service.submit(one)) for one in (job, keyed)]
    await asyncio.sleep(0)
    for task in submitting:
        task.cancel()
    valkey.thaw()
    await asyncio.wait(submitting)
    # Whether or not Redis had them by then: now it has.
    for one in (job, keyed):
        await service.store.submit(one)
    await service.last_retractions()
    states = [(await service.store.read("ann", one.id))[0] for one in (job, keyed)]
    assert [view and view.state for view in states] == ["cancelled", "queued"]


async def test_a_process_starts_without_redis_and_serves_when_it_is_there(valkey: ValkeyProcess) -> None:
    valkey.stop()
    redis = connect(valkey.url, client_name="tests", timeout_s=0.3, read_timeout_s=0.3)
    app = create_app(config(), own_environment(), redis, require_durable=False)
    async with app.router.lifespan_context(app), client(app) as http:
        unavailable(await http.get("/v1/jobs", headers=ADMIN))
        unavailable(await http.get("/readyz"))
        assert (await http.get("/healthz")).status_code == 200
        valkey.start()
        await eventually(lambda: app.service.ready)
        assert (await http.get("/v1/jobs", headers=ADMIN)).status_code == 200
    await redis.aclose()


async def test_a_redis_that_may_lose_jobs_is_not_trusted_with_any(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as forgetful:
        redis = connect(forgetful.url, client_name="tests")
        app = create_app(config(), own_environment(), redis)
        async with app.router.lifespan_context(app), client(app) as http:
            for path in ("/v1/jobs", "/readyz"):
                answer = await http.get(path, headers=ADMIN)
                unavailable(answer)
                assert "append-only" in answer.json()["detail"]
            await redis.config_set("appendonly", "yes")
            await eventually(lambda: app.service.ready)
            assert (await http.get("/readyz")).json() == {"status": "ready"}
        await redis.aclose()
