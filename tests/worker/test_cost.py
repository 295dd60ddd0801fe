"""Dollars are an estimate: known for known models, and never in the way of an answer."""

import pytest

from jobs.record import Usage
from worker import cost

USED = Usage(1_000_000, 1_000_000, 2_000_000, 0, "provider")


def test_a_known_model_costs_what_its_price_says() -> None:
    # 0.15 and 0.60 dollars a million tokens in and out.
    assert cost.cost_nano_usd("gpt-4o-mini", USED) == 750_000_000


def test_cached_tokens_are_cheaper_and_never_more_than_the_prompt() -> None:
    cached = Usage(1_000_000, 0, 1_000_000, 9_000_000, "provider")
    assert cost.cost_nano_usd("gpt-4o-mini", cached) == 75_000_000


def test_a_model_without_a_price_has_no_cost() -> None:
    assert cost.cost_nano_usd("a-model-of-our-own", USED) is None


def test_prices_that_cannot_be_looked_up_cost_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(cost, "calc_price", fails)
    cost.preload(["gpt-4o-mini"])
    assert cost.cost_nano_usd("gpt-4o-mini", USED) is None
