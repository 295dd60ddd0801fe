"""What a call cost, by the prices genai-prices ships: an estimate in dollars, never asked from the network."""

from collections.abc import Iterable
from functools import lru_cache

import structlog
from genai_prices import Usage as PricedUsage
from genai_prices import calc_price

from jobs.record import Usage

log = structlog.get_logger(__name__)

NANO_USD = 1_000_000_000


def preload(models: Iterable[str]) -> None:
    """Look the prices up once: the library reads its tables with the first call, for which a file must be opened."""
    for model in models:
        cost_nano_usd(model, Usage(1, 1, 2, 0, "estimated"))


def cost_nano_usd(model: str, usage: Usage) -> int | None:
    """The cost of `usage` of `model` in billionths of a dollar; None where no price of that model is known.

    Raises nothing: an estimate that cannot be made must not cost the answer that was paid for.
    """
    try:
        if not _is_priced(model):
            return None
        priced = PricedUsage(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            cache_read_tokens=min(usage.cached_tokens, usage.prompt_tokens),
        )
        return round(calc_price(priced, model_ref=model).total_price * NANO_USD)
    except Exception:
        log.exception("no cost estimated", model=model)
        return None


@lru_cache(maxsize=1024)
def _is_priced(model: str) -> bool:
    try:
        calc_price(PricedUsage(input_tokens=1, output_tokens=1), model_ref=model)
    except LookupError:
        return False
    return True
