"""What is shown of a batch under way: a bar on a terminal, few lines elsewhere."""

import io

import pytest
from rich.console import Console

from cli.batch.journal import Sums
from cli.batch.progress import Display, Pace


def display(sums: Sums, waits: tuple[float, str], *, terminal: bool) -> tuple[Display, io.StringIO]:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, width=160, soft_wrap=True, markup=False)
    return Display(console, "in.jsonl", sums, lambda: waits), shown


def test_the_time_to_go_is_that_of_the_pace_so_far() -> None:
    pace, sums = Pace(), Sums(lines=100)
    assert pace.time_left_s(0.0, sums) is None
    sums.succeeded = 20
    assert pace.time_left_s(10.0, sums) == pytest.approx(40.0)
    sums.failed = 20
    assert pace.time_left_s(15.0, sums) == pytest.approx(22.5)


def test_the_pace_of_long_ago_is_forgotten() -> None:
    pace, sums = Pace(), Sums(lines=10_000)
    for half_second in range(400):
        sums.succeeded += 10 if half_second < 100 else 1
        left_s = pace.time_left_s(half_second / 2, sums)
    assert left_s == pytest.approx((10_000 - sums.succeeded) / 2, rel=0.02)


def test_off_a_terminal_lines_come_now_and_then_and_when_there_is_news() -> None:
    sums = Sums(lines=3)
    waits: list[tuple[float, str]] = [(0.0, "")]
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=False, width=160, soft_wrap=True)
    shows = Display(console, "in", sums, lambda: waits[-1])
    with shows.shown():
        shows.show()
        sums.succeeded, sums.tokens = 1, 1200
        shows.show()
        waits.append((57.0, "the request limit is used up\x1b[2J"))
        shows.show()
        shows.show()
        waits.append((0.0, ""))
        sums.succeeded, sums.failed = 2, 1
        shows.show()
        shows.show()
    first, wait, last = shown.getvalue().splitlines()
    assert first.endswith("0 of 3 done, 0 tokens")
    assert "1 of 3 done, 1,200 tokens" in wait
    assert wait.endswith("; waits 57 s: the request limit is used up\\x1b[2J")
    assert last.endswith("3 of 3 done, 1 failed, 1,200 tokens")


def test_on_a_terminal_there_is_a_bar_with_all_of_it() -> None:
    sums = Sums(lines=1000, succeeded=250, tokens=12_345)
    shows, shown = display(sums, (12.0, "[bold]a reason[/bold] (rate_limited)"), terminal=True)
    with shows.shown():
        shows.show()
    text = shown.getvalue()
    for part in ("in.jsonl", "250/1000", "12,345 tokens", "waits 12 s: [bold]a reason[/bold] (rate_limited)"):
        assert part in text
