"""How a window that mirrors its provider's own bucket behaves: each function is one behaviour of the rig."""

from dataclasses import replace

from limiter.limits import Accounting, Refused, Reserved, Scope, Settlement, WindowSpec
from tests.limiter.rig import HOUR_MS, MINUTE_MS, SECOND_MS, Rig

SIX_HUNDRED = WindowSpec((Scope("one", 600),), mode="mirror", margin_ms=0)
"""10 tokens a second, and nothing left in it."""


def a_bucket_is_full_at_first_and_refills_by_a_sixtieth_a_second(rig: Rig) -> None:
    rig.takes("first", 600, windows=SIX_HUNDRED)
    assert rig.refused("second", 1, windows=SIX_HUNDRED) == Refused("provider_tokens", 100)
    assert rig.refused("second", 25, windows=SIX_HUNDRED) == Refused("provider_tokens", 2500)
    rig.now += 2499
    assert rig.refused("second", 25, windows=SIX_HUNDRED) == Refused("provider_tokens", 1)
    rig.now += 1
    rig.takes("second", 25, windows=SIX_HUNDRED)
    assert rig.window(SIX_HUNDRED)[:2] == (600, 0)


def a_bucket_holds_no_more_than_its_limit(rig: Rig) -> None:
    rig.takes("first", 100, windows=SIX_HUNDRED)
    rig.now += HOUR_MS
    assert rig.window(SIX_HUNDRED)[0] == 0
    rig.takes("second", 600, windows=SIX_HUNDRED)
    rig.refused("third", 1, windows=SIX_HUNDRED)


def what_the_margin_refills_is_left_in_the_bucket(rig: Rig) -> None:
    windows = replace(SIX_HUNDRED, margin_ms=2000)
    rig.takes("first", 580, windows=windows)
    assert rig.refused("second", 1, windows=windows) == Refused("provider_tokens", 100)
    rig.now += 100
    rig.takes("second", 1, windows=windows)
    # Nothing is under way for as long as it takes to fill it: then all of it is there.
    assert rig.refused("whole", 600, windows=windows) == Refused("provider_tokens", 58_000)
    rig.now += 58_000
    rig.takes("whole", 600, windows=windows)


def no_span_gives_more_than_the_bucket_and_its_refill(rig: Rig) -> None:
    sent: list[tuple[int, int]] = []
    for number in range(400):
        if isinstance(rig.reserve(f"job{number}", 70, windows=SIX_HUNDRED), Reserved):
            sent.append((rig.now, 70))
            for since, _ in sent:
                within = sum(tokens for at, tokens in sent if at >= since)
                assert within <= 600 + (rig.now - since) * 600 / MINUTE_MS
        rig.now += 333
    # Nor less, but for what no job of 70 tokens can take of it.
    assert sum(tokens for _, tokens in sent) > 600 + 400 * 333 * 600 / MINUTE_MS - 2 * 70


def requests_have_a_bucket_of_their_own(rig: Rig) -> None:
    windows = WindowSpec((Scope("one", None, 6),), mode="mirror", margin_ms=0)
    for number in range(6):
        rig.takes(f"job{number}", 10**6, windows=windows)
    assert rig.refused("next", windows=windows) == Refused("provider_requests", 10 * SECOND_MS)
    rig.now += 10 * SECOND_MS
    rig.takes("next", windows=windows)
    rig.refused("after", windows=windows)
    assert rig.window(windows)[2] == 6


def the_longer_of_two_waits_is_told(rig: Rig) -> None:
    windows = WindowSpec((Scope("one", 600, 1),), mode="mirror", margin_ms=0)
    rig.takes("first", 600, windows=windows)
    assert rig.refused("second", 10, windows=windows) == Refused("provider_tokens", MINUTE_MS)
    rig.now += MINUTE_MS
    rig.takes("second", 10, windows=windows)


def what_was_never_sent_is_given_back(rig: Rig) -> None:
    windows = WindowSpec((Scope("one", 600, 2),), mode="mirror", margin_ms=0)
    rig.takes("first", 600, windows=windows)
    rig.now += SECOND_MS
    rig.release("first")
    assert rig.window(windows) == (0, 0, 0)
    rig.takes("second", 600, windows=windows)
    rig.settle("second", how="tokens_back")
    # Of two requests a minute, one second gives back a thirtieth.
    assert rig.window(windows) == (0, 0, 1)
    rig.takes("third", 600, windows=windows)
    rig.settle("third", 1)
    assert rig.window(windows) == (600, 0, 2)


def each_accounting_charges_when_its_provider_does(rig: Rig) -> None:
    held: dict[Accounting, tuple[int, int]] = {
        "openai": (500, 0),
        "anthropic": (100, 400),
        "actual": (0, 500),
    }
    settled = {"openai": 500, "anthropic": 150, "actual": 140}
    for accounting, expected in held.items():
        windows = replace(SIX_HUNDRED, accounting=accounting)
        after: dict[Settlement, int] = {
            "charged": settled[accounting],
            "kept": 500,
            "tokens_back": 0,
            "given_back": 0,
        }
        for how, left in after.items():
            rig.now += HOUR_MS
            rig.takes("job", 100, 400, windows=windows)
            assert rig.window(windows)[:2] == expected
            rig.refused("other", 101, windows=windows)
            rig.settle("job", 90, 50, how=how)
            assert rig.window(windows)[:2] == (left, 0), f"{accounting}, {how}"
            before = rig.contents()
            rig.settle("job", 90, 50, how=how)
            assert rig.contents() == before


def no_wait_is_told_where_only_a_settle_can_help(rig: Rig) -> None:
    windows = replace(SIX_HUNDRED, accounting="actual")
    rig.takes("flying", 400, windows=windows)
    assert rig.refused("next", 201, windows=windows) == Refused("provider_tokens", None)
    rig.settle("flying", 400)
    assert rig.refused("next", 201, windows=windows) == Refused("provider_tokens", 100)


def a_refund_does_not_overfill_the_bucket(rig: Rig) -> None:
    rig.takes("job", 500, windows=SIX_HUNDRED)
    rig.now += HOUR_MS
    rig.release("job")
    rig.takes("first", 600, windows=SIX_HUNDRED)
    rig.refused("second", 1, windows=SIX_HUNDRED)


def a_clock_set_back_refills_nothing_and_stops_nothing(rig: Rig) -> None:
    rig.takes("first", 600, windows=SIX_HUNDRED)
    rig.now -= HOUR_MS
    assert rig.refused("second", 10, windows=SIX_HUNDRED) == Refused("provider_tokens", SECOND_MS)
    rig.now += 400
    assert rig.refused("second", 10, windows=SIX_HUNDRED) == Refused("provider_tokens", 600)
    rig.now += 600
    rig.takes("second", 10, windows=SIX_HUNDRED)


def many_small_steps_lose_next_to_nothing(rig: Rig) -> None:
    windows = WindowSpec((Scope("one", 50),), mode="mirror", margin_ms=0)
    rig.takes("all", 50, windows=windows)
    for number in range(200):
        rig.now += 21
        rig.takes(f"job{number}", 0, windows=windows)
        rig.release(f"job{number}")
    # 4.2 s at 50 a minute are 3.5 tokens, of which each of 400 changes may lose a thousandth.
    rig.takes("last", 2, windows=windows)
    rig.refused("more", 2, windows=windows)
