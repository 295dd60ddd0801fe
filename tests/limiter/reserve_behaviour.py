"""How budget and windows are reserved together: each function is one behaviour, shown on the rig it is given."""

from limiter.limits import Refused, Reserved, Scope, WindowSpec
from tests.limiter.rig import DAY, MIDNIGHT_MS, Rig, scope_of_pool, tokens_per_minute

POOL = WindowSpec((Scope("one", 1000, 4), Scope("one/small", 600, 3)))


def _taken(rig: Rig) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """Of the budget: used plus held, and held; of each window: tokens, requests."""
    state = rig.state(POOL)
    windows = [(window.tokens_charged, window.requests) for window in state.windows]
    return (state.budget_tokens, state.held_tokens), windows


def a_reservation_takes_from_budget_provider_and_model(rig: Rig) -> None:
    assert rig.reserve("job", 100, 200, budget=1000, windows=POOL) == Reserved(DAY)
    assert _taken(rig) == ((300, 300), [(300, 1), (300, 1)])


def each_of_them_can_refuse_and_then_none_has_taken_anything(rig: Rig) -> None:
    rig.takes("first", 100, 200, windows=POOL, budget=1000)
    refusals = (
        (rig.refused("next", 300, windows=POOL, budget=599), "user_budget"),
        (rig.refused("next", 301, windows=POOL, budget=1000), "provider_tokens"),
        (rig.refused("next", 300, windows=scope_of_pool(599, 600), budget=1000), "provider_tokens"),
        (rig.refused("next", 9, windows=tokens_per_minute(1000, 1), budget=1000), "provider_requests"),
        (rig.refused("next", 601, windows=POOL, budget=1000), "too_large"),
    )
    assert [refusal.reason for refusal, _ in refusals] == [reason for _, reason in refusals]
    rig.takes("next", 300, windows=POOL, budget=600)


def a_full_last_window_leaves_budget_and_provider_as_they_were(rig: Rig) -> None:
    rig.takes("first", 600, windows=POOL, budget=1000)
    rig.refused("next", 1, windows=POOL, budget=1000)
    assert _taken(rig) == ((600, 600), [(600, 1), (600, 1)])


def a_release_gives_back_everything(rig: Rig) -> None:
    rig.takes("first", 200, windows=POOL, budget=1000)
    before = _taken(rig)
    rig.takes("job", 100, 200, windows=POOL, budget=1000)
    assert rig.release("job") == 300
    assert _taken(rig) == before
    assert rig.release("job") is None
    assert _taken(rig) == before


def a_settle_charges_the_budget_and_keeps_what_the_provider_counts(rig: Rig) -> None:
    rig.takes("job", 100, 200, windows=POOL, budget=1000)
    assert rig.settle("job", 90, 60) == 300
    assert _taken(rig) == ((150, 0), [(300, 1), (300, 1)])


def a_refusal_by_the_budget_is_told_before_one_by_the_provider(rig: Rig) -> None:
    rig.takes("first", 600, windows=POOL, budget=None)
    answer = rig.refused("next", 500, windows=POOL, budget=1000)
    assert answer == Refused("user_budget", MIDNIGHT_MS - rig.now)
    assert rig.refused("next", 400, windows=POOL, budget=1000).reason == "provider_tokens"


def nothing_is_left_at_rest_but_what_was_used(rig: Rig) -> None:
    for number in range(3):
        rig.takes(f"job{number}", 100, 100, windows=POOL, budget=1000)
    rig.settle("job0", 10, 20)
    rig.release("job1")
    rig.settle("job2", 5, 5, how="kept")
    assert rig.key_names() == [f"tokens:ana:{DAY}", "window:one", "window:one/small"]
    assert rig.client.get(f"tokens:ana:{DAY}") == b"40"
    rig.windows_add_up()
