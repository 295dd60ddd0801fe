"""Medians, ratios and percentiles of what benchmarks measure."""

from collections.abc import Awaitable, Callable

import pytest

from bench.figures import Spread, interleaved, number, percentile


def test_a_spread_is_shown_as_its_median_and_what_it_lay_between() -> None:
    assert str(Spread.of([3.0, 1.0, 2.25])) == "2.25 (1–3)"
    assert str(Spread.of([1234.4])) == "1,234"


def test_a_ratio_is_taken_within_each_repetition() -> None:
    # The machine was half as fast in the second: the ratio was the same.
    assert Spread.of([200, 100]).over(Spread.of([100, 50])) == Spread((2.0, 2.0))


def test_what_was_not_measured_as_often_has_no_ratio() -> None:
    with pytest.raises(ValueError, match="zip"):
        Spread.of([1, 2]).over(Spread.of([1]))


@pytest.mark.parametrize("measure", [Spread.of, lambda none: percentile(none, 0.5)])
def test_nothing_measured_is_no_figure(measure: Callable[[list[float]], object]) -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        measure([])


@pytest.mark.parametrize(
    ("value", "shown"),
    [(12345.6, "12,346"), (99.94, "99.9"), (1.234, "1.23"), (0.012345, "0.0123"), (0, "0"), (2, "2")],
)
def test_three_digits_count(value: float, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(("share", "found"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)])
def test_percentiles_are_values_that_were_measured(share: float, found: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == found


async def test_variants_take_turns_and_the_warm_up_is_thrown_away() -> None:
    order: list[str] = []

    def measuring(name: str) -> Callable[[], Awaitable[int]]:
        async def measure() -> int:
            order.append(name)
            return len(order)

        return measure

    measured = await interleaved({"a": measuring("a"), "b": measuring("b")}, repetitions=2)

    assert order == ["a", "b"] * 3
    assert measured == {"a": [3, 5], "b": [4, 6]}
