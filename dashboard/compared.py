"""What a curve is compared with: thresholds and bands that the run logs, and sentences about both."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cockpit.dashboard.scene import Scene, drawable, value_at
from cockpit.dashboard.theme import Json, note, number, plain, typed, up_to
from cockpit.drawing.words import share
from cockpit.store import Column

LABEL, LINE = 0.3, 0.12  # of a small plot: the width of a line's words, and their height
SAMPLES = 16  # places along the words at which curves are looked at


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


def place_beside(value: float, columns: Sequence[Column], *, log: bool) -> tuple[str, str]:
    """Where a line's words cover no curve: at which of its ends, and which side of theirs hangs on it.

    Args:
        value: Where the line stands.
        columns: The curves.
        log: Whether their axis is logarithmic.

    Returns:
        ``"end"`` or ``"start"``, and ``"top"`` or ``"bottom"``: what is free; if nothing is, the end, on the side with
        more room.
    """
    curves = [curve for column in columns if len((curve := _shape(column, log=log))[0])]
    if not curves or (log and value <= 0):
        return "end", "bottom"
    line = math.log10(value) if log else value
    scale = max(abs(line), *(float(np.abs(y).max()) for _, y in curves)) or 1.0  # differences of huge values overflow
    line, curves = line / scale, [(x, y / scale) for x, y in curves]
    first, last = min(x[0] for x, _ in curves), max(x[-1] for x, _ in curves)
    low, high = min(y.min() for _, y in curves), max(y.max() for _, y in curves)
    sides = ("top", "bottom") if line > (low + high) / 2 else ("bottom", "top")
    reach = LINE * ((max(high, line) - min(low, line)) or 1.0)
    for side, end in itertools.product(sides, ("end", "start")):
        left = last - LABEL * (last - first) if end == "end" else first
        below, above = (line, line + reach) if side == "bottom" else (line - reach, line)
        x = np.linspace(left, left + LABEL * (last - first), SAMPLES)
        heights = [np.interp(x, *curve, np.nan, np.nan) for curve in curves]
        if not any(bool(((y >= below) & (y <= above)).any()) for y in heights):
            return end, side
    return "end", sides[0]


def _shape(column: Column, *, log: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps of a curve and its heights there, where it has a place on its axis."""
    values = drawable(column)
    known = np.isfinite(values) & ((values > 0) | (not log))
    heights = np.log10(values[known]) if log else values[known]
    return column.steps[known].astype(np.float64), heights


def compared_columns(scene: Scene) -> list[Column]:
    """All that stands beside the curve, which its axes have to have room for."""
    keys = [*(scene.panel.band or ()), *(key for key, _ in scene.panel.thresholds)]
    return [column for key in keys if (column := scene.column(key)) is not None]


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
