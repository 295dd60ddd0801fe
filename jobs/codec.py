"""Between the scripts' compact JSON (lua/record.lua names its fields) and the records of Python."""

from collections.abc import Sequence
from typing import Any, Final, cast

import jiter
from pydantic_core import to_json

from jobs.record import (
    CHAT,
    NO_WEBHOOK,
    BlockedOn,
    ClaimedJob,
    ErrorCode,
    JobError,
    JobView,
    LimitsView,
    NewJob,
    Priority,
    RetryPolicy,
    State,
    Usage,
    WebhookState,
)

_CLASS: Final[dict[Priority, str]] = {"interactive": "i", "standard": "s", "batch": "b"}
_PRIORITY: Final[dict[str, Priority]] = {letter: priority for priority, letter in _CLASS.items()}
_STATE: Final = {state.value: state for state in State}


def _json(value: dict[str, object]) -> str:
    return to_json(value).decode()


def _read(stored: bytes) -> Any:
    return jiter.from_json(stored, cache_mode="keys")


def encode_head(job: NewJob) -> str:
    """The head of a new record; `x` is still the milliseconds from now, which only the script knows."""
    head: dict[str, object] = {
        "u": job.user,
        "n": job.name,
        "pr": _CLASS[job.priority],
        "rt": job.retry,
        "x": job.expires_after_ms,
        "pt": job.prompt_tokens,
        "ot": job.output_tokens,
        "et": job.estimated_tokens,
    }
    if job.endpoint != CHAT:
        head["en"] = job.endpoint
    if job.on_budget == "wait":
        head["w"] = True
    if job.webhook_url is not None:
        head["wu"], head["wl"] = job.webhook_url, job.webhook_lane
    if job.replays is not None:
        head["rp"] = job.replays
    if job.not_before_ms is not None:
        head["nb"] = job.not_before_ms
    return _json(head)


def encode_info(job: NewJob) -> str:
    """What only the API reads again."""
    return _json({"endpoint": job.endpoint, "custom_id": job.custom_id, "metadata": job.metadata})


def encode_charge(usage: Usage | None) -> str:
    """What a job is charged, as settle reads it; '' is nothing.

    Nobody is charged less than prompt and completion together, whatever total the provider names.
    """
    if usage is None:
        return ""
    total_tokens = max(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
    return _json(
        {
            "p": usage.prompt_tokens,
            "c": usage.completion_tokens,
            "t": total_tokens,
            "h": usage.cached_tokens,
            "s": usage.source,
        }
    )


def encode_error(error: JobError | None) -> str:
    """An error as the record keeps it; '' is none."""
    if error is None:
        return ""
    fields = {
        "code": error.code,
        "message": error.message,
        "attempt": error.attempt,
        "provider_status": error.provider_status,
    }
    return _json({name: value for name, value in fields.items() if value is not None})


def _decode_error(stored: bytes | None) -> JobError | None:
    if not stored:
        return None
    fields = _read(stored)
    return JobError(
        cast(ErrorCode, fields["code"]),
        fields["message"],
        fields.get("attempt"),
        fields.get("provider_status"),
    )


def _decode_webhooks(stored: bytes | None, has_own: bool) -> WebhookState:
    """All deliveries of a job together; before its end there are none, and one is to come if it has its own URL."""
    if not stored:
        return WebhookState("pending") if has_own else NO_WEBHOOK
    fields = _read(stored)
    each = list(fields["d"].values())
    states = {one["s"] for one in each}
    return WebhookState(
        status="pending" if "p" in states else "failed" if "f" in states else "delivered",
        attempts=sum(one["a"] for one in each),
        last_status_code=fields.get("c"),
        next_attempt_ms=min((one["n"] for one in each if "n" in one), default=None),
        version=fields["v"],
    )


def decode_view(
    job_id: str,
    head: bytes,
    info: bytes,
    result: bytes | None,
    error: bytes | None,
    waiting: Sequence[Any] = (),
    webhooks: bytes | None = None,
) -> JobView:
    """A job as its user sees it, from what record.view answers."""
    h = _read(head)
    i = _read(info)
    reason, position, start_ms = waiting or (None, None, None)
    used = h.get("us")
    cost_nano = h.get("co")
    return JobView(
        id=job_id,
        user=h["u"],
        name=h["n"],
        state=_STATE[h["st"]],
        endpoint=i["endpoint"],
        priority=_PRIORITY[h["pr"]],
        custom_id=i["custom_id"],
        metadata=i["metadata"],
        created_ms=h["c"],
        started_ms=h.get("sa"),
        finished_ms=h.get("fa"),
        expires_ms=h["x"],
        attempts=h["at"],
        estimated_tokens=h["et"],
        version=h["v"],
        blocked_on=cast(BlockedOn, reason.decode()) if reason else None,
        position=position,
        estimated_start_ms=start_ms,
        usage=Usage(used["p"], used["c"], used["t"], used["h"], used["s"]) if used else None,
        cost_usd=None if cost_nano is None else cost_nano / 1e9,
        result=result,
        error=_decode_error(error),
        webhook=_decode_webhooks(webhooks, "wu" in h),
    )


def decode_limits(user: str, stored: Sequence[Any]) -> LimitsView:
    """A user's limits, from what record.limits answers."""
    (
        tier, requests, requests_left, requests_reset_ms, blocked_until_ms, block_ms, requests_a_day,
        tokens, tokens_taken, tokens_held, tokens_reset_ms, day, concurrent, most_jobs, most_tokens,
        queued_jobs, queued_tokens, running, now_ms,
    ) = stored  # fmt: skip
    return LimitsView(
        user=user,
        tier=tier.decode(),
        requests_limit=requests,
        requests_window_ms=60_000,
        requests_remaining=requests_left,
        requests_reset_ms=requests_reset_ms,
        blocked_until_ms=blocked_until_ms,
        block_ms=block_ms,
        requests_per_day=requests_a_day,
        tokens_limit=tokens,
        tokens_used=tokens_taken - tokens_held,
        tokens_reserved=tokens_held,
        tokens_reset_ms=tokens_reset_ms,
        day=day.decode(),
        max_concurrent=concurrent,
        running=running,
        queued_jobs=queued_jobs,
        queued_tokens=queued_tokens,
        max_queued_jobs=most_jobs,
        max_queued_tokens=most_tokens,
        now_ms=now_ms,
    )


def decode_replay(dead_id: str, new_id: str, head: bytes, info: bytes, body: bytes) -> NewJob:
    """A submission that does again what a dead job was to do, with all the time that job had."""
    h = _read(head)
    i = _read(info)
    return NewJob(
        id=new_id,
        user=h["u"],
        name=h["n"],
        body=body,
        prompt_tokens=h["pt"],
        output_tokens=h["ot"],
        endpoint=i["endpoint"],
        custom_id=i["custom_id"],
        metadata=i["metadata"],
        priority=_PRIORITY[h["pr"]],
        expires_after_ms=h["x"] - h["c"],
        retry=cast(RetryPolicy, h["rt"]),
        on_budget="wait" if h.get("w") else "reject",
        replays=dead_id,
        webhook_url=h.get("wu"),
        webhook_lane=h.get("wl"),
    )


def decode_claimed(job_id: bytes, token: bytes, pool: bytes, head: bytes, body: bytes) -> ClaimedJob:
    """An admitted job, from what claim answers."""
    h = _read(head)
    return ClaimedJob(
        id=job_id.decode(),
        token=token.decode(),
        user=h["u"],
        name=h["n"],
        pool=pool.decode(),
        body=body,
        attempt=h["at"],
        prompt_tokens=h["pt"],
        output_tokens=h["ot"],
        retry=cast(RetryPolicy, h["rt"]),
        expires_ms=h["x"],
        throttled_in_row=h.get("th", 0),
        unknown_attempts=h.get("un", 0),
        unconnected_in_row=h.get("fc", 0),
        cancel_requested="cx" in h,
        endpoint=h.get("en", CHAT),
    )
