"""POST /v1/jobs: what is accepted, what it answers, and what reaches Redis."""

import asyncio
import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from jobs.record import State
from jobs.runner import job_script
from tests.api.harness import ADMIN, NOON_MS, Api, chat, config, problem, running_api

if TYPE_CHECKING:
    from redis.asyncio import Redis

NOON_S = NOON_MS // 1000
SUBMIT = job_script("submit").sha
BACKGROUND = [job_script(name).sha for name in ("sweep", "users_touch_key")]


async def test_a_submission_is_answered_with_the_queued_job(api: Api) -> None:
    ann = await api.user("ann", "free")
    answer = await api.submit(
        ann, custom_id="row-17", metadata={"team": "search"}, priority="batch", expires_after=60
    )
    assert answer.status_code == 202
    job = answer.json()
    assert job["id"].startswith("job_")
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["x-ratelimit-remaining-requests"] == "19"
    assert answer.headers["x-ratelimit-remaining-tokens"] == str(50_000 - job["estimated_tokens"])
    assert answer.headers["ratelimit"].startswith('"requests";r=19;t=60, "daily-tokens";r=')
    assert answer.headers["x-request-id"]
    assert "idempotent-replayed" not in answer.headers
    assert (job["object"], job["status"], job["model"]) == ("job", "queued", "m")
    assert (job["custom_id"], job["metadata"], job["priority"]) == ("row-17", {"team": "search"}, "batch")
    assert (job["created_at"], job["expires_at"]) == (NOON_S, NOON_S + 60)
    assert job["webhook"]["status"] == "none"


async def test_the_worker_gets_the_body_as_it_was_sent(api: Api) -> None:
    ann = await api.user("ann")
    body = chat(
        "<|endoftext|> 😀 \u0000",
        temperature=0.1,
        seed=2**63,
        logit_bias={"50256": -100},
        tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    )
    await api.submitted(ann, body=body, retry="never")
    [job] = await api.claim()
    assert json.loads(job.body) == body
    assert (job.user, job.name, job.retry) == ("ann", "m", "never")


async def test_several_answers_are_reserved_each_with_its_cap(api: Api) -> None:
    ann = await api.user("ann")
    one = (await api.submit(ann, body=chat(n=1, max_tokens=50))).json()["estimated_tokens"]
    three = (await api.submit(ann, body=chat(n=3, max_tokens=50))).json()["estimated_tokens"]
    assert three - one == 100


async def test_without_a_cap_the_models_own_is_reserved(api: Api) -> None:
    ann = await api.user("ann")
    job = (await api.submit(ann, body={**chat(), "max_tokens": None})).json()
    assert job["estimated_tokens"] > 4096


async def test_a_job_for_later_waits(api: Api) -> None:
    ann = await api.user("ann")
    job = (await api.submit(ann, not_before=NOON_S + 600)).json()
    assert (job["blocked_on"], job["estimated_start_at"]) == ("not_before", NOON_S + 600)
    assert await api.claim() == []
    api.clock.advance(600)
    assert len(await api.claim()) == 1


async def test_a_model_that_nobody_serves_is_refused_with_those_there_are(api: Api) -> None:
    body = problem(await api.submit(await api.user("ann"), body=chat(model="gpt-9")), 422, "unknown_model")
    assert body["models"] == ["m", "small"]
    assert "m, small" in body["detail"]
    assert body["error"]["param"] == "body.model"


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        (chat(max_tokens=1_000_000), {"total_tokens": 200_000}),
        (chat(max_tokens=150_000), {"context_tokens": 128_000}),
        (chat(max_tokens=4_097), {"output_tokens": 4_096}),
        (chat(n=60, max_tokens=4_000), {"total_tokens": 200_000}),
        (chat(model="small", max_tokens=5_999), {"total_tokens": 6_000}),
        (chat("hello " * 60_000), {"prompt_tokens": 50_000}),
    ],
)
async def test_what_can_never_fit_is_refused_with_what_would(
    redis: "Redis", body: dict[str, Any], fits: dict[str, int]
) -> None:
    async with running_api(redis, config(limits={"prompt_tokens": 50_000})) as api:
        told = problem(await api.submit(await api.user("ann"), body=body), 422, "job_too_large")
    assert told["fits"] == fits


async def test_more_than_a_whole_days_budget_is_refused_for_good(api: Api) -> None:
    ann = await api.user("ann", "free")
    told = problem(await api.submit(ann, body=chat(n=15, max_tokens=4_000)), 422, "job_too_large")
    assert told["fits"] == {"total_tokens": 50_000}
    assert told["estimated_tokens"] > 60_000


async def test_nothing_that_was_refused_leaves_a_trace(api: Api) -> None:
    ann = await api.user("ann", "free")
    before = await keys_of_jobs(api)
    for fields in (
        {"body": chat(model="x")},
        {"body": chat(n=0)},
        {"typo": 1},
        {"body": chat(max_tokens=9_999_999)},
    ):
        assert (await api.submit(ann, **fields)).status_code == 422
    assert await keys_of_jobs(api) == before


async def keys_of_jobs(api: Api) -> set[bytes]:
    """All keys but those that the process writes meanwhile on its own account."""
    return {
        key for key in await api.redis.keys("*") if not key.startswith((b"heartbeat", b"figures", b"pace"))
    }


async def test_the_admin_key_submits_as_admin(api: Api) -> None:
    job_id = await api.submitted(ADMIN)
    assert (await api.http.get(f"/v1/jobs/{job_id}", headers=ADMIN)).status_code == 200


async def test_a_preferred_wait_is_answered_with_the_end(api: Api) -> None:
    ann = await api.user("ann")
    waiting = asyncio.create_task(api.submit(ann | {"prefer": "wait=30"}))
    await api.succeed(await api.claimed(), b'{"answer":42}')
    answer = await waiting
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=30"
    assert answer.json()["result"] == {"answer": 42}
    assert "x-ratelimit-reset" in answer.headers
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"


async def test_a_preferred_wait_in_vain_is_answered_with_202(api: Api) -> None:
    answer = await api.submit(await api.user("ann") | {"prefer": "wait=1"})
    assert (answer.status_code, answer.json()["status"]) == (202, State.QUEUED)
    assert "preference-applied" not in answer.headers
    assert int(answer.headers["retry-after"]) >= 1


async def test_one_submission_is_one_command_to_redis(api: Api) -> None:
    ann = await api.user("ann", "free")
    await api.submitted(ann)
    # What this process does meanwhile on its own account, perhaps on a connection that is new.
    background = ("PING", "CLIENT ", *(f"EVALSHA {sha}" for sha in BACKGROUND))
    async with api.redis.monitor() as monitor:
        await api.submitted(ann)
        await api.redis.echo("that was it")
        sent: list[str] = []
        async for seen in cast(Any, monitor.listen()):
            if "that was it" in seen["command"]:
                break
            # What a script does inside of Redis is shown as well.
            if seen["client_type"] != "lua" and not seen["command"].startswith(background):
                sent.append(seen["command"])
    assert [command.split()[:2] for command in sent] == [["EVALSHA", SUBMIT]]
