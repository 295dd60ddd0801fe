"""What follows a failed call: again, and when, or the end of the job. One pure function over one table.

It stands between the call and the scripts: dispatch hands it the Failure and what the job has been through,
and carries out what it says. Nothing here waits, draws a random number or knows of Redis.
"""

from dataclasses import dataclass
from typing import Final, Literal, assert_never

from jobs.record import RetryPolicy
from worker.outcome import MESSAGE_CHARS, Failure, FailureKind

ATTEMPTS_MAX: Final = 5
UNKNOWN_MAX: Final = 3
THROTTLED_IN_ROW_MAX: Final = 10
UNCONNECTED_IN_ROW_MAX: Final = 10
"""About two minutes of backoff: a base_url that is wrong must end in an error somebody reads."""

BACKOFF_BASE_S: Final = 1.0
BACKOFF_CAP_S: Final = 60.0
THROTTLED_MIN_S: Final = 1.0
"""A 429 without a Retry-After is given no less than the least that one with it is given."""
PAUSE_FIRST_S: Final = 30.0

WindowEffect = Literal["given_back", "tokens_back", "kept", "in_flight"]
"""What becomes of the attempt's place in the provider's window: all of it given back; the tokens back and the
request kept; all kept; or in flight, which is counted as charged, until the call's deadline has passed."""
Charge = Literal["nothing", "usage", "estimate"]
PauseReason = Literal["throttled", "unauthorized", "insufficient_quota", "forbidden"]
GiveUpCode = Literal["provider_rejected", "provider_failed", "outcome_unknown", "job_too_large", "cancelled"]
"""The job's error code; `cancelled` is no error but the end state of a job whose cancel was asked for."""


@dataclass(frozen=True, slots=True)
class AttemptState:
    """What a job had been through before the attempt that now failed.

    `attempt` is that attempt's number from 1, of those that count; the other numbers leave it out.
    `forbidden_widely`: jobs of other users got a 403 of this provider too.
    """

    attempt: int = 1
    throttled_in_row: int = 0
    unconnected_in_row: int = 0
    unknown_attempts: int = 0
    retry: RetryPolicy = "safe"
    cancel_requested: bool = False
    forbidden_widely: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """The job's pool takes no jobs for `seconds`.

    With `alarm` an operator is needed: after it one job is tried, and then one at intervals that grow up to
    10 min. How far they have grown is kept with the pool, so `seconds` is always the first.
    """

    seconds: float
    reason: PauseReason
    alarm: bool


@dataclass(frozen=True, slots=True)
class Retry:
    """The job goes back to its lane for `after_s` seconds; its user pays nothing for the attempt.

    `counts`: whether the attempt is one of those that are limited.
    """

    after_s: float
    counts: bool
    window: WindowEffect
    pause: Pause | None = None


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The job ends with `code`, and its user pays `charge`."""

    code: GiveUpCode
    message: str
    window: WindowEffect
    charge: Charge
    pause: Pause | None = None


def decide(failure: Failure, state: AttemptState, jitter: float) -> Retry | GiveUp:
    """What to do about `failure`; `jitter` in [0, 1) is the share of the full backoff to wait.

    A cancel that was asked for ends whatever is not yet ended by a complete answer of the provider.
    """
    decision = _decide(failure, state, jitter)
    answered = failure.kind not in (FailureKind.UNKNOWN, FailureKind.NOT_SENT_CONNECT)
    if not state.cancel_requested or (isinstance(decision, GiveUp) and answered):
        return decision
    # It may have been billed, and was ended by its user's wish: so it is charged like any running job's cancel.
    charge = _told_or_estimate(failure) if failure.kind is FailureKind.UNKNOWN else "nothing"
    return GiveUp("cancelled", failure.message, decision.window, charge, decision.pause)


def backoff_s(nth: int, jitter: float) -> float:
    """The wait after the nth failure (from 1): exponential from 1 s, at most 60 s, with full jitter.

    Full jitter: a uniform share of the whole, which spreads those that failed together best
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    return jitter * min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** min(nth - 1, 16))


def _decide(failure: Failure, state: AttemptState, jitter: float) -> Retry | GiveUp:
    kind = failure.kind
    match kind:
        case FailureKind.NOT_SENT_CONNECT:
            return _unconnected(failure, state, jitter)
        case FailureKind.TOO_LATE:
            return Retry(after_s=0.0, counts=False, window="given_back")
        case FailureKind.THROTTLED:
            return _throttled(failure, state, jitter)
        case FailureKind.REQUEST_TOO_LARGE:
            return GiveUp("job_too_large", failure.message, window="given_back", charge="nothing")
        case FailureKind.SERVER_ERROR:
            return _server_error(failure, state, jitter)
        case FailureKind.UNKNOWN:
            return _unknown(failure, state, jitter)
        case FailureKind.REJECTED:
            return _rejected(failure)
        case FailureKind.UNAUTHORIZED:
            return _wait_for_operator("unauthorized")
        case FailureKind.QUOTA:
            return _wait_for_operator("insufficient_quota")
        case FailureKind.FORBIDDEN:
            return _wait_for_operator("forbidden") if state.forbidden_widely else _rejected(failure)
        case FailureKind.CANCELLED:
            return _cancelled(failure)
    assert_never(kind)


def _unconnected(failure: Failure, state: AttemptState, jitter: float) -> Retry | GiveUp:
    nth = state.unconnected_in_row + 1
    if nth >= UNCONNECTED_IN_ROW_MAX:
        message = _said(f"The provider was out of reach {nth} times in a row; check its base_url.", failure)
        return GiveUp("provider_failed", message, window="given_back", charge="nothing")
    return Retry(backoff_s(nth, jitter), counts=False, window="given_back")


def _throttled(failure: Failure, state: AttemptState, jitter: float) -> Retry | GiveUp:
    nth = state.throttled_in_row + 1
    after_s = failure.retry_after_s
    if after_s is None:
        after_s = max(backoff_s(nth, jitter), THROTTLED_MIN_S)
    pause = Pause(after_s, "throttled", alarm=False)
    if nth >= THROTTLED_IN_ROW_MAX:
        message = _said(f"The provider answered 429 {nth} times in a row.", failure)
        return GiveUp("provider_failed", message, window="tokens_back", charge="nothing", pause=pause)
    return Retry(after_s, counts=False, window="tokens_back", pause=pause)


def _server_error(failure: Failure, state: AttemptState, jitter: float) -> Retry | GiveUp:
    if state.attempt >= ATTEMPTS_MAX:
        message = _said(f"The provider failed {state.attempt} attempts.", failure)
        return GiveUp("provider_failed", message, window="kept", charge="nothing")
    after_s = failure.retry_after_s
    if after_s is None:
        after_s = backoff_s(state.attempt, jitter)
    return Retry(after_s, counts=True, window="kept")


def _unknown(failure: Failure, state: AttemptState, jitter: float) -> Retry | GiveUp:
    if state.retry == "never":
        message = _said("The request was sent, and what became of it is not known.", failure)
        return GiveUp("outcome_unknown", message, window="in_flight", charge=_told_or_estimate(failure))
    if state.unknown_attempts + 1 >= UNKNOWN_MAX or state.attempt >= ATTEMPTS_MAX:
        message = _said(f"The provider failed {state.attempt} attempts.", failure)
        return GiveUp("provider_failed", message, window="in_flight", charge="nothing")
    return Retry(backoff_s(state.attempt, jitter), counts=True, window="in_flight")


def _rejected(failure: Failure) -> GiveUp:
    charge: Charge = "usage" if failure.usage else "nothing"
    window: WindowEffect = "kept" if failure.sent else "given_back"
    return GiveUp("provider_rejected", failure.message, window, charge)


def _wait_for_operator(reason: PauseReason) -> Retry:
    pause = Pause(PAUSE_FIRST_S, reason, alarm=True)
    return Retry(after_s=0.0, counts=False, window="given_back", pause=pause)


def _cancelled(failure: Failure) -> GiveUp:
    if not failure.sent:
        return GiveUp("cancelled", failure.message, window="given_back", charge="nothing")
    return GiveUp("cancelled", failure.message, window="in_flight", charge=_told_or_estimate(failure))


def _told_or_estimate(failure: Failure) -> Charge:
    return "usage" if failure.usage else "estimate"


def _said(what: str, failure: Failure) -> str:
    return f"{what} Last: {failure.message}"[:MESSAGE_CHARS]
