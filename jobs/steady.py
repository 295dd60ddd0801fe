"""What keeps advice on workers from flapping: up at once, down only after a quiet period, and not for a little."""

import json
import math
from dataclasses import dataclass, field, replace
from typing import Final

QUIET_S: Final = 60
"""What was needed so long ago, or less, is still kept."""
SLOT_MS: Final = 5000
"""How finely that is remembered."""
BAND: Final = 0.1
"""So much below a whole worker, as a share of the need, does not let one go."""


@dataclass(frozen=True, slots=True)
class Steady:
    """The numbers advised, the workers' slots, and the quiet period's peaks: (when in SLOT_MS, to have, to keep)."""

    recommended: int = 0
    useful_max: int | None = None
    slots: int | None = None
    peaks: tuple[tuple[int, int, int], ...] = field(default=())

    @classmethod
    def read(cls, text: str) -> "Steady":
        """What `written` wrote; '' is nothing yet."""
        if not text:
            return cls()
        v = json.loads(text)
        return cls(v["n"], v["max"], v["slots"], tuple((slot, up, keep) for slot, up, keep in v["peaks"]))

    def written(self) -> str:
        """As text, to be kept until the next advice."""
        v = {"n": self.recommended, "max": self.useful_max, "slots": self.slots, "peaks": self.peaks}
        return json.dumps(v, separators=(",", ":"))

    def after(self, now_ms: int, need: float, limit: float | None, slots: int) -> "Steady":
        """What follows from a need of so many workers, of which `limit` carry all that the providers allow."""
        up, keep = _whole(need), _whole(need * (1 + BAND))
        now = now_ms // SLOT_MS
        peaks = [peak for peak in self.peaks if now - QUIET_S * 1000 // SLOT_MS < peak[0] <= now]
        if peaks and peaks[-1][0] == now:
            last = peaks.pop()
            peaks.append((now, max(up, last[1]), max(keep, last[2])))
        else:
            peaks.append((now, up, keep))
        advised = min(max(self.recommended, up), max(kept for _, _, kept in peaks))
        useful_max = self._limit(limit)
        if useful_max is not None:
            advised = min(advised, useful_max)
        return replace(self, recommended=advised, useful_max=useful_max, slots=slots, peaks=tuple(peaks))

    def _limit(self, limit: float | None) -> int | None:
        if limit is None:
            return None
        least, most = max(1, _whole(limit * (1 - BAND))), max(1, _whole(limit * (1 + BAND)))
        if self.useful_max is not None and least <= self.useful_max <= most:
            return self.useful_max
        return max(1, _whole(limit))


def _whole(workers: float) -> int:
    # Not one more for what rounding left over.
    return math.ceil(workers - 1e-9)
