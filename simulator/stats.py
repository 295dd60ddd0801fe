"""The simulator's totals, as `GET /_stats` shows them: what a test of a hard limit looks at."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelStats:
    """One model's totals and its greatest 60 seconds."""

    requests: int
    tokens_charged: int
    greatest_requests_in_60s: int
    greatest_tokens_in_60s: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Totals since the start or the last `DELETE /_log`.

    `requests` are those that counted against the requests per minute: all but those with a wrong key.
    `status_429` are all 429s sent, the `refused_*` those for a limit that was really passed (`too_large`: for
    a request larger than the limit). A greatest figure is the sum of all charges in (t - 60 s, t], for the
    worst t. `bucket_*` is what is left now, None without a limit. `by_status` has `none` for calls that got
    no answer.
    """

    requests: int
    in_flight: int
    status_429: int
    refused_tokens: int
    refused_requests: int
    refused_too_large: int
    tokens_charged: int
    greatest_tokens_in_60s: int
    greatest_requests_in_60s: int
    bucket_tokens: float | None
    bucket_requests: float | None
    redirects_followed: int
    log_dropped: int
    by_status: Mapping[str, int]
    by_model: Mapping[str, ModelStats]
