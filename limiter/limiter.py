"""The limiter on its own: request rate, daily budget and provider windows, each call one atomic script.

Penstock's own line runs the same fragments inside its submit, claim and settle; this class is for tests, for
benchmarks, and for whoever wants the limits without the queue.
"""

import json
from typing import cast

from limiter.limits import (
    LimiterState,
    RateDecision,
    Refusal,
    Refused,
    RequestLimits,
    Reserved,
    Settlement,
    WindowSpec,
    WindowState,
)
from limiter.scripts import FOLDER, Commands, Script

_rate_hit = Script(FOLDER / "rate_hit.lua")
_reserve = Script(FOLDER / "reserve.lua")
_settle = Script(FOLDER / "settle.lua")
_state = Script(FOLDER / "state.lua")


class Limiter:
    """Every method takes an optional `now_ms` (Unix ms) for tests; without it the server's clock decides."""

    def __init__(self, redis: Commands) -> None:
        self._redis = redis

    async def hit(self, user: str, limits: RequestLimits, *, now_ms: int | None = None) -> RateDecision:
        """Count one request of the user, or refuse it without counting."""
        allowed, wait_ms, remaining, reset_ms = await _rate_hit(
            self._redis, _now(now_ms), user, limits.encode()
        )
        return RateDecision(bool(allowed), wait_ms, None if remaining < 0 else remaining, reset_ms)

    async def reserve(
        self,
        user: str,
        job: str,
        *,
        input_tokens: int,
        output_tokens: int,
        budget_tokens: int | None,
        windows: WindowSpec,
        latest_end_ms: int,
        deadline_ms: int,
        day: str = "",
        now_ms: int | None = None,
    ) -> Reserved | Refused:
        """Hold a job's estimate from the user's budget of a day (YYYY-MM-DD, default today) and from all windows.

        All or nothing; repeating it for one job takes nothing more. `deadline_ms` is when the call has ended in any
        case: what was not settled by then is charged by `sweep` in claims, or stays in flight.
        """
        reply = await _reserve(
            self._redis, _now(now_ms), user, day, job, input_tokens, output_tokens,
            "" if budget_tokens is None else budget_tokens, latest_end_ms, deadline_ms, windows.encode(),
        )  # fmt: skip
        outcome = reply[0].decode()
        if outcome == "reserved":
            return Reserved(reply[1].decode())
        wait_ms = reply[1] if len(reply) > 1 and reply[1] >= 0 else None
        return Refused(cast(Refusal, outcome), wait_ms)

    async def settle(
        self,
        user: str,
        day: str,
        job: str,
        *,
        input_tokens: int,
        output_tokens: int,
        how: Settlement = "charged",
        now_ms: int | None = None,
    ) -> int | None:
        """Put the actual tokens in place of the hold, once; answers what was held, None if nothing was (any more)."""
        held = await _settle(self._redis, _now(now_ms), user, day, job, how, input_tokens, output_tokens)
        return None if held < 0 else int(held)

    async def release(self, user: str, day: str, job: str, *, now_ms: int | None = None) -> int | None:
        """Give all back, once, as if the request had never been made."""
        return await self.settle(
            user, day, job, input_tokens=0, output_tokens=0, how="given_back", now_ms=now_ms
        )

    async def state(
        self, user: str, windows: WindowSpec, *, day: str = "", now_ms: int | None = None
    ) -> LimiterState:
        """What is used of the user's day and of the windows."""
        total, held, encoded = await _state(self._redis, _now(now_ms), user, day, windows.encode())
        rows = json.loads(encoded)
        states = tuple(
            WindowState(scope, limit or None, charged, flying, requests_limit or None, requests)
            for scope, limit, charged, flying, requests_limit, requests in (
                rows if isinstance(rows, list) else []
            )
        )
        return LimiterState(total, held, states)


def _now(now_ms: int | None) -> str | int:
    return "" if now_ms is None else now_ms
