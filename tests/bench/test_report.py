"""What a report says, and where it is put."""

import json
from pathlib import Path

import pytest

from bench.__main__ import ORDER
from bench.figures import Spread
from bench.render import PAGE, rendered, result_of
from bench.report import GOALS, Report, goals_of

TOML = """
[speed.most]
what = "as fast"
at_least = 2.0

[speed.least]
what = "as slow"
at_most = 0.5

[speed.forgotten]
what = "as anything"
at_least = 1
"""


@pytest.fixture
def report(tmp_path: Path) -> Report:
    goals = tmp_path / "goals.toml"
    goals.write_text(TOML)
    return Report("speed", "How fast?", goals=goals)


def test_each_goal_has_its_verdict_by_the_median(report: Report) -> None:
    assert report.judge("most", Spread.of([1.0, 2.5, 3.0]))
    assert not report.judge("least", 0.6)

    assert report.verdicts() == [
        ["as fast", "≥ 2", "2.5 (1–3)", "reached"],
        ["as slow", "≤ 0.5", "0.6", "**not reached**"],
        ["as anything", "≥ 1", "", "not measured"],
    ]


def test_a_goal_that_nobody_set_cannot_be_reached(report: Report) -> None:
    with pytest.raises(KeyError):
        report.judge("mist", 1.0)


def test_it_is_kept_with_all_that_was_measured(report: Report, tmp_path: Path) -> None:
    report.table("Speeds", ["", "per second"], [["penstock", Spread.of([1, 2, 4])]])
    report.note("On a Tuesday.")
    report.write(tmp_path)

    text = (tmp_path / "speed.md").read_text()
    kept = json.loads((tmp_path / "speed.json").read_text())
    assert "| penstock | 2 (1–4)    |" in text
    assert "On a Tuesday." in text
    assert "`make bench ONLY=speed`" in text
    assert kept["tables"][0]["rows"] == [["penstock", [1, 2, 4]]]
    assert kept["goals"]["forgotten"]["reached"] is None


def test_a_table_is_no_ragged_one(report: Report) -> None:
    with pytest.raises(ValueError, match="2 cells"):
        report.table("Speeds", ["", "per second"], [["penstock"]])


def test_every_goal_is_a_question_s_and_has_one_bound() -> None:
    for question in ORDER:
        for name, goal in goals_of(question).items():
            assert (goal.at_least is None) != (goal.at_most is None), name
    sections = {line[1:].partition(".")[0] for line in GOALS.read_text().splitlines() if line[:1] == "["}
    assert sections <= set(ORDER)


def test_a_page_is_filled_between_its_marks_and_nowhere_else() -> None:
    page = "before\n<!-- bench: speed -->\nold\n<!-- bench: end -->\nafter\n<!-- bench: none -->\n<!-- bench: end -->\n"
    results = {"speed": "![Fast](speed-bars.svg)\n"}

    once = rendered(page, results.get)

    assert "![Fast](../bench/results/speed-bars.svg)" in once
    assert "old" not in once
    assert "No result of this question" in once
    assert once.startswith("before\n")
    assert rendered(once, results.get) == once


def test_the_page_shows_the_results_that_are_kept() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert rendered(page, result_of) == page, "python -m bench.render"
