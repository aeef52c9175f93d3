"""The figure of what ``loss_scaled.py`` measured. ``python loss_scaled_figure.py TABLE.csv`` draws it once more."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from figures import Row
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BASE = "torch foreach"
COLOURS = {"source": ("#9aa0a6", "#5f6368"), "torch": ("#f0b37a", "#d9822b"), "cockpit": ("#8fbfe6", "#1f6fb4")}
HATCHES = {"GradScaler": "///", "DynamicScale": "..."}
TIMES = {"step": "optimizer step", "training": "training step"}


def draw(table: Path, directory: Path) -> list[Path]:
    """Draws all times over those of torch's ``foreach``, an optimizer in each row, as PNG and PDF.

    Args:
        table: Written by ``loss_scaled.py``.
        directory: Where the figure goes.

    Returns:
        The files.
    """
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rules = list(dict.fromkeys(row["optimizer"] for row in rows))
    figure = Figure(figsize=(11, 2.6 * len(rules) + 0.8), layout="constrained")
    panels = figure.subplots(len(rules), len(TIMES), squeeze=False)
    for line, rule in zip(panels, rules, strict=True):
        own = [row for row in rows if row["optimizer"] == rule]
        for axes, (column, label) in zip(line, TIMES.items(), strict=True):
            _bars(axes, own, column)
            axes.set_ylabel(f"{rule}, {label}\nover {BASE}", fontsize=8)
    handles, labels = max((axes.get_legend_handles_labels() for axes in panels.flat), key=lambda found: len(found[1]))
    figure.legend(handles, labels, loc="outside upper center", ncols=6, frameon=False, fontsize=8)
    FigureCanvasAgg(figure)
    files = [directory / f"{table.stem}.{suffix}" for suffix in ("png", "pdf")]
    for path in files:
        figure.savefig(path, dpi=110, metadata={"CreationDate": None} if path.suffix == ".pdf" else None)
    return files


def _bars(axes: Axes, rows: Sequence[Row], column: str) -> None:
    networks, ways = (list(dict.fromkeys(row[key] for row in rows)) for key in ("network", "way"))
    times = {(row["network"], row["way"]): float(row[column]) for row in rows}
    width = 0.85 / len(ways)
    for i, way in enumerate(ways):
        colours = COLOURS[way.split(",")[0].split()[0]]
        heights = [times[name, way] / times[name, BASE] for name in networks]
        places = [j + (i + 0.5) * width - 0.425 for j in range(len(networks))]
        dark, hatch = "fused" in way or "scaled" in way, HATCHES.get(way.split(", ")[-1], "")
        axes.bar(places, heights, width, color=colours[dark], hatch=hatch, edgecolor="white", linewidth=0.3, label=way)
    sizes = {row["network"]: int(row["parameters"]) for row in rows}
    axes.set_xticks(range(len(networks)), [f"{name}\n{sizes[name]:,}" for name in networks], fontsize=8)
    axes.axhline(1, color="black", linewidth=0.6)


if __name__ == "__main__":
    print(*draw(Path(sys.argv[1]), Path(sys.argv[1]).parent), sep="\n")
