"""How the request rate of a user behaves: each function is one behaviour, shown on the rig it is given."""

import time

from limiter.limits import RequestLimits
from tests.limiter.rig import DAY_MS, HOUR_MS, MIDNIGHT_MS, MINUTE_MS, SECOND_MS, Rig, day_of

TWENTY = RequestLimits(limit=20, block_ms=MINUTE_MS)
THREE = RequestLimits(limit=3)
"""Without a block: over the limit is refused, nothing more."""


def _hits(rig: Rig, limits: RequestLimits, count: int) -> None:
    for number in range(count):
        assert rig.hit(limits).allowed, f"request {number + 1} of {count} was refused"


def twenty_quick_requests_pass_and_the_next_is_blocked(rig: Rig) -> None:
    for sent in range(1, 21):
        answer = rig.hit(TWENTY)
        assert (answer.allowed, answer.wait_ms, answer.remaining) == (True, 0, 20 - sent)
        assert answer.reset_ms == MINUTE_MS
    answer = rig.hit(TWENTY)
    assert (answer.allowed, answer.wait_ms, answer.remaining) == (False, MINUTE_MS, 0)
    assert answer.reset_ms == MINUTE_MS


def asking_does_not_lengthen_a_block(rig: Rig) -> None:
    _hits(rig, TWENTY, 20)
    for passed_s in range(60):
        answer = rig.hit(TWENTY)
        wait_ms = MINUTE_MS - passed_s * SECOND_MS
        assert (answer.allowed, answer.wait_ms, answer.reset_ms) == (False, wait_ms, wait_ms)
        rig.now += SECOND_MS
    assert rig.hit(TWENTY).allowed


def a_block_ends_to_the_millisecond(rig: Rig) -> None:
    _hits(rig, TWENTY, 20)
    rig.now += 7
    assert rig.hit(TWENTY).wait_ms == MINUTE_MS
    rig.now += MINUTE_MS - 1
    answer = rig.hit(TWENTY)
    assert (answer.allowed, answer.wait_ms, answer.remaining) == (False, 1, 0)
    rig.now += 1
    _hits(rig, TWENTY, 20)
    assert not rig.hit(TWENTY).allowed


def a_block_shorter_than_the_window_lasts_until_there_is_room(rig: Rig) -> None:
    short = RequestLimits(limit=3, block_ms=5 * SECOND_MS)
    for _ in range(3):
        _hits(rig, short, 1)
        rig.now += SECOND_MS
    assert rig.hit(short).wait_ms == MINUTE_MS - 3 * SECOND_MS
    rig.now += MINUTE_MS - 3 * SECOND_MS
    _hits(rig, short, 1)
    assert rig.hit(short).wait_ms == 5 * SECOND_MS
    rig.now += 5 * SECOND_MS
    _hits(rig, short, 2)


def a_request_leaves_after_exactly_the_window(rig: Rig) -> None:
    for _ in range(3):
        _hits(rig, THREE, 1)
        rig.now += 10
    rig.now += MINUTE_MS - 31
    answer = rig.hit(THREE)
    assert (answer.allowed, answer.wait_ms, answer.remaining) == (False, 1, 0)
    rig.now += 1
    answer = rig.hit(THREE)
    assert (answer.allowed, answer.remaining) == (True, 0)
    assert rig.hit(THREE).wait_ms == 10
    rig.now += 9
    assert not rig.hit(THREE).allowed
    rig.now += 1
    _hits(rig, THREE, 1)


def many_leave_at_once(rig: Rig) -> None:
    for gone in (*range(10), 15, 16, 17, 31, 32, 40):
        rig.client.delete("rate:ana")
        limits = RequestLimits(limit=40)
        _hits(rig, limits, gone)
        rig.now += MINUTE_MS // 2
        _hits(rig, limits, 40 - gone)
        rig.now += MINUTE_MS // 2
        if gone:
            assert rig.hit(limits).remaining == gone - 1
        assert rig.client.llen("rate:ana") == 40 - gone + (gone > 0)
        rig.now += MINUTE_MS


def no_edge_lets_twice_the_limit_through(rig: Rig) -> None:
    rig.now += MINUTE_MS - 1
    _hits(rig, THREE, 3)
    rig.now += 2
    assert not rig.hit(THREE).allowed
    rig.now += MINUTE_MS // 2
    assert not rig.hit(THREE).allowed


def remaining_and_reset_are_true(rig: Rig) -> None:
    _hits(rig, THREE, 1)
    rig.now += 40 * SECOND_MS
    answer = rig.hit(THREE)
    assert (answer.remaining, answer.reset_ms) == (1, MINUTE_MS)
    rig.now += 30 * SECOND_MS
    answer = rig.hit(THREE)
    assert (answer.remaining, answer.reset_ms) == (1, MINUTE_MS)
    _hits(rig, THREE, 1)
    rig.now += SECOND_MS
    answer = rig.hit(THREE)
    assert (answer.remaining, answer.wait_ms, answer.reset_ms) == (0, 29 * SECOND_MS, 59 * SECOND_MS)
    rig.now += answer.reset_ms
    _hits(rig, THREE, 3)


def who_waits_as_long_as_he_was_told_is_served(rig: Rig) -> None:
    for limits in (THREE, TWENTY, RequestLimits(limit=2, block_ms=1500), RequestLimits(limit=9, per_day=30)):
        for turn in range(40):
            answer = rig.hit(limits)
            if not answer.allowed:
                assert answer.wait_ms > 0
                rig.now += answer.wait_ms
                assert rig.hit(limits).allowed, f"{limits}: was told to wait {answer.wait_ms} ms, and did"
            rig.now += turn * 97
        rig.now += DAY_MS


def the_number_per_day_ends_at_midnight(rig: Rig) -> None:
    limits = RequestLimits(per_day=3)
    for _ in range(3):
        answer = rig.hit(limits)
        assert (answer.allowed, answer.remaining) == (True, None)
        rig.now += HOUR_MS
    assert rig.hit(limits).wait_ms == MIDNIGHT_MS - rig.now
    rig.now = MIDNIGHT_MS - 1
    assert rig.hit(limits).wait_ms == 1
    rig.now = MIDNIGHT_MS
    _hits(rig, limits, 3)
    assert rig.hit(limits).wait_ms == DAY_MS


def refused_requests_do_not_count_for_the_day(rig: Rig) -> None:
    limits = RequestLimits(limit=2, block_ms=MINUTE_MS, per_day=3)
    _hits(rig, limits, 2)
    for _ in range(5):
        assert not rig.hit(limits).allowed
    rig.now += MINUTE_MS
    _hits(rig, limits, 1)
    assert rig.hit(limits).wait_ms == MIDNIGHT_MS - rig.now


def requests_refused_for_the_day_do_not_count_for_the_minute(rig: Rig) -> None:
    limits = RequestLimits(limit=3, per_day=1)
    rig.now = MIDNIGHT_MS - SECOND_MS
    _hits(rig, limits, 1)
    for _ in range(5):
        assert rig.hit(limits).remaining == 2
    rig.now = MIDNIGHT_MS
    answer = rig.hit(limits)
    assert (answer.allowed, answer.remaining) == (True, 1)


def the_longer_of_two_waits_is_told(rig: Rig) -> None:
    blocking = RequestLimits(limit=2, block_ms=MINUTE_MS, per_day=2)
    _hits(rig, blocking, 2)
    assert rig.hit(blocking).wait_ms == MIDNIGHT_MS - rig.now
    rig.now += SECOND_MS
    assert rig.hit(blocking).wait_ms == MIDNIGHT_MS - rig.now
    rig.now = MIDNIGHT_MS
    _hits(rig, blocking, 1)
    plain = RequestLimits(limit=1, per_day=1)
    assert rig.hit(plain).wait_ms == DAY_MS
    rig.now = MIDNIGHT_MS + DAY_MS - SECOND_MS
    _hits(rig, RequestLimits(limit=1, per_day=2), 1)
    assert rig.hit(RequestLimits(limit=1, per_day=2)).wait_ms == MINUTE_MS


def a_lowered_limit_counts_what_was_sent_before(rig: Rig) -> None:
    for _ in range(5):
        _hits(rig, RequestLimits(limit=5), 1)
        rig.now += SECOND_MS
    answer = rig.hit(RequestLimits(limit=2))
    # The second newest request was sent 2 s ago.
    assert (answer.allowed, answer.remaining, answer.wait_ms) == (False, 0, 58 * SECOND_MS)
    rig.now += 58 * SECOND_MS
    answer = rig.hit(RequestLimits(limit=2))
    assert (answer.allowed, answer.remaining) == (True, 0)


def a_raised_limit_adds_to_what_was_left(rig: Rig) -> None:
    _hits(rig, RequestLimits(limit=2), 2)
    answer = rig.hit(RequestLimits(limit=5))
    assert (answer.allowed, answer.remaining) == (True, 2)
    _hits(rig, RequestLimits(limit=5), 2)
    assert not rig.hit(RequestLimits(limit=5)).allowed


def an_unlimited_user_is_neither_refused_nor_remembered(rig: Rig) -> None:
    for _ in range(100):
        answer = rig.hit(RequestLimits())
        assert (answer.allowed, answer.remaining, answer.reset_ms) == (True, None, 0)
    assert rig.key_names() == []


def users_do_not_count_for_each_other(rig: Rig) -> None:
    _hits(rig, TWENTY, 20)
    assert not rig.hit(TWENTY).allowed
    answer = rig.hit(TWENTY, user="bob")
    assert (answer.allowed, answer.remaining) == (True, 19)


def everything_kept_expires_and_not_too_early(rig: Rig) -> None:
    limits = RequestLimits(limit=2, block_ms=61_999, per_day=10)
    began_s = time.monotonic()
    _hits(rig, limits, 2)
    listed_ms = rig.left_ms("rate:ana")
    assert not rig.hit(limits).allowed
    blocked_ms = rig.left_ms("rate:ana:block")
    counted_ms = rig.left_ms(f"requests:ana:{day_of(rig.now)}")
    passed_ms = (time.monotonic() - began_s) * 1000 + 1
    assert 60_000 - passed_ms <= listed_ms <= 60_000
    assert 61_999 - passed_ms <= blocked_ms <= 61_999
    after_day_ms = MIDNIGHT_MS + DAY_MS - rig.now
    assert after_day_ms - passed_ms <= counted_ms <= after_day_ms


def expiry_decides_nothing(rig: Rig) -> None:
    limits = RequestLimits(limit=2, block_ms=MINUTE_MS, per_day=4)
    _hits(rig, limits, 2)
    rig.client.persist("rate:ana")
    rig.now += MINUTE_MS
    _hits(rig, limits, 2)
    rig.now += 1
    assert rig.hit(limits).wait_ms == MIDNIGHT_MS - rig.now
    rig.client.persist("rate:ana:block")
    rig.now = MIDNIGHT_MS
    _hits(rig, limits, 2)


def a_clock_set_back_lengthens_no_block(rig: Rig) -> None:
    _hits(rig, TWENTY, 20)
    assert rig.hit(TWENTY).wait_ms == MINUTE_MS
    rig.now -= HOUR_MS
    answer = rig.hit(TWENTY)
    assert (answer.allowed, answer.wait_ms) == (False, MINUTE_MS)
    rig.now += SECOND_MS
    assert rig.hit(TWENTY).wait_ms == 59 * SECOND_MS
    rig.now += 59 * SECOND_MS
    _hits(rig, TWENTY, 20)


def a_clock_set_back_keeps_no_request_longer_than_a_window(rig: Rig) -> None:
    _hits(rig, THREE, 3)
    rig.now -= HOUR_MS
    answer = rig.hit(THREE)
    assert (answer.allowed, answer.wait_ms, answer.reset_ms) == (False, MINUTE_MS, MINUTE_MS)
    rig.now += SECOND_MS
    assert rig.hit(THREE).wait_ms == 59 * SECOND_MS
    rig.now += 59 * SECOND_MS
    _hits(rig, THREE, 3)


def a_lowered_block_ends_no_earlier_than_the_window(rig: Rig) -> None:
    long = RequestLimits(limit=3, block_ms=HOUR_MS)
    short = RequestLimits(limit=3, block_ms=SECOND_MS)
    _hits(rig, long, 3)
    assert rig.hit(long).wait_ms == HOUR_MS
    assert rig.hit(short).wait_ms == MINUTE_MS
    rig.now += MINUTE_MS - 1
    assert rig.hit(short).wait_ms == 1
    rig.now += 1
    _hits(rig, short, 3)
