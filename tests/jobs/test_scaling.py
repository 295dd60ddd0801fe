"""How many workers are advised, by tables of figures; and that the advice holds still."""

import itertools
from dataclasses import replace

import pytest

from jobs.figures import (
    CallFigures,
    Figures,
    Histogram,
    NameFigures,
    PoolFigures,
    ScopeFigures,
    WorkerFigures,
)
from jobs.scaling import Advice, advise
from jobs.steady import QUIET_S, TRIM_S, Steady

NONE = Histogram((), (0,), 0.0)
START_MS = 1_800_000_000_000


def scope(tokens: int | None = 100_000, requests: int | None = None) -> ScopeFigures:
    return ScopeFigures(tokens, tokens, 10_000, 0, requests, requests, 0)


def pool(
    name: str = "p/m",
    *scopes: ScopeFigures,
    accounting: str = "openai",
    seen: int = 100,
    seconds: float = 6.0,
) -> PoolFigures:
    """Calls of 100 prompt and 400 completion tokens that were estimated at 1,000."""
    call = CallFigures(seen, seconds, 100, 400, 1000)
    return PoolFigures(name, accounting, "cap", scopes or (scope(),), None, call)


def name(
    *pools: str, jobs: int = 0, arriving: float = 0.0, due: int = 0, budget: int = 0, crowded: int = 0
) -> NameFigures:
    """Jobs of 1,000 tokens; `arriving` tokens a minute."""
    parked = {"user_budget": budget, "concurrency": crowded}
    due_jobs = {"not_before": due, "backoff": 0}
    return NameFigures("m", pools or ("p/m",), jobs, jobs * 1000, due_jobs, parked, "none", None, arriving)


def figures(
    *names: NameFigures,
    pools: tuple[PoolFigures, ...] = (),
    workers: int = 1,
    slots: int = 2,
    running: int = 0,
    due_soon: int = 0,
    held: str = "",
) -> Figures:
    """At least one job runs where some arrive."""
    running = running or any(each.arriving_tokens_per_minute for each in names)
    alive = tuple(WorkerFigures(slots, 0) for _ in range(workers))
    return Figures(
        START_MS, {}, NONE, NONE, NONE, names or (name(),), pools or (pool(),), alive, running, due_soon, held
    )


def advised(seen: Figures) -> Advice:
    return advise(seen, slots=2)


def test_a_worker_carries_its_slots_by_the_length_of_a_call() -> None:
    # 2 slots and calls of 6 s are 20 calls a minute, 20,000 tokens: 100,000 take five.
    advice = advised(figures(name(arriving=70_000)))
    assert (advice.recommended, advice.useful_max, advice.bound_by) == (4, 5, "demand")
    assert "20,000" in advice.reason


def test_a_backlog_is_to_be_drained_within_a_minute() -> None:
    assert advised(figures(name(jobs=30))).recommended == 2
    assert advised(figures(name(jobs=30, arriving=30_000))).recommended == 3


def test_no_more_than_carry_the_limit_whatever_waits() -> None:
    advice = advised(figures(name(jobs=100_000, arriving=1e9)))
    assert (advice.recommended, advice.useful_max, advice.bound_by) == (5, 5, "provider_tokens")
    assert advice.pools[0].drain_s == pytest.approx(100_000 * 1000 * 60 / 100_000)


def test_requests_bind_where_they_are_fewer() -> None:
    advice = advised(figures(name(jobs=1000), pools=(pool("p/m", scope(100_000, 30)),)))
    assert (advice.recommended, advice.useful_max, advice.bound_by) == (2, 2, "provider_requests")


@pytest.mark.parametrize(
    ("accounting", "workers"),
    [
        # 1,000 tokens a call; 500 and, in flight for a tenth of a minute, 1,000; 500 and 900 of output.
        ("openai", 5),
        ("actual", 9),
        ("anthropic", 9),
    ],
)
def test_what_a_call_takes_of_the_limit_is_what_the_provider_counts(accounting: str, workers: int) -> None:
    assert advised(figures(name(jobs=10**6), pools=(pool(accounting=accounting),))).useful_max == workers


def test_nothing_to_do_is_no_worker() -> None:
    advice = advised(figures())
    assert (advice.recommended, advice.bound_by) == (0, None)


@pytest.mark.parametrize(
    "seen",
    [
        figures(name(jobs=1)),
        figures(name(jobs=1, crowded=1)),
        figures(running=1),
        figures(due_soon=1),
        figures(name(jobs=1), pools=(pool(seen=0),)),
        figures(name(jobs=1), pools=(replace(pool(), paused_until_ms=START_MS + 1000),)),
    ],
    ids=["waits", "waits for its user's others", "runs", "due", "unknown", "paused"],
)
def test_anything_to_do_is_at_least_one(seen: Figures) -> None:
    assert advised(seen).recommended == 1


def test_what_waits_for_tomorrow_s_budget_or_for_later_needs_no_worker() -> None:
    assert advised(figures(name(jobs=5, budget=3, due=2))).recommended == 0


def test_of_calls_that_nobody_knows_no_more_than_one_worker_is_guessed() -> None:
    advice = advised(figures(name(jobs=5000), pools=(pool(seen=0),)))
    assert (advice.recommended, advice.useful_max) == (1, None)
    assert "no call of p/m has ended yet" in advice.reason


def test_a_paused_pool_is_passed_over_for_the_next() -> None:
    paused = replace(pool("p/m"), paused_until_ms=START_MS + 1000)
    both = figures(name("p/m", "q/m", jobs=10**6), pools=(paused, pool("q/m")))
    assert advised(both).recommended == 5
    alone = advised(figures(name(jobs=10**6), pools=(paused,)))
    assert (alone.recommended, alone.bound_by) == (1, "provider_paused")


def test_what_the_first_pool_cannot_take_goes_to_the_next() -> None:
    two = (pool("p/m"), pool("q/m", scope(40_000)))
    assert advised(figures(name("p/m", "q/m", arriving=120_000), pools=two)).recommended == 6
    assert advised(figures(name("p/m", "q/m", arriving=1e9), pools=two)).recommended == 7


def test_models_of_one_provider_share_its_limit() -> None:
    two = (pool("p/m", scope(60_000)), pool("p/n", scope(60_000)))
    both = figures(name("p/m", jobs=1000), replace(name("p/n", jobs=1000), name="n"), pools=two)
    advice = advised(both)
    assert (advice.recommended, advice.useful_max) == (3, 3)


def test_without_a_limit_there_is_no_useful_maximum() -> None:
    advice = advised(figures(name(arriving=1_000_000), pools=(pool("p/m", scope(None)),)))
    assert (advice.recommended, advice.useful_max, advice.bound_by) == (50, None, "demand")


def test_without_workers_their_slots_are_the_last_ones_known() -> None:
    before = advised(figures(name(arriving=40_000), slots=4))
    again = figures(name(arriving=40_000), workers=0, held=before.held)
    assert before.recommended == advised(again).recommended == 1


def follow(needs: list[tuple[int, float]], limit: float | None = None) -> list[int]:
    """What is advised for needs at these seconds."""
    steady, told = Steady(), []
    for second, need in needs:
        steady = Steady.read(steady.after(START_MS + second * 1000, need, limit, 2).written())
        told.append(steady.recommended)
    return told


def test_up_at_once_and_down_only_after_a_quiet_period() -> None:
    assert follow([(0, 1), (5, 9), (10, 2), (QUIET_S, 2), (QUIET_S + 6, 2)]) == [1, 9, 9, 9, 3]


def test_a_need_that_wavers_about_a_whole_number_moves_nothing() -> None:
    wavering = [(10 * n, 4.9 if n % 2 else 5.1) for n in range(60)]
    assert set(follow(wavering)[1:]) == {6}
    slowly = [(10 * n, 4.9 if n // 20 % 2 else 5.1) for n in range(120)]
    assert set(follow(slowly)) == {6}


def test_a_tenth_more_than_advised_is_no_reason_for_another_worker() -> None:
    assert follow([(0, 100), (10, 109), (20, 111)]) == [100, 100, 111]


def test_in_a_small_fleet_what_jobs_vary_by_chance_is_none_either() -> None:
    # Two slots each: 10 + 0.7 * sqrt(10 / 2) workers' work is what 10 workers meet now and then.
    assert follow([(0, 10), (10, 11.5), (20, 11.6)]) == [10, 10, 12]


def test_a_great_surplus_goes_after_a_quiet_minute_in_one_step_and_leaves_some_to_spare() -> None:
    # The need falls over half a minute; two slots each: 2 + 0.7 * sqrt(2 / 2) workers do.
    falling = [(5 * n, max(2.0, 12 - n)) for n in range(40)]
    assert [n for n, _ in itertools.groupby(follow(falling))] == [12, 3]


def test_a_small_surplus_goes_when_it_was_there_for_ten_minutes() -> None:
    told = follow([(0, 10.0), *((10 * n, 7.0) for n in range(1, 80))])
    # 7 + 0.7 * sqrt(7 / 2) workers do, from when the quiet minute was over.
    assert [(n, 10 * len(list(same))) for n, same in itertools.groupby(told)] == [
        (10, QUIET_S + TRIM_S),
        (9, 800 - QUIET_S - TRIM_S),
    ]


def test_a_surplus_that_comes_and_goes_stays() -> None:
    needs = [(10 * n, 10.0 if n % 30 == 0 else 8.5) for n in range(300)]
    assert set(follow(needs)) == {10}


def test_a_limit_that_wavers_moves_neither_number() -> None:
    steady, told = Steady(), []
    for n in range(60):
        steady = steady.after(START_MS + n * 10_000, 50, 4.9 if n // 10 % 2 else 5.1, 2)
        told.append((steady.recommended, steady.useful_max))
    assert set(told) == {(6, 6)}


def test_what_is_remembered_does_not_grow() -> None:
    steady = Steady()
    for n in range(1000):
        steady = steady.after(START_MS + n * 1000, 3, None, 2)
    assert len(steady.written()) < 400
