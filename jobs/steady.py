"""Keeps advice on workers from flapping: up once it is too few, down after a quiet period, and not for a little."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

QUIET_S: Final = 60
"""What was needed so long ago, or less, still counts before the advice goes down."""
SLOT_MS: Final = 5000
"""How finely that is remembered."""
BAND: Final = 0.1
"""The share by which more may be needed than is advised, or more or less allowed, before that changes (in a small
fleet, SAFETY lets more be needed)."""
SPARE: Final = 0.25
"""More than this share of the workers must be spare for some to go after QUIET_S."""
TRIM_S: Final = 600
"""However few are spare, they go when they have been so for this long."""
SAFETY: Final = 0.7
"""Slots to spare, in square roots of the slots in use: the square-root staffing rule (S. Halfin and W. Whitt,
"Heavy-Traffic Limits for Queues with Many Exponential Servers", Operations Research 29, 1981)."""


@dataclass(frozen=True, slots=True)
class Steady:
    """The advice, the workers' slots, and of the quiet period (when in SLOT_MS, thousandths of workers needed).

    `spare`: since when (ms) fewer would do, and the most that would have been needed since; None while none are spare.
    """

    recommended: int = 0
    useful_max: int | None = None
    slots: int | None = None
    needs: tuple[tuple[int, int], ...] = field(default=())
    spare: tuple[int, int] | None = None

    @classmethod
    def read(cls, text: str) -> "Steady":
        """What `written` wrote; '' is nothing yet."""
        if not text:
            return cls()
        v = json.loads(text)
        spare = v.get("spare")
        return cls(
            v["n"],
            v["max"],
            v["slots"],
            tuple((slot, need) for slot, need in v.get("needs", ())),
            (spare[0], spare[1]) if spare else None,
        )

    def written(self) -> str:
        """As text, to be kept until the next advice."""
        v = {"n": self.recommended, "max": self.useful_max, "slots": self.slots, "needs": self.needs}
        return json.dumps(v | {"spare": self.spare}, separators=(",", ":"))

    def after(self, now_ms: int, need: float, limit: float | None, slots: int) -> "Steady":
        """What follows from a need of so many workers, of which `limit` carry all that the providers allow."""
        advised = self.recommended
        if need > advised + max(BAND * advised, SAFETY * _chance(advised, slots)):
            advised = max(advised, _whole(need))
        needs = self._needs(now_ms, need)
        kept = _kept(needs, slots)
        still_falling = _kept(needs[-(len(needs) + 1) // 2 :], slots) < kept
        spare = None
        if kept < advised * (1 - SPARE) and not still_falling:
            advised = kept
        elif kept < advised:
            since, most = self.spare or (now_ms, kept)
            spare = since, max(most, kept)
            if now_ms - since >= TRIM_S * 1000:
                advised, spare = spare[1], None
        useful_max = self._limit(limit)
        if useful_max is not None:
            advised = min(advised, useful_max)
        return replace(
            self, recommended=advised, useful_max=useful_max, slots=slots, needs=needs, spare=spare
        )

    def _needs(self, now_ms: int, need: float) -> tuple[tuple[int, int], ...]:
        slot, thousandths = now_ms // SLOT_MS, round(need * 1000)
        needs = [each for each in self.needs if slot - QUIET_S * 1000 // SLOT_MS < each[0] <= slot]
        if needs and needs[-1][0] == slot:
            thousandths = max(thousandths, needs.pop()[1])
        return (*needs, (slot, thousandths))

    def _limit(self, limit: float | None) -> int | None:
        if limit is None:
            return None
        least, most = max(1, _whole(limit * (1 - BAND))), max(1, _whole(limit * (1 + BAND)))
        if self.useful_max is not None and least <= self.useful_max <= most:
            return self.useful_max
        return max(1, _whole(limit))


def _kept(needs: Sequence[tuple[int, int]], slots: int) -> int:
    """The workers that would have done: for the usual need with some to spare, and just about for the greatest."""
    of_all = [need / 1000 for _, need in needs]
    usual = sum(of_all) / len(of_all)
    return max(_whole(usual + SAFETY * _chance(usual, slots)), _whole(max(of_all) / (1 + BAND)))


def _chance(workers: float, slots: int) -> float:
    """By how many workers what is needed varies by chance: jobs in flight vary by their square root."""
    return math.sqrt(workers / slots)


def _whole(workers: float) -> int:
    # Not one more for what rounding left over.
    return math.ceil(workers - 1e-9)
