"""The greatest load of any 60 seconds, exact to the single charge: the figure that shows a limit was kept."""

from collections import deque
from dataclasses import dataclass, field

WINDOW_S = 60.0


@dataclass(slots=True)
class Load:
    """Totals since the start (or the last reset), and the last and the greatest 60 seconds of one model, or
    of all.
    """

    requests: int = 0
    tokens: int = 0
    greatest_requests: int = 0
    greatest_tokens: int = 0
    _window_requests: int = field(default=0, repr=False)
    _window_tokens: int = field(default=0, repr=False)

    def add(self, requests: int, tokens: int) -> None:
        """Count a charge of the present moment."""
        self.requests += requests
        self.tokens += tokens
        self._window_requests += requests
        self._window_tokens += tokens
        self.greatest_requests = max(self.greatest_requests, self._window_requests)
        self.greatest_tokens = max(self.greatest_tokens, self._window_tokens)

    def leave(self, requests: int, tokens: int) -> None:
        """Forget a charge that has left the window."""
        self._window_requests -= requests
        self._window_tokens -= tokens

    def restart(self) -> None:
        """Begin new totals and maxima; what the last 60 seconds hold stays in the window."""
        self.requests = 0
        self.tokens = 0
        self.greatest_requests = self._window_requests
        self.greatest_tokens = self._window_tokens


class ChargeWindow:
    """Sums over (t - 60 s, t] for the time t of each charge: only a charge can make a new maximum."""

    def __init__(self) -> None:
        self.total = Load()
        self.by_model: dict[str, Load] = {}
        self._events: deque[tuple[float, Load, int, int]] = deque()
        self._last_s = float("-inf")

    def add(self, now_s: float, model: str, *, requests: int = 0, tokens: int = 0) -> None:
        """Record a charge at `now_s`; one put before the last by a stepping clock counts as of the last."""
        self._last_s = max(self._last_s, now_s)
        self._expire()
        load = self.by_model.get(model)
        if load is None:
            load = self.by_model[model] = Load()
        self._events.append((self._last_s, load, requests, tokens))
        load.add(requests, tokens)
        self.total.add(requests, tokens)

    def restart(self, now_s: float) -> None:
        """Begin new totals and maxima at `now_s`."""
        self._last_s = max(self._last_s, now_s)
        self._expire()
        self.total.restart()
        for load in self.by_model.values():
            load.restart()

    def _expire(self) -> None:
        events = self._events
        until_s = self._last_s - WINDOW_S
        while events and events[0][0] <= until_s:
            _, load, requests, tokens = events.popleft()
            load.leave(requests, tokens)
            self.total.leave(requests, tokens)
