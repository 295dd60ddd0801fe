"""Submissions that were refused, for the metrics: counted in this process, and written down together each second.

So a hammering caller costs no Redis call for being counted. What a process that dies had not yet written is lost.
"""

from collections import Counter

from jobs.figures import NO_TIER, FiguresStore


class Rejections:
    """Counts of one process."""

    def __init__(self, figures: FiguresStore) -> None:
        self._figures = figures
        self._counted: Counter[tuple[str, ...]] = Counter()

    def count(self, reason: str, tier: str | None = None) -> None:
        """One more; `reason` is the code of its answer, `tier` None where nobody looked which it is."""
        self._counted["rejected", tier or NO_TIER, reason] += 1

    @property
    def waiting(self) -> bool:
        """Whether there is anything to be written down."""
        return bool(self._counted)

    async def write(self) -> None:
        """Add what was counted to the figures. Raises what the store raises, and keeps the counts then."""
        counted, self._counted = self._counted, Counter()
        if not counted:
            return
        try:
            await self._figures.add(counted)
        except BaseException:
            self._counted.update(counted)
            raise
