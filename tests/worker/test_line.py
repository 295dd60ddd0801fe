"""The line of a job over the real parts: what each answer of a provider comes to, for the job and for the limits."""

import json
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from jobs.record import JobView, State
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import eventually
from tests.worker.line import OUTPUT_TOKENS, PROMPT_TOKENS, ended, line, started, submit, until

if TYPE_CHECKING:
    from redis.asyncio import Redis

ESTIMATE = PROMPT_TOKENS + OUTPUT_TOKENS


async def outcome(
    redis: "Redis", valkey: ValkeyProcess, folder: Path, prompt: str, **changes: Any
) -> tuple[JobView, int]:
    """What became of one job with this prompt, and how often the provider saw it."""
    async with line(redis, valkey.url, folder) as parts, parts.store() as store, parts.worker():
        job = await submit(store, parts.job(prompt, **changes))
        return await ended(store, job.id), len(parts.simulator.log())


async def tokens_of_today(redis: "Redis", job: JobView) -> int:
    stored = await redis.keys("tokens:ann:*")
    assert len(stored) == 1
    return int(await redis.get(stored[0]) or 0)


async def test_a_job_is_answered_and_charged_what_the_provider_reported(
    redis: "Redis", valkey: ValkeyProcess, tmp_path: Path
) -> None:
    job, sends = await outcome(redis, valkey, tmp_path, "Say hello.")
    assert (job.state, job.attempts, sends) == (State.SUCCEEDED, 1, 1)
    assert job.result is not None
    assert job.usage is not None
    told = json.loads(job.result)["usage"]
    assert job.usage.total_tokens == told["total_tokens"] < ESTIMATE
    assert await tokens_of_today(redis, job) == told["total_tokens"]


@pytest.mark.parametrize(
    ("prompt", "state", "code", "attempts", "sends"),
    [
        ("[[fail:500x1]] again", State.SUCCEEDED, None, 2, 2),
        ("[[fail:400]] no", State.FAILED, "provider_rejected", 1, 1),
        ("[[fail:403]] no", State.FAILED, "provider_rejected", 1, 1),
        ("[[redirect]] no", State.FAILED, "provider_rejected", 1, 1),
    ],
)
async def test_a_providers_refusal_is_retried_or_told(
    redis: "Redis",
    valkey: ValkeyProcess,
    tmp_path: Path,
    prompt: str,
    state: State,
    code: str | None,
    attempts: int,
    sends: int,
) -> None:
    job, seen = await outcome(redis, valkey, tmp_path, prompt)
    assert (job.state, job.error.code if job.error else None) == (state, code)
    assert (job.attempts, seen) == (attempts, sends)
    if code is not None:
        assert await tokens_of_today(redis, job) == 0


@pytest.mark.parametrize("marker", ["[[reset]]", "[[garbage]]", "[[cut]]"])
async def test_an_unknown_outcome_ends_a_job_that_must_not_be_sent_again(
    redis: "Redis", valkey: ValkeyProcess, tmp_path: Path, marker: str
) -> None:
    job, sends = await outcome(redis, valkey, tmp_path, f"{marker} once", retry="never")
    assert job.error is not None
    assert (job.state, job.error.code, sends) == (State.FAILED, "outcome_unknown", 1)
    assert job.usage is not None
    assert (job.usage.total_tokens, job.usage.source) == (ESTIMATE, "estimated")
    assert await tokens_of_today(redis, job) == ESTIMATE


@pytest.mark.parametrize("marker", ["[[reset]]", "[[garbage]]", "[[cut]]"])
async def test_an_unknown_outcome_is_tried_three_times_and_costs_the_user_nothing(
    redis: "Redis", valkey: ValkeyProcess, tmp_path: Path, marker: str
) -> None:
    job, sends = await outcome(redis, valkey, tmp_path, f"{marker} safe")
    assert job.error is not None
    assert (job.state, job.error.code, sends) == (State.FAILED, "provider_failed", 3)
    assert job.usage is None
    assert await tokens_of_today(redis, job) == 0


async def test_an_answer_without_usage_is_counted_here(
    redis: "Redis", valkey: ValkeyProcess, tmp_path: Path
) -> None:
    job, _ = await outcome(redis, valkey, tmp_path, "[[no-usage]] Tell me something.")
    assert job.state is State.SUCCEEDED
    assert job.usage is not None
    assert job.usage.source == "estimated"
    assert job.usage.prompt_tokens == PROMPT_TOKENS
    assert 0 < job.usage.completion_tokens <= OUTPUT_TOKENS


async def test_a_throttled_job_waits_as_long_as_told_and_the_pool_with_it(
    redis: "Redis", valkey: ValkeyProcess, tmp_path: Path
) -> None:
    async with line(redis, valkey.url, tmp_path) as parts, parts.store() as store, parts.worker():
        first = await submit(store, parts.job("[[retry-after:600]] later"))
        await until(store, first.id, lambda job: job.blocked_on == "backoff")
        second = await submit(store, parts.job("meanwhile"))
        waiting = await until(store, second.id, lambda job: job.blocked_on is not None)
        assert waiting.blocked_on == "provider_paused"
        assert waiting.estimated_start_ms is not None
        assert waiting.estimated_start_ms - waiting.created_ms > 590_000
        assert len(parts.simulator.log()) == 1
        job, _ = await store.read("ann", first.id)
        assert job is not None
        assert job.attempts == 0


async def test_a_running_job_is_cancelled_within_a_second_and_charged_its_estimate(
    redis: "Redis", valkey: ValkeyProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.dispatch.cost_nano_usd", lambda _model, usage: usage.total_tokens * 1000)
    async with line(redis, valkey.url, tmp_path) as parts, parts.store() as store, parts.worker():
        job = await submit(store, parts.job("[[hang]]"))
        await started(store, job.id)
        await eventually(lambda: bool(parts.simulator.log()))
        cancelled = await store.cancel("ann", job.id)
        assert cancelled.outcome == "requested"
        done = await ended(store, job.id)
        assert done.state is State.CANCELLED
        assert done.usage is not None
        assert (done.usage.total_tokens, done.usage.source) == (ESTIMATE, "estimated")
        assert done.cost_usd == pytest.approx(ESTIMATE / 1e6)
        assert cancelled.job is not None
        assert done.finished_ms is not None
        assert done.finished_ms - cancelled.limits.now_ms < 1000


async def test_a_wrong_key_pauses_the_pool_and_the_job_waits(
    redis: "Redis", valkey: ValkeyProcess, tmp_path: Path
) -> None:
    async with (
        line(redis, valkey.url, tmp_path, api_key="right") as parts,
        parts.store() as store,
        parts.worker(),
    ):
        job = await submit(store, parts.job("locked out"))
        waiting = await until(store, job.id, lambda job: job.blocked_on == "provider_paused")
        assert waiting.attempts == 0
        assert await cast(Awaitable[bytes], redis.hget("pause:sim/m", "reason")) == b"unauthorized"


async def test_jobs_wait_for_the_window_and_the_provider_never_refuses(
    redis: "Redis", valkey: ValkeyProcess, tmp_path: Path
) -> None:
    limit = 5 * ESTIMATE
    provider = {"tokens_per_minute": limit, "requests_per_minute": 100}
    async with (
        line(redis, valkey.url, tmp_path, provider, tpm=limit, rpm=100) as parts,
        parts.store() as store,
        parts.worker(),
    ):
        submitted = [await submit(store, parts.job(f"prompt {n}")) for n in range(7)]
        for job in submitted[:5]:
            assert (await ended(store, job.id)).state is State.SUCCEEDED
        waiting = await until(store, submitted[5].id, lambda job: job.blocked_on is not None)
        assert waiting.blocked_on == "provider_tokens"
        assert waiting.estimated_start_ms is not None
        assert 55_000 < waiting.estimated_start_ms - waiting.created_ms < 62_000
        assert parts.simulator.stats().status_429 == 0
        assert len(parts.simulator.log()) == 5


async def test_a_job_of_an_endpoint_that_only_newer_workers_know_waits_for_one(
    redis: "Redis", valkey: ValkeyProcess, tmp_path: Path
) -> None:
    async with line(redis, valkey.url, tmp_path) as parts, parts.store() as store, parts.worker():
        unknown = await submit(store, parts.job("Say hello.", endpoint="/v1/newer", retry="never"))
        seen = await until(store, unknown.id, lambda job: job.blocked_on == "backoff")
        known = await submit(store, parts.job("Say hello."))
        await ended(store, known.id)
        assert (seen.state, seen.attempts, len(parts.simulator.log())) == (State.QUEUED, 0, 1)
        await store.cancel("ann", unknown.id)


async def test_a_worker_that_is_shut_down_hands_back_what_was_not_answered(
    redis: "Redis", valkey: ValkeyProcess, tmp_path: Path
) -> None:
    async with line(redis, valkey.url, tmp_path) as parts, parts.store() as store:
        async with parts.worker():
            safe = await submit(store, parts.job("[[hang]] safe"))
            never = await submit(store, parts.job("[[hang]] never", retry="never"))
            await eventually(lambda: len(parts.simulator.log()) == 2)
        again, _ = await store.read("ann", safe.id)
        assert again is not None
        assert (again.state, again.attempts) == (State.QUEUED, 0)
        gone, _ = await store.read("ann", never.id)
        assert gone is not None
        assert gone.error is not None
        assert (gone.state, gone.error.code) == (State.FAILED, "outcome_unknown")
        assert await redis.zcard("leases") == 0
        assert await redis.zcard("workers") == 0
