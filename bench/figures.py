"""Figures of repeated measurements: a median with what it lay between, and ratios of what was measured together."""

import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Spread:
    """The same thing measured several times."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Raises ValueError for no values at all."""
        if not values:
            raise ValueError("nothing was measured")
        return cls(tuple(values))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def least(self) -> float:
        return min(self.values)

    @property
    def most(self) -> float:
        return max(self.values)

    def over(self, other: "Spread") -> "Spread":
        """Ratios, repetition by repetition: two that ran one after the other met the same machine.

        Raises ValueError if there were not as many of both.
        """
        return Spread(tuple(mine / its for mine, its in zip(self.values, other.values, strict=True)))

    def __str__(self) -> str:
        if len(self.values) == 1:
            return number(self.median)
        return f"{number(self.median)} ({number(self.least)}–{number(self.most)})"


def number(value: float) -> str:
    """Three digits that count, with commas: 12,300, 1.23, 0.0123."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{float(f'{value:.3g}'):g}"


def percentile(values: Sequence[float], share: float) -> float:
    """The least of the values that `share` of them do not pass (nearest rank). Raises ValueError for none."""
    if not values:
        raise ValueError("nothing was measured")
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, -int(-share * len(ordered) // 1) - 1))]


async def interleaved(
    variants: Mapping[str, Callable[[], Awaitable[T]]], *, repetitions: int, warm_ups: int = 1
) -> dict[str, list[T]]:
    """Measure each variant in turn, and all of them again: a busy minute of the machine then meets them all.

    What the warm-ups give is thrown away.
    """
    measured: dict[str, list[T]] = {name: [] for name in variants}
    for turn in range(warm_ups + repetitions):
        for name, measure in variants.items():
            figure = await measure()
            if turn >= warm_ups:
                measured[name].append(figure)
    return measured
