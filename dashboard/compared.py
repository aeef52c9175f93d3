"""What a curve is compared with: thresholds and bands that the run logs, and sentences about both."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cockpit.dashboard.scene import Scene, drawable, value_at
from cockpit.dashboard.theme import Json, note, number, plain, typed, up_to
from cockpit.drawing.words import share


def band_traces(scene: Scene) -> Iterator[Json]:
    """The area between the band's edges, as two lines of no width; where one of them is missing there is a gap."""
    columns = [scene.column(key) for key in scene.panel.band or ()]
    lower, upper = columns if len(columns) == 2 else (None, None)
    if lower is None or upper is None:
        return
    steps = np.union1d(lower.steps, upper.steps)  # each is thinned by its own extremes
    low, high = (np.interp(steps, column.steps, drawable(column), np.nan, np.nan) for column in (lower, upper))
    places = scene.timeline.placed(steps, np.interp(steps, lower.steps, lower.times))
    known = np.isfinite(low) & np.isfinite(high) & ((low > 0) | (not scene.log))
    for start, end in _stretches(known):
        x, bottom, top = (values[start:end] for values in (places, low, high))
        outline = {"x": typed(np.concatenate([x, x[::-1]])), "y": typed(np.concatenate([top, bottom[::-1]]))}
        style = {"mode": "lines", "line": {"width": 0}, "fill": "toself", "fillcolor": scene.colours.run_fill}
        yield {"type": "scatter", "name": "band", "hoverinfo": "skip"} | outline | style


def _stretches(known: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Begin and end of each run of at least two that are known."""
    padded = np.concatenate([[False], known, [False]]).astype(np.int8)
    turns = np.flatnonzero(np.diff(padded))
    return [(int(start), int(end)) for start, end in zip(turns[::2], turns[1::2], strict=True) if end - start > 1]


def threshold_traces(scene: Scene) -> Iterator[Json]:
    """A dashed line for each threshold that has values; it goes on over gaps: a threshold holds until it changes."""
    for key, label in scene.panel.thresholds:
        column = scene.column(key)
        if column is None:
            continue
        values = drawable(column)
        known = np.isfinite(values) & ((values > 0) | (not scene.log))
        if known.any():
            line = {"color": scene.colours.muted, "width": 1.3, "dash": "dash", "shape": "hv"}
            x = scene.timeline.of(column)[known]
            hover = {"name": plain(label), "hovertemplate": f"{plain(label)} %{{y:.4~g}}<extra></extra>"}
            dash = {"symbol": "line-ew", "size": 14, "line": {"color": scene.colours.muted, "width": 1.3}}
            look = {"mode": "lines", "line": line} if len(x) > 1 else {"mode": "markers", "marker": dash}
            yield {"type": "scatter", "x": typed(x), "y": typed(values[known])} | look | hover


def threshold_labels(scene: Scene) -> Iterator[Json]:
    """What the dashed lines are, at their right ends."""
    for key, label in scene.panel.thresholds:
        column = scene.column(key)
        values = drawable(column) if column is not None else np.zeros(0)
        values = values[np.isfinite(values)]
        if len(values) and (values[-1] > 0 or not scene.log):
            height = math.log10(values[-1]) if scene.log else float(values[-1])
            place = {"xref": "paper", "x": 1, "xanchor": "right", "y": height, "yanchor": "bottom"}
            yield note(scene.colours, label, **place) | {"font": {"size": 10, "color": scene.colours.muted}}


def compared_values(scene: Scene) -> list[NDArray[np.float64]]:
    """All that stands beside the curve, which its axis has to have room for."""
    keys = [*(scene.panel.band or ()), *(key for key, _ in scene.panel.thresholds)]
    return [drawable(column) for key in keys if (column := scene.column(key)) is not None]


def comparisons(scene: Scene) -> Iterator[str]:
    """The caption, and the share of steps at which something was so; no sentence where a number is missing."""
    if scene.panel.caption and scene.panel.thresholds:
        value, threshold = (
            value_at(scene.column(key), scene.step) for key in (scene.keys[0], scene.panel.thresholds[0][0])
        )
        if value is not None and threshold is not None and math.isfinite(value) and value > 0:
            yield scene.panel.caption.replace("{}", number(float(f"{threshold / value:.2g}")))
    for key, words in scene.panel.shares:
        column = scene.column(key)
        flags = drawable(up_to(column, scene.step)) if column is not None else np.zeros(0)
        flags = flags[np.isfinite(flags)]
        if len(flags):
            yield f"{share(float((flags != 0).sum()), len(flags))} {words}"
