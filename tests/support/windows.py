"""A provider's window as it is stored (limiter/lua/window.lua), for tests that look behind the scripts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredWindow:
    """Times in ms; `tokens` and `requests` are the running sums over `slices` (tokens, requests), oldest first."""

    seen_ms: int
    skew_ms: int
    tokens: int
    requests: int
    flying: int
    slices: tuple[tuple[int, int], ...]

    def check(self, name: str) -> None:
        """The running sums are those of the slices, of which none is below zero."""
        assert self.tokens == sum(tokens for tokens, _ in self.slices), f"tokens of {name}: {self}"
        assert self.requests == sum(requests for _, requests in self.slices), f"requests of {name}: {self}"
        assert all(tokens >= 0 <= requests for tokens, requests in self.slices), (
            f"{name} is below zero: {self}"
        )


def stored_window(state: bytes | str, slices: Sequence[bytes | str]) -> StoredWindow:
    """From the values of `window:<scope>` and `slices:<scope>`."""
    values = json.loads(state)
    numbers = [int(value) for value in slices]
    closed = list(zip(numbers[::2], numbers[1::2], strict=True))
    assert len(closed) == values[9] - values[8], "a slice a place from the oldest to the newest"
    seen_ms, skew_ms, tokens, requests, flying = values[:5]
    return StoredWindow(seen_ms, skew_ms, tokens, requests, flying, (*closed, (values[10], values[11])))
