"""The bucket: continuous refill, charges below zero, exact waits, and what strict clients may rely on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.bucket import Bucket


def test_a_bucket_starts_full_and_never_holds_more_than_its_limit() -> None:
    bucket = Bucket(600, 0)
    assert bucket.level(0) == 600
    assert bucket.level(1000) == 600


def test_it_is_refilled_continuously_at_a_sixtieth_of_the_limit_a_second() -> None:
    bucket = Bucket(600, 0)
    bucket.charge(600, 0)
    assert bucket.level(0.25) == pytest.approx(2.5)
    assert bucket.level(30) == pytest.approx(300)
    assert bucket.level(61) == 600


def test_a_charge_may_take_it_below_zero_and_the_wait_grows_accordingly() -> None:
    bucket = Bucket(60, 0)
    bucket.charge(100, 0)
    assert bucket.level(0) == -40
    assert bucket.wait_s(20, 0) == pytest.approx(60)
    assert bucket.full_in_s(0) == pytest.approx(100)


def test_a_clock_that_steps_back_refills_nothing() -> None:
    bucket = Bucket(60, 100)
    bucket.charge(60, 100)
    assert bucket.level(40) == 0
    assert bucket.level(101) == pytest.approx(1)


@given(
    limit=st.integers(1, 10_000_000),
    used=st.integers(0, 20_000_000),
    share=st.floats(0, 1),
    at_s=st.floats(1.7e9, 1.8e9),
)
def test_whoever_waits_as_long_as_told_finds_what_he_waited_for(
    limit: int, used: int, share: float, at_s: float
) -> None:
    bucket = Bucket(limit, at_s)
    bucket.charge(used, at_s)
    amount = int(limit * share)
    wait_s = bucket.wait_s(amount, at_s)
    if wait_s > 0.01:
        assert not bucket.holds(amount, at_s + 0.9 * wait_s - 0.001)
    assert bucket.holds(amount, at_s + wait_s)


@given(st.lists(st.tuples(st.floats(0, 45), st.integers(1, 1000)), max_size=60))
def test_a_client_that_keeps_every_60_seconds_within_the_limit_is_never_refused(
    steps: list[tuple[float, int]],
) -> None:
    limit = 1000
    bucket = Bucket(limit, 0)
    sent: list[tuple[float, int]] = []
    now_s = 0.0
    for gap_s, tokens in steps:
        now_s += gap_s
        if sum(amount for at_s, amount in sent if at_s > now_s - 60) + tokens > limit:
            continue
        assert bucket.holds(tokens, now_s)
        bucket.charge(tokens, now_s)
        sent.append((now_s, tokens))
