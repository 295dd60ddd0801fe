"""The request rate beside its model: two users, limits that change, a clock that may be set back."""

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from limiter.limits import RateDecision, RequestLimits
from tests.limiter.machine import LimiterMachine
from tests.limiter.model import RateModel
from tests.limiter.rig import HOUR_MS, MINUTE_MS, midnight_after

_USERS = st.sampled_from(("ana", "bob"))


class RateMachine(LimiterMachine):
    """Every decision is the model's, and no window ever lets more through than its limit."""

    @initialize(
        # The server's own clock goes on while the test's stands still: nothing shorter than an example takes.
        window_ms=st.sampled_from((MINUTE_MS, HOUR_MS)),
        windows_of_block=st.sampled_from((0, 1, 3, 0.5)),
    )
    def begin(self, window_ms: int, windows_of_block: float) -> None:
        self.window_ms = window_ms
        self.block_ms = round(window_ms * windows_of_block)
        self.limits = RequestLimits(3, window_ms, self.block_ms)
        self.models = {"ana": RateModel(), "bob": RateModel()}
        # When requests were let through while there was a limit, by a clock that is never set back.
        self.passed: dict[str, list[int]] = {"ana": [], "bob": []}
        self.set_back_by_ms = 0

    def _hit(self, user: str) -> RateDecision:
        answer = self.rig.hit(self.limits, user)
        assert answer == self.models[user].hit(self.limits, self.rig.now)
        if answer.allowed and self.limits.limit is not None:
            now = self.rig.now + self.set_back_by_ms
            self.passed[user].append(now)
            recent = sum(at > now - self.window_ms for at in self.passed[user])
            assert recent <= self.limits.limit, f"{recent} requests in {self.window_ms} ms"
        return answer

    @rule(user=_USERS, windows=st.sampled_from((0, 0, 0, 0.1, 0.5)))
    def hit(self, user: str, windows: float) -> None:
        self.step()
        self.rig.now += round(windows * self.window_ms)
        self._hit(user)

    @rule(user=_USERS)
    def hit_until_refused(self, user: str) -> None:
        self.step()
        for _ in range(6):
            if not self._hit(user).allowed:
                break

    @rule(user=_USERS)
    def wait_as_told(self, user: str) -> None:
        self.step()
        wait_ms = self._hit(user).wait_ms
        # A clock that was set back may find itself on a day of which it has counted the next one already.
        if wait_ms and not (self.set_back_by_ms and self.limits.per_day):
            self.rig.now += wait_ms - 1
            assert self._hit(user).wait_ms == 1
            self.rig.now += 1
            assert self._hit(user).allowed

    @rule(user=_USERS)
    def wait_until_all_are_free(self, user: str) -> None:
        self.step()
        self.rig.now += self._hit(user).reset_ms
        if self.limits.per_day is None:
            for _ in range(self.limits.limit or 0):
                assert self._hit(user).allowed

    @rule(windows=st.sampled_from((0.01, 0.34, 0.99, 1, 1.01, 2)), midnight=st.booleans())
    def time_passes(self, windows: float, midnight: bool) -> None:
        self.step()
        # A third of a window before midnight, if so.
        before_midnight = midnight_after(self.rig.now) - self.window_ms // 3
        passes_ms = round(windows * self.window_ms)
        self.rig.now = max(before_midnight, self.rig.now) if midnight else self.rig.now + passes_ms

    @rule(
        limit=st.sampled_from((1, 2, 3, 3, 5, None)),
        per_day=st.sampled_from((None, None, 4, 9)),
        blocks=st.booleans(),
        set_back_by_ms=st.sampled_from((0, 0, 1, 300, MINUTE_MS, HOUR_MS, 25 * HOUR_MS)),
    )
    def limits_or_clock_change(
        self, limit: int | None, per_day: int | None, blocks: bool, set_back_by_ms: int
    ) -> None:
        self.step()
        self.limits = RequestLimits(limit, self.window_ms, self.block_ms if blocks else 0, per_day)
        self.rig.now -= set_back_by_ms
        self.set_back_by_ms += set_back_by_ms
