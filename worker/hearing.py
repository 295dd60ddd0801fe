"""What an answer's headers, or its refusal, teach about the provider's limits. A pure function beside the decision."""

from typing import Literal

from jobs.claims import Heard
from worker.outcome import Completion, Failure, FailureKind


def heard(outcome: Completion | Failure) -> Heard | None:
    """What is to be remembered of an answer; None: nothing was told.

    A 429 lacks requests where the headers say that none remains and do not say so of tokens, and else tokens.
    """
    told = outcome.headers
    refused: Literal["tokens", "requests"] | None = None
    largest_tokens: int | None = None
    if isinstance(outcome, Failure):
        largest_tokens = outcome.learned_limit_tokens
        if outcome.kind is FailureKind.THROTTLED:
            only_requests = told.remaining_requests == 0 and told.remaining_tokens != 0
            refused = "requests" if only_requests else "tokens"
    learned = Heard(
        limit_tokens=told.limit_tokens,
        limit_requests=told.limit_requests,
        remaining_tokens=told.remaining_tokens,
        remaining_requests=told.remaining_requests,
        reset_tokens_ms=_ms(told.reset_tokens_s),
        reset_requests_ms=_ms(told.reset_requests_s),
        refused=refused,
        largest_tokens=largest_tokens,
    )
    return learned if learned.encode() else None


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
