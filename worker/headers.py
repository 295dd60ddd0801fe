"""Reading what a provider's headers say of its limits: numbers, waits and times, in all their spellings.

Pure functions, used by the call on every answer. Whatever is absent, `-1`, `0/0` or nonsense reads None: a
limit is only ever learned from a value that can be one.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

from worker.outcome import RateHeaders

RETRY_AFTER_MIN_S: Final = 1.0
RETRY_AFTER_MAX_S: Final = 3600.0
RESET_MAX_S: Final = 31 * 86400.0

_CHARS_MAX = 64
_WHOLE = re.compile(r"[0-9]{1,15}")
_DECIMAL = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_GO_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_GO_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_HTTP_DATE = re.compile(r"[A-Za-z]{3,9}, .+|[A-Za-z]{3} .+")
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)


class _Window(NamedTuple):
    """What one family of headers tells of one limit."""

    limit: int | None = None
    remaining: int | None = None
    reset_s: float | None = None


_NOTHING = _Window()


def parse_rate_headers(headers: Mapping[str, str], now_s: float) -> RateHeaders:
    """All that `headers` (looked up by lower-case name) tell; `now_s` is the answer's time, Unix seconds.

    `x-ratelimit-*` (OpenAI and its likes) goes before `anthropic-ratelimit-*`; of the latter, `tokens` is
    the tightest limit in force and `input-tokens` stands in where it is missing.
    """
    tokens = _first(
        _read(headers, "x-ratelimit-{}-tokens", now_s),
        _read(headers, "anthropic-ratelimit-tokens-{}", now_s),
        _read(headers, "anthropic-ratelimit-input-tokens-{}", now_s),
    )
    requests = _first(
        _read(headers, "x-ratelimit-{}-requests", now_s),
        _read(headers, "anthropic-ratelimit-requests-{}", now_s),
    )
    return RateHeaders(
        limit_tokens=tokens.limit,
        remaining_tokens=tokens.remaining,
        reset_tokens_s=tokens.reset_s,
        limit_requests=requests.limit,
        remaining_requests=requests.remaining,
        reset_requests_s=requests.reset_s,
        retry_after_s=parse_retry_after_s(headers, now_s),
    )


def parse_retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """The wait asked for, in seconds within 1 s and 1 h: `retry-after-ms`, else `retry-after` (RFC 9110).

    Zero, and a date that has passed, ask for "at once" and read 1 s; what is negative or no wait reads None.
    """
    wait_ms = _decimal(headers.get("retry-after-ms"))
    if wait_ms is not None:
        wait_s: float | None = wait_ms / 1000
    else:
        value = headers.get("retry-after")
        wait_s = _decimal(value)
        if wait_s is None and (at_s := parse_http_date_s(value)) is not None:
            wait_s = at_s - now_s
    if wait_s is None:
        return None
    return min(max(wait_s, RETRY_AFTER_MIN_S), RETRY_AFTER_MAX_S)


def parse_reset_s(value: str | None, now_s: float) -> float | None:
    """Seconds until a window is full again, from a Go duration, an RFC 3339 time or plain seconds."""
    if value is None:
        return None
    seconds = _decimal(value)
    if seconds is None:
        seconds = parse_go_duration_s(value)
    if seconds is None and (at_s := _rfc3339_s(value)) is not None:
        seconds = max(at_s - now_s, 0.0)
    return seconds if seconds is not None and seconds <= RESET_MAX_S else None


def parse_go_duration_s(value: str) -> float | None:
    """Seconds of a Go duration (`6m0s`, `9ms`, `1h2m3.5s`), None if it is none or negative.

    The grammar is that of Go's time.ParseDuration.
    """
    value = value.strip().removeprefix("+")
    if value == "0":
        return 0.0
    if not value or len(value) > _CHARS_MAX:
        return None
    seconds, end = 0.0, 0
    for part in _GO_PART.finditer(value):
        if part.start() != end:
            return None
        seconds += float(part[1]) * _GO_UNIT_S[part[2]]
        end = part.end()
    return seconds if end == len(value) and math.isfinite(seconds) else None


def parse_http_date_s(value: str | None) -> float | None:
    """Unix seconds of an HTTP date (RFC 9110, 5.6.7); None if it is none."""
    if value is None or len(value) > _CHARS_MAX or not _HTTP_DATE.fullmatch(value.strip()):
        return None
    try:
        at = parsedate_to_datetime(value)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _read(headers: Mapping[str, str], name: str, now_s: float) -> _Window:
    told = headers.get(name.format("limit"))
    limit = _whole(told)
    if told is not None and not limit:
        # -1, 0/0 and the like are how gateways without a limit fill these headers in.
        return _NOTHING
    return _Window(
        limit=limit,
        remaining=_whole(headers.get(name.format("remaining"))),
        reset_s=parse_reset_s(headers.get(name.format("reset")), now_s),
    )


def _first(*windows: _Window) -> _Window:
    return next((w for w in windows if w.limit is not None or w.remaining is not None), _NOTHING)


def _whole(value: str | None) -> int | None:
    value = "" if value is None else value.strip()
    return int(value) if _WHOLE.fullmatch(value) else None


def _decimal(value: str | None) -> float | None:
    value = "" if value is None else value.strip()
    return float(value) if len(value) <= _CHARS_MAX and _DECIMAL.fullmatch(value) else None


def _rfc3339_s(value: str) -> float | None:
    value = value.strip()
    if len(value) > _CHARS_MAX or not _RFC3339.fullmatch(value):
        return None
    try:
        return datetime.fromisoformat(value.upper()).timestamp()
    except (ValueError, OverflowError):
        return None
