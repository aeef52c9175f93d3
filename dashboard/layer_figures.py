"""What is drawn of layers over time: a quantity of all of them, and one layer's histograms and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cockpit.dashboard.lines import Curve, Strip, strips_figure
from cockpit.dashboard.marks import step_marks
from cockpit.dashboard.scene import Scene
from cockpit.dashboard.theme import (
    ROW_HEIGHT,
    SCALE,
    Drawing,
    Json,
    Palette,
    axis,
    base_layout,
    number,
    plain,
    shorten,
    typed,
)
from cockpit.drawing.quantiles import on_one_axis, quantiles
from cockpit.store import Column

LEAST = 0.005  # of the fullest bin: bins at the ends that never hold so much are left out
STRIPS = 5  # of one figure of curves, and the height of each in pixels
STRIP = 92
QUANTILES = {0.1: "dot", 0.5: "solid", 0.9: "dot"}
ROW = 20  # pixels of a layer in the map
TOP, BOTTOM = 10, 40


def draw_map(
    names: Sequence[str], steps: NDArray[np.int64], values: NDArray[np.float64], *, title: str, log: bool,
    step: int | None, colours: Palette,
) -> Drawing:  # fmt: skip
    """A quantity of all layers over steps, as colours: the first layer on top.

    Args:
        names: Of the rows.
        steps: Shape ``[n]``.
        values: NaN where missing. Shape ``[n, rows]``.
        title: Name of the quantity.
        log: Whether colours follow the logarithm.
        step: The selected step.
        colours: The colour scheme.
    """
    height = TOP + BOTTOM + max(120, ROW * len(names))
    if not np.isfinite(values).any():
        return Drawing(_bare(colours), empty=f"{title} has no value yet.", height=height)
    with np.errstate(divide="ignore", invalid="ignore"):
        shade = np.log10(np.where(values > 0, values, np.nan)) if log else np.where(np.isfinite(values), values, np.nan)
    low, high = _ends(shade)
    labels = [plain(shorten(name, 28)) for name in names]
    numbers = [[number(float(value)) for value in row] for row in values.T]
    trace = {
        "type": "heatmap",
        "x": typed(steps),
        "y": list(range(len(names))),
        "z": typed(shade.T.astype(np.float32)),
        "text": numbers,
        "hovertemplate": "step %{x:,}, %{customdata}: %{text}<extra></extra>",
        "customdata": [[label.replace("%{", "% {")] * len(steps) for label in labels],
        "hoverongaps": False,
        "zmin": low,
        "zmax": high,
        "colorscale": [list(stop) for stop in SCALE],
        "colorbar": _legend(shade, (low, high), log, title, colours),
    }
    layout = base_layout(colours, top=TOP, bottom=BOTTOM, left=8, right=8)
    layout["xaxis"] = axis(colours, "step", tickformat=",~d", nticks=6, tickangle=0, showgrid=False)
    layout["yaxis"] = axis(
        colours, "layer, the first on top", autorange="reversed", tickvals=list(range(len(names))), ticktext=labels,
        automargin=True, showgrid=False, tickfont={"size": 10},
    )  # fmt: skip
    layout["shapes"] = list(step_marks(step, (int(steps[0]), int(steps[-1])), [(0, 1)], colours))
    hidden = int(np.count_nonzero(values <= 0)) if log else 0
    words = f"{hidden} values at or below 0 have no colour on a logarithmic scale." if hidden else ""
    return Drawing({"data": [trace], "layout": layout}, words=words, height=height)


def _ends(shade: NDArray[np.float64]) -> tuple[float, float]:
    """Ends of the colours: all but the outermost hundredths, which would bleach the rest."""
    low, high = (float(end) for end in np.nanpercentile(shade, (1, 99)))
    return (low, high) if high > low else (low, low + 1)


def _legend(shade: NDArray[np.float64], ends: tuple[float, float], log: bool, title: str, colours: Palette) -> Json:
    """Four colours and their values; one, where there is but one value."""
    places = np.linspace(*ends, 4) if np.nanmin(shade) < np.nanmax(shade) else np.array(ends[:1])
    font = {"size": 10, "color": colours.muted}
    return {
        "tickvals": places.tolist(),
        "ticktext": [number(float(10**place if log else place)) for place in places],
        "tickfont": font,
        "thickness": 10,
        "outlinewidth": 0,
        "title": {"text": plain(shorten(title, 40)), "side": "right", "font": font},
    }


def _bare(colours: Palette) -> Json:
    hidden = {"visible": False, "fixedrange": True}
    return {"data": [], "layout": base_layout(colours) | {"xaxis": hidden, "yaxis": hidden}}


def draw_history(
    column: Column, zeros: Column | None, *, name: str, step: int | None, colours: Palette, promise: str
) -> Drawing:
    """One layer's histograms over steps: each column of colours is one histogram, over its own most frequent bin.

    Args:
        column: Histograms of one layer: counts ``[n, 1, bins]``.
        zeros: The share of elements that have no place on the axis, drawn below; ``None``: there is none.
        name: Of what is binned.
        step: The selected step.
        colours: The colour scheme.
        promise: What is said where there are none.
    """
    kept = ~column.missing[:, 0]
    if not kept.any() or column.edges is None:
        return Drawing(_bare(colours), empty=promise, height=int(1.6 * ROW_HEIGHT))
    steps, counts = column.steps[kept], column.values[kept, 0].astype(np.int64)
    edges = column.edges if column.edges.ndim == 1 else column.edges[kept, 0]
    shade, bounds = on_one_axis(counts, edges, LEAST)
    floor = 0.24 if zeros is not None else 0.0
    layout = base_layout(colours, top=TOP, bottom=BOTTOM, left=56, right=10)
    layout["xaxis"] = axis(colours, "step", tickformat=",~d", nticks=7, anchor="free", position=0, showgrid=False)
    layout["yaxis"] = axis(colours, name, domain=[floor, 1], showgrid=False)
    edge = [(floor, 1.0)]
    traces = [_columns_of(steps, bounds, shade, colours), *_quantile_lines(steps, counts, edges, colours)]
    if zeros is not None:
        layout["yaxis2"] = axis(colours, "zeros", domain=[0, floor - 0.07], range=[0, 1], tickformat=".0%", nticks=3)
        edge.append((0.0, floor - 0.07))
        traces.append(_zeros(zeros, colours))
    layout["shapes"] = list(step_marks(step, (int(steps[0]), int(steps[-1])), edge, colours))
    words = "Lines: the median, and dotted the tenth and the ninetieth of a hundred."
    words += f" Ends that never hold {LEAST:.1%} of the fullest bin are left out.".replace("%", " %")
    return Drawing({"data": traces, "layout": layout}, words=words, height=int(1.6 * ROW_HEIGHT))


def _columns_of(
    steps: NDArray[np.int64], bounds: NDArray[np.float64], shade: NDArray[np.float64], colours: Palette
) -> Json:
    return {
        "type": "heatmap",
        "x": typed(steps),
        "y": typed((bounds[:-1] + bounds[1:]) / 2),
        "z": typed(shade.T.astype(np.float32)),
        "zmin": 0,
        "zmax": 1,
        "showscale": False,
        "hoverongaps": False,
        "colorscale": [[0, colours.paper], [1, colours.run]],
        "hovertemplate": "step %{x:,}, about %{y:.3~g}: %{z:.0%} of the fullest bin<extra></extra>",
    }


def _quantile_lines(
    steps: NDArray[np.int64], counts: NDArray[np.int64], edges: NDArray[np.float64], colours: Palette
) -> list[Json]:
    found = quantiles(counts, edges, tuple(QUANTILES))
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": typed(steps),
            "y": typed(found[:, place]),
            "line": {"color": colours.ink, "width": 1.2, "dash": dash},
            "hovertemplate": f"{share:.0%} below %{{y:.4~g}}<extra></extra>",
        }
        for place, (share, dash) in enumerate(QUANTILES.items())
    ]


def _zeros(zeros: Column, colours: Palette) -> Json:
    values = np.where(zeros.missing[:, 0], np.nan, zeros.values[:, 0])
    return {
        "type": "scatter",
        "mode": "lines",
        "yaxis": "y2",
        "x": typed(zeros.steps),
        "y": typed(values),
        "line": {"color": colours.run, "width": 1.6},
        "hovertemplate": "%{y:.1%} are zero<extra></extra>",
    }


def draw_curves(groups: Mapping[str, Mapping[str, Column]], log: Mapping[str, bool], scene: Scene) -> list[Drawing]:
    """Layer-wise numbers of one layer over steps, a strip for each, in figures of :data:`STRIPS` each; at least one.

    Args:
        groups: By log key, the curves by what they are of: ``{"grad_norm": {"weight": …, "bias": …}}``; of columns with
            one layer.
        log: Which keys stand on a logarithmic axis.
        scene: Gives step, colours, and what is said where there are none.
    """
    strips = [
        Strip(
            shorten(key, 40),
            tuple(Curve(name if len(curves) > 1 else "", _alone(column)) for name, column in curves.items()),
            log=log.get(key, False) and _positive(curves),
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


def _positive(curves: Mapping[str, Column]) -> bool:
    """Whether a logarithmic axis shows any of it."""
    return any(bool((column.values[:, 0] > 0).any()) for column in curves.values())


def _alone(column: Column) -> Column:
    """A column of one layer as scalars."""
    return Column(column.key, "scalar", column.steps, column.times, column.values[:, 0], column.missing[:, 0])
