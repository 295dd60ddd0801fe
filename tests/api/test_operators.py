"""What operators see of providers and dead jobs, and what they may do about them."""

from typing import Any

from jobs.claims import Heard, PoolPause
from jobs.record import ClaimedJob, JobError, State
from tests.api.harness import ADMIN, Api, problem


async def providers(api: Api) -> Any:
    answer = await api.http.get("/v1/admin/providers", headers=ADMIN)
    assert answer.status_code == 200, answer.text
    [provider] = answer.json()["data"]
    return provider


async def put_back(api: Api, job: ClaimedJob, pause: PoolPause, heard: Heard | None = None) -> None:
    assert await api.claims.put_back(
        job, after_ms=0, counts=False, window="tokens_back", pause=pause, heard=heard
    )


async def dead(api: Api) -> Any:
    answer = await api.http.get("/v1/admin/dead", headers=ADMIN)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def fail_for_good(api: Api) -> None:
    error = JobError("provider_failed", "no answer", 5, 503)
    job = await api.claimed()
    assert await api.claims.settle(
        job, State.FAILED, charge=None, window="kept", error=error, replayable=True
    )


async def test_a_provider_is_shown_with_its_limits_and_what_is_used(api: Api) -> None:
    ann = await api.user("ann")
    await api.submitted(ann)
    await api.claimed()
    provider = await providers(api)
    assert (provider["id"], provider["status"]) == ("sim", "active")
    pool, small = provider["pools"]
    assert (pool["id"], small["id"]) == ("sim/m", "sim/small")
    [limit] = pool["limits"]
    assert limit["tokens_configured"] == limit["tokens_in_force"] == 200_000
    assert limit["tokens_charged"] > 0
    assert limit["requests"] == 1
    assert [one["name"] for one in small["limits"]] == ["sim", "sim/small"]


async def test_a_paused_pool_is_shown_with_its_reason_and_resumed(api: Api) -> None:
    ann = await api.user("ann")
    await api.submitted(ann)
    pause = PoolPause(30_000, "unauthorized", alarm=True)
    await put_back(api, await api.claimed(), pause)
    provider = await providers(api)
    assert provider["status"] == "partly_paused"
    pool = provider["pools"][0]
    assert (pool["paused_because"], pool["alarm_level"]) == ("unauthorized", 1)
    assert pool["paused_until"] > api.clock() // 1000
    assert await api.claim() == []
    resumed = await api.http.post("/v1/admin/providers/sim/resume", headers=ADMIN)
    assert (resumed.status_code, resumed.json()["status"]) == (200, "active")
    assert len(await api.claim()) == 1


async def test_what_was_learned_is_shown_with_why_and_forgotten_on_resume(api: Api) -> None:
    ann = await api.user("ann")
    await api.submitted(ann)
    await put_back(
        api, await api.claimed(), PoolPause(1000, "throttled", alarm=False), Heard(refused="tokens")
    )
    [limit] = (await providers(api))["pools"][0]["limits"]
    assert limit["tokens_in_force"] == 140_000
    assert "refused" in limit["lowered_because"]
    await api.http.post("/v1/admin/providers/sim/resume", headers=ADMIN)
    [limit] = (await providers(api))["pools"][0]["limits"]
    assert (limit["tokens_in_force"], limit["lowered_because"]) == (200_000, None)


async def test_an_unknown_provider_is_not_found(api: Api) -> None:
    answer = await api.http.post("/v1/admin/providers/nope/resume", headers=ADMIN)
    assert "sim" in problem(answer, 404, "not_found")["detail"]


async def test_a_dead_job_is_listed_and_replayed_as_a_new_one(api: Api) -> None:
    ann = await api.user("ann")
    job_id = await api.submitted(ann, custom_id="row-1")
    await fail_for_good(api)
    [listed] = (await dead(api))["data"]
    assert (listed["id"], listed["status"]) == (job_id, "failed")
    replayed = await api.http.post(f"/v1/admin/dead/{job_id}/replay", headers=ADMIN)
    assert replayed.status_code == 202
    new = replayed.json()
    assert new["id"] != job_id
    assert (new["status"], new["custom_id"]) == ("queued", "row-1")
    assert (await dead(api))["data"] == []
    assert (await api.http.get(f"/v1/jobs/{new['id']}", headers=ann)).status_code == 200
    again = await api.http.post(f"/v1/admin/dead/{job_id}/replay", headers=ADMIN)
    assert again.status_code == 404


async def test_only_administrators_see_any_of_it(api: Api) -> None:
    ann = await api.user("ann")
    for method, path in (
        ("GET", "providers"),
        ("POST", "providers/sim/resume"),
        ("GET", "dead"),
        ("POST", "dead/job_01J00000000000000000000000/replay"),
    ):
        answer = await api.http.request(method, f"/v1/admin/{path}", headers=ann)
        assert answer.status_code == 403, path
