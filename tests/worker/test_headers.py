"""What a provider's headers say of its limits, in all their spellings."""

from datetime import UTC, datetime

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.headers import (
    parse_go_duration_s,
    parse_http_date_s,
    parse_rate_headers,
    parse_reset_s,
    parse_retry_after_s,
)
from worker.outcome import NO_HEADERS, RateHeaders

NOW_S = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC).timestamp()
NONSENSE = [
    "",
    " ",
    "-1",
    "-5s",
    "soon",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "1e3",
    "١٢",
    "1_000",
    "0x10",
    "5s 3",
    "NULL",
]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("6m0s", 360.0),
        ("9ms", 0.009),
        ("1h2m3.5s", 3723.5),
        ("1s", 1.0),
        ("120ms", 0.12),
        ("500us", 0.0005),
        ("500µs", 0.0005),
        ("500μs", 0.0005),
        ("7ns", 7e-9),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("+3s", 3.0),
        ("0", 0.0),
        ("0s", 0.0),
        ("2m59.56s", 179.56),
        (" 8.64s ", 8.64),
    ],
)
def test_go_durations_read_as_seconds(value: str, seconds: float) -> None:
    assert parse_go_duration_s(value) == pytest.approx(seconds, abs=1e-12)


@pytest.mark.parametrize(
    "value", [*NONSENSE, "1", "6m0", "s", "1s2", "1d", "m6", "1 s", "1s1s1" * 20, "9" * 400 + "s"]
)
def test_what_is_no_go_duration_reads_nothing(value: str) -> None:
    assert parse_go_duration_s(value) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2026-11-23T12:00:30Z", 30.0),
        ("2026-11-23t12:00:30.250z", 30.25),
        ("2026-11-23T13:00:30+01:00", 30.0),
        ("2026-11-23T11:59:00Z", 0.0),
        ("12", 12.0),
        ("0.5", 0.5),
        ("6m0s", 360.0),
    ],
)
def test_resets_read_as_seconds_from_now_on(value: str, seconds: float) -> None:
    assert parse_reset_s(value, NOW_S) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [*NONSENSE, None, "2026-11-23T12:00:30", "2026-13-23T12:00:30Z", "2099-01-01T00:00:00Z", "1790000000"],
)
def test_what_is_no_reset_reads_nothing(value: str | None) -> None:
    assert parse_reset_s(value, NOW_S) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after": "0"}, 1.0),
        ({"retry-after": "0.2"}, 1.0),
        ({"retry-after": "86400"}, 3600.0),
        ({"retry-after": "99999999999999999999"}, 3600.0),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:20 GMT"}, 20.0),
        ({"retry-after": "Monday, 23-Nov-26 12:00:20 GMT"}, 20.0),
        ({"retry-after": "Mon, 23 Nov 2026 11:00:00 GMT"}, 1.0),
        ({"retry-after": "Tue, 24 Nov 2026 12:00:00 GMT"}, 3600.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "0", "retry-after": "9"}, 1.0),
        ({"retry-after-ms": "-1", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
    ],
)
def test_retry_after_is_taken_within_a_second_and_an_hour(headers: dict[str, str], seconds: float) -> None:
    assert parse_retry_after_s(headers, NOW_S) == seconds


@pytest.mark.parametrize(
    "value", [*NONSENSE, "Mon, 99 Nov 2026 12:00:20 GMT", "Mon, 23 Nov 99999 12:00:20 GMT", "5 5"]
)
def test_a_retry_after_that_is_none_reads_nothing(value: str) -> None:
    assert parse_retry_after_s({"retry-after": value}, NOW_S) is None
    assert parse_retry_after_s({"retry-after-ms": value}, NOW_S) is None
    assert parse_retry_after_s({}, NOW_S) is None


def test_openai_headers_are_read_whatever_their_case() -> None:
    headers = httpx2.Headers(
        {
            "X-RateLimit-Limit-Tokens": "200000",
            "X-RateLimit-Remaining-Tokens": "199500",
            "X-RateLimit-Reset-Tokens": "150ms",
            "X-RateLimit-Limit-Requests": "5000",
            "X-RateLimit-Remaining-Requests": "0",
            "X-RateLimit-Reset-Requests": "1m2s",
            "Retry-After": "3",
        }
    )
    assert parse_rate_headers(headers, NOW_S) == RateHeaders(200000, 199500, 0.15, 5000, 0, 62.0, 3.0)


def test_anthropic_headers_are_read_with_their_times() -> None:
    headers = {
        "anthropic-ratelimit-tokens-limit": "80000",
        "anthropic-ratelimit-tokens-remaining": "79000",
        "anthropic-ratelimit-tokens-reset": "2026-11-23T12:00:10Z",
        "anthropic-ratelimit-input-tokens-limit": "50000",
        "anthropic-ratelimit-requests-limit": "60",
        "anthropic-ratelimit-requests-remaining": "59",
        "anthropic-ratelimit-requests-reset": "2026-11-23T12:00:01Z",
    }
    assert parse_rate_headers(headers, NOW_S) == RateHeaders(80000, 79000, 10.0, 60, 59, 1.0, None)


def test_anthropic_input_tokens_stand_in_where_no_total_is_told() -> None:
    headers = {
        "anthropic-ratelimit-input-tokens-limit": "50000",
        "anthropic-ratelimit-input-tokens-remaining": "49000",
    }
    read = parse_rate_headers(headers, NOW_S)
    assert (read.limit_tokens, read.remaining_tokens) == (50000, 49000)


@pytest.mark.parametrize(
    ("limit", "remaining"),
    [("-1", "-1"), ("0", "0"), ("0", "17"), ("-1", "17"), ("unlimited", "17"), ("", "")],
)
def test_a_limit_that_is_none_makes_its_remaining_and_reset_mean_nothing(limit: str, remaining: str) -> None:
    headers = {
        "x-ratelimit-limit-tokens": limit,
        "x-ratelimit-remaining-tokens": remaining,
        "x-ratelimit-reset-tokens": "5s",
    }
    assert parse_rate_headers(headers, NOW_S) == NO_HEADERS


def test_a_remaining_without_a_limit_is_heard() -> None:
    headers = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "5s"}
    assert parse_rate_headers(headers, NOW_S) == RateHeaders(remaining_tokens=0, reset_tokens_s=5.0)


@pytest.mark.parametrize("value", NONSENSE)
def test_nonsense_in_every_header_reads_nothing(value: str) -> None:
    names = ["x-ratelimit-{}-tokens", "x-ratelimit-{}-requests", "anthropic-ratelimit-tokens-{}"]
    headers = {name.format(part): value for name in names for part in ("limit", "remaining", "reset")}
    assert parse_rate_headers(headers | {"retry-after": value}, NOW_S) == NO_HEADERS


@given(st.text(max_size=80) | st.from_regex(r"\s?[-+]?[0-9.]{1,5}\s?[a-z]{0,2}\s?"))
def test_no_value_breaks_a_parser(value: str) -> None:
    reset_s = parse_reset_s(value, NOW_S)
    assert reset_s is None or 0 <= reset_s <= 31 * 86400
    wait_s = parse_retry_after_s({"retry-after": value}, NOW_S)
    assert wait_s is None or 1 <= wait_s <= 3600
    parse_http_date_s(value)
    parse_rate_headers({"x-ratelimit-limit-tokens": value, "x-ratelimit-remaining-tokens": value}, NOW_S)
