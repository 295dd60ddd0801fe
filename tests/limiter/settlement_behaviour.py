"""How a strict window is settled, by each way of counting: each function is one behaviour of the rig it is given."""

from dataclasses import replace
from typing import cast

from limiter.limits import Accounting, Refused, Reserved, Scope, Settlement, WindowSpec
from tests.limiter.rig import HOUR_MS, MINUTE_MS, SECOND_MS, SLICE_MS, Rig, scope_of_pool, tokens_per_minute

THOUSAND = tokens_per_minute(1000)
SPAN_MS = MINUTE_MS + THOUSAND.margin_ms

# What each accounting has (charged, in flight) after a reservation of 100 input and 400 output tokens, and what it has
# a minute's slice later after each way to settle it with 90 input and 50 output tokens: charged, in flight, requests.
_ACCOUNTS: tuple[tuple[Accounting, tuple[int, int], dict[Settlement, tuple[int, int, int]]], ...] = (
    (
        "openai",
        (500, 0),
        {"charged": (500, 0, 1), "kept": (500, 0, 1), "tokens_back": (0, 0, 1), "given_back": (0, 0, 0)},
    ),
    (
        "anthropic",
        (100, 400),
        {"charged": (150, 0, 1), "kept": (500, 0, 1), "tokens_back": (0, 0, 1), "given_back": (0, 0, 0)},
    ),
    (
        "actual",
        (0, 500),
        {"charged": (140, 0, 1), "kept": (500, 0, 1), "tokens_back": (0, 0, 1), "given_back": (0, 0, 0)},
    ),
)


def a_release_frees_provider_and_model(rig: Rig) -> None:
    windows = scope_of_pool(1000, 500)
    rig.takes("first", 400, windows=windows)
    rig.takes("second", 100, windows=windows)
    rig.release("first")
    provider, model = rig.state(windows).windows
    assert (provider.tokens_charged, provider.requests) == (100, 1)
    assert (model.tokens_charged, model.requests) == (100, 1)
    rig.takes("third", 400, windows=windows)


def each_accounting_holds_and_settles_in_its_way(rig: Rig) -> None:
    for accounting, held, settled in _ACCOUNTS:
        windows = replace(THOUSAND, accounting=accounting)
        for how, after in settled.items():
            rig.now += HOUR_MS
            rig.takes("job", 100, 400, windows=windows)
            assert rig.window(windows) == (*held, 1)
            rig.now += 6 * SECOND_MS
            rig.settle("job", 90, 50, how=how)
            assert rig.window(windows) == after, f"{accounting}, {how}"
            rig.windows_add_up()


def what_is_charged_at_the_settle_leaves_a_window_after_it(rig: Rig) -> None:
    expected: dict[Accounting, tuple[int, int]] = {"openai": (0, 0), "anthropic": (50, 0), "actual": (140, 0)}
    for accounting, left in expected.items():
        windows = replace(THOUSAND, accounting=accounting)
        rig.now += HOUR_MS
        rig.takes("job", 100, 400, windows=windows)
        rig.now += 20 * SECOND_MS
        rig.settle("job", 90, 50)
        rig.now += SPAN_MS + SLICE_MS - 20 * SECOND_MS
        assert rig.window(windows)[:2] == left, accounting
        rig.now += 20 * SECOND_MS - 1
        assert rig.window(windows)[:2] == left, accounting
        rig.now += 1
        assert rig.window(windows)[:2] == (0, 0), accounting


def what_is_in_flight_counts_in_full(rig: Rig) -> None:
    windows = replace(THOUSAND, accounting="actual")
    rig.takes("first", 100, 500, windows=windows)
    rig.refused("second", 401, windows=windows)
    rig.takes("second", 400, windows=windows)
    rig.now += HOUR_MS
    # Only a settle can help, so that no wait is told.
    assert rig.refused("third", 1, windows=windows) == Refused("provider_tokens", None)
    rig.settle("first", 10, 20)
    rig.takes("third", 570, windows=windows)
    assert rig.window(windows) == (30, 970, 1)


def a_wait_beside_what_is_in_flight_is_the_earliest_it_can_be(rig: Rig) -> None:
    windows = replace(THOUSAND, accounting="anthropic")
    rig.takes("job", 600, 300, windows=windows)
    assert rig.refused("next", 701, windows=windows) == Refused("provider_tokens", None)
    wait_ms = rig.wait("next", 700, windows=windows)
    rig.served_after_exactly(wait_ms, "next", 700, windows=windows)


def one_window_that_only_a_settle_can_help_means_no_wait(rig: Rig) -> None:
    windows = replace(scope_of_pool(1000, 500), accounting="actual")
    rig.takes("flying", 0, 500, windows=windows)
    rig.takes("other", 0, 500, windows=WindowSpec((Scope("one", 1000),), "actual"))
    rig.settle("other", 0, 500)
    # The provider's would be free in a minute, the model's not before the settle.
    assert rig.refused("next", 1, windows=windows) == Refused("provider_tokens", None)


def a_receipt_is_settled_once(rig: Rig) -> None:
    hows: tuple[Settlement, ...] = ("charged", "kept", "tokens_back", "given_back")
    for accounting, _, settled in _ACCOUNTS:
        windows = replace(tokens_per_minute(2000), accounting=accounting)
        for how in hows:
            rig.now += HOUR_MS
            rig.takes("other", 300, 300, windows=windows)
            rig.takes("job", 100, 400, windows=windows)
            rig.settle("job", 90, 50, how=how)
            before = rig.window(windows)
            for again in hows:
                rig.settle("job", 90, 50, how=again)
                assert rig.window(windows) == before, f"{accounting}: {how}, then {again}"
            rig.settle("other", how="given_back")
            assert rig.window(windows) == settled[how]
            assert rig.client.exists("receipts", "receipts:due") == 0


def a_late_return_touches_no_newer_window(rig: Rig) -> None:
    for how in ("given_back", "tokens_back"):
        rig.now += HOUR_MS
        rig.takes("job", 800, windows=THOUSAND, budget=None)
        rig.now += SPAN_MS + SLICE_MS
        rig.takes("new", 700, windows=THOUSAND)
        rig.settle("job", how=how)
        assert rig.window(THOUSAND) == (700, 0, 1)
        rig.refused("next", 301, windows=THOUSAND)
        rig.release("new")


def a_return_goes_to_the_slice_it_was_taken_from(rig: Rig) -> None:
    rig.takes("first", 500, windows=THOUSAND)
    rig.now += 30 * SECOND_MS
    rig.takes("second", 500, windows=THOUSAND)
    rig.release("second")
    rig.takes("third", 500, windows=THOUSAND)
    rig.now += 10 * SECOND_MS
    rig.release("first")
    rig.takes("fourth", 500, windows=THOUSAND)
    # Both that are left are younger than the first.
    assert rig.wait("fifth", 1, windows=THOUSAND) == SPAN_MS + SLICE_MS - 10 * SECOND_MS


def reserving_twice_takes_once(rig: Rig) -> None:
    rig.takes("job", 400, windows=THOUSAND)
    before = rig.contents()
    for tokens in (400, 700, 5000):
        rig.takes("job", tokens, windows=THOUSAND)
        assert rig.contents() == before


def more_than_was_estimated_is_recorded(rig: Rig) -> None:
    accounts: dict[Accounting, int] = {"anthropic": 1600, "actual": 1700}
    for accounting, charged in accounts.items():
        windows = replace(THOUSAND, accounting=accounting)
        rig.now += HOUR_MS
        rig.takes("job", 100, 400, windows=windows)
        rig.settle("job", 200, 1500)
        assert rig.window(windows) == (charged, 0, 1)
        wait_ms = rig.wait("next", 1, windows=windows)
        rig.served_after_exactly(wait_ms, "next", 1, windows=windows)
        rig.release("next")


def an_unknown_outcome_is_charged_when_its_call_has_ended(rig: Rig) -> None:
    for accounting, held, settled in _ACCOUNTS:
        windows = replace(THOUSAND, accounting=accounting)
        rig.now += HOUR_MS
        assert isinstance(
            rig.reserve("lost", 100, 400, windows=windows, deadline_in_ms=90 * SECOND_MS), Reserved
        )
        rig.now += 90 * SECOND_MS - 1
        assert rig.sweep().receipts == 0
        assert rig.window(windows)[1] == held[1]
        rig.now += 1
        assert rig.sweep().receipts == 1
        charged, flying, _ = settled["kept"]
        # What was charged on arrival had left long since.
        assert rig.window(windows)[:2] == (charged - held[0], flying), accounting
        assert rig.sweep().receipts == 0
        rig.settle("lost", 1, 1)
        assert rig.window(windows)[:2] == (charged - held[0], flying), accounting
        rig.windows_add_up()


def a_sweep_takes_no_more_than_it_was_told_the_longest_due_first(rig: Rig) -> None:
    windows = WindowSpec((Scope("one", 1000),), "actual")
    for number in range(5):
        rig.reserve(f"job{number}", 100, windows=windows, deadline_in_ms=SECOND_MS * (5 - number))
    rig.now += 5 * SECOND_MS
    assert rig.sweep(most=2).receipts == 2
    assert rig.window(windows) == (200, 300, 5)
    left = cast(dict[bytes, bytes], rig.value("receipts"))
    assert left.keys() == {b"job0", b"job1", b"job2"}
