"""The report of one question: tables, verdicts on its goals, and plots, kept as JSON and as Markdown.

    report = Report("front", "How many submissions does one API process take?")
    report.table("Requests a second", ["", "32 connections"], [["penstock", Spread.of(values)]])
    report.judge("requests_of_floor_32", ours.over(floors))
    report.bars("requests", "requests/s, 32 connections", {"penstock": ours, "floor": floors})
    report.write(results)

`report.write` puts `<question>.json`, `<question>.md` and the plots into a folder. What the pages show of it comes from
there, through `python -m bench.render`.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from bench.figures import Spread, number
from bench.machine import machine
from bench.plots import Plot, draw

GOALS = Path(__file__).with_name("goals.toml")
RESULTS = Path(__file__).with_name("results")

Cell: TypeAlias = "str | int | float | Spread"


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on a figure; exactly one of the two is there."""

    what: str
    at_least: float | None = None
    at_most: float | None = None

    def reached(self, value: float) -> bool:
        if self.at_least is not None:
            return value >= self.at_least
        return self.at_most is not None and value <= self.at_most

    def __str__(self) -> str:
        if self.at_least is not None:
            return f"≥ {number(self.at_least)}"
        return f"≤ {number(self.at_most)}" if self.at_most is not None else "none"


def goals_of(question: str, path: Path = GOALS) -> dict[str, Goal]:
    """The goals of one question, by name. Raises TypeError for a goal with other fields than `Goal`'s."""
    found = tomllib.loads(path.read_text(encoding="utf-8")).get(question, {})
    return {name: Goal(**fields) for name, fields in found.items()}


class Report:
    """Collects what one run has found. `command` is what repeats it."""

    def __init__(self, question: str, asks: str, *, command: str = "", goals: Path = GOALS) -> None:
        self.question = question
        self.asks = asks
        self.command = command or f"make bench ONLY={question}"
        self._goals = goals_of(question, goals)
        self._machine = machine()
        self._tables: list[tuple[str, list[str], list[list[Cell]]]] = []
        self._judged: dict[str, Spread] = {}
        self._notes: list[str] = []
        self._plots: list[Plot] = []

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """A table; a Spread is shown as its median and what it lay between. Raises ValueError for ragged rows."""
        if any(len(row) != len(columns) for row in rows):
            raise ValueError(f"{title}: every row needs {len(columns)} cells")
        self._tables.append((title, list(columns), [list(row) for row in rows]))

    def judge(self, goal: str, measured: Spread | float) -> bool:
        """Hold a figure, a Spread by its median, against a goal of goals.toml. Raises KeyError for no such goal."""
        spread = measured if isinstance(measured, Spread) else Spread((measured,))
        self._judged[goal] = spread
        return self._goals[goal].reached(spread.median)

    def note(self, text: str) -> None:
        """A sentence on how it was measured, or why something was not."""
        self._notes.append(text)

    def bars(self, name: str, title: str, bars: Mapping[str, Spread]) -> None:
        """A plot of medians, each with a line from the least to the most."""
        self._plots.append(Plot.bars(self._plot_name(name), title, bars))

    def lines(
        self, name: str, title: str, lines: Mapping[str, Sequence[tuple[float, float]]], *, x: str, y: str,
        log_x: bool = False,
    ) -> None:  # fmt: skip
        """A plot of lines through (x, y)."""
        self._plots.append(Plot.of_lines(self._plot_name(name), title, lines, x=x, y=y, log_x=log_x))

    def _plot_name(self, name: str) -> str:
        return self.question if name == self.question else f"{self.question}-{name}"

    def verdicts(self) -> list[list[str]]:
        """Per goal: what, the goal, what was measured, and whether that reaches it."""
        rows = []
        for name, goal in self._goals.items():
            spread = self._judged.get(name)
            if spread is None:
                rows.append([goal.what, str(goal), "", "not measured"])
            else:
                verdict = "reached" if goal.reached(spread.median) else "**not reached**"
                rows.append([goal.what, str(goal), str(spread), verdict])
        return rows

    def markdown(self, plots: Sequence[str] = ()) -> str:
        """The report as a piece of a page; `plots` are the names of those that were drawn."""
        parts = [f"{self.asks} `{self.command}`"]
        if self._goals:
            parts.append(_grid(["goal", "", "measured", ""], self.verdicts()))
        for title, columns, rows in self._tables:
            parts.append(f"**{title}**\n\n{_grid(columns, [[_shown(cell) for cell in row] for row in rows])}")
        parts += [f"![{self._title(name)}]({name}.svg)" for name in plots]
        parts += self._notes
        told = self._machine
        parts.append(
            f"Measured {told['measured']} at {told['commit']} on {told['machine']}; load before: "
            f"{told['load before']}. Python {told['python']}; {told['server']}; {told['packages']}."
        )
        return "\n\n".join(parts) + "\n"

    def _title(self, name: str) -> str:
        return next(plot.title for plot in self._plots if plot.name == name)

    def as_json(self) -> dict[str, object]:
        """Everything, with every repetition's value."""
        return {
            "question": self.question,
            "asks": self.asks,
            "command": self.command,
            "machine": self._machine,
            "goals": {
                name: {
                    "what": goal.what,
                    "goal": str(goal),
                    "measured": list(self._judged[name].values) if name in self._judged else None,
                    "reached": goal.reached(self._judged[name].median) if name in self._judged else None,
                }
                for name, goal in self._goals.items()
            },
            "tables": [
                {
                    "title": title,
                    "columns": columns,
                    "rows": [[_kept(cell) for cell in row] for row in rows],
                }
                for title, columns, rows in self._tables
            ],
            "notes": self._notes,
        }

    def write(self, folder: Path = RESULTS) -> None:
        """Keep it in the folder, and print the Markdown."""
        folder.mkdir(parents=True, exist_ok=True)
        drawn = draw(self._plots, folder)
        text = self.markdown(drawn)
        (folder / f"{self.question}.md").write_text(text, encoding="utf-8")
        kept = json.dumps(self.as_json(), indent=1, ensure_ascii=False)
        (folder / f"{self.question}.json").write_text(kept + "\n", encoding="utf-8")
        print(text)


def _grid(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, its columns as wide as their widest cell."""
    lines = [list(columns), *(list(row) for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    rendered = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    rule = "| " + " | ".join("-" * max(3, width) for width in widths) + " |"
    return "\n".join([rendered[0], rule, *rendered[1:]])


def _shown(cell: Cell) -> str:
    return number(cell) if isinstance(cell, int | float) else str(cell)


def _kept(cell: Cell) -> object:
    return list(cell.values) if isinstance(cell, Spread) else cell
