"""A job after its submission: read, listed, cancelled, erased."""

import asyncio

import pytest

from jobs.record import JobError, State
from tests.api.harness import NOON_MS, Api, problem

UNKNOWN = "job_01M83K5MCCW2YQ3MVT6HYZ8AP8"


async def test_a_job_is_read_until_its_end(api: Api) -> None:
    ann = await api.user("ann")
    job_id = await api.submitted(ann)
    queued = await api.http.get(f"/v1/jobs/{job_id}", headers=ann)
    assert queued.json()["status"] == "queued"
    assert int(queued.headers["retry-after"]) >= 1
    assert queued.headers["cache-control"] == "private, no-cache"

    [claimed] = await api.claim()
    running = (await api.http.get(f"/v1/jobs/{job_id}", headers=ann)).json()
    assert (running["status"], running["attempts"], running["position"]) == ("running", 1, None)
    assert running["started_at"] == NOON_MS // 1000

    await api.succeed(claimed, b'{"id": "chatcmpl-1",\n "choices": []}')
    ended = await api.http.get(f"/v1/jobs/{job_id}", headers=ann)
    job = ended.json()
    assert job["status"] == "succeeded"
    assert b'"result":{"id": "chatcmpl-1",\n "choices": []},' in ended.content
    assert job["usage"]["total_tokens"] == 12
    assert job["cost_usd"] == pytest.approx(1.5e-6)
    assert "retry-after" not in ended.headers


async def test_a_failed_job_says_why(api: Api) -> None:
    ann = await api.user("ann")
    job_id = await api.submitted(ann)
    claimed = await api.claimed()
    error = JobError("provider_rejected", "content policy", attempt=1, provider_status=400)
    assert await api.claims.settle(claimed, State.FAILED, charge=None, window="kept", error=error)
    job = (await api.http.get(f"/v1/jobs/{job_id}", headers=ann)).json()
    assert (job["status"], job["result"]) == ("failed", None)
    assert job["error"] == {
        "code": "provider_rejected",
        "message": "content policy",
        "attempt": 1,
        "provider_status": 400,
    }


async def test_what_has_not_changed_is_not_sent_again(api: Api) -> None:
    ann = await api.user("ann")
    job_id = await api.submitted(ann)
    url = f"/v1/jobs/{job_id}"
    tag = (await api.http.get(url, headers=ann)).headers["etag"]
    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        same = await api.http.get(url, headers=ann | {"if-none-match": given})
        assert (same.status_code, same.content) == (304, b"")
        assert same.headers["etag"] == tag
        assert same.headers["cache-control"] == "private, no-cache"
    [claimed] = await api.claim()
    changed = await api.http.get(url, headers=ann | {"if-none-match": tag})
    assert changed.status_code == 200
    await api.succeed(claimed)
    ended = await api.http.get(url, headers=ann | {"if-none-match": changed.headers["etag"]})
    assert ended.status_code == 200
    api.clock.advance(600)
    again = await api.http.get(url, headers=ann | {"if-none-match": ended.headers["etag"]})
    assert again.status_code == 304


async def test_head_is_get_without_a_body(api: Api) -> None:
    ann = await api.user("ann")
    answer = await api.http.head(f"/v1/jobs/{await api.submitted(ann)}", headers=ann)
    assert answer.status_code == 200
    assert answer.headers["etag"]


async def test_a_list_is_newest_first_and_goes_on_where_it_ended(api: Api) -> None:
    ann = await api.user("ann")
    ids = []
    for _ in range(5):
        ids.append(await api.submitted(ann))
        api.clock.advance(0.001)
    ids.reverse()
    seen: list[str] = []
    after, more = "", True
    while more:
        page = (await api.http.get(f"/v1/jobs?limit=2{after}", headers=ann)).json()
        assert page["object"] == "list"
        assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
        seen += [job["id"] for job in page["data"]]
        after, more = f"&after={page['last_id']}", page["has_more"]
    assert seen == ids
    assert (await api.http.get("/v1/jobs?limit=5", headers=ann)).json()["has_more"] is False


async def test_a_list_is_filtered(api: Api) -> None:
    ann = await api.user("ann")
    first = await api.submitted(ann, custom_id="a")
    await api.run_all()
    second = await api.submitted(ann, custom_id="b")
    third = await api.submitted(ann, custom_id="a")

    async def found(query: str) -> set[str]:
        answer = await api.http.get(f"/v1/jobs?{query}", headers=ann)
        assert answer.status_code == 200, answer.text
        return {job["id"] for job in answer.json()["data"]}

    assert await found("status=queued") == {second, third}
    assert await found("status=succeeded") == {first}
    assert await found("status=expired") == set()
    assert await found("custom_id=a") == {first, third}
    assert await found("custom_id=a&status=queued") == {third}
    assert await found("custom_id=nobody") == set()


async def test_an_empty_list_has_no_ends(api: Api) -> None:
    answer = await api.http.get("/v1/jobs", headers=await api.user("ann"))
    assert answer.json() == {
        "object": "list",
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=ten",
        "limit=-1",
        "status=done",
        "after=x",
        "after=*",
        "custom_id=" + "x" * 257,
    ],
)
async def test_a_wrong_filter_is_told(api: Api, query: str) -> None:
    told = problem(
        await api.http.get(f"/v1/jobs?{query}", headers=await api.user("ann")), 422, "invalid_request"
    )
    assert told["errors"][0]["pointer"] == f"?{query.partition('=')[0]}"


async def test_a_queued_job_is_cancelled_at_once_and_its_tokens_are_free(api: Api) -> None:
    ann = await api.user("ann", "free")
    job_id = await api.submitted(ann)
    answer = await api.http.post(f"/v1/jobs/{job_id}/cancel", headers=ann)
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert answer.headers["x-ratelimit-remaining-tokens"] == "50000"
    assert await api.claim() == []


async def test_a_running_job_is_answered_when_it_has_been_stopped(api: Api) -> None:
    ann = await api.user("ann")
    job_id = await api.submitted(ann)
    claimed = await api.claimed()
    cancelling = asyncio.create_task(api.http.post(f"/v1/jobs/{job_id}/cancel", headers=ann))
    async with asyncio.timeout(20):
        while True:
            if (await api.claims.renew([(claimed.id, claimed.token)], slots=1)).stop:
                break
            await asyncio.sleep(0.01)
    await api.stop(claimed)
    answer = await cancelling
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")


async def test_cancelling_twice_is_told_and_not_to_be_retried(api: Api) -> None:
    ann = await api.user("ann")
    job_id = await api.submitted(ann)
    await api.http.post(f"/v1/jobs/{job_id}/cancel", headers=ann)
    again = await api.http.post(f"/v1/jobs/{job_id}/cancel", headers=ann)
    problem(again, 409, "job_finished")
    assert again.headers["x-should-retry"] == "false"


async def test_a_finished_job_is_erased_for_good(api: Api) -> None:
    ann = await api.user("ann")
    job_id = await api.submitted(ann)
    await api.run_all()
    answer = await api.http.delete(f"/v1/jobs/{job_id}", headers=ann)
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-length" not in answer.headers
    problem(await api.http.get(f"/v1/jobs/{job_id}", headers=ann), 404, "not_found")
    problem(await api.http.delete(f"/v1/jobs/{job_id}", headers=ann), 404, "not_found")
    assert (await api.http.get("/v1/jobs", headers=ann)).json()["data"] == []
    assert (await api.http.get("/v1/usage", headers=ann)).json()["total"]["jobs"] == 1


async def test_an_unfinished_job_is_not_erased(api: Api) -> None:
    ann = await api.user("ann")
    job_id = await api.submitted(ann)
    answer = await api.http.delete(f"/v1/jobs/{job_id}", headers=ann)
    problem(answer, 409, "job_unfinished")
    assert answer.headers["x-should-retry"] == "false"
    assert (await api.http.get(f"/v1/jobs/{job_id}", headers=ann)).json()["status"] == "queued"


CALLS = [("GET", ""), ("GET", "?wait=5"), ("GET", "/events"), ("POST", "/cancel"), ("DELETE", "")]


@pytest.mark.parametrize(("method", "rest"), CALLS)
async def test_a_job_of_another_does_not_exist_to_the_byte(api: Api, method: str, rest: str) -> None:
    ann, bob = await api.user("ann"), await api.user("bob")
    anns = await api.submitted(ann)
    paths = [
        anns,
        UNKNOWN,
        "nonsense",
        "..",
        "*",
        "job_{}",
        "job_%0A",
        f"{anns}%0A",
        f"{anns}:x",
        "%00",
        "x" * 5_000,
    ]
    answers = [
        await api.http.request(method, f"/v1/jobs/{path}{rest}", headers=bob | {"x-request-id": "same"})
        for path in paths
        if path != ".."
    ]
    for answer in answers:
        problem(answer, 404, "not_found")
    assert len({answer.content for answer in answers}) == 1
    assert len({tuple(answer.headers.items()) for answer in answers}) == 1
    assert (await api.http.get(f"/v1/jobs/{anns}", headers=ann)).json()["status"] == "queued"


async def test_nobody_sees_anything_of_anybody_else(api: Api) -> None:
    users = {name: await api.user(name) for name in ("ann", "bob", "cyd", "dan")}
    jobs = {name: [await api.submitted(headers) for _ in range(3)] for name, headers in users.items()}
    for name, headers in users.items():
        listed = (await api.http.get("/v1/jobs", headers=headers)).json()["data"]
        assert sorted(job["id"] for job in listed) == sorted(jobs[name])
        for owner, ids in jobs.items():
            for job_id in ids:
                answer = await api.http.get(f"/v1/jobs/{job_id}", headers=headers)
                assert answer.status_code == (200 if owner == name else 404)
        other = jobs["dan" if name == "ann" else "ann"][0]
        after = (await api.http.get(f"/v1/jobs?after={other}", headers=headers)).json()["data"]
        assert {job["id"] for job in after} <= set(jobs[name])


async def test_a_job_past_its_expiry_says_what_it_waited_for(api: Api) -> None:
    ann = await api.user("ann")
    job_id = await api.submitted(ann, expires_after=10)
    api.clock.advance(11)
    await api.app.service.store.sweep()
    job = (await api.http.get(f"/v1/jobs/{job_id}", headers=ann)).json()
    assert (job["status"], job["error"]["code"]) == ("expired", "expired")
    assert job["error"]["message"]
