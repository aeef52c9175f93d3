"""Pairs of numbers as a density, with both marginals beside it, as they stood last."""

from __future__ import annotations

import math
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
from cockpit.plotter.theme import DENSITY, MUTED, RUN, SMALL, width_of
from cockpit.reading import Histogram2d

LEFT, MARGINAL, BETWEEN = 0.78, 0.42, 0.06
PLOT = 1.5
CAPTION = 2  # lines, at most
BAR = 0.07  # height of the legend's colours
RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

Side: TypeAlias = Literal["vertical", "horizontal"]


def height_of(scene: Scene) -> float:
    """Inches below which the drawing would be cramped."""
    return len(scene.shown) * (PLOT + MARGINAL + FOOT + CAPTION * LINE)


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
        place = place.captioned(
            _caption(words_of_pairs(found, samples_at(scene.columns, key, found.step)), place.width)
        )
        plots = place.inset(left=LEFT, bottom=FOOT, right=0.1, top=0.02)
        wide, high = plots.width - MARGINAL - BETWEEN, plots.height - MARGINAL - BETWEEN
        scale = _density(plots.part(0, 0, wide, high).axes(), pairs, scene)
        _legend(plots.part(wide + BETWEEN, high + BETWEEN, MARGINAL, MARGINAL), scale)
        first, second = pairs.marginals
        above = plots.part(0, high + BETWEEN, wide, MARGINAL).axes()
        beside = plots.part(wide + BETWEEN, 0, MARGINAL, high).axes()
        _marginal(above, first.counts, first.edges, "vertical", scene.log)
        _marginal(beside, second.counts, second.edges, "horizontal", scene.log)


def _caption(words: str, inches: float) -> list[str]:
    """The words as one line, or as two where that would be too wide."""
    if width_of(words, SMALL) <= inches:
        return [words]
    total, _, edge = words.partition(", ")
    return [f"{total},", edge]


def _legend(corner: Room, scale: LogNorm) -> None:
    """What the colours mean, in the corner that the marginals leave free: from a single pair to the most in a bin."""
    power = math.floor(math.log10(scale.vmax or 1.0))
    middle = (corner.height - BAR) / 2
    corner.write("pairs", x=corner.width / 2, y=middle + BAR + 0.03, colour=MUTED, align="center")
    axes = corner.part(0, middle, corner.width, BAR).axes()
    shades = np.geomspace(scale.vmin or 1.0, scale.vmax or 1.0, 65)
    mesh = axes.pcolormesh(shades, [0, 1], shades[None, :-1], norm=scale, cmap=DENSITY, rasterized=True)
    mesh.set_gid("legend")
    axes.set(xscale="log", xlim=(shades[0], shades[-1]))
    axes.spines[:].set_visible(False)
    axes.grid(False)
    axes.minorticks_off()
    axes.yaxis.set_visible(False)
    labels = {1.0: "1"} | ({10.0**power: f"10{str(power).translate(RAISED)}"} if power else {})
    axes.set_xticks(list(labels), list(labels.values()))


def _density(axes: Axes, pairs: Histogram2d, scene: Scene) -> LogNorm:
    """Counts as colours on a logarithmic scale, which it returns; where there are none the paper stays white."""
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
    return scale


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
