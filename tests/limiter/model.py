"""What the limiter should do, in plain Python: lists of what happened, added up anew for every question.

The machines run it beside the real scripts and compare every answer.
"""

from dataclasses import dataclass, field

from limiter.limits import (
    Accounting,
    LimiterState,
    RateDecision,
    Refusal,
    Refused,
    RequestLimits,
    Reserved,
    Scope,
    Settlement,
    WindowMode,
    WindowSpec,
    WindowState,
)
from tests.limiter.rig import MINUTE_MS, day_of, midnight_after
from tests.limiter.window_model import MirrorWindow, StrictWindow, Window


@dataclass(slots=True)
class RateModel:
    """The requests of one user."""

    requests: list[int] = field(default_factory=list)
    blocked_until: int = 0
    of_day: dict[str, int] = field(default_factory=dict)

    def hit(self, limits: RequestLimits, now: int) -> RateDecision:
        """Count a request, or refuse it."""
        day_wait = 0
        if limits.per_day is not None and self.of_day.get(day_of(now), 0) >= limits.per_day:
            day_wait = midnight_after(now) - now
        if self.blocked_until <= now:
            self.blocked_until = 0
        # A clock that was set back lengthens neither a block nor the memory of a request.
        self.blocked_until = min(self.blocked_until, now + max(limits.block_ms, limits.window_ms))
        if limits.limit is not None:
            self.requests = [min(at, now) for at in self.requests if at > now - limits.window_ms]
        blocked_ms = self.blocked_until - now
        if blocked_ms > 0:
            return RateDecision(
                False, max(day_wait, blocked_ms), 0, max(blocked_ms, self._free_ms(limits, now))
            )
        if limits.limit is not None and len(self.requests) >= limits.limit:
            reset_ms = self._free_ms(limits, now)
            wait_ms = sorted(self.requests)[-limits.limit] + limits.window_ms - now
            if limits.block_ms:
                self.blocked_until = now + max(limits.block_ms, wait_ms)
                wait_ms = self.blocked_until - now
                reset_ms = max(reset_ms, wait_ms)
            return RateDecision(False, max(day_wait, wait_ms), 0, reset_ms)
        if day_wait:
            return RateDecision(False, day_wait, *self._left(limits, now))
        if limits.limit is not None:
            self.requests.append(now)
        if limits.per_day is not None:
            self.of_day[day_of(now)] = self.of_day.get(day_of(now), 0) + 1
        return RateDecision(True, 0, *self._left(limits, now))

    def _left(self, limits: RequestLimits, now: int) -> tuple[int | None, int]:
        if limits.limit is None:
            return None, 0
        return limits.limit - len(self.requests), self._free_ms(limits, now)

    def _free_ms(self, limits: RequestLimits, now: int) -> int:
        counted = limits.limit is not None and self.requests
        return max(self.requests) + limits.window_ms - now if counted else 0


@dataclass(slots=True)
class BudgetModel:
    """The budgets of all users."""

    used: dict[tuple[str, str], int] = field(default_factory=dict)
    holds: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)

    def state(self, user: str, day: str) -> tuple[int, int]:
        """Used plus held, and held."""
        held = sum(self.holds.get((user, day), {}).values())
        return self.used.get((user, day), 0) + held, held

    def fits(self, user: str, day: str, job: str, tokens: int, limit: int | None) -> bool:
        """Whether the job has a hold, or may have one."""
        if limit is None or job in self.holds.get((user, day), {}):
            return True
        return self.state(user, day)[0] + tokens <= limit

    def hold(self, user: str, day: str, job: str, tokens: int) -> bool:
        """Hold the job's tokens; whether that was new."""
        self.used.setdefault((user, day), 0)
        holds = self.holds.setdefault((user, day), {})
        if job in holds:
            return False
        holds[job] = tokens
        return True

    def settle(self, user: str, day: str, job: str, tokens: int) -> int | None:
        """The tokens in place of the hold; what that was."""
        held = self.holds.get((user, day), {}).pop(job, None)
        if held is not None:
            self.used[user, day] += tokens
        return held

    def expire(self, day: str) -> None:
        """The day's counters and holds are gone."""
        for known in (self.used, self.holds):
            for key in [key for key in known if key[1] == day]:
                known.pop(key)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one job has taken of its windows, until it is settled."""

    day: str
    deadline: int
    accounting: Accounting
    scopes: tuple[Scope, ...]
    charged: int
    flying: int


# By accounting: how much of (input, output) is charged on arrival; the rest is in flight until the settle.
_ON_ARRIVAL: dict[Accounting, tuple[int, int]] = {"openai": (1, 1), "anthropic": (1, 0), "actual": (0, 0)}


@dataclass(slots=True)
class LimiterModel:
    """Budget and windows together. All windows are of one mode and one span."""

    mode: WindowMode = "strict"
    span_ms: int = MINUTE_MS + 1000
    budget: BudgetModel = field(default_factory=BudgetModel)
    windows: dict[str, Window] = field(default_factory=dict)
    skews: dict[str, int] = field(default_factory=dict)
    receipts: dict[str, Receipt] = field(default_factory=dict)

    def window(self, name: str) -> Window:
        """The window of a scope."""
        if name not in self.windows:
            self.windows[name] = (
                MirrorWindow(self.span_ms) if self.mode == "mirror" else StrictWindow(self.span_ms)
            )
        return self.windows[name]

    def clock(self, name: str, now: int) -> int:
        """The time of a scope's window."""
        return now + self.skews.get(name, 0)

    def reserve(
        self,
        now: int,
        user: str,
        job: str,
        input_tokens: int,
        output_tokens: int,
        *,
        budget: int | None,
        windows: WindowSpec,
        day: str,
        deadline: int,
    ) -> Reserved | Refused:
        """All or nothing, once for each job."""
        if job in self.receipts:
            return Reserved(self.receipts[job].day)
        tokens = input_tokens + output_tokens
        if any(
            scope.tokens_per_minute is not None and tokens > scope.tokens_per_minute
            for scope in windows.scopes
        ):
            return Refused("too_large", None)
        of_day = day or day_of(now)
        if not self.budget.fits(user, of_day, job, tokens, budget):
            helps = not day and budget is not None and tokens <= budget
            return Refused("user_budget", midnight_after(now) - now if helps else None)
        refused = self.refusal(now, windows, tokens)
        if refused:
            return refused
        self.budget.hold(user, of_day, job, tokens)
        inputs, outputs = _ON_ARRIVAL[windows.accounting]
        charged = input_tokens * inputs + output_tokens * outputs
        self.receipts[job] = Receipt(
            of_day, deadline, windows.accounting, windows.scopes, charged, tokens - charged
        )
        for scope in windows.scopes:
            window = self.window(scope.name)
            window.flying += tokens - charged
            window.charge(self.clock(scope.name, now), scope, job, charged, 1)
        return Reserved(of_day)

    def refusal(self, now: int, windows: WindowSpec, tokens: int) -> Refused | None:
        """Why the tokens do not fit, or None."""
        reasons: list[Refusal] = []
        waits: list[int | None] = []
        for scope in windows.scopes:
            window, at = self.window(scope.name), self.clock(scope.name, now)
            for_tokens = window.wait_for_tokens(at, scope, tokens)
            for_request = window.wait_for_request(at, scope)
            waits += [for_tokens, for_request]
            reasons += ["provider_tokens"] if for_tokens != 0 else []
            reasons += ["provider_requests"] if for_request != 0 else []
        if not reasons:
            return None
        known = [wait for wait in waits if wait is not None]
        return Refused(reasons[0], max(known) if len(known) == len(waits) else None)

    def settle(
        self,
        now: int,
        user: str,
        day: str,
        job: str,
        input_tokens: int,
        output_tokens: int,
        how: Settlement,
    ) -> int | None:
        """What is settled is settled, once."""
        held = self.budget.settle(user, day, job, input_tokens + output_tokens)
        self._settle_windows(now, job, input_tokens, output_tokens, how)
        return held

    def _settle_windows(
        self, now: int, job: str, input_tokens: int, output_tokens: int, how: Settlement
    ) -> None:
        receipt = self.receipts.pop(job, None)
        if receipt is None:
            return
        inputs, outputs = _ON_ARRIVAL[receipt.accounting]
        late = input_tokens * (1 - inputs) + output_tokens * (1 - outputs)
        for scope in receipt.scopes:
            window, at = self.window(scope.name), self.clock(scope.name, now)
            window.flying -= receipt.flying
            if how in ("charged", "kept"):
                window.charge(at, scope, f"{job} settled", late if how == "charged" else receipt.flying, 0)
            else:
                window.give_back(at, scope, job, receipt.charged, 1 if how == "given_back" else 0)

    def sweep(self, now: int, most: int) -> list[str]:
        """Charge what was not settled in time; the jobs whose receipts those were."""
        due = sorted((receipt.deadline, job) for job, receipt in self.receipts.items())
        swept = [job for deadline, job in due if deadline <= now][:most]
        for job in swept:
            self._settle_windows(now, job, 0, 0, "kept")
        return swept

    def state(self, now: int, user: str, day: str, windows: WindowSpec) -> LimiterState:
        """What the limiter is to tell of itself."""
        states = []
        for scope in windows.scopes:
            window = self.window(scope.name)
            tokens, requests = window.charged(self.clock(scope.name, now), scope)
            states.append(
                WindowState(
                    scope.name,
                    scope.tokens_per_minute,
                    tokens,
                    window.flying,
                    scope.requests_per_minute,
                    requests,
                )
            )
        return LimiterState(*self.budget.state(user, day), tuple(states))
