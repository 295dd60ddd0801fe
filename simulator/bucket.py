"""The provider's leaky bucket: what each request for tokens or for a place in the minute is measured against.

It holds `limit` and is refilled continuously at `limit`/60 a second; time is handed in, never read.
"""

# Unix seconds are floats with steps of a quarter microsecond: without this, a client that waits exactly as long
# as it was told could be a fraction of a token short.
_ROUNDING_S = 1e-6


class Bucket:
    """A bucket of `limit` per minute, full at `now_s` (seconds; a clock that steps back refills nothing)."""

    def __init__(self, limit: int, now_s: float) -> None:
        self.limit = limit
        self._per_s = limit / 60
        self._level = float(limit)
        self._at_s = now_s

    def level(self, now_s: float) -> float:
        """What is in the bucket at `now_s`; below zero after charges that nobody could refuse."""
        if now_s > self._at_s:
            self._level = min(float(self.limit), self._level + (now_s - self._at_s) * self._per_s)
            self._at_s = now_s
        return self._level

    def holds(self, amount: float, now_s: float) -> bool:
        """Whether `amount` could be taken at `now_s`."""
        return self.level(now_s) + self._per_s * _ROUNDING_S >= amount

    def charge(self, amount: float, now_s: float) -> None:
        """Take `amount` whether it is there or not."""
        self._level = self.level(now_s) - amount

    def wait_s(self, amount: float, now_s: float) -> float:
        """Seconds from `now_s` until `amount` is there if nothing else is taken, 0 if it is; `limit` at most
        can be.
        """
        return max(0.0, (min(amount, self.limit) - self.level(now_s)) / self._per_s)

    def full_in_s(self, now_s: float) -> float:
        """Seconds from `now_s` until the bucket is full if nothing is taken."""
        return self.wait_s(self.limit, now_s)
