"""The table of what follows a failed call, row by row."""

from dataclasses import replace

import pytest

from jobs.record import RetryPolicy, Usage
from worker.outcome import Failure, FailureKind, RateHeaders
from worker.retry import (
    AttemptState,
    Charge,
    GiveUp,
    GiveUpCode,
    Pause,
    PauseReason,
    Retry,
    WindowEffect,
    backoff_s,
    decide,
)

USAGE = Usage(9, 4, 13, 0, "provider")
RULES: list[RetryPolicy] = ["safe", "never"]


def failure(
    kind: FailureKind, *, retry_after_s: float | None = None, usage: Usage | None = None, sent: bool = True
) -> Failure:
    return Failure(kind, "as told", sent, headers=RateHeaders(retry_after_s=retry_after_s), usage=usage)


def decided(
    kind: FailureKind, state: AttemptState | None = None, *, retry_after_s: float | None = None
) -> Retry | GiveUp:
    return decide(failure(kind, retry_after_s=retry_after_s), state or AttemptState(), jitter=0.5)


@pytest.mark.parametrize("rule", RULES)
def test_no_connection_is_tried_again_with_backoff_and_does_not_count(rule: RetryPolicy) -> None:
    state = AttemptState(attempt=2, throttled_in_row=4, unconnected_in_row=2, retry=rule)
    assert decided(FailureKind.NOT_SENT_CONNECT, state) == Retry(2.0, False, "given_back")


def test_the_tenth_time_without_a_connection_ends_the_job() -> None:
    ninth = AttemptState(unconnected_in_row=8)
    assert isinstance(decided(FailureKind.NOT_SENT_CONNECT, ninth), Retry)
    tenth = decided(FailureKind.NOT_SENT_CONNECT, AttemptState(unconnected_in_row=9))
    assert isinstance(tenth, GiveUp)
    assert (tenth.code, tenth.window, tenth.charge) == ("provider_failed", "given_back", "nothing")
    assert "base_url" in tenth.message
    assert "as told" in tenth.message


@pytest.mark.parametrize("rule", RULES)
def test_a_call_too_late_goes_back_at_once_as_if_it_had_not_been(rule: RetryPolicy) -> None:
    state = AttemptState(attempt=5, throttled_in_row=9, unconnected_in_row=9, unknown_attempts=2, retry=rule)
    assert decided(FailureKind.TOO_LATE, state) == Retry(0.0, False, "given_back")


@pytest.mark.parametrize("rule", RULES)
def test_a_429_waits_as_asked_pauses_the_pool_and_does_not_count(rule: RetryPolicy) -> None:
    state = AttemptState(attempt=5, throttled_in_row=3, unconnected_in_row=3, retry=rule)
    pause = Pause(17.0, "throttled", alarm=False)
    decision = decided(FailureKind.THROTTLED, state, retry_after_s=17.0)
    assert decision == Retry(17.0, False, "tokens_back", pause)


def test_a_429_that_asks_nothing_backs_off_at_least_a_second() -> None:
    first = decided(FailureKind.THROTTLED)
    assert isinstance(first, Retry)
    assert first.after_s == 1.0
    fifth = decided(FailureKind.THROTTLED, AttemptState(throttled_in_row=4))
    assert isinstance(fifth, Retry)
    assert fifth.after_s == 8.0
    assert fifth.pause == Pause(8.0, "throttled", alarm=False)


def test_ten_429s_in_a_row_end_the_job_and_still_pause_the_pool() -> None:
    ninth = AttemptState(throttled_in_row=8)
    assert isinstance(decided(FailureKind.THROTTLED, ninth), Retry)
    tenth = decided(FailureKind.THROTTLED, AttemptState(throttled_in_row=9), retry_after_s=2.0)
    assert isinstance(tenth, GiveUp)
    assert (tenth.code, tenth.window, tenth.charge) == ("provider_failed", "tokens_back", "nothing")
    assert tenth.pause == Pause(2.0, "throttled", alarm=False)


def test_a_request_larger_than_the_limit_ends_the_job_for_nothing() -> None:
    decision = decided(FailureKind.REQUEST_TOO_LARGE)
    assert decision == GiveUp("job_too_large", "as told", "given_back", "nothing")


@pytest.mark.parametrize("rule", RULES)
def test_a_server_error_is_tried_again_up_to_five_attempts(rule: RetryPolicy) -> None:
    state = AttemptState(attempt=4, throttled_in_row=2, unconnected_in_row=2, retry=rule)
    assert decided(FailureKind.SERVER_ERROR, state) == Retry(4.0, True, "kept")
    last = decided(FailureKind.SERVER_ERROR, replace(state, attempt=5))
    assert isinstance(last, GiveUp)
    assert (last.code, last.window, last.charge) == ("provider_failed", "kept", "nothing")


def test_a_server_error_that_asks_for_a_wait_gets_it() -> None:
    decision = decided(FailureKind.SERVER_ERROR, retry_after_s=30.0)
    assert isinstance(decision, Retry)
    assert decision.after_s == 30.0


def test_an_unknown_outcome_is_tried_again_up_to_three_times_where_that_is_safe() -> None:
    state = AttemptState(attempt=2, unknown_attempts=1, throttled_in_row=2)
    assert decided(FailureKind.UNKNOWN, state) == Retry(1.0, True, "in_flight")
    last = decided(FailureKind.UNKNOWN, AttemptState(attempt=3, unknown_attempts=2))
    assert isinstance(last, GiveUp)
    assert (last.code, last.window, last.charge) == ("provider_failed", "in_flight", "nothing")


def test_unknown_outcomes_among_server_errors_end_with_the_fifth_attempt() -> None:
    last = decided(FailureKind.UNKNOWN, AttemptState(attempt=5))
    assert isinstance(last, GiveUp)
    assert last.code == "provider_failed"


@pytest.mark.parametrize(("usage", "charge"), [(None, "estimate"), (USAGE, "usage")])
def test_an_unknown_outcome_ends_a_job_that_is_never_repeated(usage: Usage | None, charge: Charge) -> None:
    decision = decide(failure(FailureKind.UNKNOWN, usage=usage), AttemptState(retry="never"), jitter=0.5)
    assert isinstance(decision, GiveUp)
    assert (decision.code, decision.window, decision.charge) == ("outcome_unknown", "in_flight", charge)


@pytest.mark.parametrize("kind", [FailureKind.REJECTED, FailureKind.FORBIDDEN])
@pytest.mark.parametrize(("usage", "charge"), [(None, "nothing"), (USAGE, "usage")])
def test_a_rejection_ends_the_job_with_the_providers_message(
    kind: FailureKind, usage: Usage | None, charge: Charge
) -> None:
    decision = decide(failure(kind, usage=usage), AttemptState(), jitter=0.5)
    assert decision == GiveUp("provider_rejected", "as told", "kept", charge)


def test_what_was_rejected_before_it_was_sent_takes_nothing_from_the_window() -> None:
    decision = decide(failure(FailureKind.REJECTED, sent=False), AttemptState(), jitter=0.5)
    assert decision == GiveUp("provider_rejected", "as told", "given_back", "nothing")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (FailureKind.UNAUTHORIZED, "unauthorized"),
        (FailureKind.QUOTA, "insufficient_quota"),
        (FailureKind.FORBIDDEN, "forbidden"),
    ],
)
@pytest.mark.parametrize("rule", RULES)
def test_what_only_an_operator_can_mend_pauses_the_pool_and_the_job_waits(
    kind: FailureKind, reason: PauseReason, rule: RetryPolicy
) -> None:
    state = AttemptState(
        attempt=5, throttled_in_row=9, unconnected_in_row=9, retry=rule, forbidden_widely=True
    )
    pause = Pause(30.0, reason, alarm=True)
    assert decided(kind, state) == Retry(0.0, False, "given_back", pause)


@pytest.mark.parametrize(
    ("sent", "usage", "window", "charge"),
    [
        (False, None, "given_back", "nothing"),
        (True, None, "in_flight", "estimate"),
        (True, USAGE, "in_flight", "usage"),
    ],
)
def test_a_call_cut_off_costs_what_was_told_or_the_estimate_if_it_was_sent(
    sent: bool, usage: Usage | None, window: WindowEffect, charge: Charge
) -> None:
    decision = decide(failure(FailureKind.CANCELLED, usage=usage, sent=sent), AttemptState(), jitter=0.5)
    assert decision == GiveUp("cancelled", "as told", window, charge)


@pytest.mark.parametrize(
    ("kind", "rule", "window", "charge"),
    [
        (FailureKind.NOT_SENT_CONNECT, "safe", "given_back", "nothing"),
        (FailureKind.TOO_LATE, "safe", "given_back", "nothing"),
        (FailureKind.THROTTLED, "safe", "tokens_back", "nothing"),
        (FailureKind.SERVER_ERROR, "never", "kept", "nothing"),
        (FailureKind.UNKNOWN, "safe", "in_flight", "estimate"),
        (FailureKind.UNKNOWN, "never", "in_flight", "estimate"),
        (FailureKind.UNAUTHORIZED, "safe", "given_back", "nothing"),
    ],
)
def test_a_job_whose_cancel_was_asked_for_is_not_tried_again(
    kind: FailureKind, rule: RetryPolicy, window: WindowEffect, charge: Charge
) -> None:
    state = AttemptState(retry=rule, cancel_requested=True)
    decision = decided(kind, state)
    assert isinstance(decision, GiveUp)
    assert (decision.code, decision.window, decision.charge) == ("cancelled", window, charge)


def test_a_cancel_still_pauses_the_pool_that_was_found_broken() -> None:
    decision = decided(FailureKind.UNAUTHORIZED, AttemptState(cancel_requested=True))
    assert decision.pause == Pause(30.0, "unauthorized", alarm=True)


@pytest.mark.parametrize(
    ("kind", "state", "code"),
    [
        (FailureKind.REJECTED, AttemptState(), "provider_rejected"),
        (FailureKind.REQUEST_TOO_LARGE, AttemptState(), "job_too_large"),
        (FailureKind.SERVER_ERROR, AttemptState(attempt=5), "provider_failed"),
    ],
)
def test_a_complete_answer_that_ends_the_job_wins_over_its_cancel(
    kind: FailureKind, state: AttemptState, code: GiveUpCode
) -> None:
    decision = decided(kind, replace(state, cancel_requested=True))
    assert isinstance(decision, GiveUp)
    assert decision.code == code


@pytest.mark.parametrize("rule", RULES)
def test_only_what_waits_for_an_operator_or_for_us_may_go_on_for_ever(rule: RetryPolicy) -> None:
    state = AttemptState(5, throttled_in_row=9, unconnected_in_row=9, unknown_attempts=2, retry=rule)
    endless = {kind for kind in FailureKind if isinstance(decided(kind, state), Retry)}
    assert endless == {FailureKind.TOO_LATE, FailureKind.UNAUTHORIZED, FailureKind.QUOTA}


@pytest.mark.parametrize("rule", RULES)
def test_never_is_sent_again_only_after_a_complete_answer_or_none_sent(rule: RetryPolicy) -> None:
    again = {kind for kind in FailureKind if isinstance(decided(kind, AttemptState(retry=rule)), Retry)}
    assert (FailureKind.UNKNOWN in again) == (rule == "safe")
    assert FailureKind.CANCELLED not in again


def test_backoff_is_a_share_of_a_doubling_wait_up_to_a_minute() -> None:
    assert [backoff_s(nth, 1.0) for nth in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff_s(10**9, 0.999) < 60
    assert backoff_s(5, 0.0) == 0


def test_messages_stay_within_their_bound() -> None:
    long = Failure(FailureKind.UNKNOWN, "x" * 2_000, sent=True)
    decision = decide(long, AttemptState(retry="never"), jitter=0.0)
    assert isinstance(decision, GiveUp)
    assert len(decision.message) == 2_000
