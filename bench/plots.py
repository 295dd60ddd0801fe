"""Plots as PNG and SVG, drawn by matplotlib in an environment of its own: nothing else here needs it."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from bench.environments import PeerMissing, environment
from bench.figures import Spread

DRAWING = Path(__file__).with_name("peers") / "drawing.py"


@dataclass(frozen=True, slots=True)
class Plot:
    """Bars: label to (median, least, most). Lines: label to points (x, y)."""

    kind: Literal["bars", "lines"]
    name: str
    title: str
    series: dict[str, list[tuple[float, ...]]]
    x: str = ""
    y: str = ""
    log_x: bool = False

    @classmethod
    def bars(cls, name: str, title: str, bars: Mapping[str, Spread]) -> "Plot":
        drawn: dict[str, list[tuple[float, ...]]] = {
            label: [(one.median, one.least, one.most)] for label, one in bars.items()
        }
        return cls("bars", name, title, drawn)

    @classmethod
    def of_lines(
        cls, name: str, title: str, lines: Mapping[str, Sequence[tuple[float, float]]], *, x: str, y: str, log_x: bool
    ) -> "Plot":  # fmt: skip
        drawn: dict[str, list[tuple[float, ...]]] = {label: list(points) for label, points in lines.items()}
        return cls("lines", name, title, drawn, x, y, log_x)


def draw(plots: Sequence[Plot], folder: Path) -> list[str]:
    """Draw them into the folder; the names of those drawn, which are none where matplotlib cannot be had."""
    if not plots:
        return []
    try:
        python = environment("plots")
    except PeerMissing as missing:
        print(f"no plots: {missing}")
        return []
    told = json.dumps([asdict(plot) for plot in plots])
    subprocess.run([python, DRAWING, folder], input=told, text=True, check=True)
    return [plot.name for plot in plots]
