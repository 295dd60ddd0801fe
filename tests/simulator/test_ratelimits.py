"""Rate-limit headers as the providers write them."""

import pytest

from simulator.ratelimits import BucketState, go_duration, rate_limit_headers, retry_headers


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0001, "1ms"),
        (0.009, "9ms"),
        (0.9991, "1s"),
        (1, "1s"),
        (7.66, "7.66s"),
        (59.9999, "1m0s"),
        (60, "1m0s"),
        (90.5, "1m30.5s"),
        (360, "6m0s"),
        (3600, "1h0m0s"),
        (3661.001, "1h1m1.001s"),
    ],
)
def test_go_durations(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


def test_openai_headers_name_limit_remaining_and_reset_of_both_buckets() -> None:
    headers = dict(
        rate_limit_headers(BucketState(60000, 59000, 1), BucketState(600, 599, 0.1), anthropic=False, now_s=0)
    )
    assert headers == {
        b"x-ratelimit-limit-requests": b"600",
        b"x-ratelimit-remaining-requests": b"599",
        b"x-ratelimit-reset-requests": b"100ms",
        b"x-ratelimit-limit-tokens": b"60000",
        b"x-ratelimit-remaining-tokens": b"59000",
        b"x-ratelimit-reset-tokens": b"1s",
    }


def test_anthropic_headers_give_the_reset_as_a_time() -> None:
    headers = dict(rate_limit_headers(BucketState(60000, 0, 59.5), None, anthropic=True, now_s=1_790_000_000))
    assert headers == {
        b"anthropic-ratelimit-tokens-limit": b"60000",
        b"anthropic-ratelimit-tokens-remaining": b"0",
        b"anthropic-ratelimit-tokens-reset": b"2026-09-21T14:14:20Z",
    }


@pytest.mark.parametrize(
    ("wait_s", "seconds", "ms"),
    [(0.0, b"1", b"1"), (0.25, b"1", b"250"), (1.0, b"1", b"1000"), (59.2501, b"60", b"59251")],
)
def test_retry_headers_never_name_a_time_before_the_wait_is_over(
    wait_s: float, seconds: bytes, ms: bytes
) -> None:
    assert dict(retry_headers(wait_s)) == {b"retry-after": seconds, b"retry-after-ms": ms}
