"""What is charged, when, and who is refused, for each kind of accounting."""

import pytest

from simulator.errors import ApiError
from simulator.log import LogEntry
from simulator.meter import Meter
from simulator.settings import Accounting, SimulatorSettings
from tests.simulator.builders import request


def meter(accounting: Accounting, tpm: int | None = 1000, rpm: int | None = None) -> Meter:
    return Meter(SimulatorSettings(tpm=tpm, rpm=rpm, accounting=accounting), 0)


def entry(prompt_tokens: int, completion_tokens: int | None = None) -> LogEntry:
    return LogEntry(1, "req_1", 0, "m", prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)


def test_openai_charges_prompt_and_cap_of_every_answer_on_arrival_and_nothing_later() -> None:
    counted, one = meter(Accounting.OPENAI), request(max_tokens=100, n=3)
    call = entry(one.prompt_tokens, 5)
    counted.arrive(call, one, 1)
    counted.produce(call, 5, 2)
    counted.complete(call, 3)
    assert call.charges == [(1, one.prompt_tokens + 300)]


def test_openai_without_a_cap_charges_an_estimate_as_long_as_the_prompt_but_at_least_16() -> None:
    counted = meter(Accounting.OPENAI, tpm=None)
    short, long = request("hi"), request("word " * 200)
    calls = [entry(short.prompt_tokens), entry(long.prompt_tokens)]
    for call, one in zip(calls, (short, long), strict=True):
        counted.arrive(call, one, 0)
    assert [call.charged_tokens for call in calls] == [short.prompt_tokens + 16, 2 * long.prompt_tokens]


def test_actual_charges_the_usage_once_when_the_answer_is_complete() -> None:
    counted, one = meter(Accounting.ACTUAL), request(max_tokens=900)
    call = entry(one.prompt_tokens, 40)
    counted.arrive(call, one, 0)
    counted.produce(call, 40, 1)
    assert call.charges == []
    counted.complete(call, 2)
    counted.complete(call, 3)
    assert call.charges == [(2, one.prompt_tokens + 40)]


def test_anthropic_charges_input_on_arrival_and_output_as_it_is_made() -> None:
    counted, one = meter(Accounting.ANTHROPIC), request(max_tokens=900)
    call = entry(one.prompt_tokens, 40)
    counted.arrive(call, one, 0)
    counted.produce(call, 15, 1)
    counted.produce(call, 25, 2)
    counted.complete(call, 3)
    assert call.charges == [(0, one.prompt_tokens), (1, 15), (2, 25)]
    assert call.charged_tokens == one.prompt_tokens + 40


def test_a_request_that_does_not_fit_is_told_how_long_to_wait() -> None:
    counted, one = meter(Accounting.OPENAI, tpm=600), request(max_tokens=300)
    counted.arrive(entry(one.prompt_tokens), one, 0)
    with pytest.raises(ApiError, match=r"tokens per min \(TPM\): Limit 600, Used 31\d") as refused:
        counted.check_tokens(one, 0)
    missing = 2 * (one.prompt_tokens + 300) - 600
    headers = dict(refused.value.headers)
    assert refused.value.status == 429
    assert (refused.value.kind, refused.value.code) == ("tokens", "rate_limit_exceeded")
    assert int(headers[b"retry-after-ms"]) == missing * 100
    counted.check_tokens(one, int(headers[b"retry-after-ms"]) / 1000)
    assert counted.refused_tokens == 1


def test_a_refused_request_takes_no_tokens() -> None:
    counted, one = meter(Accounting.OPENAI, tpm=600), request(max_tokens=400)
    counted.arrive(entry(one.prompt_tokens), one, 0)
    level = counted.tokens.level(0) if counted.tokens else None
    with pytest.raises(ApiError):
        counted.check_tokens(one, 0)
    assert counted.tokens is not None
    assert counted.tokens.level(0) == level


@pytest.mark.parametrize("accounting", [Accounting.ACTUAL, Accounting.ANTHROPIC])
def test_without_a_charge_for_the_cap_only_the_prompt_has_to_fit(accounting: Accounting) -> None:
    counted, one = meter(accounting, tpm=100), request(max_tokens=5000)
    counted.check_tokens(one, 0)


def test_actual_refuses_while_the_bucket_is_below_the_prompt() -> None:
    counted, one = meter(Accounting.ACTUAL, tpm=60), request()
    counted.complete(entry(one.prompt_tokens, 100), 0)
    with pytest.raises(ApiError, match="Rate limit reached"):
        counted.check_tokens(one, 0)
    counted.check_tokens(one, 40 + 2 * one.prompt_tokens + 0.001)


def test_a_request_larger_than_the_limit_is_too_large_and_gets_no_time_to_wait() -> None:
    counted = meter(Accounting.OPENAI, tpm=500)
    with pytest.raises(
        ApiError, match=r"Request too large for gpt-4o-mini .* Limit 500, Requested 6\d\d"
    ) as refused:
        counted.check_tokens(request(max_tokens=600), 0)
    assert refused.value.status == 429
    assert refused.value.headers == ()
    assert counted.refused_too_large == 1


def test_requests_are_limited_by_a_bucket_of_their_own() -> None:
    counted = meter(Accounting.OPENAI, rpm=60)
    for _ in range(60):
        counted.count_request("m", 0)
    with pytest.raises(ApiError, match=r"requests per min \(RPM\): Limit 60") as refused:
        counted.count_request("m", 0)
    assert (refused.value.status, refused.value.kind) == (429, "requests")
    counted.count_request("m", 1)
    assert counted.refused_requests == 1


def test_refused_requests_count_so_that_hammering_never_gets_through() -> None:
    counted = meter(Accounting.OPENAI, rpm=60)
    for _ in range(60):
        counted.count_request("m", 0)
    for tenth in range(1, 50):
        with pytest.raises(ApiError):
            counted.count_request("m", tenth / 10)
    counted.count_request("m", 4.9 + 1)
    assert counted.window.total.greatest_requests == 110
