"""Jobs and limits as JSON: the last step of every answer. A result goes out as the bytes the provider sent."""

import hashlib

from api.answers import dump
from jobs.record import JobView, LimitsView, State, Usage

# This version delivers no webhooks; the member is there so that clients written against the contract find it.
_AFTER_RESULT_TAIL = (
    b',"webhook":{"status":"none","attempts":0,"last_status_code":null,"next_attempt_at":null}}'
)


def _seconds(ms: int | None) -> int | None:
    return None if ms is None else ms // 1000


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


def job_bytes(job: JobView) -> bytes:
    """The job object."""
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
            "started_at": _seconds(job.started_ms),
            "finished_at": _seconds(job.finished_ms),
            "expires_at": job.expires_ms // 1000,
            "attempts": job.attempts,
            "blocked_on": job.blocked_on,
            "position": job.position,
            "estimated_start_at": _seconds(job.estimated_start_ms),
            "estimated_tokens": job.estimated_tokens,
            "usage": _usage(job.usage),
            "cost_usd": job.cost_usd,
        }
    )
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
    result = job.result or b"null"
    return b"".join((before[:-1], b',"result":', result, b',"error":', error, _AFTER_RESULT_TAIL))


def list_bytes(jobs: list[JobView], has_more: bool) -> bytes:
    """A page of jobs."""
    ends = dump(
        {
            "has_more": has_more,
            "first_id": jobs[0].id if jobs else None,
            "last_id": jobs[-1].id if jobs else None,
        }
    )
    return b"".join((b'{"object":"list","data":[', b",".join(map(job_bytes, jobs)), b"],", ends[1:]))


def etag(job: JobView, body: bytes) -> bytes:
    """Changes whenever the body does. A queued job's place in the queue is in its body but not in its version."""
    if job.state is State.QUEUED:
        return b'"%d-%s"' % (job.version, hashlib.blake2b(body, digest_size=8).hexdigest().encode())
    return b'"%d"' % job.version


def limits_object(limits: LimitsView) -> dict[str, object]:
    """The body of GET /v1/limits."""
    return {
        "user": limits.user,
        "tier": limits.tier or None,
        "requests": {
            "limit": limits.requests_limit,
            "window_s": limits.requests_window_ms // 1000,
            "remaining": limits.requests_remaining,
            "blocked_until": _seconds_up(limits.blocked_until_ms),
            "block_s": limits.block_ms // 1000,
        },
        "tokens": {
            "limit": limits.tokens_limit,
            "used": limits.tokens_used,
            "reserved": limits.tokens_reserved,
            "remaining": limits.tokens_remaining,
            "resets_at": _seconds_up(limits.now_ms + limits.tokens_reset_ms),
        },
        "concurrent": {"limit": limits.max_concurrent, "running": limits.running},
        "queued": {
            "jobs": limits.queued_jobs,
            "tokens": limits.queued_tokens,
            "max_jobs": limits.max_queued_jobs,
        },
    }


def _seconds_up(ms: int | None) -> int | None:
    return None if ms is None else -(-ms // 1000)
