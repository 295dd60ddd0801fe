"""What the submit script refused, as answers."""

from api.errors import FieldError, Problem, retry_after
from api.fit import too_large
from api.headers import limit_headers, midnight_s, rfc3339, seconds_up
from jobs.record import LimitsView, SubmitRefused


def refusal(refused: SubmitRefused, *, estimated_tokens: int, upgrade_url: str | None) -> Problem:
    """The answer to a submission that was not accepted."""
    limits = refused.limits
    match refused.reason:
        case "rate_limited":
            return rate_limited(limits, refused.wait_ms)
        case "budget_exhausted":
            return _budget_exhausted(refused, estimated_tokens, upgrade_url)
        case "queue_full":
            wait_s = seconds_up(refused.wait_ms or 0)
            return Problem(
                "queue_full",
                f"{limits.queued_jobs} jobs with {limits.queued_tokens} tokens are waiting already: "
                "let some of them end, or cancel some.",
                extra={"retry_after": wait_s},
                headers=(retry_after(wait_s), *limit_headers(limits)),
            )
        case "job_too_large":
            return _beyond_limits(int(refused.detail), estimated_tokens)
        case "idempotency_key_reused":
            return Problem(
                "idempotency_key_reused",
                "This Idempotency-Key came with another payload before: a key belongs to one payload for good.",
                errors=(FieldError("Idempotency-Key", "was used for another payload"),),
            )


def rate_limited(limits: LimitsView, wait_ms: int | None) -> Problem:
    """429: the request limit, a minute's or a day's."""
    wait_s = seconds_up(wait_ms or 0)
    limit: int | None
    if (
        limits.blocked_until_ms is None
        and limits.requests_per_day is not None
        and limits.requests_remaining != 0
    ):
        limit, window_s = limits.requests_per_day, 86_400
    else:
        limit, window_s = limits.requests_limit, limits.requests_window_ms // 1000
    return Problem(
        "rate_limited",
        f"More than {limit} requests in {window_s} s: come back in {wait_s} s.",
        extra={"retry_after": wait_s, "limit": limit, "window_s": window_s},
        headers=(retry_after(wait_s), *limit_headers(limits)),
    )


def _budget_exhausted(refused: SubmitRefused, estimated_tokens: int, upgrade_url: str | None) -> Problem:
    limits = refused.limits
    wait_ms = limits.tokens_reset_ms if refused.wait_ms is None else refused.wait_ms
    reset_s = -(-(limits.now_ms + wait_ms) // 1000) if wait_ms else midnight_s(limits)
    wait_s = seconds_up(wait_ms)
    left = limits.tokens_remaining
    extra: dict[str, object] = {
        "retry_after": wait_s,
        "reset_at": rfc3339(reset_s),
        "limit": limits.tokens_limit,
        "remaining": left,
        "estimated_tokens": estimated_tokens,
    }
    if upgrade_url is not None:
        extra["upgrade_url"] = upgrade_url
    if left is None or left >= estimated_tokens:
        whose = "today's tokens of all callers without a key are used up"
    else:
        whose = f"{left} are left of today's {limits.tokens_limit}"
    return Problem(
        "budget_exhausted",
        f"The job may need {estimated_tokens} tokens, and {whose}: come back after {rfc3339(reset_s)}, "
        "or submit it with on_budget: wait.",
        extra=extra,
        headers=(retry_after(wait_s), *limit_headers(limits)),
    )


def _beyond_limits(most_tokens: int, estimated_tokens: int) -> Problem:
    """The least of what a whole day's budget and an empty queue could take."""
    return too_large(
        f"The job may need {estimated_tokens} tokens, and the limits of its user never take more than {most_tokens}: "
        "shorten the prompt, or lower max_tokens or n.",
        fits={"total_tokens": most_tokens},
        pointer="/body",
        message=f"may need at most {most_tokens} tokens",
        estimated_tokens=estimated_tokens,
    )
