"""The limit headers of every answer under /v1/jobs, and the time to come back: pure functions of a `LimitsView`.

Formats: Go's time.Duration.String for `X-RateLimit-Reset-*` (as OpenAI's clients parse it), and
draft-ietf-httpapi-ratelimit-headers-11 for `RateLimit-Policy` and `RateLimit`.
"""

from datetime import UTC, datetime

from api.answers import Header
from jobs.record import JobView, LimitsView, State

DAY_S = 86_400
_LONGEST_POLL_S = 60


def seconds_up(ms: int) -> int:
    """Whole seconds, rounded up, at least 1: whoever waits so long has waited long enough."""
    return max(1, -(-ms // 1000))


def go_duration(ms: int) -> str:
    """A duration as Go prints it: `120ms`, `57s`, `1.5s`, `6m0s`, `1h0m0s`; never negative."""
    ms = max(0, ms)
    if ms == 0:
        return "0s"
    if ms < 1000:
        return f"{ms}ms"
    seconds, rest = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{rest:03d}".rstrip("0") if rest else ""
    text = f"{seconds}{fraction}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def midnight_s(limits: LimitsView) -> int:
    """Unix seconds of the next 00:00 UTC."""
    return -(-(limits.now_ms + limits.tokens_reset_ms) // 1000)


def rfc3339(unix_s: int) -> str:
    """A time in UTC as RFC 3339 writes it."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def limit_headers(limits: LimitsView) -> list[Header]:
    """What is left of the caller's limits; an unlimited one is left out."""
    headers: list[Header] = []
    policies, states = [], []
    reset_s = -(-limits.tokens_reset_ms // 1000)
    if limits.requests_limit is not None:
        remaining = max(0, limits.requests_remaining or 0)
        headers += [
            (b"x-ratelimit-limit-requests", b"%d" % limits.requests_limit),
            (b"x-ratelimit-remaining-requests", b"%d" % remaining),
            (b"x-ratelimit-reset-requests", go_duration(limits.requests_reset_ms).encode()),
        ]
        policies.append(b'"requests";q=%d;w=%d' % (limits.requests_limit, limits.requests_window_ms // 1000))
        states.append(b'"requests";r=%d;t=%d' % (remaining, max(0, -(-limits.requests_reset_ms // 1000))))
    if limits.tokens_limit is not None:
        left = limits.tokens_remaining or 0
        headers += [
            (b"x-ratelimit-limit-tokens", b"%d" % limits.tokens_limit),
            (b"x-ratelimit-remaining-tokens", b"%d" % left),
        ]
        policies.append(b'"daily-tokens";q=%d;w=%d' % (limits.tokens_limit, DAY_S))
        states.append(b'"daily-tokens";r=%d;t=%d' % (left, reset_s))
    headers += [
        (b"x-ratelimit-reset", b"%d" % midnight_s(limits)),
        (b"x-ratelimit-reset-tokens", go_duration(limits.tokens_reset_ms).encode()),
    ]
    if policies:
        headers += [(b"ratelimit-policy", b", ".join(policies)), (b"ratelimit", b", ".join(states))]
    return headers


def poll_after_s(job: JobView, now_ms: int) -> int:
    """A sensible time to ask again for an unfinished job: its own estimate where there is one, 1 to 60 s."""
    if job.state is State.RUNNING or job.estimated_start_ms is None:
        return 1
    return min(_LONGEST_POLL_S, seconds_up(job.estimated_start_ms - now_ms))
