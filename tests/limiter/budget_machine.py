"""The daily budget beside its model: jobs of two users, held and ended in any order, on days that come and go."""

import time

from hypothesis import strategies as st
from hypothesis.stateful import rule

from limiter.limits import Reserved, Settlement
from tests.limiter.machine import LimiterMachine
from tests.limiter.model import LimiterModel
from tests.limiter.rig import DAY_MS, HOUR_MS, NO_WINDOWS, day_of, midnight_after


class BudgetMachine(LimiterMachine):
    """Every answer and every key is the model's, and no key dies too early or never."""

    def __init__(self) -> None:
        super().__init__()
        self.model = LimiterModel()
        self.days: dict[str, str] = {}
        # How long the keys of a user's day live, were it not for the server's own clock, which goes on.
        self.lives_ms: dict[tuple[str, str], int] = {}
        self.began_s = time.monotonic()

    @rule(
        user=st.sampled_from(("ana", "bob")),
        job=st.integers(0, 3),
        tokens=st.sampled_from((0, 1, 100, 250, 400, 1000, 1001)),
        limit=st.sampled_from((1000, 1000, 1000, 600, 0, None)),
        days_ahead=st.sampled_from((None, None, None, 0, 1)),
        ends_in_ms=st.sampled_from((0, HOUR_MS + 999, 3 * DAY_MS)),
    )
    def reserve(
        self, user: str, job: int, tokens: int, limit: int | None, days_ahead: int | None, ends_in_ms: int
    ) -> None:
        self.step()
        name, now = f"{user}{job}", self.rig.now
        day = "" if days_ahead is None else day_of(now + days_ahead * DAY_MS)
        of_day = day or day_of(now)
        held = set(self.model.budget.holds.get((user, of_day), {}))
        output = tokens // 3
        answer = self.rig.reserve(
            name, tokens - output, output, user=user, budget=limit, day=day, ends_in_ms=ends_in_ms
        )
        assert answer == self.model.reserve(
            now, user, name, tokens - output, output, budget=limit, windows=NO_WINDOWS, day=day, deadline=now
        )
        assert self.rig.budget(user, of_day) == self.model.budget.state(user, of_day)
        if isinstance(answer, Reserved):
            self.days.pop(name, None)
            self.days[name] = answer.day
        if name in set(self.model.budget.holds.get((user, of_day), {})) - held:
            day_ends_ms = midnight_after(now) + (days_ahead or 0) * DAY_MS
            life_ms = max(day_ends_ms, now + ends_in_ms) + 2 * DAY_MS - now
            self.lives_ms[user, of_day] = max(self.lives_ms.get((user, of_day), 0), life_ms)

    def _holds(self, name: str) -> bool:
        return name in self.model.budget.holds.get((name[:3], self.days[name]), {})

    @rule(
        back=st.integers(0, 5),
        actual=st.sampled_from((None, 0, 1, 99, 400, 2000)),
        # Whether the end names the day of the hold, as it should, or the day after today.
        days_off=st.sampled_from((0, 0, 0, 0, 1)),
        again=st.sampled_from((False, False, True)),
    )
    def settle_or_release(self, back: int, actual: int | None, days_off: int, again: bool) -> None:
        self.step()
        # Again: whatever has become of it.
        names = [name for name in self.days if again or self._holds(name)]
        if not names:
            return
        name = names[-1 - back % len(names)]
        user, day = name[:3], self.days[name]
        if days_off:
            day = day_of(self.rig.now + DAY_MS)
        if actual is None:
            held = self.rig.release(name, user=user, day=day)
        else:
            held = self.rig.settle(name, actual, user=user, day=day)
        how: Settlement = "given_back" if actual is None else "charged"
        assert held == self.model.settle(self.rig.now, user, day, name, actual or 0, 0, how)
        assert self.rig.budget(user, day) == self.model.budget.state(user, day)

    @rule(
        by_ms=st.sampled_from((1, HOUR_MS, 7 * HOUR_MS, DAY_MS)),
        midnight=st.booleans(),
        expires=st.sampled_from((None, None, None, 0, 1, 2, 3)),
    )
    def time_passes(self, by_ms: int, midnight: bool, expires: int | None) -> None:
        self.step()
        self._compare_everything()
        # 1 ms before midnight, if so.
        self.rig.now = midnight_after(self.rig.now) - 1 if midnight else self.rig.now + by_ms
        if expires is None:
            return
        day = day_of(self.rig.now - expires * DAY_MS)
        for user in ("ana", "bob"):
            self.rig.client.delete(f"tokens:{user}:{day}", f"holds:{user}:{day}")
            self.lives_ms.pop((user, day), None)
        self.model.budget.expire(day)

    def _compare_everything(self) -> None:
        expected: dict[str, object] = {}
        for (user, day), used in self.model.budget.used.items():
            holds = self.model.budget.holds[user, day]
            expected[f"tokens:{user}:{day}"] = str(used + sum(holds.values())).encode()
            if holds:
                stored = {job.encode(): str(tokens).encode() for job, tokens in holds.items()}
                expected[f"holds:{user}:{day}"] = stored | {b"*": str(sum(holds.values())).encode()}
        found = {key: value for key, value in self.rig.contents().items() if not key.startswith("receipts")}
        assert found == expected
        for (user, day), life_ms in self.lives_ms.items():
            left_ms = self.rig.left_ms(f"tokens:{user}:{day}")
            passed_ms = (time.monotonic() - self.began_s) * 1000 + 1
            assert life_ms - passed_ms <= left_ms <= life_ms, f"{day} lives {left_ms} ms, not {life_ms}"
