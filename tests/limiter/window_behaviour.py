"""How a strict provider window behaves: each function is one behaviour, shown on the rig it is given."""

from dataclasses import replace

from limiter.limits import Refused, Reserved, Scope, WindowSpec, WindowState
from tests.limiter.rig import (
    HOUR_MS,
    MINUTE_MS,
    NOON_MS,
    SECOND_MS,
    SLICE_MS,
    Rig,
    scope_of_pool,
    tokens_per_minute,
)

THOUSAND = tokens_per_minute(1000)
SPAN_MS = MINUTE_MS + THOUSAND.margin_ms
UNLIMITED = tokens_per_minute(None)


def the_limit_is_reached_to_the_token(rig: Rig) -> None:
    rig.takes("first", 700, windows=THOUSAND)
    rig.takes("second", 200, 99, windows=THOUSAND)
    rig.refused("third", 2, windows=THOUSAND)
    rig.takes("third", 1, windows=THOUSAND)
    rig.refused("fourth", 1, windows=THOUSAND)
    assert rig.window(THOUSAND) == (1000, 0, 3)


def what_could_never_fit_is_too_large_and_costs_nothing(rig: Rig) -> None:
    assert rig.reserve("job", 900, 101, windows=THOUSAND) == Refused("too_large", None)
    assert rig.reserve("job", 501, windows=scope_of_pool(1000, 500)) == Refused("too_large", None)
    assert rig.reserve("job", 501, windows=scope_of_pool(500, None)) == Refused("too_large", None)
    assert rig.key_names() == []
    rig.takes("job", 900, 100, windows=THOUSAND)


def tokens_of_the_first_moment_of_a_slice_leave_with_its_end(rig: Rig) -> None:
    rig.takes("job", 1000, windows=THOUSAND)
    wait_ms = rig.wait("next", 1, windows=THOUSAND)
    assert wait_ms == SPAN_MS + SLICE_MS
    rig.served_after_exactly(wait_ms, "next", 1000, windows=THOUSAND)


def tokens_of_the_last_moment_of_a_slice_leave_with_its_end(rig: Rig) -> None:
    rig.now += SLICE_MS - 1
    rig.takes("job", 1000, windows=THOUSAND)
    wait_ms = rig.wait("next", 1, windows=THOUSAND)
    assert wait_ms == SPAN_MS + 1
    rig.served_after_exactly(wait_ms, "next", 1000, windows=THOUSAND)


def no_edge_lets_more_than_the_limit_through(rig: Rig) -> None:
    for offset_ms in (0, 1, 250, 499):
        sent: list[tuple[int, int]] = []
        rig.now += HOUR_MS + offset_ms
        for number in range(160):
            if isinstance(rig.reserve(f"{offset_ms}-{number}", 400, windows=THOUSAND), Reserved):
                sent.append((rig.now, 400))
            within = sum(tokens for at, tokens in sent if at >= rig.now - SPAN_MS)
            assert within <= 1000, f"{within} tokens in {SPAN_MS} ms at +{offset_ms}"
            rig.now += 487
        assert len(sent) == 4, "the window lets nothing through any more"


def waits_are_exact_whatever_must_leave(rig: Rig) -> None:
    for number in range(8):
        rig.takes(f"job{number}", 100 + number, windows=THOUSAND)
        rig.now += 3333
    for tokens in (200, 350, 900, 1000):
        wait_ms = rig.wait(f"next{tokens}", tokens, windows=THOUSAND)
        rig.served_after_exactly(wait_ms, f"next{tokens}", tokens, windows=THOUSAND)


def a_wait_is_for_no_more_than_must_leave(rig: Rig) -> None:
    rig.takes("first", 600, windows=THOUSAND)
    rig.now += 10 * SECOND_MS
    rig.takes("second", 400, windows=THOUSAND)
    leaves_ms = SPAN_MS + SLICE_MS
    assert rig.wait("third", 600, windows=THOUSAND) == leaves_ms - 10 * SECOND_MS
    assert rig.wait("third", 601, windows=THOUSAND) == leaves_ms


def the_margin_lengthens_the_minute(rig: Rig) -> None:
    for hour, margin_ms in enumerate((0, 100, 10_000)):
        windows = replace(THOUSAND, margin_ms=margin_ms)
        rig.now = NOON_MS + hour * HOUR_MS
        rig.takes(f"job{margin_ms}", 1000, windows=windows)
        wait_ms = rig.wait(f"next{margin_ms}", 1, windows=windows)
        assert wait_ms == MINUTE_MS + margin_ms + SLICE_MS
        rig.served_after_exactly(wait_ms, f"next{margin_ms}", 1, windows=windows)


def requests_are_limited_like_tokens(rig: Rig) -> None:
    windows = tokens_per_minute(None, 2)
    rig.takes("first", 10**9, windows=windows)
    rig.now += 20 * SECOND_MS
    rig.takes("second", 0, windows=windows)
    wait_ms = rig.wait("third", windows=windows, reason="provider_requests")
    assert wait_ms == SPAN_MS + SLICE_MS - 20 * SECOND_MS
    rig.served_after_exactly(wait_ms, "third", 0, windows=windows)
    assert rig.wait("fourth", windows=windows, reason="provider_requests") == 20 * SECOND_MS


def the_longer_of_two_waits_is_told(rig: Rig) -> None:
    windows = tokens_per_minute(1000, 2)
    rig.takes("large", 900, windows=windows)
    rig.now += 10 * SECOND_MS
    rig.takes("small", 50, windows=windows)
    # 100 tokens are free when the first has left, and so is one request; two requests are not.
    rig.now += 10 * SECOND_MS
    few = replace(windows, scopes=(Scope("one", 1000, 1),))
    wait_ms = rig.wait("next", 100, windows=few)
    assert wait_ms == SPAN_MS + SLICE_MS - 10 * SECOND_MS
    rig.served_after_exactly(wait_ms, "next", 100, windows=few)


def the_longer_wait_of_provider_and_model_is_told(rig: Rig) -> None:
    windows = scope_of_pool(1000, 500)
    rig.takes("mine", 100, windows=windows)
    rig.now += 10 * SECOND_MS
    rig.takes("other", 900, windows=tokens_per_minute(1000))
    assert rig.wait("next", 500, windows=windows) == SPAN_MS + SLICE_MS
    rig.now += 20 * SECOND_MS
    assert rig.wait("next", 500, windows=windows) == SPAN_MS + SLICE_MS - 20 * SECOND_MS


def provider_and_model_take_all_or_nothing(rig: Rig) -> None:
    windows = scope_of_pool(1000, 500)
    rig.takes("first", 400, windows=windows)
    rig.refused("second", 101, windows=windows)
    rig.takes("other", 550, windows=THOUSAND)
    rig.refused("second", 51, windows=windows)
    rig.takes("second", 50, windows=windows)
    provider, model = rig.state(windows).windows
    assert provider == WindowState("one", 1000, 1000, 0, None, 3)
    assert model == WindowState("one/small", 500, 450, 0, None, 2)
    rig.windows_add_up()


def models_share_their_provider(rig: Rig) -> None:
    small = WindowSpec((Scope("one", 1000), Scope("one/small", 800)))
    large = WindowSpec((Scope("one", 1000), Scope("one/large", 800)))
    rig.takes("first", 600, windows=small)
    rig.refused("second", 500, windows=large)
    rig.takes("second", 400, windows=large)
    assert [state.tokens_charged for state in rig.state(small).windows] == [1000, 600]
    assert [state.tokens_charged for state in rig.state(large).windows] == [1000, 400]


def an_unlimited_window_is_counted_not_checked(rig: Rig) -> None:
    for number in range(5):
        rig.takes(f"job{number}", 10**9, windows=UNLIMITED)
    assert rig.state(UNLIMITED).windows == (WindowState("one", None, 5 * 10**9, 0, None, 5),)
    assert rig.wait("next", 1, windows=THOUSAND) == SPAN_MS + SLICE_MS


def a_changed_limit_holds_at_once_and_forgets_nothing(rig: Rig) -> None:
    rig.takes("first", 900, windows=THOUSAND)
    rig.refused("second", 100, windows=tokens_per_minute(500))
    rig.takes("second", 500, windows=tokens_per_minute(1400))
    assert rig.window(tokens_per_minute(1500)) == (1400, 0, 2)
    assert rig.refused("third", 1, windows=tokens_per_minute(1500, 2)).reason == "provider_requests"


def a_changed_margin_holds_at_once(rig: Rig) -> None:
    rig.takes("first", 1000, windows=THOUSAND)
    for margin_ms in (5000, 100):
        windows = replace(THOUSAND, margin_ms=margin_ms)
        assert rig.wait("next", 1, windows=windows) == MINUTE_MS + margin_ms + SLICE_MS


def an_idle_window_is_free_and_empty(rig: Rig) -> None:
    for idle_ms in (2 * MINUTE_MS, 4 * SPAN_MS, 6 * MINUTE_MS, 26 * HOUR_MS):
        for number in range(6):
            rig.takes(f"{idle_ms}-{number}", 150, windows=THOUSAND)
            rig.now += 700
        rig.now += idle_ms
        assert rig.window(THOUSAND) == (0, 0, 0)
        rig.windows_add_up()
        rig.takes(f"{idle_ms}", 1000, windows=THOUSAND)
        rig.release(f"{idle_ms}")


def what_a_window_stores_does_not_grow(rig: Rig) -> None:
    windows = tokens_per_minute(10**6, 10**6)
    sizes = []
    for number in range(200):
        rig.takes(f"job{number}", 10, windows=windows)
        rig.settle(f"job{number}", 10)
        rig.now += SLICE_MS
        stored = rig.stored("one")
        assert stored is not None
        sizes.append(len(stored.slices))
    slices = SPAN_MS // SLICE_MS + 1
    assert sizes[slices] == sizes[-1] == max(sizes)


def a_limit_lowered_meanwhile_binds_the_script_that_sweeps(rig: Rig) -> None:
    windows = WindowSpec((Scope("one", 1000),), "actual")
    rig.reserve("lost", 0, 400, windows=windows, deadline_in_ms=SECOND_MS)
    rig.now += SECOND_MS
    lowered = WindowSpec((Scope("one", 500, 1),), "actual", margin_ms=3000)
    swept = rig.sweep(lowered, 200)
    assert (swept.receipts, swept.reason) == (1, "provider_tokens")
    # The 400 are of the sweep's slice.
    assert swept.wait_ms == MINUTE_MS + 3000 + SLICE_MS


def a_clock_set_back_neither_frees_nor_locks_the_window(rig: Rig) -> None:
    for back_ms in (1, 700, HOUR_MS, 25 * HOUR_MS):
        rig.now += 30 * HOUR_MS
        rig.takes("first", 600, windows=THOUSAND)
        rig.now += 10 * SECOND_MS
        rig.takes("second", 400, windows=THOUSAND)
        rig.now -= back_ms
        wait_ms = rig.wait("third", 500, windows=THOUSAND)
        assert wait_ms == SPAN_MS + SLICE_MS - 10 * SECOND_MS
        rig.now += SECOND_MS
        assert rig.wait("third", 500, windows=THOUSAND) == wait_ms - SECOND_MS
        rig.served_after_exactly(wait_ms - SECOND_MS, "third", 500, windows=THOUSAND)
        for job in ("first", "second", "third"):
            rig.release(job)


def a_clock_set_back_and_forward_keeps_the_window_going(rig: Rig) -> None:
    rig.takes("first", 1000, windows=THOUSAND)
    rig.now -= HOUR_MS
    rig.refused("second", 1, windows=THOUSAND)
    rig.now += HOUR_MS + SPAN_MS + SLICE_MS
    rig.takes("second", 1000, windows=THOUSAND)
    wait_ms = rig.wait("third", 1, windows=THOUSAND)
    rig.served_after_exactly(wait_ms, "third", 1, windows=THOUSAND)


def what_is_taken_after_the_clock_was_set_back_counts(rig: Rig) -> None:
    rig.takes("long ago", 900, windows=THOUSAND)
    rig.now += 2 * MINUTE_MS
    rig.takes("first", 600, windows=THOUSAND)
    rig.now -= HOUR_MS
    rig.takes("second", 400, windows=THOUSAND)
    assert rig.window(THOUSAND) == (1000, 0, 2)
    wait_ms = rig.wait("third", 1, windows=THOUSAND)
    rig.served_after_exactly(wait_ms, "third", 1, windows=THOUSAND)


def a_return_after_the_clock_was_set_back_finds_its_slice(rig: Rig) -> None:
    rig.takes("first", 600, windows=THOUSAND)
    rig.now += SECOND_MS
    rig.takes("second", 400, windows=THOUSAND)
    rig.now -= HOUR_MS
    rig.release("first")
    assert rig.window(THOUSAND) == (400, 0, 1)
    rig.windows_add_up()


def only_as_much_may_overtake_as_the_large_one_needs(rig: Rig) -> None:
    rig.takes("running", 600, windows=THOUSAND)
    rig.overtake("keep_for", THOUSAND, "large", 500)
    rig.overtake("keep_for", THOUSAND, "huge", 1000)
    assert rig.overtake("kept_from", THOUSAND, "small", 300) == ""
    rig.overtake("overtook", THOUSAND, "small", 300)
    assert rig.overtake("kept_from", THOUSAND, "next", 201) == "window:one"
    assert rig.overtake("kept_from", THOUSAND, "next", 200) == ""
    assert rig.overtake("kept_from", THOUSAND, "large", 500) == ""
    rig.overtake("overtook", THOUSAND, "large", 500)
    assert rig.overtake("kept_from", THOUSAND, "next", 1000) == ""


def a_window_that_is_freed_keeps_out_nobody(rig: Rig) -> None:
    windows = scope_of_pool(1000, 800)
    rig.takes("running", 600, windows=windows)
    rig.overtake("keep_for", windows, "large", 300)
    # It is the model's window that is full; whoever comes through another is not kept from the provider's.
    assert rig.overtake("kept_from", windows, "small", 400) == "window:one/small"
    assert rig.overtake("kept_from", THOUSAND, "small", 400) == ""
    rig.overtake("free", windows, "", 0)
    assert rig.overtake("kept_from", windows, "small", 400) == ""


def a_window_kept_free_survives_its_slices(rig: Rig) -> None:
    rig.takes("running", 600, windows=THOUSAND)
    rig.overtake("keep_for", THOUSAND, "large", 500)
    rig.overtake("overtook", THOUSAND, "small", 450)
    rig.now += HOUR_MS
    assert rig.window(THOUSAND) == (0, 0, 0)
    assert rig.overtake("kept_from", THOUSAND, "small", 51) == "window:one"
