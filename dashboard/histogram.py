"""Bars over the values' range, as they stood at one step."""

from __future__ import annotations

import itertools

import numpy as np

from cockpit.dashboard.lines import empty_figure
from cockpit.dashboard.scene import Scene, value_at
from cockpit.dashboard.theme import ROW_HEIGHT, Drawing, Json, Palette, axis, base_layout, number, typed
from cockpit.drawing.bars import Bars, bars_at, samples_at, words_of
from cockpit.drawing.words import share

ZEROS = ".zeros"  # what a histogram of logarithms logs beside itself


def draw_histogram(scene: Scene) -> Drawing:
    """The scene's histograms at its step, one below the other, each with its total and its clipped share in words."""
    shown = [bars for key in scene.keys if (bars := bars_at(scene.column(key), scene.step)) is not None]
    if not shown:
        return Drawing(empty_figure(scene), empty=scene.clock or "The histogram is missing at this step.")
    layout = base_layout(scene.colours, left=56) | {"bargap": 0}
    traces = []
    for index, bars in enumerate(shown):
        suffix = str(index + 1) if index else ""
        top, bottom = 1 - index / len(shown), 1 - (index + 1 if bars is shown[-1] else index + 0.8) / len(shown)
        traces.append(_trace(bars, scene.colours) | {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"})
        layout[f"xaxis{suffix}"] = axis(scene.colours, scene.panel.xlabel or f"value ({bars.key})", anchor=f"y{suffix}")
        layout[f"yaxis{suffix}"] = _count_axis(bars, scene) | {"domain": [bottom, top], "anchor": f"x{suffix}"}
    words = "; ".join(
        words_of(bars, samples_at(scene.columns, bars.key, bars.step)) + _zeros(bars, scene) for bars in shown
    )
    return Drawing({"data": traces, "layout": layout}, words=words, height=ROW_HEIGHT * len(shown))


def _trace(bars: Bars, colours: Palette) -> Json:
    """The bars; the two at the ends, which also count everything beyond them, are hatched."""
    pattern = [""] * len(bars.counts)
    pattern[0] = pattern[-1] = "/"
    hover = [f"{number(low)} to {number(high)}" for low, high in itertools.pairwise(bars.edges.tolist())]
    return {
        "type": "bar",
        "x": typed((bars.edges[:-1] + bars.edges[1:]) / 2),
        "width": typed(np.diff(bars.edges)),
        "y": typed(bars.counts),
        "marker": {"color": colours.run, "line": {"width": 0}, "pattern": {"shape": pattern, "solidity": 0.5}},
        "text": hover,
        "textposition": "none",
        "hovertemplate": "%{text}: %{y:,}<extra></extra>",
    }


def _zeros(bars: Bars, scene: Scene) -> str:
    """The share of zeros, which have no place among logarithms."""
    column = scene.column(bars.key + ZEROS)
    share_of_zeros = None if column is None else value_at(column, scene.step)
    return "" if share_of_zeros is None else f"; {share(share_of_zeros, 1)} are zero"


def _count_axis(bars: Bars, scene: Scene) -> Json:
    """Counts from 0, or logarithms up to the total, which hardly changes: a log axis then stands still in a replay."""
    title = scene.panel.ylabel or "elements"
    if not scene.log:
        return axis(scene.colours, title, rangemode="tozero", nticks=5, exponentformat="SI")
    total = max(2, int(bars.counts.sum()))
    reach = {"include": [0.5, 1.3 * total]}
    return axis(scene.colours, title, type="log", autorangeoptions=reach, dtick=max(1, round(np.log10(total) / 4)))
