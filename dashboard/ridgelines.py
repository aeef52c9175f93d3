"""Histograms of all layers at one step as ridges, the first layer on top, the first step as an outline behind."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cockpit.dashboard.lines import empty_figure
from cockpit.dashboard.scene import Scene, value_at
from cockpit.dashboard.theme import ROW_HEIGHT, Drawing, Json, axis, base_layout, note, number, plain, typed
from cockpit.drawing.cells import short_names
from cockpit.drawing.ridges import OVERLAP, Ridge, Ridges, ridges_of
from cockpit.drawing.words import share

NAME = 18  # characters of a layer's name
SEEN = 2e-3  # share of a layer's elements from which a bin is within the axis
ROW = 15  # pixels from one layer to the next
ROOM = 285  # for all of them: the first view has two rows of panels in a laptop's window


def draw_ridgelines(scene: Scene) -> Drawing:
    """The layers' histograms of the scene's one key, each beside its share of zeros."""
    ridges = ridges_of(scene.columns, scene.keys[0], scene.step)
    if ridges is None:
        return Drawing(empty_figure(scene), empty=scene.clock or "The histograms are missing at this step.")
    layout = base_layout(scene.colours, top=18, left=8, right=44)
    layout["xaxis"] = axis(scene.colours, scene.panel.xlabel or scene.keys[0], nticks=8, range=_reach(ridges, scene))
    names = [plain(name) for name in short_names([ridge.layer for ridge in ridges.layers], NAME)]
    ticks = {"tickvals": list(range(len(names))), "ticktext": names, "tickfont": {"size": 10}, "automargin": True}
    depth = {"range": [len(names) - 0.6, -OVERLAP], "fixedrange": True}
    layout["yaxis"] = axis(scene.colours, "layer", **ticks, **depth)
    layout["annotations"] = [*_zeros(ridges, scene), *_limit_labels(scene)]
    layout["shapes"] = list(_limits(scene))
    traces = [trace for place, ridge in enumerate(ridges.layers) for trace in _ridge(ridge, place, ridges, scene)]
    height = max(ROW_HEIGHT, min(ROW * len(names) + 60, ROOM))
    return Drawing({"data": traces, "layout": layout}, words=_words(ridges), height=height)


def _reach(ridges: Ridges, scene: Scene) -> list[float]:
    """The bins in use, the thresholds that stand near them, and a little more."""
    shapes = [shape for ridge in ridges.layers for shape in (ridge.heights, ridge.ghost) if shape is not None]
    used = np.flatnonzero(np.max(shapes, axis=0) > SEEN) if shapes else np.arange(len(ridges.centres))
    low, high = float(ridges.centres[used[0]]), float(ridges.centres[used[-1]])
    return [low - 2, high + 2]


def _ridge(ridge: Ridge, place: int, ridges: Ridges, scene: Scene) -> Iterator[Json]:
    """Outline of the first step, the ridge before it, and its foot: lower layers stand in front."""
    if ridge.ghost is not None:
        line = {"color": scene.colours.muted, "width": 1, "dash": "dot"}
        x, y = _outline(ridge, ridge.ghost, place, ridges)
        yield {"type": "scatter", "mode": "lines", "name": "first", "hoverinfo": "skip", "line": line, "x": x, "y": y}
    if ridge.heights is None:
        return
    x, y = _outline(ridge, ridge.heights, place, ridges)
    style = {"line": {"color": scene.colours.run, "width": 1.4}, "fill": "toself", "fillcolor": scene.colours.run_fill}
    text = [f"{plain(ridge.layer)}: {share(float(part), 1)} at {number(float(centre))}"
            for centre, part in zip(ridges.centres, ridge.heights, strict=True)]  # fmt: skip
    hover = {"text": [text[0], *text, text[-1]], "hovertemplate": "%{text}<extra></extra>", "hoveron": "points"}
    yield {"type": "scatter", "mode": "lines", "name": plain(ridge.layer), "x": x, "y": y} | style | hover


def _outline(ridge: Ridge, heights: NDArray[np.float64], place: int, ridges: Ridges) -> tuple[Json, Json]:
    """A layer's shape as a line, from its foot to its foot, as high as its ridge and ghost allow each other; the axis
    of layers points down."""
    x = np.concatenate([ridges.centres[:1], ridges.centres, ridges.centres[-1:]])
    tall = OVERLAP * heights / ridge.highest
    return typed(x), typed(place - np.concatenate([[0.0], tall, [0.0]]))


def _zeros(ridges: Ridges, scene: Scene) -> Iterator[Json]:
    """The share of zeros beside each layer, which have no place on the axis."""
    place = {"xref": "paper", "x": 1.01, "xanchor": "left"}
    small = {"font": {"size": 10, "color": scene.colours.muted}}
    yield note(scene.colours, "zeros", **place, yref="paper", y=1, yanchor="bottom") | small
    for index, ridge in enumerate(ridges.layers):
        if ridge.zeros is not None:
            yield (
                note(scene.colours, share(ridge.zeros, 1).removeprefix("under "), **place, y=index, yanchor="middle")
                | small
            )


def _limit_values(scene: Scene) -> Iterator[tuple[float, str]]:
    for key, label in scene.panel.thresholds:
        value = value_at(scene.column(key), scene.step)
        if value is not None and np.isfinite(value):
            yield value, label


def _limits(scene: Scene) -> Iterator[Json]:
    line = {"color": scene.colours.mark, "width": 1.3, "dash": "dash"}
    for value, _ in _limit_values(scene):
        yield {"type": "line", "line": line, "x0": value, "x1": value, "yref": "paper", "y0": 0, "y1": 1}


def _limit_labels(scene: Scene) -> Iterator[Json]:
    for value, label in _limit_values(scene):
        place = {"x": value, "xanchor": "left", "yref": "paper", "y": 1, "yanchor": "bottom"}
        yield note(scene.colours, label, **place) | {"font": {"size": 10, "color": scene.colours.mark}}


def _words(ridges: Ridges) -> str:
    said = f"Step {ridges.step:,}"
    if ridges.first is not None:
        said += f"; dotted: step {ridges.first:,}"
    if ridges.left_out:
        said += f"; {ridges.left_out} of {ridges.left_out + len(ridges.layers)} layers have no room here"
    missing = sum(ridge.heights is None for ridge in ridges.layers)
    return f"{said}; nothing but zeros or missing in {missing}" if missing else said
