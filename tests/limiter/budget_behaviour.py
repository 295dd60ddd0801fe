"""How a user's daily budget behaves: each function is one behaviour, shown on the rig it is given."""

import time
from datetime import UTC, datetime

from limiter.limits import Refused, Reserved
from tests.limiter.rig import (
    DAY,
    DAY_MS,
    HOUR_MS,
    MIDNIGHT_MS,
    MINUTE_MS,
    NEXT_DAY,
    NOON_MS,
    SECOND_MS,
    Rig,
    day_of,
    midnight_after,
)

TOKENS, HOLDS = f"tokens:ana:{DAY}", f"holds:ana:{DAY}"
KEPT_MS = 2 * DAY_MS
"""How long a day's keys outlive the day, or the latest end of a job that holds some of it."""


def holding_twice_holds_once(rig: Rig) -> None:
    for tokens in (300, 300, 900):
        assert rig.reserve("job", tokens, budget=1000) == Reserved(DAY)
        assert rig.budget() == (300, 300)


def a_held_job_is_granted_again_in_a_full_budget(rig: Rig) -> None:
    assert rig.reserve("job", 1000, budget=1000) == Reserved(DAY)
    assert rig.reserve("job", 1000, budget=1000) == Reserved(DAY)
    assert isinstance(rig.reserve("other", 1, budget=1000), Refused)


def a_retry_keeps_its_hold(rig: Rig) -> None:
    rig.reserve("job", 700, budget=1000, deadline_in_ms=MINUTE_MS)
    rig.reserve("other", 300, budget=1000)
    rig.now = MIDNIGHT_MS + HOUR_MS
    # The outcome of the first attempt never came.
    assert rig.sweep().receipts == 2
    assert rig.reserve("job", 700, budget=1000, day=DAY) == Reserved(DAY)
    assert rig.budget() == (1000, 1000)
    assert rig.budget(day=NEXT_DAY) == (0, 0)
    assert rig.settle("job", 500) == 700
    assert rig.budget() == (800, 300)


def settling_twice_charges_once(rig: Rig) -> None:
    rig.reserve("job", 300)
    assert rig.settle("job", 100, 50) == 300
    assert rig.budget() == (150, 0)
    for tokens in (100, 7, 0):
        assert rig.settle("job", tokens) is None
        assert rig.budget() == (150, 0)


def a_settle_after_a_release_changes_nothing(rig: Rig) -> None:
    rig.reserve("other", 10)
    rig.reserve("job", 300)
    assert rig.release("job") == 300
    assert rig.budget() == (10, 10)
    assert rig.settle("job", 200) is None
    assert rig.release("job") is None
    assert rig.budget() == (10, 10)


def a_release_after_a_settle_changes_nothing(rig: Rig) -> None:
    rig.reserve("other", 10)
    rig.reserve("job", 300)
    assert rig.settle("job", 200) == 300
    assert rig.release("job") is None
    assert rig.settle("job", 200) is None
    assert rig.budget() == (210, 10)


def a_settle_of_what_was_never_held_changes_nothing(rig: Rig) -> None:
    assert rig.settle("job", 200) is None
    assert rig.key_names() == []
    rig.reserve("other", 10)
    before = rig.contents()
    assert rig.settle("job", 200) is None
    assert rig.contents() == before


def the_limit_is_reached_to_the_token(rig: Rig) -> None:
    assert rig.reserve("first", 600, budget=1000) == Reserved(DAY)
    rig.settle("first", 500)
    assert rig.reserve("second", 300, 199, budget=1000) == Reserved(DAY)
    assert rig.reserve("third", 0, 1, budget=1000) == Reserved(DAY)
    before = rig.contents()
    assert rig.reserve("fourth", 1, budget=1000) == Refused("user_budget", MIDNIGHT_MS - rig.now)
    assert rig.contents() == before
    rig.settle("third", 0)
    assert rig.reserve("fourth", 1, budget=1000) == Reserved(DAY)


def what_was_refused_costs_nothing(rig: Rig) -> None:
    assert isinstance(rig.reserve("job", 1001, budget=1000), Refused)
    assert rig.key_names() == []
    assert rig.release("job") is None
    assert rig.key_names() == []


def a_job_held_before_midnight_settles_on_that_day(rig: Rig) -> None:
    rig.now = MIDNIGHT_MS - 1
    assert rig.reserve("job", 300, budget=1000) == Reserved(DAY)
    rig.now = MIDNIGHT_MS + 5 * SECOND_MS
    assert rig.settle("job", 120, day=DAY) == 300
    assert rig.budget(day=DAY) == (120, 0)
    assert rig.budget(day=NEXT_DAY) == (0, 0)
    assert rig.reserve("next", 300, budget=1000) == Reserved(NEXT_DAY)
    assert rig.budget(day=DAY) == (120, 0)


def a_reservation_repeated_after_midnight_answers_the_day_it_has(rig: Rig) -> None:
    rig.now = MIDNIGHT_MS - 1
    assert rig.reserve("job", 300, budget=1000) == Reserved(DAY)
    rig.now = MIDNIGHT_MS
    assert rig.reserve("job", 300, budget=1000) == Reserved(DAY)
    rig.now += 3 * DAY_MS
    assert rig.reserve("job", 300, budget=1000) == Reserved(DAY)
    assert rig.settle("job", 120, day=DAY) == 300
    assert rig.budget(day=NEXT_DAY) == (0, 0)


def a_promise_for_a_later_day_is_of_that_day(rig: Rig) -> None:
    rig.reserve("today", 1000, budget=1000)
    assert rig.reserve("job", 900, budget=1000, day=NEXT_DAY) == Reserved(NEXT_DAY)
    assert isinstance(rig.reserve("other", 101, budget=1000, day=NEXT_DAY), Refused)
    rig.now = MIDNIGHT_MS + HOUR_MS
    assert isinstance(rig.reserve("other", 101, budget=1000), Refused)
    assert rig.settle("job", 40, day=NEXT_DAY) == 900
    assert rig.budget(day=NEXT_DAY) == (40, 0)
    assert rig.budget(day=DAY) == (1000, 1000)


def more_than_was_held_is_recorded_and_ends_the_day(rig: Rig) -> None:
    rig.reserve("job", 900, budget=1000)
    rig.settle("job", 100, 1400)
    assert rig.budget() == (1500, 0)
    assert rig.reserve("other", 1, budget=1000) == Refused("user_budget", MIDNIGHT_MS - rig.now)
    rig.now = MIDNIGHT_MS
    assert rig.reserve("other", 1, budget=1000) == Reserved(NEXT_DAY)


def a_day_that_has_expired_is_not_made_again(rig: Rig) -> None:
    rig.reserve("job", 300)
    rig.client.delete(TOKENS, HOLDS)
    rig.now += 5 * DAY_MS
    assert rig.settle("job", 200) is None
    assert TOKENS not in rig.key_names()
    assert HOLDS not in rig.key_names()


def a_counter_that_is_gone_is_not_made_again(rig: Rig) -> None:
    rig.reserve("job", 300)
    rig.client.delete(TOKENS)
    assert rig.settle("job", 200) == 300
    assert TOKENS not in rig.key_names()
    assert HOLDS not in rig.key_names()


def an_unlimited_budget_is_counted_not_checked(rig: Rig) -> None:
    for number in range(5):
        assert rig.reserve(f"job{number}", 10**9, budget=None) == Reserved(DAY)
    assert rig.budget() == (5 * 10**9, 5 * 10**9)
    for number in range(5):
        rig.settle(f"job{number}", 10**9 - 1)
    assert rig.budget() == (5 * 10**9 - 5, 0)
    assert isinstance(rig.reserve("job", 1, budget=1000), Refused)


def a_budget_of_nothing_refuses_for_good(rig: Rig) -> None:
    assert rig.reserve("job", 1, budget=0) == Refused("user_budget", None)


def no_wait_is_told_where_midnight_does_not_help(rig: Rig) -> None:
    assert rig.reserve("job", 1001, budget=1000) == Refused("user_budget", None)
    rig.reserve("first", 600, budget=1000, day=DAY)
    assert rig.reserve("second", 600, budget=1000, day=DAY) == Refused("user_budget", None)
    assert rig.reserve("second", 600, budget=1000) == Refused("user_budget", MIDNIGHT_MS - rig.now)


def nothing_but_the_count_remains_at_rest(rig: Rig) -> None:
    for number in range(5):
        rig.reserve(f"job{number}", 100 + number)
    for number in range(4):
        rig.settle(f"job{number}", 10)
        assert rig.client.exists(HOLDS)
    rig.release("job4")
    assert rig.key_names() == [TOKENS]
    assert rig.client.get(TOKENS) == b"40"


def holds_of_nothing_settle_like_others(rig: Rig) -> None:
    rig.reserve("first", 0)
    rig.reserve("second", 0)
    rig.reserve("third", 5)
    assert rig.release("third") == 5
    assert rig.release("first") == 0
    assert rig.settle("second", 3) == 0
    assert rig.key_names() == [TOKENS]
    assert rig.client.get(TOKENS) == b"3"


def users_have_budgets_of_their_own(rig: Rig) -> None:
    rig.reserve("job", 1000, budget=1000)
    assert rig.reserve("hers", 1000, budget=1000, user="bob") == Reserved(DAY)
    assert rig.settle("hers", 1, user="bob") == 1000
    assert rig.budget() == (1000, 1000)


def a_changed_limit_holds_from_the_next_reservation(rig: Rig) -> None:
    rig.reserve("first", 800, budget=1000)
    assert isinstance(rig.reserve("second", 100, budget=500), Refused)
    assert rig.reserve("second", 700, budget=1500) == Reserved(DAY)
    assert rig.budget() == (1500, 1500)


def a_day_is_kept_two_days_after_its_end(rig: Rig) -> None:
    # 999 ms more than whole seconds, so that no rounding goes unseen.
    rig.now = NOON_MS + 1
    lives = _Lives(rig)
    lives.expires("job", ends_in_ms=HOUR_MS, kept_ms=MIDNIGHT_MS + KEPT_MS - rig.now)
    lives.expires("next", ends_in_ms=HOUR_MS, day=NEXT_DAY, kept_ms=MIDNIGHT_MS + DAY_MS + KEPT_MS - rig.now)


def a_day_is_kept_two_days_after_the_latest_end_of_its_jobs(rig: Rig) -> None:
    _Lives(rig).expires("job", ends_in_ms=5 * DAY_MS + 999, kept_ms=7 * DAY_MS + 999)


def a_life_is_never_shortened(rig: Rig) -> None:
    lives = _Lives(rig)
    lives.expires("long", ends_in_ms=5 * DAY_MS, kept_ms=7 * DAY_MS)
    lives.expires("short", ends_in_ms=HOUR_MS, kept_ms=7 * DAY_MS)
    lives.expires("longer", ends_in_ms=6 * DAY_MS, kept_ms=8 * DAY_MS)
    rig.settle("short", 1)
    rig.release("long")
    lives.expires("last", ends_in_ms=HOUR_MS, kept_ms=8 * DAY_MS)


class _Lives:
    """Compares how long keys will live, which the server's own clock shortens while the test's stands still."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._began_s = time.monotonic()

    def expires(self, job: str, *, ends_in_ms: int, kept_ms: int, day: str = DAY) -> None:
        """Holding for `job` leaves the day's keys `kept_ms` to live."""
        self._rig.reserve(job, 10, ends_in_ms=ends_in_ms, day=day)
        lives_ms = [self._rig.left_ms(f"{kind}:ana:{day}") for kind in ("tokens", "holds")]
        passed_ms = (time.monotonic() - self._began_s) * 1000 + 1
        for life_ms in lives_ms:
            assert kept_ms - passed_ms <= life_ms <= kept_ms, f"{life_ms} ms to live, not {kept_ms}"


def days_are_those_of_the_calendar(rig: Rig) -> None:
    dates = [
        datetime(year, month, day, tzinfo=UTC)
        for year in (1970, 1999, 2000, 2001, 2024, 2026, 2027, 2028, 2099, 2100, 2400)
        for month, day in ((1, 1), (2, 28), (3, 1), (6, 30), (12, 31))
    ]
    dates += [datetime(year, 2, 29, tzinfo=UTC) for year in (1972, 2000, 2024, 2028, 2400)]
    for number, date in enumerate(dates):
        starts_ms = round(date.timestamp() * 1000)
        for at_ms in (starts_ms, starts_ms + DAY_MS - 1):
            rig.now = at_ms
            day = date.date().isoformat()
            assert rig.reserve(f"job{number}", 1, ends_in_ms=0) == Reserved(day)
            assert day_of(at_ms) == day
            rig.release(f"job{number}", day=day)
            kept_ms = midnight_after(at_ms) + KEPT_MS - at_ms
            if at_ms == starts_ms:
                assert kept_ms - 60 * SECOND_MS < rig.left_ms(f"tokens:ana:{day}") <= kept_ms
