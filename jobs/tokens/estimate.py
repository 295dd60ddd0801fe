"""The most that a job can be charged, known before it runs, and the cap that makes it the most.

The estimate is what submit promises from the user's budget and claim reserves of the provider's window;
the worker sends the body with the same cap, so that no answer can grow beyond what is held for it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from jobs.config import Pool
from jobs.tokens.prompt import prompt_parts

_OUTPUT_FIELDS = ("max_completion_tokens", "max_tokens")

_ONLY_MAX_COMPLETION_TOKENS = re.compile(r"(.*[/:])?(o\d|gpt-[5-9])")
"""OpenAI's reasoning models, which refuse max_tokens; also behind a vendor's prefix or fine-tuned."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The most tokens of one job: its prompt, and all its answers at their cap."""

    prompt_tokens: int
    output_tokens: int

    @property
    def total_tokens(self) -> int:
        """What is held of budget and window."""
        return self.prompt_tokens + self.output_tokens


def estimate(
    body: Mapping[str, object], pools: Sequence[Pool], *, stop_above_tokens: int | None = None
) -> Estimate:
    """The greatest estimate of a chat request over the pools that may serve it (at least one).

    With stop_above_tokens, a prompt is counted only until it is known to be longer than that: its
    prompt_tokens are then above the limit, and not the whole. Raises UnknownEncodingError and
    VocabularyError as vocabulary.load does.
    """
    parts = prompt_parts(body)
    answers = answer_count(body)
    counted_tokens: dict[tuple[str, str], int] = {}
    estimates = []
    for pool in pools:
        counting = (pool.model_settings.encoding, pool.model)
        if counting not in counted_tokens:
            counted_tokens[counting] = parts.tokens(*counting, stop_above_tokens=stop_above_tokens)
        cap_tokens = output_cap(body, pool.model_settings.max_output_tokens)
        estimates.append(Estimate(counted_tokens[counting], answers * cap_tokens))
    return max(estimates, key=lambda each: each.total_tokens)


def answer_count(body: Mapping[str, object]) -> int:
    """How many answers the request asks for: its n, and 1 where that is no positive integer."""
    n = body.get("n")
    return n if _is_positive_integer(n) else 1


def output_cap(body: Mapping[str, object], max_output_tokens: int) -> int:
    """The most tokens of one answer: the caller's own cap, or else the model's.

    The caller's is taken as it is, even above the model's: refusing it is for whoever knows the error to
    give, and lowering it here would hold less than what was asked of the provider. Of two fields the
    greater counts, because which one a provider heeds is its own affair. What is no positive integer is
    no cap (-1 means endless to some).
    """
    given = [value for field in _OUTPUT_FIELDS if _is_positive_integer(value := body.get(field))]
    return max(given, default=max_output_tokens)


def with_output_cap(body: Mapping[str, object], cap_tokens: int) -> dict[str, object]:
    """The body as it goes to a provider: never without a cap on its answer.

    The caller's own cap stays untouched. Where there is none, the cap is written as max_tokens, which
    every compatible server knows, but for OpenAI's reasoning models as max_completion_tokens, the only
    one they take. The body must already name the model as the provider does.
    """
    capped = {
        field: value
        for field, value in body.items()
        if field not in _OUTPUT_FIELDS or _is_positive_integer(value)
    }
    if not any(field in capped for field in _OUTPUT_FIELDS):
        newer = _ONLY_MAX_COMPLETION_TOKENS.match(str(body.get("model")))
        capped["max_completion_tokens" if newer else "max_tokens"] = cap_tokens
    return capped


def _is_positive_integer(value: object) -> TypeGuard[int]:
    return type(value) is int and value > 0
