"""Provider windows beside their model, both kinds: two pools of one provider and all its accountings."""

from dataclasses import dataclass
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from limiter.limits import (
    Accounting,
    Refused,
    Reserved,
    Scope,
    Settlement,
    WindowMode,
    WindowSpec,
)
from tests.limiter.machine import LimiterMachine
from tests.limiter.model import LimiterModel, Receipt
from tests.limiter.rig import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, SLICE_MS, day_of

_MARGIN_MS = 1000
_SPAN_MS = MINUTE_MS + _MARGIN_MS
_SCOPES = ("one", "one/small", "one/large")
# Tokens and requests per minute of the provider and of two of its models.
_LIMITS: tuple[tuple[tuple[int | None, int | None], ...], ...] = (
    ((1000, None), (600, None), (None, 3)),
    ((1000, 6), (600, 4), (900, 3)),
    ((500, None), (None, None), (500, None)),
    ((None, 4), (1000, None), (None, None)),
)
_TOKENS = st.sampled_from((0, 1, 50, 150, 250, 400, 600))
_ACCOUNTINGS = st.sampled_from(("openai", "anthropic", "actual"))
_POOLS = st.sampled_from(("one", "one/small", "one/large"))
_BUDGETS = st.sampled_from((None, None, None, 2000))
_AGAIN = st.sampled_from((False,) * 7 + (True,))
_HOWS = st.sampled_from(("charged", "charged", "kept", "tokens_back", "given_back"))


@dataclass(slots=True)
class Counted:
    """What the provider has counted of a job in one scope, by a clock that is never set back."""

    scope: str
    at: int
    job: str
    tokens: int
    requests: int


class WindowMachine(LimiterMachine):
    """Every answer and state is the model's, and what the provider counts never passes a limit in any minute."""

    mode: ClassVar[WindowMode] = "strict"

    def __init__(self) -> None:
        super().__init__()
        self.model = LimiterModel(mode=self.mode, span_ms=_SPAN_MS)
        self.limits = _LIMITS[0]
        self.jobs: list[tuple[str, str]] = []
        self.counted: list[Counted] = []
        self.set_back_by_ms = 0

    @initialize(limits=st.sampled_from(_LIMITS))
    def begin(self, limits: tuple[tuple[int | None, int | None], ...]) -> None:
        self.limits = limits

    @property
    def true_now(self) -> int:
        """The time by a clock that is never set back."""
        return self.rig.now + self.set_back_by_ms

    def _spec(self, pool: str, accounting: Accounting = "openai") -> WindowSpec:
        scopes = [
            Scope(name, tokens, requests)
            for name, (tokens, requests) in zip(_SCOPES, self.limits, strict=True)
            if name in ("one", pool)
        ]
        return WindowSpec(tuple(scopes), accounting, self.mode, _MARGIN_MS)

    def _compare(self, pool: str) -> None:
        spec = self._spec(pool)
        now = self.rig.now
        assert self.rig.state(spec, day=day_of(now)) == self.model.state(now, "ana", day_of(now), spec)

    def _reserve(
        self, job: str, tokens: int, output: int, spec: WindowSpec, budget: int | None, deadline_in_ms: int
    ) -> Reserved | Refused:
        is_new = job not in self.model.receipts
        answer = self.rig.reserve(
            job, tokens, output, windows=spec, budget=budget, deadline_in_ms=deadline_in_ms
        )
        now = self.rig.now
        assert answer == self.model.reserve(
            now,
            "ana",
            job,
            tokens,
            output,
            budget=budget,
            windows=spec,
            day="",
            deadline=now + deadline_in_ms,
        )
        if isinstance(answer, Reserved) and is_new:
            self.jobs.append((job, answer.day))
            receipt = self.model.receipts[job]
            for scope in spec.scopes:
                self.counted.append(Counted(scope.name, self.true_now, job, receipt.charged, 1))
                self._check_promise(scope)
        return answer

    def _check_promise(self, scope: Scope) -> None:
        """What was counted in the window that ends now, and what may still be, is within the limits."""
        since = self.true_now - _SPAN_MS
        counted = [entry for entry in self.counted if entry.scope == scope.name and entry.at >= since]
        tokens = sum(entry.tokens for entry in counted) + self.model.window(scope.name).flying
        assert scope.tokens_per_minute is None or tokens <= scope.tokens_per_minute
        requests = sum(entry.requests for entry in counted)
        assert scope.requests_per_minute is None or requests <= scope.requests_per_minute

    def _next_job(self) -> str:
        return f"job{len(self.jobs)}"

    @rule(
        tokens=_TOKENS,
        output=_TOKENS,
        pool=_POOLS,
        accounting=_ACCOUNTINGS,
        budget=_BUDGETS,
        again=_AGAIN,
        deadline_in_ms=st.sampled_from((SECOND_MS, 2 * MINUTE_MS)),
    )
    def reserve(
        self,
        tokens: int,
        output: int,
        pool: str,
        accounting: Accounting,
        budget: int | None,
        again: bool,
        deadline_in_ms: int,
    ) -> None:
        self.step()
        spec = self._spec(pool, accounting)
        job = self.jobs[-1][0] if again and self.jobs else ""
        if job not in self.model.receipts:
            job = self._next_job()
        self._reserve(job, tokens, output, spec, budget, deadline_in_ms)
        self._compare(pool)

    @rule(tokens=_TOKENS, pool=_POOLS, accounting=_ACCOUNTINGS)
    def wait_as_told(self, tokens: int, pool: str, accounting: Accounting) -> None:
        self.step()
        spec, job = self._spec(pool, accounting), self._next_job()
        answer = self._reserve(job, tokens, 0, spec, None, MINUTE_MS)
        if isinstance(answer, Refused) and answer.wait_ms:
            self.rig.now += answer.wait_ms - 1
            early = self._reserve(job, tokens, 0, spec, None, MINUTE_MS)
            self.rig.now += 1
            assert isinstance(self._reserve(job, tokens, 0, spec, None, MINUTE_MS), Reserved)
            # A bucket's thousandths may be whole a ms earlier than was told.
            assert isinstance(early, Refused) or self.mode == "mirror", (
                "was told to wait longer than is needed"
            )

    @rule(
        back=st.integers(0, 7),
        tokens=st.sampled_from((0, 30, 150)),
        output=_TOKENS,
        how=_HOWS,
        again=_AGAIN,
        pool=_POOLS,
    )
    def settle(self, back: int, tokens: int, output: int, how: Settlement, again: bool, pool: str) -> None:
        self.step()
        # Again: whatever has become of it.
        jobs = [entry for entry in self.jobs if again or entry[0] in self.model.receipts]
        if not jobs:
            return
        job, day = jobs[-1 - back % len(jobs)]
        receipt = self.model.receipts.get(job)
        held = self.rig.settle(job, tokens, output, how=how, day=day)
        assert held == self.model.settle(self.rig.now, "ana", day, job, tokens, output, how)
        self._compare(pool)
        if receipt is None:
            return
        if how == "charged":
            late = {"openai": 0, "anthropic": output, "actual": tokens + output}[receipt.accounting]
            self._counts_late(job, receipt, late)
        elif how == "kept":
            self._counts_late(job, receipt, receipt.flying)
        else:
            self._does_not_count(job, receipt, 1 if how == "given_back" else 0)

    def _counts_late(self, job: str, receipt: Receipt, tokens: int) -> None:
        self.counted += [
            Counted(scope.name, self.true_now, f"{job} settled", tokens, 0) for scope in receipt.scopes
        ]

    def _does_not_count(self, job: str, receipt: Receipt, requests: int) -> None:
        """It is as if the provider had never counted this."""
        for entry in self.counted:
            if entry.job == job:
                entry.tokens -= receipt.charged
                entry.requests -= requests

    @rule(
        by_ms=st.sampled_from(
            (1, 17, SLICE_MS - 1, SLICE_MS, 777, 3210, 3210, 9000, 20_000, _SPAN_MS, 5 * MINUTE_MS, DAY_MS)
        ),
        most=st.sampled_from((0, 0, 1, 3)),
        tokens=_TOKENS,
        pool=_POOLS,
    )
    def time_passes(self, by_ms: int, most: int, tokens: int, pool: str) -> None:
        self.step()
        self.rig.now += by_ms
        if most:
            self._sweep(most, tokens, self._spec(pool))
        self._compare(pool)
        self.rig.windows_add_up()

    def _sweep(self, most: int, tokens: int, spec: WindowSpec) -> None:
        receipts = dict(self.model.receipts)
        swept = self.rig.sweep(spec, tokens, most)
        jobs = self.model.sweep(self.rig.now, most)
        assert swept.receipts == len(jobs)
        refused = self.model.refusal(self.rig.now, spec, tokens)
        assert (swept.reason, swept.wait_ms) == ((refused.reason, refused.wait_ms) if refused else (None, 0))
        for job in jobs:
            self._counts_late(job, receipts[job], receipts[job].flying)

    @rule(
        limits=st.sampled_from(_LIMITS),
        set_back_by_ms=st.sampled_from((0, 0, 1, 700, 20_000, HOUR_MS)),
        pool=_POOLS,
    )
    def limits_or_clock_change(
        self, limits: tuple[tuple[int | None, int | None], ...], set_back_by_ms: int, pool: str
    ) -> None:
        self.step()
        if self.mode == "strict":
            self.limits = limits
        if set_back_by_ms:
            self._set_back(set_back_by_ms)
        self._compare(pool)

    def _set_back(self, by_ms: int) -> None:
        before = {name: self.model.clock(name, self.rig.now) for name in _SCOPES}
        self.rig.now -= by_ms
        self.set_back_by_ms += by_ms
        for pool in _SCOPES:
            self.rig.state(self._spec(pool))
        for name in _SCOPES:
            stored = self.rig.stored(name)
            if stored is None:
                continue
            # How far back a window's clock goes is its own business, as long as it passes no change of the window.
            self.model.skews[name] = stored.skew_ms
            now = self.model.clock(name, self.rig.now)
            assert self.model.window(name).changed_at <= now <= before[name]


class MirrorWindowMachine(WindowMachine):
    """The same for windows that mirror their provider's buckets, whose promise is another."""

    mode: ClassVar[WindowMode] = "mirror"

    def _does_not_count(self, job: str, receipt: Receipt, requests: int) -> None:
        """It goes back into the bucket now: what had been refilled in the meantime stays in it, too."""
        self.counted += [
            Counted(scope.name, self.true_now, job, -receipt.charged, -requests) for scope in receipt.scopes
        ]

    def _check_promise(self, scope: Scope) -> None:
        """In no span that ends now was more counted, or may still be, than a bucket gives."""
        flying = self.model.window(scope.name).flying
        tokens = requests = 0
        for entry in reversed(self.counted):
            if entry.scope != scope.name:
                continue
            tokens, requests = tokens + entry.tokens, requests + entry.requests
            span_ms = MINUTE_MS + self.true_now - entry.at
            for limit, used in (
                (scope.tokens_per_minute, tokens + flying),
                (scope.requests_per_minute, requests),
            ):
                assert limit is None or used * MINUTE_MS <= limit * span_ms
