"""Normalised step sizes over the run: what share of the steps lay where in each stretch, and where they lie now."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cockpit.dashboard.lines import empty_figure
from cockpit.dashboard.marks import EVENTS_HEIGHT, beginning, ending, event_axis, event_traces, step_marks, time_axis
from cockpit.dashboard.scene import Scene
from cockpit.dashboard.theme import Drawing, Json, axis, base_layout, note, typed, up_to
from cockpit.drawing.positions import GRID, Steps, densities, fates_of, recent, sort, words_of
from cockpit.drawing.strip import EDGES, REACH, Strip, strip_of

WIDE = 0.86  # of the figure, for the strip; the rest is the margin with the density of the last steps
GAP = 0.02
LINES = (-1.0, 0.0, 1.0)  # where the step began, the valley's floor, as high as where it began


def draw_density(scene: Scene) -> Drawing:
    """The scene's one key over time in stretches; beside it the density of the last tenth up to the selected step."""
    key = scene.keys[0]
    column = scene.column(key)
    if column is None:
        return Drawing(empty_figure(scene), empty=scene.clock)
    fates = fates_of(column, scene.columns)
    places = scene.timeline.of(column)
    strip = strip_of(column, fates, places, scene.timeline.logarithmic)
    past = up_to(column, scene.step)
    gone = fates[: len(past.steps)]
    everything, last = sort(past, gone), sort(past, gone, recent(gone))
    span = int(column.steps[0]), int(column.steps[-1])
    reach = beginning(places, scene.events, scene.timeline), ending(scene.step, span, scene.timeline)
    layout = _layout(scene, reach)
    edges = [(EVENTS_HEIGHT, 1.0), (0.0, EVENTS_HEIGHT)]
    layout["shapes"] += step_marks(scene.step, span, edges, scene.colours, scene.timeline)
    traces = [_shares(strip, scene), *_middles(strip, scene), *_margin(everything, last, scene)]
    traces += event_traces(scene.events, "y3", span[1], scene.colours, scene.timeline)
    words = f"{words_of(everything, scene.counted, REACH)} {words_of(last, 'Last {}', REACH)}"
    return Drawing({"data": traces, "layout": layout}, words=words)


def _shares(strip: Strip, scene: Scene) -> Json:
    """Shares as colours; rows without a step show the paper."""
    shade = np.where(strip.shares > 0, strip.shares, np.nan)
    colours = scene.colours
    return {
        "type": "heatmap",
        "x": typed(strip.edges),
        "y": typed(EDGES),
        "z": typed(shade.astype(np.float32)),
        "zmin": 0,
        "zmax": max(float(np.nanmax(shade, initial=0.0)), 0.2),
        "colorscale": [[0, colours.run_fill], [1, colours.run]],
        "showscale": False,
        "hoverinfo": "skip",
    }


def _middles(strip: Strip, scene: Scene) -> Iterator[Json]:
    """Median and quartiles, as far as they lie on the axis."""
    names = ("lower quartile", "median", "upper quartile")
    for name, values in zip(names, strip.quartiles, strict=True):
        middle = name == "median"
        line = {"color": scene.colours.ink, "width": 2 if middle else 1, "dash": "solid" if middle else "dot"}
        hover = {"hovertemplate": f"{name} %{{y:.2f}}<extra></extra>"} if middle else {"hoverinfo": "skip"}
        place = {"x": typed(strip.places), "y": typed(values), "mode": "lines+markers" if len(values) == 1 else "lines"}
        yield {"type": "scatter", "name": name, "line": line} | place | hover


def _margin(everything: Steps, last: Steps, scene: Scene) -> Iterator[Json]:
    """The density of the last steps lying on its side, or their points where they are few."""
    curve = densities(everything, last).get("last")
    style = {"xaxis": "x2", "yaxis": "y2", "hoverinfo": "skip", "name": "now", "type": "scatter"}
    if curve is not None:
        line = {"color": scene.colours.run, "width": 1.5}
        fill = {"fill": "tozerox", "fillcolor": scene.colours.run_fill}
        yield style | {"mode": "lines", "x": typed(curve), "y": typed(GRID), "line": line} | fill
    elif len(last.minima):
        marker = {"color": scene.colours.run, "size": 6, "symbol": "line-ew-open"}
        yield style | {
            "mode": "markers",
            "x": typed(np.full(len(last.minima), 0.3)),
            "y": typed(last.minima),
            "marker": marker,
        }


def _layout(scene: Scene, reach: tuple[float, float]) -> Json:
    layout = base_layout(scene.colours, top=14, left=46)
    free = {"anchor": "free", "position": 0, "showgrid": False}
    domain = [EVENTS_HEIGHT, 1.0]
    layout["xaxis"] = time_axis(scene.timeline, scene.colours, *reach) | free | {"domain": [0, WIDE]}
    layout["xaxis2"] = axis(
        scene.colours, "", domain=[WIDE + GAP, 1], range=[0, 1.1], visible=False, fixedrange=True, anchor="y2"
    )
    settings = {"range": [-REACH, REACH], "dtick": 0.5, "domain": domain, "showgrid": False, "fixedrange": True}
    layout["yaxis"] = axis(scene.colours, scene.panel.ylabel or scene.keys[0], **settings, tickfont={"size": 10})
    layout["yaxis2"] = axis(scene.colours, "", **settings, visible=False, anchor="x2")
    layout["yaxis3"] = event_axis()
    layout["meta"] = {"cursor": ["xy"]}
    line = {"color": scene.colours.muted, "width": 1, "dash": "dash"}
    layout["shapes"] = [
        {"type": "line", "line": line, "xref": "paper", "x0": 0, "x1": 1, "y0": height, "y1": height}
        for height in LINES
    ]
    small = {"font": {"size": 10, "color": scene.colours.ink}, "bgcolor": scene.colours.veil}
    left = {"xref": "paper", "x": 0.005, "xanchor": "left"}
    layout["annotations"] = [
        note(scene.colours, "past the minimum", **left, y=0.5, yanchor="middle") | small,
        note(scene.colours, "too short", **left, y=-0.5, yanchor="middle") | small,
        note(scene.colours, "now", xref="paper", x=1, xanchor="right", yref="paper", y=1, yanchor="bottom") | small,
    ]
    return layout
