"""The two kinds of provider window in plain Python, for the models: all charges in a list, or a bucket.

Nothing is summed up in advance, and nothing is ever dropped.
"""

from dataclasses import dataclass, field
from typing import Protocol

from limiter.limits import Scope
from tests.limiter.rig import MINUTE_MS, SLICE_MS


class Window(Protocol):
    """What both kinds of window tell. Times are of the window's own clock, which never runs backwards."""

    flying: int
    changed_at: int

    def wait_for_tokens(self, now: int, scope: Scope, tokens: int) -> int | None:
        """The ms until they fit, 0 if they do, None if only a settle can help."""

    def wait_for_request(self, now: int, scope: Scope) -> int | None:
        """The same for one request."""

    def charge(self, now: int, scope: Scope, job: str, tokens: int, requests: int) -> None:
        """Tokens and requests that the provider counts from now on."""

    def give_back(self, now: int, scope: Scope, job: str, tokens: int, requests: int) -> None:
        """They were not counted after all."""

    def charged(self, now: int, scope: Scope) -> tuple[int, int]:
        """Tokens and requests that count now."""


@dataclass(slots=True)
class _Event:
    at: int
    job: str
    tokens: int
    requests: int


@dataclass(slots=True)
class StrictWindow:
    """All charges of one window; each counts until the end of its slice is `span_ms` ago."""

    span_ms: int
    flying: int = 0
    changed_at: int = 0
    events: list[_Event] = field(default_factory=list)

    def _leaves(self, event: _Event) -> int:
        return (event.at // SLICE_MS + 1) * SLICE_MS + self.span_ms

    def _counting(self, now: int) -> list[_Event]:
        return [event for event in self.events if now < self._leaves(event)]

    def _wait(self, now: int, excess: int, leaving: list[tuple[int, int]]) -> int | None:
        if excess <= 0:
            return 0
        for at, amount in sorted(leaving):
            excess -= amount
            if excess <= 0:
                return at - now
        return None

    def wait_for_tokens(self, now: int, scope: Scope, tokens: int) -> int | None:
        if scope.tokens_per_minute is None:
            return 0
        leaving = [(self._leaves(event), event.tokens) for event in self._counting(now)]
        excess = sum(amount for _, amount in leaving) + self.flying + tokens - scope.tokens_per_minute
        return self._wait(now, excess, leaving)

    def wait_for_request(self, now: int, scope: Scope) -> int | None:
        if scope.requests_per_minute is None:
            return 0
        leaving = [(self._leaves(event), event.requests) for event in self._counting(now)]
        return self._wait(now, sum(amount for _, amount in leaving) + 1 - scope.requests_per_minute, leaving)

    def charge(self, now: int, scope: Scope, job: str, tokens: int, requests: int) -> None:
        self.changed_at = now
        self.events.append(_Event(now, job, tokens, requests))

    def give_back(self, now: int, scope: Scope, job: str, tokens: int, requests: int) -> None:
        self.changed_at = now
        event = next(event for event in self.events if event.job == job)
        event.tokens -= tokens
        event.requests -= requests

    def charged(self, now: int, scope: Scope) -> tuple[int, int]:
        counting = self._counting(now)
        return sum(event.tokens for event in counting), sum(event.requests for event in counting)


@dataclass(slots=True)
class Bucket:
    """One bucket that is refilled to `limit` within a minute, in thousandths, of which a part is never whole.

    What is refilled in `margin_ms` stays in it, unless it is full.
    """

    margin_ms: int
    level: int | None = None
    at: int = 0

    def now_holds(self, now: int, limit: int) -> int:
        """Thousandths in it."""
        if self.level is None:
            return limit * 1000
        return min(limit * 1000, self.level + (now - self.at) * limit * 1000 // MINUTE_MS)

    def take(self, now: int, limit: int | None, amount: int) -> None:
        """Whole ones out of it; a negative amount goes back."""
        if limit is not None:
            self.level, self.at = self.now_holds(now, limit) - amount * 1000, now

    def wait(self, now: int, limit: int, amount: int) -> int:
        """The ms until so many whole ones are in it."""
        needed = min(amount * 1000 + limit * 1000 * self.margin_ms // MINUTE_MS, limit * 1000)
        return max(0, -(-(needed - self.now_holds(now, limit)) * MINUTE_MS // (limit * 1000)))

    def taken(self, now: int, limit: int | None) -> int:
        """How many whole ones it lacks."""
        return 0 if limit is None else limit - self.now_holds(now, limit) // 1000


@dataclass(slots=True)
class MirrorWindow:
    """The provider's two buckets."""

    span_ms: int
    flying: int = 0
    changed_at: int = 0
    tokens: Bucket = field(init=False)
    requests: Bucket = field(init=False)

    def __post_init__(self) -> None:
        self.tokens, self.requests = (Bucket(self.span_ms - MINUTE_MS) for _ in range(2))

    def wait_for_tokens(self, now: int, scope: Scope, tokens: int) -> int | None:
        limit = scope.tokens_per_minute
        if limit is None:
            return 0
        return None if self.flying + tokens > limit else self.tokens.wait(now, limit, self.flying + tokens)

    def wait_for_request(self, now: int, scope: Scope) -> int | None:
        limit = scope.requests_per_minute
        return 0 if limit is None else self.requests.wait(now, limit, 1)

    def charge(self, now: int, scope: Scope, job: str, tokens: int, requests: int) -> None:
        self.changed_at = now
        self.tokens.take(now, scope.tokens_per_minute, tokens)
        self.requests.take(now, scope.requests_per_minute, requests)

    def give_back(self, now: int, scope: Scope, job: str, tokens: int, requests: int) -> None:
        self.charge(now, scope, job, -tokens, -requests)

    def charged(self, now: int, scope: Scope) -> tuple[int, int]:
        return (
            self.tokens.taken(now, scope.tokens_per_minute),
            self.requests.taken(now, scope.requests_per_minute),
        )
