"""Figures of the measurements: cost of instruments alone, cost of configurations, memory.

They follow figures 7.6a, 7.6b and C.5 of the Cockpit paper. ``python figures.py overhead.csv`` draws them once more.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from results import Row, read_csv, save

CONFIGURATIONS = ("economy", "business", "full")
NAMES = {"cockpit": "Cockpit", "peer": "f-dangel/cockpit 1.0.2"}
COLOURS = {"cockpit": "#1f6fb4", "peer": "#d9822b", "plain": "#9aa0a6"}


def draw(table: Path, directory: Path) -> list[Path]:
    """Draws every figure that the table has data for, as PNG and PDF.

    Args:
        table: Written by ``overhead.py``.
        directory: Where the figures go.

    Returns:
        The files.
    """
    rows = read_csv(table)
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    makers = {"instruments": instruments, "configurations": configurations, "memory": memory}
    made = {name: make(rows, problems) for name, make in makers.items()}
    return [file for name, figure in made.items() if figure for file in save(figure, directory, name)]


def instruments(rows: Sequence[Row], problems: Sequence[str]) -> Figure | None:
    """Figure 7.6a: what each instrument costs alone, as a multiple of the plain step."""
    alone = [row for row in rows if row["tracked"] not in CONFIGURATIONS and row["interval"] == "1"]
    if not alone:
        return None
    names = list(dict.fromkeys(row["tracked"] for row in alone))
    figure = Figure(figsize=(4.2 * len(problems) + 2.5, 0.3 * len(names) + 1.6), layout="constrained")
    for axes, problem in _axes(figure, problems):
        own = [row for row in alone if row["problem"] == problem]
        for by, offset in (("cockpit", 0.2), ("peer", -0.2)):
            ratios = {row["tracked"]: float(row["ratio"]) for row in own if row["by"] == by}
            places = [len(names) - 1 - names.index(name) + offset for name in ratios]
            widths = [max(ratio, 1.0) - 1 for ratio in ratios.values()]
            axes.barh(places, widths, 0.4, left=1, color=COLOURS[by], label=NAMES[by])
        axes.set_yticks(range(len(names)), [name.replace(":", " ") for name in reversed(names)], fontsize=8)
        axes.set_xscale("log")
        axes.axvline(1, color="black", linewidth=0.8)
        axes.axvline(2, color="black", linewidth=0.8, linestyle=":")
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlabel("time of a tracked step / plain step (dotted: twice)")
        axes.set_title(problem, fontsize=10)
        axes.tick_params(axis="y", labelleft=problem == problems[0])
    _one_legend(figure)
    return figure


def configurations(rows: Sequence[Row], problems: Sequence[str]) -> Figure | None:
    """Figure 7.6b: what configurations cost at several intervals; blue where a step takes less than twice as long."""
    grid = [row for row in rows if row["tracked"] in CONFIGURATIONS]
    if not grid:
        return None
    intervals = sorted({int(row["interval"]) for row in grid})
    whose = [by for by in NAMES if any(row["by"] == by for row in grid)]
    figure = Figure(figsize=(1.0 * len(intervals) * len(problems) + 2, 1.9 * len(whose) + 0.6), layout="constrained")
    panels = figure.subplots(len(whose), len(problems), squeeze=False)
    for i, by in enumerate(whose):
        for j, problem in enumerate(problems):
            own = {
                (row["tracked"], int(row["interval"])): float(row["ratio"])
                for row in grid
                if row["by"] == by and row["problem"] == problem
            }
            _matrix(panels[i, j], own, intervals)
            panels[i, j].set_title(f"{problem}: {NAMES[by]}", fontsize=8)
            panels[i, j].tick_params(labelleft=j == 0, labelbottom=i == len(whose) - 1)
            if i == len(whose) - 1:
                panels[i, j].set_xlabel("tracked: one step in …", fontsize=8)
    figure.suptitle("Training time over that of the plain loop", fontsize=9)
    return figure


def _matrix(axes: Axes, ratios: dict[tuple[str, int], float], intervals: Sequence[int]) -> None:
    cells = np.array([[ratios.get((name, k), np.nan) for k in intervals] for name in CONFIGURATIONS])
    # Blue below two, red above, the darker the further away; a hundredfold is as red as it gets.
    norm = TwoSlopeNorm(np.log2(2), 0, np.log2(100))
    axes.imshow(np.log2(cells), cmap=mpl.colormaps["RdBu_r"], norm=norm, aspect="auto")
    for (i, k), ratio in np.ndenumerate(cells):
        if np.isfinite(ratio):
            dark = not -0.7 < norm(np.log2(ratio)) * 2 - 1 < 0.7
            text = f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"
            axes.text(k, i, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    axes.set_xticks(range(len(intervals)), [str(k) for k in intervals], fontsize=8)
    axes.set_yticks(range(len(CONFIGURATIONS)), CONFIGURATIONS, fontsize=8)


def memory(rows: Sequence[Row], problems: Sequence[str]) -> Figure | None:
    """Figure C.5: peak memory of the training process, plain and under both cockpits."""
    grid = [row for row in rows if row["tracked"] in CONFIGURATIONS and row["interval"] == "1"]
    if not grid:
        return None
    figure = Figure(figsize=(2.6 * len(problems) + 1.5, 3.2), layout="constrained")
    for axes, problem in _axes(figure, problems):
        own = [row for row in grid if row["problem"] == problem]
        bars = {("plain", row["tracked"]): row["baseline_peak"] for row in own}
        bars |= {(row["by"], row["tracked"]): row["peak"] for row in own}
        for by, offset in (("plain", -0.27), ("cockpit", 0.0), ("peer", 0.27)):
            found = [(i, bars[by, name]) for i, name in enumerate(CONFIGURATIONS) if (by, name) in bars]
            places, heights = [i + offset for i, _ in found], [int(peak) / 2**20 for _, peak in found]
            axes.bar(places, heights, 0.27, color=COLOURS[by], label=NAMES.get(by, "plain"))
        axes.set_xticks(range(len(CONFIGURATIONS)), CONFIGURATIONS, fontsize=8)
        axes.set_xlim(-0.6, len(CONFIGURATIONS) - 0.4)
        axes.set_title(problem, fontsize=10)
        if problem == problems[0]:
            axes.set_ylabel("peak memory in MB")
    _one_legend(figure)
    return figure


def _axes(figure: Figure, problems: Sequence[str]) -> Iterator[tuple[Axes, str]]:
    panels = figure.subplots(1, len(problems), squeeze=False)[0]
    yield from zip(panels, problems, strict=True)


def _one_legend(figure: Figure) -> None:
    handles = {}
    for axes in figure.axes:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles), frameon=False)


if __name__ == "__main__":
    print(*draw(Path(sys.argv[1]), Path(sys.argv[1]).parent), sep="\n")
