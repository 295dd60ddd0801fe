"""Draws the plots told on standard input (bench/plots.py) into the folder named: `python drawing.py FOLDER`."""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

OURS, OTHERS = "#1f6f8b", "#b8b8b8"


def main() -> None:
    folder = Path(sys.argv[1])
    # The same figures give the same bytes.
    matplotlib.rcParams["svg.hashsalt"] = "penstock"
    for plot in json.load(sys.stdin):
        figure, axes = pyplot.subplots(
            figsize=(7, 0.5 * len(plot["series"]) + 1 if plot["kind"] == "bars" else 4)
        )
        axes.set_title(plot["title"], loc="left", fontsize=11)
        bars(axes, plot["series"]) if plot["kind"] == "bars" else lines(axes, plot)
        axes.spines[["top", "right"]].set_visible(False)
        figure.tight_layout()
        figure.savefig(folder / f"{plot['name']}.png", dpi=150, metadata={"Software": None})
        figure.savefig(folder / f"{plot['name']}.svg", metadata={"Date": None})
        pyplot.close(figure)


def bars(axes: Any, series: dict[str, Any]) -> None:
    """The first on top; ours in colour, and a line from the least to the most of the repetitions."""
    for place, (label, [(median, least, most)]) in enumerate(series.items()):
        axes.barh(-place, median, color=OURS if label.startswith("penstock") else OTHERS)
        axes.plot([least, most], [-place, -place], color="black", linewidth=1)
        axes.annotate(
            f"{median:,.0f}" if median >= 100 else f"{median:.3g}", (most, -place),
            xytext=(6, 0), textcoords="offset points", va="center", fontsize=9,
        )  # fmt: skip
    axes.set_yticks([-place for place in range(len(series))], series.keys())
    axes.margins(x=0.12)


def lines(axes: Any, plot: dict[str, Any]) -> None:
    """One line each, through its points."""
    for label, points in plot["series"].items():
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
    axes.set_xlabel(plot["x"])
    axes.set_ylabel(plot["y"])
    if plot["log_x"]:
        axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


main()
