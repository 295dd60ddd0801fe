"""The job object as JSON: what polls answer and webhooks carry, in one place so that both always say the same.

A result goes out as the bytes the provider sent.
"""

import json

from pydantic_core import to_json

from jobs.record import JobView, Usage


def dump(value: object) -> bytes:
    """Compact JSON in UTF-8. Raises ValueError for what is none: numbers beyond a double, lone surrogates."""
    text = to_json(value)
    if b"Infinity" in text or b"NaN" in text:
        # pydantic writes such numbers as they are; in a text it is just a word.
        json.dumps(value, allow_nan=False)
    return text


def seconds(ms: int | None) -> int | None:
    """Unix seconds of Unix milliseconds."""
    return None if ms is None else ms // 1000


def job_without_webhook(job: JobView, *, result_url: str | None = None) -> bytes:
    """The job object but for `webhook`; with a `result_url`, that stands in the place of `result`."""
    before = dump(
        {
            "id": job.id,
            "object": "job",
            "status": job.state.value,
            "endpoint": job.endpoint,
            "model": job.name,
            "priority": job.priority,
            "custom_id": job.custom_id,
            "metadata": job.metadata,
            "created_at": job.created_ms // 1000,
            "started_at": seconds(job.started_ms),
            "finished_at": seconds(job.finished_ms),
            "expires_at": job.expires_ms // 1000,
            "attempts": job.attempts,
            "blocked_on": job.blocked_on,
            "position": job.position,
            "estimated_start_at": seconds(job.estimated_start_ms),
            "estimated_tokens": job.estimated_tokens,
            "usage": _usage(job.usage),
            "cost_usd": job.cost_usd,
        }
    )
    result = b'"result":' + (job.result or b"null")
    if result_url is not None:
        result = b'"result_url":' + dump(result_url)
    error = b"null"
    if job.error is not None:
        error = dump(
            {
                "code": job.error.code,
                "message": job.error.message,
                "attempt": job.error.attempt,
                "provider_status": job.error.provider_status,
            }
        )
    return b"".join((before[:-1], b",", result, b',"error":', error, b"}"))


def _usage(usage: Usage | None) -> dict[str, object] | None:
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "cached_tokens": usage.cached_tokens,
        "source": usage.source,
    }
