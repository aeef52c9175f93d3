"""Bars over the values' range, as they stood last."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from cockpit.drawing.bars import Bars, bars_at, samples_at, words_of
from cockpit.plotter import ticks
from cockpit.plotter.lines import FOOT
from cockpit.plotter.room import LINE, Room
from cockpit.plotter.scene import Scene
from cockpit.plotter.theme import MUTED, PAPER, RUN, SMALL

LEFT = 0.78
PLOT = 1.3
LOWEST = 0.5  # of a logarithmic axis of counts: one element still has a bar


def height_of(scene: Scene) -> float:
    """Inches below which the drawing would be cramped."""
    return len(scene.shown) * (PLOT + FOOT + LINE)


def draw_histogram(scene: Scene, room: Room) -> None:
    """The scene's histograms, one below the other, each with its total and its clipped share in words."""
    keys = scene.shown
    each = room.height / len(keys)
    for index, key in enumerate(keys):
        place = room.part(0, room.height - (index + 1) * each, room.width, each)
        bars = bars_at(scene.columns[key], None)
        if bars is None:
            step = int(scene.columns[key].steps[-1])
            place.write(f"{key} is missing at step {step:,}", y=each / 2, colour=MUTED)
            continue
        place = place.captioned([words_of(bars, samples_at(scene.columns, key, bars.step))])
        axes = place.inset(left=LEFT, bottom=FOOT, right=0.1, top=0.06).axes()
        draw_bars(axes, bars, log=scene.log)
        axes.set_xlabel(f"value ({key})" if len(keys) > 1 else "value", size=SMALL, color=MUTED, labelpad=1)
        axes.set_ylabel(scene.panel.ylabel or "elements", size=SMALL, color=MUTED, labelpad=2)


def draw_bars(axes: Axes, bars: Bars, *, log: bool) -> None:
    """The bars; the two at the ends, which also count everything beyond them, are hatched."""
    floor = LOWEST if log else 0.0
    axes.stairs(bars.counts, bars.edges, baseline=floor, fill=True, color=RUN, gid=bars.key)
    for index in (0, len(bars.counts) - 1):
        height = max(0.0, float(bars.counts[index]) - floor)
        corner, width = (float(bars.edges[index]), floor), float(bars.edges[index + 1] - bars.edges[index])
        axes.add_patch(Rectangle(corner, width, height, facecolor="none", edgecolor=PAPER, hatch="/////", linewidth=0))
    axes.set_xlim(float(bars.edges[0]), float(bars.edges[-1]))
    ticks.set_ticks(axes.xaxis, ticks.evenly, 6)
    top = max(2.0, float(np.max(bars.counts, initial=0)))
    if log:
        axes.set_yscale("log")
        axes.set_ylim(LOWEST, top**1.06 * 1.2)
        ticks.set_ticks(axes.yaxis, ticks.powers, 4)
    else:
        axes.set_ylim(0, 1.06 * top)
        ticks.set_ticks(axes.yaxis, ticks.evenly, 4)
