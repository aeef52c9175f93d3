"""One scalar series as plotly traces."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cockpit.dashboard.scene import drawable, row_at
from cockpit.dashboard.theme import Json, Palette, number, plain, shorten, typed
from cockpit.drawing.columns import broken, lone
from cockpit.drawing.smoothing import is_noisy, moving_average
from cockpit.store import Column


def curve_traces(column: Column, dash: str, *, log: bool, step: int | None, colours: Palette) -> Iterator[Json]:
    """The curve (faint, behind its average, where it is noisy) and the points a line cannot show.

    Args:
        column: At least one scalar point.
        dash: Plotly's name of the line's dash.
        log: Whether the value axis is logarithmic, which decides what is averaged.
        step: The selected step, whose value gets a dot; ``None`` for none.
        colours: The colour scheme.
    """
    values = drawable(column)
    name = plain(shorten(column.key, 40)).replace("%{", "% {")  # plotly would look up what stands in %{…}
    curve: Json = {"type": "scatter", "mode": "lines", "name": name, "x": typed(column.steps), "y": typed(values)}
    noisy = is_noisy(values, log)
    thin = {"color": colours.run_ghost if noisy else colours.run, "width": 1 if noisy else 1.6, "dash": dash}
    yield curve | {"line": thin, "hovertemplate": f"{name} %{{y:.4~g}}<extra></extra>"}
    if noisy:
        thick = {"color": colours.run, "width": 2, "dash": dash}
        yield curve | {"y": typed(moving_average(values, log)), "line": thick, "hoverinfo": "skip"}
    alone = lone(values)
    if alone.any():
        yield _dots(column, alone, values, {"color": colours.run, "size": 4}) | {"name": name}
    crosses = broken(column)
    if crosses.any():
        yield _broken(column, crosses, values, colours) | {"name": name}
    row = row_at(column, step)
    if step is not None and row is not None and np.isfinite(values[row]):
        selected = np.arange(len(values)) == row
        yield _dots(column, selected, values, {"color": colours.mark, "size": 7}) | {"name": name}


def _dots(column: Column, which: NDArray[np.bool_], heights: NDArray[np.float64], marker: Json) -> Json:
    place = {"x": typed(column.steps[which]), "y": typed(heights[which])}
    return {"type": "scatter", "mode": "markers", "marker": marker, "hoverinfo": "skip"} | place


def _broken(column: Column, which: NDArray[np.bool_], values: NDArray[np.float64], colours: Palette) -> Json:
    """Crosses at the height of the curve's maximum for NaN and infinities that were really logged."""
    finite = values[np.isfinite(values)]
    ceiling = np.full(len(values), finite.max() if len(finite) else 1.0)
    cross = {"color": colours.alarm, "size": 8, "symbol": "x-thin-open", "line": {"width": 2}}
    text = [number(value) for value in column.values[which].tolist()]
    return _dots(column, which, ceiling, cross) | {"text": text, "hovertemplate": "%{text}<extra></extra>"}
