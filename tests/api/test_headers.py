"""The limit headers, and when to come back."""

from dataclasses import replace

import pytest

from api.headers import go_duration, limit_headers, poll_after_s, seconds_up
from jobs.record import JobView, LimitsView, State
from tests.api.harness import NOON_MS

LIMITS = LimitsView(
    user="ann",
    tier="free",
    requests_limit=20,
    requests_window_ms=60_000,
    requests_remaining=19,
    requests_reset_ms=60_000,
    blocked_until_ms=None,
    block_ms=60_000,
    requests_per_day=None,
    tokens_limit=50_000,
    tokens_used=1_000,
    tokens_reserved=500,
    tokens_reset_ms=43_200_000,
    day="2026-11-23",
    max_concurrent=5,
    running=0,
    queued_jobs=0,
    queued_tokens=0,
    max_queued_jobs=None,
    max_queued_tokens=None,
    now_ms=NOON_MS,
)

JOB = JobView(
    id="job_01M83K5MCCW2YQ3MVT6HYZ8AP8",
    user="ann",
    name="m",
    state=State.QUEUED,
    endpoint="/v1/chat/completions",
    priority="standard",
    custom_id=None,
    metadata={},
    created_ms=NOON_MS,
    started_ms=None,
    finished_ms=None,
    expires_ms=NOON_MS + 86_400_000,
    attempts=0,
    estimated_tokens=59,
    version=1,
)


def told(limits: LimitsView) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in limit_headers(limits)}


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (1, "1ms"),
        (120, "120ms"),
        (999, "999ms"),
        (1_000, "1s"),
        (1_500, "1.5s"),
        (57_000, "57s"),
        (57_003, "57.003s"),
        (60_000, "1m0s"),
        (360_000, "6m0s"),
        (3_600_000, "1h0m0s"),
        (86_399_990, "23h59m59.99s"),
    ],
)
def test_a_duration_is_written_as_go_does(ms: int, text: str) -> None:
    assert go_duration(ms) == text


@pytest.mark.parametrize(("ms", "seconds"), [(-1, 1), (0, 1), (1, 1), (1_000, 1), (1_001, 2), (59_999, 60)])
def test_a_time_to_come_back_is_rounded_up_and_never_0(ms: int, seconds: int) -> None:
    assert seconds_up(ms) == seconds


def test_every_limit_is_told() -> None:
    assert told(LIMITS) == {
        "x-ratelimit-limit-requests": "20",
        "x-ratelimit-remaining-requests": "19",
        "x-ratelimit-reset-requests": "1m0s",
        "x-ratelimit-limit-tokens": "50000",
        "x-ratelimit-remaining-tokens": "48500",
        "x-ratelimit-reset": str(NOON_MS // 1000 + 43_200),
        "x-ratelimit-reset-tokens": "12h0m0s",
        "ratelimit-policy": '"requests";q=20;w=60, "daily-tokens";q=50000;w=86400',
        "ratelimit": '"requests";r=19;t=60, "daily-tokens";r=48500;t=43200',
    }


def test_the_time_to_midnight_is_exact_within_a_second() -> None:
    limits = replace(LIMITS, now_ms=NOON_MS + 123, tokens_reset_ms=43_200_000 - 123, requests_reset_ms=1)
    assert told(limits)["x-ratelimit-reset"] == str(NOON_MS // 1000 + 43_200)
    assert told(limits)["x-ratelimit-reset-requests"] == "1ms"
    assert told(limits)["ratelimit"] == '"requests";r=19;t=1, "daily-tokens";r=48500;t=43200'


def test_more_used_than_there_was_reads_0() -> None:
    assert told(replace(LIMITS, tokens_used=60_000))["x-ratelimit-remaining-tokens"] == "0"


def test_an_unlimited_tier_has_no_token_limit() -> None:
    headers = told(replace(LIMITS, tokens_limit=None))
    assert "x-ratelimit-limit-tokens" not in headers
    assert "x-ratelimit-remaining-tokens" not in headers
    assert headers["ratelimit"] == '"requests";r=19;t=60'


def test_a_tier_without_any_limit_has_no_policy() -> None:
    headers = told(replace(LIMITS, tokens_limit=None, requests_limit=None, requests_remaining=None))
    assert headers.keys() == {"x-ratelimit-reset", "x-ratelimit-reset-tokens"}


@pytest.mark.parametrize(
    ("state", "start_in_ms", "seconds"),
    [
        (State.QUEUED, None, 1),
        (State.QUEUED, -5_000, 1),
        (State.QUEUED, 2_100, 3),
        (State.QUEUED, 86_400_000, 60),
        (State.RUNNING, 86_400_000, 1),
    ],
)
def test_polling_follows_the_estimated_start(state: State, start_in_ms: int | None, seconds: int) -> None:
    start_ms = None if start_in_ms is None else NOON_MS + start_in_ms
    assert poll_after_s(replace(JOB, state=state, estimated_start_ms=start_ms), NOON_MS) == seconds
