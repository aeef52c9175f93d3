"""A layer-wise number over the run as colours: layers in the model's order from the top, time from left to right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cockpit.dashboard.lines import empty_figure
from cockpit.dashboard.marks import EVENTS_HEIGHT, beginning, ending, event_axis, event_traces, step_marks, time_axis
from cockpit.dashboard.scene import Scene
from cockpit.dashboard.theme import ROW_HEIGHT, SCALE, Drawing, Json, axis, base_layout, number, plain, shorten, typed
from cockpit.drawing.cells import AT, Cells, cells_of, short_names
from cockpit.drawing.columns import row_at
from cockpit.store import Column

NAME = 18  # characters of a layer's name
MOST_NAMES = 14  # that have room beside each other
ROW = 13  # pixels that a layer needs to be named
TITLE = 40  # characters of the legend's name
MOST_CROSSES = 200
FEW = 100  # cells: of more than these, the outermost hundredths share the colours at the ends


def draw_heatmap(scene: Scene, *, most_names: int = MOST_NAMES, row: int = ROW, name: int = NAME) -> Drawing:
    """The layers of the scene's one key, each cell a reading or what stands out most of a stretch of readings.

    Args:
        scene: What to draw. The reading at its step, which is told in words, is the key's companion :data:`AT`.
        most_names: How many rows are named.
        row: Pixels of each row that is.
        name: Characters that a name may take beside its row. Under the pointer it stands in full.
    """
    key = scene.keys[0]
    column = scene.column(key)
    if column is None:
        return Drawing(empty_figure(scene), empty=scene.clock)
    cells = cells_of(column, scene.timeline, scene.log)
    rows = _rows(cells)
    layout = base_layout(scene.colours, top=10, left=8)  # above, half of the legend's highest number
    span = int(column.steps[0]), int(column.steps[-1])
    edges = [(EVENTS_HEIGHT, 1.0), (0.0, EVENTS_HEIGHT)]
    begin = beginning(cells.begins, scene.events, scene.timeline)
    free = {"anchor": "free", "position": 0, "showgrid": False}
    layout["xaxis"] = time_axis(scene.timeline, scene.colours, begin, ending(scene.step, span, scene.timeline)) | free
    layout["yaxis"] = _layer_axis(rows, scene)
    layout["yaxis2"] = event_axis()
    layout["yaxis3"] = _name_axis(short_names(cells.layers, name), most_names, scene)
    layout["shapes"] = list(step_marks(scene.step, span, edges, scene.colours, scene.timeline))
    layout["meta"] = {"cursor": ["xy3"]}
    traces = [_colours(rows, cells, scene), *_broken(rows, cells, scene), _pointer(rows, cells, column, scene)]
    traces += event_traces(scene.events, "y2", span[1], scene.colours, scene.timeline)
    height = max(ROW_HEIGHT, min(len(cells.layers), most_names) * row + 60)
    return Drawing({"data": traces, "layout": layout}, words=_words(cells, scene), height=height)


def _rows(cells: Cells) -> list[str]:
    """Names of the rows, each but once."""
    seen: Counter[str] = Counter()
    rows = []
    for name in map(plain, cells.layers):
        seen[name] += 1
        rows.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return rows


def _colours(rows: list[str], cells: Cells, scene: Scene) -> Json:
    limits = scene.panel.limits
    log = scene.log and (limits is None or limits[0] > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        shade = np.log10(cells.values) if log else cells.values
    low, high = _ends(shade) if limits is None else tuple(np.log10(limits) if log else limits)
    return {
        "type": "heatmap",
        "x": typed(cells.edges),
        "y": rows,
        "z": typed(shade.astype(np.float32)),
        "zmin": float(low),
        "zmax": float(high),
        "customdata": typed(cells.values.astype(np.float32)),
        "hovertemplate": "%{y}<br>%{x}: %{customdata:.3~g}<extra></extra>",
        "hoverongaps": False,
        "colorscale": [list(stop) for stop in SCALE],
        "colorbar": _legend((float(low), float(high)), log, scene),
    }


def _ends(shade: NDArray[np.float64]) -> tuple[float, float]:
    """Ends of the colours: those of the values; of many, all but the outermost hundredths, which would bleach the rest.

    A single value stands at the lower one.
    """
    known = shade[np.isfinite(shade)]
    if not len(known):
        return 0.0, 1.0
    low, high = np.percentile(known, (1, 99)) if len(known) > FEW else (known.min(), known.max())
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1)


def _legend(ends: tuple[float, float], log: bool, scene: Scene) -> Json:
    font = {"size": 10, "color": scene.colours.muted}
    title = {"text": plain(shorten(scene.panel.ylabel or scene.keys[0], TITLE)), "side": "right", "font": font}
    place = {"y": EVENTS_HEIGHT, "yanchor": "bottom", "len": 1 - EVENTS_HEIGHT, "ypad": 0}
    look = {"thickness": 9, "outlinewidth": 0, "xpad": 6, "tickfont": font, "title": title}
    return place | look | (_powers(ends) if log else {"nticks": 5})


def _powers(ends: tuple[float, float]) -> Json:
    """Marks at powers of ten; where fewer than two lie between, at values."""
    powers = range(int(np.ceil(ends[0])), int(np.floor(ends[1])) + 1)
    if len(powers) > 1:
        return {"tickvals": list(powers), "ticktext": [f"10<sup>{power}</sup>" for power in powers]}
    places = np.linspace(*ends, 4).tolist()
    return {"tickvals": places, "ticktext": [number(float(f"{10**place:.2g}")) for place in places]}


def _broken(rows: list[str], cells: Cells, scene: Scene) -> list[Json]:
    """Cells with NaN or an infinity, over the colours; a cross tells where each row of them begins without colour."""
    if not cells.broken.any():
        return []
    alarm = scene.colours.alarm
    trace: Json = {
        "type": "heatmap",
        "x": typed(cells.edges),
        "y": rows,
        "z": typed(np.where(cells.broken, 1.0, np.nan).astype(np.float32)),
        "colorscale": [[0, alarm], [1, alarm]],
        "showscale": False,
        "hoverongaps": False,
        "hovertemplate": "%{y}<br>%{x}: NaN or infinite<extra></extra>",
    }
    begins = np.argwhere(cells.broken & ~np.pad(cells.broken, ((0, 0), (1, 0)))[:, :-1])
    row, column = begins[:: len(begins) // MOST_CROSSES + 1].T
    centres = (cells.edges[:-1] + cells.edges[1:]) / 2
    outlined = {"color": alarm, "size": 9, "symbol": "x", "line": {"color": scene.colours.paper, "width": 1}}
    whole = {"yaxis": "y3", "cliponaxis": False}  # also where the axis begins
    cross: Json = {"type": "scatter", "mode": "markers", "marker": outlined, "hoverinfo": "skip"} | whole
    return [trace, cross | {"x": typed(centres[column]), "y": typed(row)}]


def _layer_axis(rows: list[str], scene: Scene) -> Json:
    """From the first layer above to the last. What stands beside it would stand under the pointer too."""
    settings: Json = {"type": "category", "categoryorder": "array", "categoryarray": rows, "showticklabels": False}
    return axis(scene.colours, **settings, **_reach(rows), showgrid=False)


def _name_axis(names: Sequence[str], most_names: int, scene: Scene) -> Json:
    """The layers' names beside their rows: all of them, or at even distances as many as have room."""
    places = range(0, len(names), max(1, -(-len(names) // most_names)))
    ticks = {"tickvals": list(places), "ticktext": [plain(names[place]) for place in places], "tickfont": {"size": 10}}
    place = {"overlaying": "y", "side": "left", "anchor": "x", "automargin": True, "showgrid": False}
    return axis(scene.colours, "layer", **ticks, **place, **_reach(names))


def _reach(rows: Sequence[str]) -> Json:
    return {"range": [len(rows) - 0.5, -0.5], "fixedrange": True, "domain": [EVENTS_HEIGHT, 1]}


def _pointer(rows: list[str], cells: Cells, column: Column, scene: Scene) -> Json:
    """An unseen line, which the shared pointer finds at every step: it tells how far the layers reach."""
    height = np.full(len(column), len(rows) // 2)
    text = []
    for values, broken in zip(cells.values.T, cells.broken.T, strict=True):
        known = values[np.isfinite(values)]
        odd = "NaN or infinite in some" if broken.any() else ""
        least, most = (number(float(known.min())), number(float(known.max()))) if len(known) else ("", "")
        finite = f"{least} to {most}" if least != most else least
        text.append("; ".join(filter(None, (finite and f"layers {finite}", odd))) or "missing")
    line = {"mode": "lines", "opacity": 0, "text": text, "hovertemplate": "%{text}<extra></extra>"}
    place = {"x": typed(scene.timeline.of(column)), "y": typed(height), "yaxis": "y3"}
    return {"type": "scatter", "name": "layers"} | place | line


def _words(cells: Cells, scene: Scene) -> str:
    """Which layers lie furthest out at the selected step, and what no colour can show."""
    said = [_at_step(scene)]
    if cells.hidden:
        said.append(f"in {cells.hidden:,} cells values at or below 0, which have no colour on a logarithmic scale")
    broken = int(np.count_nonzero(cells.broken))
    if broken:
        said.append(f"NaN or infinite in {broken:,} cells, which are red and begin with a cross")
    return "; ".join(filter(None, said))


def _at_step(scene: Scene) -> str:
    column = scene.column(scene.keys[0] + AT)
    row = None if column is None else row_at(column, scene.step)
    if column is None or row is None:
        return ""
    step, values = f"Step {int(column.steps[row]):,}", column.values[row].astype(np.float64)
    known = np.flatnonzero(np.isfinite(values) & ~column.missing[row] & ((values > 0) | (not scene.log)))
    if not len(known):
        return f"{step}: missing in all layers" if column.missing[row].all() else f"{step}: no finite value"
    least, most = known[values[known].argmin()], known[values[known].argmax()]
    said = f"{step}: {number(values[least])} in {column.layers[least]}"
    return said if least == most else f"{said} to {number(values[most])} in {column.layers[most]}"
