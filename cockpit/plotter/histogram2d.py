"""Pairs of numbers as a density, with both marginals beside it, as they stood last."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from numpy.typing import NDArray

from cockpit.drawing.bars import samples_at
from cockpit.drawing.pairs import pairs_at, words_of_pairs
from cockpit.plotter import ticks
from cockpit.plotter.lines import FOOT
from cockpit.plotter.room import LINE, Room
from cockpit.plotter.scene import Scene
from cockpit.plotter.theme import DENSITY, MUTED, RUN, SMALL
from cockpit.reading import Histogram2d

LEFT, MARGINAL, BETWEEN = 0.78, 0.42, 0.06
PLOT = 1.5

Side: TypeAlias = Literal["vertical", "horizontal"]


def height_of(scene: Scene) -> float:
    """Inches below which the drawing would be cramped."""
    return len(scene.shown) * (PLOT + MARGINAL + FOOT + LINE)


def draw_histogram2d(scene: Scene, room: Room) -> None:
    """The scene's histograms of pairs, one below the other, the first number across and the second upwards."""
    keys = scene.shown
    each = room.height / len(keys)
    for index, key in enumerate(keys):
        place = room.part(0, room.height - (index + 1) * each, room.width, each)
        column = scene.columns[key]
        found = pairs_at(column, None)
        if found is None:
            place.write(f"{key} is missing at step {int(column.steps[-1]):,}", y=each / 2, colour=MUTED)
            continue
        pairs = found.histogram
        place = place.captioned([words_of_pairs(found, samples_at(scene.columns, key, found.step))])
        plots = place.inset(left=LEFT, bottom=FOOT, right=0.1, top=0.02)
        wide, high = plots.width - MARGINAL - BETWEEN, plots.height - MARGINAL - BETWEEN
        _density(plots.part(0, 0, wide, high).axes(), pairs, scene)
        first, second = pairs.marginals
        above = plots.part(0, high + BETWEEN, wide, MARGINAL).axes()
        beside = plots.part(wide + BETWEEN, 0, MARGINAL, high).axes()
        _marginal(above, first.counts, first.edges, "vertical", scene.log)
        _marginal(beside, second.counts, second.edges, "horizontal", scene.log)


def _density(axes: Axes, pairs: Histogram2d, scene: Scene) -> None:
    """Counts as colours on a logarithmic scale; where there are none the paper stays white."""
    counts = np.ma.masked_equal(pairs.counts.T, 0)
    scale = LogNorm(0.5, max(2.0, float(pairs.counts.max(initial=0))))  # a single pair is still seen
    mesh = axes.pcolormesh(pairs.x_edges, pairs.y_edges, counts, norm=scale, cmap=DENSITY, rasterized=True)
    mesh.set_gid("density")
    axes.grid(False)
    axes.set_xlim(float(pairs.x_edges[0]), float(pairs.x_edges[-1]))
    axes.set_ylim(float(pairs.y_edges[0]), float(pairs.y_edges[-1]))
    ticks.set_ticks(axes.xaxis, ticks.evenly, 6)
    ticks.set_ticks(axes.yaxis, ticks.evenly, 4)
    axes.set_xlabel(scene.panel.xlabel or "first", size=SMALL, color=MUTED, labelpad=1)
    axes.set_ylabel(scene.panel.ylabel or "second", size=SMALL, color=MUTED, labelpad=2)


def _marginal(axes: Axes, counts: NDArray[np.int64], edges: NDArray[np.float64], side: Side, log: bool) -> None:
    """The histogram of one number of the pairs, along the density's edge."""
    floor, top = (0.5 if log else 0.0), max(2.0, float(counts.max(initial=0)))
    axes.stairs(counts, edges, baseline=floor, fill=True, color=RUN, gid=side, orientation=side)
    axes.grid(False)
    axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
    ends, reach = (float(edges[0]), float(edges[-1])), (floor, 1.3 * top)
    if side == "vertical":
        axes.set(xlim=ends, yscale="log" if log else "linear", ylim=reach)
    else:
        axes.set(ylim=ends, xscale="log" if log else "linear", xlim=reach)
    axes.minorticks_off()
