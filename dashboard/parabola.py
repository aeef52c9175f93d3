"""Where steps end on the parabola they are measured on, as a density over all steps and over the last."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cockpit.dashboard.lines import empty_figure
from cockpit.dashboard.scene import Scene, row_at
from cockpit.dashboard.theme import Drawing, Json, Palette, axis, base_layout, note, number, typed, up_to
from cockpit.drawing.positions import GRID, REACH, Steps, densities, fates_of, recent, sort, words_of
from cockpit.store import Column

TOP = 1.75  # of the loss axis
PEAK = 1.25  # height of the higher density's peak
HEIGHT = 230


def draw_parabola(scene: Scene) -> Drawing:
    """Density of the scene's one key over ``x²``: start at -1, valley floor at 0, the start's height again at 1."""
    key = scene.keys[0]
    column = scene.column(key)
    if column is None:
        return Drawing(empty_figure(scene), empty=scene.clock)
    column = up_to(column, scene.step)
    fates = fates_of(column, scene.columns)
    everything, last = sort(column, fates), sort(column, fates, recent(fates))
    layout = _layout(scene.colours)
    layout["annotations"] = [*_labels(scene.colours), _reading(column, fates, scene)]
    traces = _densities(everything, last, scene.colours)
    traces += [*_valley(scene.colours), *_ball(column, fates, scene.colours)]
    words = f"{words_of(everything, scene.counted)} {words_of(last, 'Last {}')}"
    return Drawing({"data": traces, "layout": layout}, words=words, height=HEIGHT)


def _densities(everything: Steps, last: Steps, colours: Palette) -> list[Json]:
    """Both densities to one scale; where there are few steps, their points on the parabola instead."""
    curves = densities(everything, last)
    traces = []
    for name, steps, dash in (("all", everything, "solid"), ("last", last, "dash")):
        label = f"{name} {steps.total:,}"
        if name in curves:
            fill = {"fill": "tozeroy", "fillcolor": colours.run_fill} if name == "all" else {}
            line = {"color": colours.run if name == "all" else colours.ink, "width": 1.5, "dash": dash}
            place = {"x": typed(GRID), "y": typed(curves[name] * PEAK)}
            traces.append({"type": "scatter", "mode": "lines", "name": label, "line": line} | place | fill)
        elif len(steps.minima) and name == "all":
            place = {"x": typed(steps.minima), "y": typed(steps.minima**2)}
            marker = {"color": colours.run, "size": 7, "opacity": 0.6}
            traces.append({"type": "scatter", "mode": "markers", "name": label, "marker": marker} | place)
    return [trace | {"hoverinfo": "skip"} for trace in traces]


def _valley(colours: Palette) -> list[Json]:
    line = {"color": colours.muted, "width": 1.5}
    curve = {"x": typed(GRID), "y": typed(GRID**2), "mode": "lines", "line": line, "name": "parabola"}
    marker = {"color": colours.paper, "size": 7, "line": {"color": colours.muted, "width": 1.5}}
    points = {"x": [-1, 0, 1], "y": [1, 0, 1], "mode": "markers", "marker": marker, "name": "marks"}
    return [{"type": "scatter", "hoverinfo": "skip", "showlegend": False} | trace for trace in (curve, points)]


def _ball(column: Column, fates: NDArray[np.str_], colours: Palette) -> list[Json]:
    """The selected step itself, where it has a place on the parabola: at the upper edge where that is cut off."""
    if not len(fates) or fates[-1] != "minimum":
        return []
    value = float(column.values[-1])
    marker = {"color": colours.mark, "size": 11, "line": {"color": colours.paper, "width": 1.5}}
    hover = f"step {int(column.steps[-1]):,}: {number(value)}<extra></extra>"
    place = {"x": [value], "y": [min(value**2, TOP)], "mode": "markers", "marker": marker, "cliponaxis": False}
    return [{"type": "scatter", "name": "this step", "hovertemplate": hover, "showlegend": False} | place]


def _reading(column: Column, fates: NDArray[np.str_], scene: Scene) -> Json:
    """The selected step's value, above the plot."""
    place = {"xref": "paper", "x": 0, "xanchor": "left", "yref": "paper", "y": 1, "yanchor": "bottom"}
    row = row_at(column, None)
    if row is None:
        return note(scene.colours, f"{column.key}: nothing yet at this step", **place)
    fate = str(fates[row])
    shown = number(float(column.values[row])) if fate == "minimum" else fate
    return note(scene.colours, f"{column.key} at step {int(column.steps[row]):,}: {shown}", **place)


def _labels(colours: Palette) -> list[Json]:
    at_top = {"yref": "paper", "y": 0.98, "yanchor": "top"}
    return [
        note(colours, "too short", x=-0.5, **at_top),
        note(colours, "past the minimum", x=0.5, **at_top),
        note(colours, "start", x=-1.06, y=1, xanchor="right"),
        note(colours, "valley floor", x=0, y=-0.06, yanchor="top"),
        note(colours, "mirrored", x=1.06, y=1, xanchor="left"),
    ]


def _layout(colours: Palette) -> Json:
    layout = base_layout(colours, top=22, left=40)
    lines = [{"type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1} for x in (-1, 0, 1)]
    layout["shapes"] = [line | {"line": {"color": colours.grid, "width": 1}, "layer": "below"} for line in lines]
    layout["xaxis"] = axis(colours, "normalised step size", range=[-REACH, REACH], dtick=0.5, showgrid=False)
    title = {"range": [-0.3, TOP], "tickvals": [0, 1], "showgrid": False}
    layout["yaxis"] = axis(colours, "loss, start = 1", **title)
    place = {"x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"}
    return layout | {"showlegend": True, "legend": place | {"orientation": "h", "bgcolor": "rgba(0, 0, 0, 0)"}}
