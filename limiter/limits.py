"""The limits as values: what the limiter is told, and what it answers. It knows no jobs, no LLM and no HTTP."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Literal

Accounting = Literal["openai", "anthropic", "actual"]
WindowMode = Literal["strict", "mirror"]
# How an attempt's reservation of a provider window is settled; see lua/window.lua.
Settlement = Literal["charged", "kept", "tokens_back", "given_back"]

MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """At most `limit` requests in any `window_ms`; whoever exceeds it waits `block_ms`. None is unlimited."""

    limit: int | None = None
    window_ms: int = MINUTE_MS
    block_ms: int = 0
    per_day: int | None = None

    def encode(self) -> str:
        values = {
            "limit": self.limit,
            "window": self.window_ms,
            "block": self.block_ms,
            "per_day": self.per_day,
        }
        return json.dumps({name: value for name, value in values.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Scope:
    """One window: a provider's, or that of one of its models. Tokens and requests per minute; None is unlimited."""

    name: str
    tokens_per_minute: int | None = None
    requests_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """All windows that one request passes, and how its provider counts. `margin_ms` lengthens the minute."""

    scopes: tuple[Scope, ...]
    accounting: Accounting = "openai"
    mode: WindowMode = "strict"
    margin_ms: int = 1000

    @cache  # noqa: B019  (a configuration has a few specs, which live as long as the process)
    def encode(self) -> str:
        """The spec as the scripts read it (lua/window.lua)."""
        scopes = [
            {"name": scope.name}
            | ({} if scope.tokens_per_minute is None else {"tokens": scope.tokens_per_minute})
            | ({} if scope.requests_per_minute is None else {"requests": scope.requests_per_minute})
            for scope in self.scopes
        ]
        return json.dumps(
            {
                "accounting": self.accounting,
                "mode": self.mode,
                "span": MINUTE_MS + self.margin_ms,
                "scopes": scopes,
            }
        )


@dataclass(frozen=True, slots=True)
class RateDecision:
    """`wait_ms`: after which a refused user is served if he stays alone; `reset_ms`: until all requests are free."""

    allowed: bool
    wait_ms: int
    remaining: int | None
    reset_ms: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """The tokens are held; `day` (YYYY-MM-DD, UTC) is the day that will be charged, whenever the job ends."""

    day: str


Refusal = Literal["user_budget", "provider_tokens", "provider_requests", "too_large"]


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was changed. `wait_ms`: the earliest it can fit; None if only another's settle, or nothing, can help."""

    reason: Refusal
    wait_ms: int | None


@dataclass(frozen=True, slots=True)
class WindowState:
    """Tokens charged within the window and in flight besides; requests likewise. Limits None: unlimited."""

    scope: str
    tokens_limit: int | None
    tokens_charged: int
    tokens_in_flight: int
    requests_limit: int | None
    requests: int


@dataclass(frozen=True, slots=True)
class LimiterState:
    """`budget_tokens` is used plus held; `held_tokens` the held part of it."""

    budget_tokens: int
    held_tokens: int
    windows: tuple[WindowState, ...]
