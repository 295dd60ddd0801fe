"""The limits as a client meets them: refusals, their headers, and that they are true."""

import asyncio
from typing import TYPE_CHECKING

import httpx2
import pytest

from tests.api.harness import NOON_MS, Api, chat, config, problem, running_api

if TYPE_CHECKING:
    from redis.asyncio import Redis

NOON_S = NOON_MS // 1000
MIDNIGHT_S = NOON_S + 43_200


def limited(answer: httpx2.Response, code: str, wait_s: int) -> dict[str, object]:
    body = problem(answer, 429, code)
    assert answer.headers["retry-after"] == str(body["retry_after"]) == str(wait_s)
    assert answer.headers["ratelimit-policy"] == '"requests";q=20;w=60, "daily-tokens";q=50000;w=86400'
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) >= 0
    return body


async def test_of_21_quick_submissions_20_are_accepted_and_then_none_for_a_minute(api: Api) -> None:
    ann = await api.user("ann", "free")
    answers = [await api.submit(ann) for _ in range(20)]
    assert [answer.status_code for answer in answers] == [202] * 20
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == [
        str(left) for left in range(19, -1, -1)
    ]
    spent = answers[-1].headers["x-ratelimit-remaining-tokens"]

    refused = await api.submit(ann)
    body = limited(refused, "rate_limited", 60)
    assert (body["limit"], body["window_s"]) == (20, 60)
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.headers["x-ratelimit-reset-requests"] == "1m0s"
    assert refused.headers["x-ratelimit-remaining-tokens"] == spent

    api.clock.advance(30.5)
    refused = await api.submit(ann)
    limited(refused, "rate_limited", 30)
    assert refused.headers["x-ratelimit-reset-requests"] == "29.5s"
    api.clock.advance(29.499)
    limited(await api.submit(ann), "rate_limited", 1)
    api.clock.advance(0.001)
    assert (await api.submit(ann)).status_code == 202


async def test_a_block_costs_redis_nothing(api: Api) -> None:
    ann = await api.user("ann", "free")
    for _ in range(21):
        answer = await api.submit(ann)
    limited(answer, "rate_limited", 60)
    await api.redis.config_resetstat()
    for _ in range(50):
        limited(await api.submit(ann), "rate_limited", 60)
    stats = await api.redis.info("commandstats")
    # The sweeps of this process go on meanwhile, and what else it does once a second.
    assert stats.get("cmdstat_evalsha", {"calls": 0})["calls"] < 25
    assert "cmdstat_hgetall" not in stats


async def test_another_process_honours_the_block(redis: "Redis", api: Api) -> None:
    ann = await api.user("ann", "free")
    for _ in range(21):
        await api.submit(ann)
    async with running_api(redis, clock=api.clock) as other:
        api.clock.advance(10)
        limited(await other.submit(ann), "rate_limited", 50)


async def test_reading_cancelling_and_malformed_requests_do_not_count(api: Api) -> None:
    ann = await api.user("ann", "free")
    job_id = await api.submitted(ann)
    for _ in range(25):
        assert (await api.http.get(f"/v1/jobs/{job_id}", headers=ann)).status_code == 200
        problem(await api.submit(ann, typo=1), 422, "invalid_request")
    await api.http.post(f"/v1/jobs/{job_id}/cancel", headers=ann)
    answer = await api.http.get("/v1/jobs", headers=ann)
    assert answer.headers["x-ratelimit-remaining-requests"] == "19"


async def test_a_replay_and_a_refusal_for_the_budget_count(api: Api) -> None:
    ann = await api.user("ann", "free")
    await api.submitted(ann | {"idempotency-key": "k"})
    await api.submitted(ann | {"idempotency-key": "k"})
    await api.submitted(ann, body=chat(n=10, max_tokens=4_000))
    refused = await api.submit(ann, body=chat(n=10, max_tokens=4_000))
    limited(refused, "budget_exhausted", 43_200)
    assert refused.headers["x-ratelimit-remaining-requests"] == "16"


async def test_limits_are_the_users_not_the_keys(api: Api) -> None:
    keys = [await api.user("ann", "free") for _ in range(3)]
    for n in range(20):
        await api.submitted(keys[n % 3])
    limited(await api.submit(keys[0]), "rate_limited", 60)
    await api.submitted(await api.user("bob", "free"))


async def test_a_budget_that_is_used_up_says_when_it_comes_back(redis: "Redis") -> None:
    async with running_api(redis, config(upgrade_url="/pricing")) as api:
        ann = await api.user("ann", "free")
        first = (await api.submit(ann, body=chat(n=10, max_tokens=4_000))).json()["estimated_tokens"]
        refused = await api.submit(ann, body=chat(n=5, max_tokens=4_000))
        body = limited(refused, "budget_exhausted", 43_200)
        assert body["reset_at"] == "2026-11-24T00:00:00Z"
        assert (body["limit"], body["remaining"]) == (50_000, 50_000 - first)
        assert body["estimated_tokens"] == first - 20_000
        assert body["upgrade_url"] == "/pricing"
        assert refused.headers["x-ratelimit-reset"] == str(MIDNIGHT_S)
        assert refused.headers["x-ratelimit-reset-tokens"] == "12h0m0s"
        assert (await api.submit(ann, body=chat(n=5, max_tokens=4_000), on_budget="wait")).status_code == 202

        api.clock.advance(43_200)
        assert (await api.submit(ann, body=chat(n=5, max_tokens=4_000))).status_code == 202


async def test_of_fifty_at_once_with_room_for_twelve_twelve_are_accepted(redis: "Redis") -> None:
    tiers = {"tight": {"tokens_per_day": 50_000}}
    async with running_api(redis, config(tiers=tiers)) as api:
        ann = await api.user("ann", "tight")
        answers = await asyncio.gather(*(api.submit(ann, body=chat(max_tokens=4_000)) for _ in range(50)))
        codes = [answer.status_code for answer in answers]
        assert (codes.count(202), codes.count(429)) == (12, 38)
        assert {answer.json()["code"] for answer in answers if answer.status_code == 429} == {
            "budget_exhausted"
        }


async def test_a_full_queue_of_ones_own_is_refused(redis: "Redis") -> None:
    async with running_api(redis, config(tiers={"tiny": {"max_queued_jobs": 2}})) as api:
        ann = await api.user("ann", "tiny")
        first = await api.submitted(ann)
        await api.submitted(ann)
        refused = await api.submit(ann)
        assert int(refused.headers["retry-after"]) == problem(refused, 429, "queue_full")["retry_after"] >= 1
        await api.http.post(f"/v1/jobs/{first}/cancel", headers=ann)
        await api.submitted(ann)


async def test_the_requests_of_a_day_are_limited_to_midnight(redis: "Redis") -> None:
    async with running_api(redis, config(tiers={"daily": {"requests_per_day": 2}})) as api:
        ann = await api.user("ann", "daily")
        await api.submitted(ann)
        await api.submitted(ann)
        refused = await api.submit(ann)
        body = problem(refused, 429, "rate_limited")
        assert (body["retry_after"], body["limit"], body["window_s"]) == (43_200, 2, 86_400)
        api.clock.advance(43_200)
        await api.submitted(ann)


async def test_the_limits_route_tells_what_is_left(api: Api) -> None:
    ann = await api.user("ann", "free")
    estimate = (await api.submit(ann)).json()["estimated_tokens"]
    await api.submitted(ann)
    [job] = await api.claim()
    await api.succeed(job)
    await api.submitted(ann)
    [_running] = await api.claim()
    answer = await api.http.get("/v1/limits", headers=ann)
    assert answer.status_code == 200
    assert answer.json() == {
        "user": "ann",
        "tier": "free",
        "requests": {"limit": 20, "window_s": 60, "remaining": 17, "blocked_until": None, "block_s": 60},
        "tokens": {
            "limit": 50_000,
            "used": 12,
            "reserved": 2 * estimate,
            "remaining": 50_000 - 12 - 2 * estimate,
            "resets_at": MIDNIGHT_S,
        },
        "concurrent": {"limit": 5, "running": 1},
        "queued": {"jobs": 1, "tokens": estimate, "max_jobs": 1000},
    }


async def test_the_limits_route_tells_of_a_block(api: Api) -> None:
    ann = await api.user("ann", "free")
    for _ in range(21):
        await api.submit(ann)
    requests = (await api.http.get("/v1/limits", headers=ann)).json()["requests"]
    assert (requests["remaining"], requests["blocked_until"]) == (0, NOON_S + 60)


async def test_an_unlimited_tier_reads_null(api: Api) -> None:
    ann = await api.user("ann", "open")
    limits = (await api.http.get("/v1/limits", headers=ann)).json()
    assert limits["requests"]["limit"] is limits["tokens"]["limit"] is limits["tokens"]["remaining"] is None


@pytest.mark.parametrize("method", ["get", "list", "cancel", "erase"])
async def test_every_answer_about_jobs_carries_the_limits(api: Api, method: str) -> None:
    ann = await api.user("ann", "free")
    job_id = await api.submitted(ann)
    if method == "erase":
        await api.run_all()
    answer = await {
        "get": lambda: api.http.get(f"/v1/jobs/{job_id}", headers=ann),
        "list": lambda: api.http.get("/v1/jobs", headers=ann),
        "cancel": lambda: api.http.post(f"/v1/jobs/{job_id}/cancel", headers=ann),
        "erase": lambda: api.http.delete(f"/v1/jobs/{job_id}", headers=ann),
    }[method]()
    assert answer.is_success
    assert answer.headers["x-ratelimit-limit-requests"] == "20"
    assert answer.headers["ratelimit-policy"]
