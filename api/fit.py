"""Whether a job could ever run: its tokens against the windows, contexts and caps of the pools that serve its name.

What cannot ever fit is refused at the door, with what would; the day's budget is judged by the submit script.
"""

from collections.abc import Mapping, Sequence

from api.errors import FieldError, Problem
from jobs.config import Pool
from jobs.tokens.estimate import Estimate, output_cap


def too_large(
    detail: str, *, fits: Mapping[str, int], pointer: str, message: str, estimated_tokens: int | None
) -> Problem:
    """422 `job_too_large`; `fits` names the most that would be taken."""
    extra: dict[str, object] = {"fits": dict(fits)}
    if estimated_tokens is not None:
        extra["estimated_tokens"] = estimated_tokens
    return Problem("job_too_large", detail, extra=extra, errors=(FieldError(pointer, message),))


def check_fit(
    body: Mapping[str, object], estimate: Estimate, pools: Sequence[Pool], *, prompt_limit_tokens: int
) -> None:
    """Raises Problem 422 for a job that none of the pools (at least one) could ever take."""
    prompt, total = estimate.prompt_tokens, estimate.total_tokens
    if prompt > prompt_limit_tokens:
        raise too_large(
            f"The prompt has more than {prompt_limit_tokens} tokens, which is the most that is taken here.",
            fits={"prompt_tokens": prompt_limit_tokens},
            pointer="/body/messages",
            message=f"may have at most {prompt_limit_tokens} tokens",
            estimated_tokens=None,
        )
    window = _greatest([_window_tokens(pool) for pool in pools])
    if window is not None and total > window:
        raise too_large(
            f"The job may need {total} tokens (prompt {prompt}, answers {estimate.output_tokens}), and the provider "
            f"takes at most {window} in a minute: shorten the prompt, or lower max_tokens or n.",
            fits={"total_tokens": window},
            pointer="/body",
            message=f"may need at most {window} tokens",
            estimated_tokens=total,
        )
    rooms = [_context_room(body, prompt, pool) for pool in pools]
    if all(room is not None and room < 0 for room in rooms):
        context = _greatest([pool.model_settings.context_tokens for pool in pools]) or 0
        raise too_large(
            f"The prompt's {prompt} tokens and one answer do not fit the model's context of {context}: "
            "shorten the prompt, or lower max_tokens.",
            fits={"context_tokens": context},
            pointer="/body",
            message=f"prompt and answer may have at most {context} tokens together",
            estimated_tokens=total,
        )
    most = min(pool.model_settings.max_output_tokens for pool in pools)
    if output_cap(body, most) > most:
        field = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
        raise too_large(
            f"The model answers with at most {most} tokens: lower {field}.",
            fits={"output_tokens": most},
            pointer=f"/body/{field}",
            message=f"must be at most {most}",
            estimated_tokens=total,
        )


def _window_tokens(pool: Pool) -> int | None:
    """The most tokens one request may have for the provider's and the model's window; None: any number."""
    limits = (pool.provider_settings.tokens_per_minute, pool.model_settings.tokens_per_minute)
    return min((limit for limit in limits if limit is not None), default=None)


def _context_room(body: Mapping[str, object], prompt_tokens: int, pool: Pool) -> int | None:
    """What an answer leaves of the context, negative if it does not fit; None for a context that is not known."""
    settings = pool.model_settings
    if settings.context_tokens is None:
        return None
    return settings.context_tokens - prompt_tokens - output_cap(body, settings.max_output_tokens)


def _greatest(values: Sequence[int | None]) -> int | None:
    """The greatest, None (unlimited) being greater than all."""
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None
