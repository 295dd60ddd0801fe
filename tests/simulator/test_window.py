"""The greatest 60 seconds, against sums over all windows by brute force."""

from hypothesis import given
from hypothesis import strategies as st

from simulator.window import ChargeWindow

EVENTS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 7.25, 20.0, 59.5, 60.0, 61.0]), st.sampled_from("ab"), st.integers(0, 99)
    ),
    max_size=50,
)


@given(EVENTS)
def test_greatest_figures_equal_the_maximum_over_all_windows(events: list[tuple[float, str, int]]) -> None:
    window = ChargeWindow()
    charged: list[tuple[float, str, int]] = []
    now_s = 1.79e9
    for gap_s, model, tokens in events:
        now_s += gap_s
        window.add(now_s, model, requests=1, tokens=tokens)
        charged.append((now_s, model, tokens))

    def greatest(models: str) -> tuple[int, int]:
        sums = [
            [tokens for at_s, model, tokens in charged if model in models and end_s - 60 < at_s <= end_s]
            for end_s, _, _ in charged
        ]
        return max((len(each) for each in sums), default=0), max(map(sum, sums), default=0)

    assert (window.total.greatest_requests, window.total.greatest_tokens) == greatest("ab")
    for model, load in window.by_model.items():
        assert (load.greatest_requests, load.greatest_tokens) == greatest(model)
    assert window.total.tokens == sum(tokens for _, _, tokens in charged)


def test_charges_exactly_a_minute_apart_are_in_no_window_together() -> None:
    window = ChargeWindow()
    window.add(100, "a", tokens=5)
    window.add(160, "a", tokens=7)
    assert window.total.greatest_tokens == 7


def test_charges_a_hair_less_than_a_minute_apart_are_in_one_window() -> None:
    window = ChargeWindow()
    window.add(100, "a", tokens=5)
    window.add(159.999, "a", tokens=7)
    assert window.total.greatest_tokens == 12


def test_after_a_restart_totals_are_new_but_the_running_minute_still_counts() -> None:
    window = ChargeWindow()
    window.add(0, "a", tokens=100)
    window.add(50, "a", tokens=5)
    window.restart(70)
    assert window.total.tokens == 0
    assert window.total.greatest_tokens == 5
    window.add(80, "a", tokens=6)
    assert window.total.tokens == 6
    assert window.total.greatest_tokens == 11


def test_a_clock_that_steps_back_does_not_lose_charges() -> None:
    window = ChargeWindow()
    window.add(100, "a", tokens=5)
    window.add(20, "a", tokens=7)
    window.add(159, "a", tokens=1)
    assert window.total.greatest_tokens == 13
