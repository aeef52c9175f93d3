"""A layer-wise number over the run as colours: layers in the model's order from the top, steps from left to right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cockpit.dashboard.lines import empty_figure
from cockpit.dashboard.marks import EVENTS_HEIGHT, event_axis, event_traces, step_marks, time_axis
from cockpit.dashboard.scene import Scene
from cockpit.dashboard.theme import ROW_HEIGHT, SCALE, Drawing, Json, axis, base_layout, number, plain, typed
from cockpit.drawing.cells import Cells, cells_of, short_names

NAME = 18  # characters of a layer's name
MOST_NAMES = 14  # that have room beside each other
ROW = 13  # pixels that a layer needs to be named


def draw_heatmap(scene: Scene) -> Drawing:
    """The layers of the scene's one key; its network-wise value is what the shared pointer tells."""
    column = scene.column(scene.keys[0])
    if column is None:
        return Drawing(empty_figure(scene), empty=scene.clock)
    cells = cells_of(column, scene.timeline.of(column), scene.log, scene.timeline.logarithmic)
    layout = base_layout(scene.colours, top=6, left=8)
    span = int(column.steps[0]), int(column.steps[-1])
    edges = [(EVENTS_HEIGHT, 1.0), (0.0, EVENTS_HEIGHT)]
    layout["xaxis"] = time_axis(scene) | {"anchor": "free", "position": 0, "showgrid": False}
    layout["yaxis"] = _layer_axis(cells, scene) | {"domain": [EVENTS_HEIGHT, 1]}
    layout["yaxis2"] = event_axis()
    layout["shapes"] = list(step_marks(scene.step, span, edges, scene.colours, scene.timeline))
    layout["meta"] = {"cursor": ["xy"]}
    traces = [_colours(cells, scene), _pointer(cells, scene)]
    traces += event_traces(scene.events, "y2", span[1], scene.colours, scene.timeline)
    height = max(ROW_HEIGHT, min(len(cells.layers), MOST_NAMES) * ROW + 60)
    return Drawing({"data": traces, "layout": layout}, words=_words(cells, scene), height=height)


def _limits(cells: Cells, scene: Scene) -> tuple[float, float]:
    """Ends of the colours: the panel's own, or those of the values."""
    if scene.panel.limits is not None:
        return scene.panel.limits
    known = cells.values[np.isfinite(cells.values)]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)


def _colours(cells: Cells, scene: Scene) -> Json:
    low, high = _limits(cells, scene)
    shade, ends = (np.log10(cells.values), (np.log10(low), np.log10(high))) if scene.log and low > 0 else (
        cells.values, (low, high)
    )  # fmt: skip
    return {
        "type": "heatmap",
        "x": typed(cells.edges),
        "y": _rows(cells),
        "z": typed(shade.astype(np.float32)),
        "zmin": ends[0],
        "zmax": ends[1],
        "customdata": typed(cells.values.astype(np.float32)),
        "hovertemplate": "%{y}<br>%{x}: %{customdata:.3~g}<extra></extra>",
        "hoverongaps": False,
        "colorscale": [list(stop) for stop in SCALE],
        "colorbar": _legend(ends, scene),
    }


def _rows(cells: Cells) -> list[str]:
    """Names of the rows."""
    return [plain(name) for name in cells.layers]


def _legend(ends: tuple[float, float], scene: Scene) -> Json:
    font = {"size": 10, "color": scene.colours.muted}
    powers = range(int(np.ceil(ends[0])), int(np.floor(ends[1])) + 1)
    ticks: Json = (
        {"tickvals": list(powers), "ticktext": [f"10<sup>{power}</sup>" for power in powers]}
        if scene.log
        else {"nticks": 5}
    )
    title = {"text": plain(scene.panel.ylabel or scene.keys[0]), "side": "right", "font": font}
    place = {"y": EVENTS_HEIGHT, "yanchor": "bottom", "len": 1 - EVENTS_HEIGHT, "ypad": 0}
    return place | {"thickness": 9, "outlinewidth": 0, "xpad": 6, "tickfont": font, "title": title, **ticks}


def _layer_axis(cells: Cells, scene: Scene) -> Json:
    """From the first layer above to the last; as many names as have room."""
    rows = _rows(cells)
    short = dict(zip(rows, map(plain, short_names(cells.layers, NAME)), strict=True))
    settings = {"type": "category", "categoryorder": "array", "categoryarray": rows, "labelalias": short}
    reach = {"range": [len(rows) - 0.5, -0.5], "fixedrange": True, "nticks": MOST_NAMES, "tickfont": {"size": 10}}
    return axis(scene.colours, "layer", **settings, **reach, automargin=True, showgrid=False)


def _pointer(cells: Cells, scene: Scene) -> Json:
    """An unseen line, which the shared pointer finds at every step: it tells the median of the layers."""
    medians = _medians(cells.values)
    middles = scene.timeline.of(scene.columns[scene.keys[0]])
    height = [_rows(cells)[len(cells.layers) // 2]] * len(cells.steps)
    text = [f"median of the layers {number(value)}" if value == value else "missing" for value in medians.tolist()]
    line = {"mode": "lines", "opacity": 0, "text": text, "hovertemplate": "%{text}<extra></extra>"}
    return {"type": "scatter", "name": "median", "x": typed(middles), "y": height} | line


def _medians(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each column; NaN where all of it is missing."""
    medians = np.full(values.shape[1], np.nan)
    known = np.isfinite(values).any(0)
    medians[known] = np.nanmedian(values[:, known], 0)
    return medians


def _words(cells: Cells, scene: Scene) -> str:
    """Which layers lie furthest out at the selected step."""
    before = cells.steps <= (cells.steps[-1] if scene.step is None else scene.step)
    if not before.any():
        return ""
    place = int(np.count_nonzero(before)) - 1
    values = cells.values[:, place]
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return f"Step {int(cells.steps[place]):,}: missing in all layers"
    least, most = known[values[known].argmin()], known[values[known].argmax()]
    said = f"Step {int(cells.steps[place]):,}: {number(values[least])} in {cells.layers[least]}"
    return said if least == most else f"{said} to {number(values[most])} in {cells.layers[most]}"
