"""What is drawn of one layer over time: its histograms, and its curves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cockpit.dashboard.lines import Curve, Strip, strips_figure
from cockpit.dashboard.marks import EVENTS_HEIGHT, beginning, ending, event_axis, event_traces, step_marks, time_axis
from cockpit.dashboard.scene import Scene, drawable
from cockpit.dashboard.theme import ROW_HEIGHT, Drawing, Json, Palette, axis, base_layout, shorten, typed
from cockpit.drawing.cells import edges_around
from cockpit.drawing.quantiles import on_one_axis, quantiles
from cockpit.store import Column

LEAST = 0.005  # of the fullest bin: bins at the ends that never hold so much are left out
STRIPS = 5  # of one figure of curves, and the height of each in pixels
STRIP = 92
ZEROS_HEIGHT = 0.28  # of a histogram over time, with what stands below it
QUANTILES = {0.1: "dot", 0.5: "solid", 0.9: "dot"}
TOP, BOTTOM = 10, 40


def _bare(colours: Palette) -> Json:
    hidden = {"visible": False, "fixedrange": True}
    return {"data": [], "layout": base_layout(colours) | {"xaxis": hidden, "yaxis": hidden}}


def draw_history(column: Column, zeros: Column | None, scene: Scene, *, name: str) -> Drawing:
    """One layer's histograms over time: each column of colours is one histogram, over its own most frequent bin.

    Args:
        column: Histograms of one layer: counts ``[n, 1, bins]``.
        zeros: The share of elements that have no place on the axis, drawn below; ``None``: there is none.
        scene: Gives step, axis of time, colours, and what is said where there are none.
        name: Of what is binned.
    """
    kept = ~column.missing[:, 0]
    colours = scene.colours
    if not kept.any() or column.edges is None:
        return Drawing(_bare(colours), empty=scene.clock, height=int(1.6 * ROW_HEIGHT))
    steps, counts = column.steps[kept], column.values[kept, 0].astype(np.int64)
    x = scene.timeline.placed(steps, column.times[kept])
    edges = column.edges if column.edges.ndim == 1 else column.edges[kept, 0]
    shade, bounds = on_one_axis(counts, edges, LEAST)
    span = int(steps[0]), int(steps[-1])
    reach = beginning(x, scene.events, scene.timeline), ending(scene.step, span, scene.timeline)
    layout = _history_layout(name, reach, with_zeros=zeros is not None, scene=scene)
    columns = _columns_of(edges_around(x, x, scene.timeline.logarithmic), bounds, shade, colours)
    traces = [columns, *_quantile_lines(x, counts, edges, colours), *([] if zeros is None else [_zeros(zeros, scene)])]
    traces += event_traces(scene.events, "y3", span[1], colours, scene.timeline)
    strips = [layout[each]["domain"] for each in ("yaxis", "yaxis2", "yaxis3") if each in layout]
    layout["shapes"] = list(step_marks(scene.step, span, strips, colours, scene.timeline))
    words = "Lines: the median, and dotted the tenth and the ninetieth of a hundred."
    words += f" Ends that never hold {LEAST:.1%} of the fullest bin are left out.".replace("%", " %")
    return Drawing({"data": traces, "layout": layout}, words=words, height=int(1.6 * ROW_HEIGHT))


def _history_layout(name: str, reach: tuple[float, float], *, with_zeros: bool, scene: Scene) -> Json:
    """Histograms above, the share of zeros below them, events at the foot."""
    colours, foot = scene.colours, EVENTS_HEIGHT
    floor = ZEROS_HEIGHT if with_zeros else foot
    layout = base_layout(colours, top=TOP, bottom=BOTTOM, left=56, right=10)
    free = {"anchor": "free", "position": 0, "showgrid": False}
    layout["xaxis"] = time_axis(scene.timeline, colours, *reach) | free
    layout["yaxis"] = axis(colours, name, domain=[floor, 1], showgrid=False)
    layout["yaxis3"] = event_axis()
    layout["meta"] = {"cursor": ["xy", "xy2"] if with_zeros else ["xy"]}
    if with_zeros:
        place = {"domain": [foot, floor - 0.07], "range": [0, 1]}
        ticks = {"tickvals": [0, 0.5, 1], "ticktext": ["0 %", "50 %", "100 %"], "tickfont": {"size": 10}}
        layout["yaxis2"] = axis(colours, "zeros", **ticks, **place)
    return layout


def _columns_of(
    edges: NDArray[np.float64], bounds: NDArray[np.float64], shade: NDArray[np.float64], colours: Palette
) -> Json:
    return {
        "type": "heatmap",
        "x": typed(edges),
        "y": typed(bounds),
        "z": typed(shade.T.astype(np.float32)),
        "zmin": 0,
        "zmax": 1,
        "showscale": False,
        "hoverongaps": False,
        "colorscale": [[0, colours.paper], [1, colours.run]],
        "hovertemplate": "%{x}, about %{y:.3~g}: %{z:.0%} of the fullest bin<extra></extra>",
    }


def _quantile_lines(
    x: NDArray[np.int64] | NDArray[np.float64],
    counts: NDArray[np.int64],
    edges: NDArray[np.float64],
    colours: Palette,
) -> list[Json]:
    found = quantiles(counts, edges, tuple(QUANTILES))
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": typed(x),
            "y": typed(found[:, place]),
            "line": {"color": colours.ink, "width": 1.2, "dash": dash},
            "hovertemplate": f"{share:.0%} below %{{y:.4~g}}<extra></extra>",
        }
        for place, (share, dash) in enumerate(QUANTILES.items())
    ]


def _zeros(zeros: Column, scene: Scene) -> Json:
    return {
        "type": "scatter",
        "mode": "lines",
        "yaxis": "y2",
        "x": typed(scene.timeline.of(zeros)),
        "y": typed(drawable(zeros)),
        "line": {"color": scene.colours.run, "width": 1.6},
        "hovertemplate": "%{y:.1%} are zero<extra></extra>",
    }


def draw_curves(groups: Mapping[str, Mapping[str, Column]], log: Mapping[str, bool], scene: Scene) -> list[Drawing]:
    """Layer-wise numbers of one layer over time, a strip for each, in figures of :data:`STRIPS` each; at least one.

    Args:
        groups: By log key, the curves by what they are of: ``{"grad_norm": {"weight": …, "bias": …}}``, as scalars.
        log: Which keys stand on a logarithmic axis.
        scene: Gives step, axis of time, colours, and what is said where there are none.
    """
    strips = [
        Strip(
            shorten(key, 40),
            tuple(Curve(name if len(curves) > 1 else "", column) for name, column in curves.items()),
            log=log.get(key, False) and any(bool((column.values > 0).any()) for column in curves.values()),
            own=False,
        )
        for key, curves in groups.items()
    ]
    if not strips:
        return [Drawing(_bare(scene.colours), empty=scene.clock)]
    return [
        Drawing(strips_figure(some, scene), height=max(ROW_HEIGHT, STRIP * len(some)))
        for some in (strips[first : first + STRIPS] for first in range(0, len(strips), STRIPS))
    ]
