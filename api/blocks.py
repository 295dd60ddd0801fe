"""Remembers who is blocked by his request limit, so that a hammering user costs Redis nothing.

Only what Redis has told is remembered, and never longer than it told: it makes no decision of its own.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from jobs.record import LimitsView

MOST_REMEMBERED = 10_000


class Blocks:
    """The blocked users this process has met. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: OrderedDict[str, tuple[float, LimitsView]] = OrderedDict()

    def remember(self, limits: LimitsView) -> None:
        """What Redis answered to a refused submission; nothing is kept unless the user is blocked."""
        if limits.blocked_until_ms is None:
            return
        self._told[limits.user] = (self._clock(), limits)
        self._told.move_to_end(limits.user)
        if len(self._told) > MOST_REMEMBERED:
            self._told.popitem(last=False)

    def standing(self, user: str) -> LimitsView | None:
        """The limits of a user who is still blocked, as they are now; None for everybody else."""
        told = self._told.get(user)
        if told is None:
            return None
        at, limits = told
        passed_ms = int((self._clock() - at) * 1000)
        now_ms = limits.now_ms + passed_ms
        blocked_until_ms = limits.blocked_until_ms or 0
        # Behind midnight the remembered budget is yesterday's.
        if now_ms >= blocked_until_ms or passed_ms >= limits.tokens_reset_ms:
            del self._told[user]
            return None
        return replace(
            limits,
            now_ms=now_ms,
            requests_reset_ms=max(0, limits.requests_reset_ms - passed_ms),
            tokens_reset_ms=limits.tokens_reset_ms - passed_ms,
        )
