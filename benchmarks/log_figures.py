"""The figure of what ``logs.py`` measured. ``python log_figures.py logs.csv`` draws it once more."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from results import Row, read_csv, save

COLOURS = {"Cockpit": "#1f6fb4", "TensorBoard": "#d9822b"}
BARS = {"ingest": "points written a second", "training thread": "µs of a step, training thread",
        "size": "bytes a point", "all curves, in a library": "s to read all curves"}  # fmt: skip
LINES = {"first paint": "s until the page is drawn", "live tick": "ms of a live tick",
         "server memory": "MiB held by the server", "size of a whole run": "bytes a point"}  # fmt: skip


def draw(table: Path, directory: Path) -> list[Path]:
    """Draws what the table has, as PNG and PDF; above, one run written and read; below, what grows with runs.

    Args:
        table: Written by ``logs.py``.
        directory: Where the figure goes.

    Returns:
        The files.
    """
    rows = read_csv(table)
    figure = Figure(figsize=(12, 5.6), layout="constrained")
    panels = figure.subplots(2, len(BARS))
    for axes, (what, label) in zip(panels[0], BARS.items(), strict=True):
        _bars(axes, [row for row in rows if row["what"] == what], label)
    for axes, (what, label) in zip(panels[1], LINES.items(), strict=True):
        _lines(axes, [row for row in rows if row["what"] == what], label)
    return save(figure, directory, "logs")


def _bars(axes: Axes, rows: Sequence[Row], label: str) -> None:
    names, values = [row["by"] for row in rows], [float(row["value"]) for row in rows]
    bars = axes.bar(names, values, color=[COLOURS[name] for name in names], width=0.6)
    axes.bar_label(bars, [f"{value:,.3g}" if value < 1000 else f"{value:,.0f}" for value in values], fontsize=9)
    axes.margins(y=0.15)
    axes.set_ylabel(label)
    _goal(axes, rows)


def _lines(axes: Axes, rows: Sequence[Row], label: str) -> None:
    for name in dict.fromkeys(row["by"] for row in rows):
        own = [(int(row["steps"]), float(row["value"])) for row in rows if row["by"] == name]
        axes.plot(*zip(*own, strict=True), "o-", color=COLOURS[name], label=name)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("steps of the run, 50 numbers each")
    axes.set_ylabel(label)
    _goal(axes, rows)
    if len({row["by"] for row in rows}) > 1:
        axes.legend(frameon=False, fontsize=9)


def _goal(axes: Axes, rows: Sequence[Row]) -> None:
    for goal in {float(row["goal"]) for row in rows if row["goal"]}:
        axes.axhline(goal, color="black", linewidth=0.8, linestyle="--")
        axes.annotate("goal: below", (0.02, goal), xycoords=("axes fraction", "data"), va="bottom", fontsize=8)


if __name__ == "__main__":
    print(*draw(Path(sys.argv[1]), Path(sys.argv[1]).parent), sep="\n")
