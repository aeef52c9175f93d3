"""One scalar series as plotly traces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cockpit.dashboard.scene import STEPS, drawable, row_at
from cockpit.dashboard.theme import Json, Palette, number, plain, shorten, typed
from cockpit.drawing.columns import broken, lone
from cockpit.drawing.smoothing import envelope, is_noisy, moving_average, stands_still
from cockpit.drawing.timeline import Timeline
from cockpit.store import Column

STRETCHES = 200  # of a curve with far more points, each drawn as its extremes


def curve_traces(
    column: Column,
    dash: str,
    *,
    log: bool,
    step: int | None,
    colours: Palette,
    timeline: Timeline = STEPS,
    smooth: float | None = None,
    error: Column | None = None,
) -> Iterator[Json]:
    """The curve (faint, behind its average, where it is noisy) and the points a line cannot show.

    Args:
        column: At least one scalar point.
        dash: Plotly's name of the line's dash.
        log: Whether the value axis is logarithmic, which decides what is averaged.
        step: The selected step, whose value gets a dot; ``None`` for none.
        colours: The colour scheme.
        timeline: What the horizontal axis shows.
        smooth: Weight of the past in the average, 0 for none; ``None``: as suits the curve, if it is noisy.
        error: How far the values may be off, drawn as bars.
    """
    values, x = drawable(column), timeline.of(column)
    name = plain(shorten(column.key, 40)).replace("%{", "% {")  # plotly would look up what stands in %{…}
    curve: Json = {"type": "scatter", "mode": "lines", "name": name, "x": typed(x), "y": typed(values)}
    averaged = is_noisy(values, log) if smooth is None else smooth > 0 and not stands_still(values)
    dense = averaged and len(values) >= 2 * STRETCHES
    if dense:
        yield _range(x, values, log, colours) | {"name": name}
    thin = {"color": colours.run_ghost if averaged else colours.run, "width": 1 if averaged else 1.6, "dash": dash}
    shown = curve | {"line": thin, "hovertemplate": f"{name} %{{y:.4~g}}<extra></extra>"}
    if error is not None:
        shown["error_y"] = _bars(column, error, colours)
    yield shown | ({"opacity": 0} if dense else {})  # it still tells its values under the pointer
    if averaged:
        thick = {"color": colours.run, "width": 2, "dash": dash}
        yield curve | {"y": typed(moving_average(values, log, smooth)), "line": thick, "hoverinfo": "skip"}
    alone = lone(values)
    if alone.any():
        yield _dots(x, alone, values, {"color": colours.run, "size": 4}) | {"name": name}
    crosses = broken(column)
    if crosses.any():
        yield _broken(column, x, crosses, values, colours) | {"name": name}
    row = row_at(column, step)
    if step is not None and row is not None and np.isfinite(values[row]):
        selected = np.arange(len(values)) == row
        yield _dots(x, selected, values, {"color": colours.mark, "size": 7}) | {"name": name}


def _range(x: NDArray[Any], values: NDArray[np.float64], log: bool, colours: Palette) -> Json:
    """The area between the least and the largest value of each stretch: of many points a line would be a blot."""
    if log:
        values = np.where(values > 0, values, np.nan)
    middles, extremes = envelope(values, STRETCHES)
    known = np.isfinite(extremes).all(0)
    places, (least, most) = x[middles[known]], extremes[:, known]
    outline = {"x": typed(np.concatenate([places, places[::-1]])), "y": typed(np.concatenate([most, least[::-1]]))}
    style = {"mode": "lines", "line": {"width": 0}, "fill": "toself", "fillcolor": colours.run_fill}
    return {"type": "scatter", "hoverinfo": "skip"} | outline | style


def _bars(column: Column, error: Column, colours: Palette) -> Json:
    """Error bars; none where the error is missing."""
    by_step = dict(zip(error.steps.tolist(), drawable(error).tolist(), strict=True))
    lengths = np.array([by_step.get(step, np.nan) for step in column.steps.tolist()])
    style = {"color": colours.run_ghost, "thickness": 1, "width": 0}
    return {"type": "data", "array": typed(np.nan_to_num(lengths, nan=0.0))} | style


def _dots(x: NDArray[Any], which: NDArray[np.bool_], heights: NDArray[np.float64], marker: Json) -> Json:
    place = {"x": typed(x[which]), "y": typed(heights[which])}
    return {"type": "scatter", "mode": "markers", "marker": marker, "hoverinfo": "skip"} | place


def _broken(
    column: Column, x: NDArray[Any], which: NDArray[np.bool_], values: NDArray[np.float64], colours: Palette
) -> Json:
    """Crosses at the height of the curve's maximum for NaN and infinities that were really logged."""
    finite = values[np.isfinite(values)]
    ceiling = np.full(len(values), finite.max() if len(finite) else 1.0)
    cross = {"color": colours.alarm, "size": 8, "symbol": "x-thin-open", "line": {"width": 2}}
    text = [number(value) for value in column.values[which].tolist()]
    return _dots(x, which, ceiling, cross) | {"text": text, "hovertemplate": "%{text}<extra></extra>"}
