"""Jobs and limits as JSON: the last step of every answer. A result goes out as the bytes the provider sent."""

import hashlib

from jobs.job_object import dump, job_without_webhook, seconds
from jobs.record import NO_WEBHOOK, JobView, LimitsView, State, WebhookState


def job_bytes(job: JobView) -> bytes:
    """The job object."""
    hook = job.webhook
    told = NO_WEBHOOK_TAIL if hook.version == 0 and hook.status == "none" else _webhook_tail(hook)
    return job_without_webhook(job)[:-1] + told


def _webhook_tail(hook: WebhookState) -> bytes:
    fields = {
        "status": hook.status,
        "attempts": hook.attempts,
        "last_status_code": hook.last_status_code,
        "next_attempt_at": seconds(hook.next_attempt_ms),
    }
    return b',"webhook":' + dump(fields) + b"}"


NO_WEBHOOK_TAIL = _webhook_tail(NO_WEBHOOK)


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
    if job.webhook.version:
        return b'"%d.%d"' % (job.version, job.webhook.version)
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
