"""What a provider counted, and when: every 60 seconds of it held against the limit."""

from collections.abc import Iterable
from dataclasses import dataclass

WINDOW_S = 60.0
STEP_S = 0.1
"""One window ends every so often; the greatest of all is exact."""


@dataclass(frozen=True, slots=True)
class Minutes:
    """All windows of 60 s that end between two times, as shares of the limit; `over`: the share of them above it."""

    mean: float
    most: float
    over: float


def minutes(charges: Iterable[tuple[float, int]], limit: int, start_s: float, end_s: float) -> Minutes:
    """`charges` are (Unix s, tokens). A window that ends within a minute of the first charge is not a full one."""
    ordered = sorted(charges)
    first = last = total = looked = over = 0
    summed = most = 0
    at_s = start_s
    while at_s < end_s:
        while last < len(ordered) and ordered[last][0] <= at_s:
            total += ordered[last][1]
            # Only a charge can make a new maximum: each is looked at when it is the newest.
            while ordered[first][0] <= ordered[last][0] - WINDOW_S:
                total -= ordered[first][1]
                first += 1
            most = max(most, total)
            last += 1
        while first < last and ordered[first][0] <= at_s - WINDOW_S:
            total -= ordered[first][1]
            first += 1
        looked += 1
        summed += total
        over += total > limit
        at_s += STEP_S
    return Minutes(summed / looked / limit, most / limit, over / looked)
