"""What a call cost, by the prices genai-prices ships: an estimate in dollars, never asked from the network."""

from functools import lru_cache

from genai_prices import Usage as PricedUsage
from genai_prices import calc_price

from jobs.record import Usage

NANO_USD = 1_000_000_000


def cost_nano_usd(model: str, usage: Usage) -> int | None:
    """The cost of `usage` of `model` in billionths of a dollar; None where no price of that model is known."""
    if not _is_priced(model):
        return None
    priced = PricedUsage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cache_read_tokens=min(usage.cached_tokens, usage.prompt_tokens),
    )
    return round(calc_price(priced, model_ref=model).total_price * NANO_USD)


@lru_cache(maxsize=1024)
def _is_priced(model: str) -> bool:
    try:
        calc_price(PricedUsage(input_tokens=1, output_tokens=1), model_ref=model)
    except LookupError:
        return False
    return True
