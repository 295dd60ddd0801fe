"""Rate-limit headers as the providers write them: OpenAI's with Go durations, Anthropic's with RFC 3339."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class BucketState:
    """A bucket as its headers show it: whole units left, and the seconds until it is full."""

    limit: int
    remaining: int
    full_in_s: float


def go_duration(seconds: float) -> str:
    """`seconds`, rounded up to a millisecond, as Go prints a duration: `0s`, `9ms`, `7.66s`, `6m0s`,
    `1h0m0s`.
    """
    whole_s, ms = divmod(_ceil_ms(seconds), 1000)
    if whole_s == 0:
        return f"{ms}ms" if ms else "0s"
    minutes, whole_s = divmod(whole_s, 60)
    text = f"{whole_s}.{ms:03d}".rstrip("0").rstrip(".") if ms else str(whole_s)
    if minutes == 0:
        return f"{text}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{text}s" if hours else f"{minutes}m{text}s"


def rate_limit_headers(
    tokens: BucketState | None, requests: BucketState | None, *, anthropic: bool, now_s: float
) -> list[tuple[bytes, bytes]]:
    """Headers for both buckets, none for one that is None; `now_s` is the Unix time resets count from."""
    headers: list[tuple[bytes, bytes]] = []
    for name, state in (("requests", requests), ("tokens", tokens)):
        if state is None:
            continue
        if anthropic:
            values = {
                f"anthropic-ratelimit-{name}-limit": str(state.limit),
                f"anthropic-ratelimit-{name}-remaining": str(state.remaining),
                f"anthropic-ratelimit-{name}-reset": _rfc_3339(now_s + state.full_in_s),
            }
        else:
            values = {
                f"x-ratelimit-limit-{name}": str(state.limit),
                f"x-ratelimit-remaining-{name}": str(state.remaining),
                f"x-ratelimit-reset-{name}": go_duration(state.full_in_s),
            }
        headers.extend((key.encode(), value.encode()) for key, value in values.items())
    return headers


def retry_headers(wait_s: float) -> tuple[tuple[bytes, bytes], ...]:
    """`retry-after` in whole seconds and `retry-after-ms`, neither before the wait is over."""
    return (
        (b"retry-after", str(max(1, math.ceil(wait_s))).encode()),
        (b"retry-after-ms", str(max(1, _ceil_ms(wait_s))).encode()),
    )


def _ceil_ms(seconds: float) -> int:
    # The subtraction keeps a float that is a hair above a whole millisecond from counting as one more.
    return max(0, math.ceil(seconds * 1000 - 1e-6))


def _rfc_3339(unix_s: float) -> str:
    return datetime.fromtimestamp(math.ceil(unix_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
