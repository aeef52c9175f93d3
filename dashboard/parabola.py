"""Where steps end on the parabola they are measured on, as a density over all steps and over the last."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cockpit.dashboard.lines import empty_figure
from cockpit.dashboard.scene import Scene, drawable, row_at
from cockpit.dashboard.theme import Drawing, Json, Palette, axis, base_layout, note, number, share, typed, up_to
from cockpit.store import Column

REACH = 1.6  # the axis shows -REACH to REACH; what lies beyond is said in words
GRID = np.linspace(-REACH, REACH, 193)
TOP = 1.75  # of the loss axis
PEAK = 1.25  # height of the higher density's peak
FEWEST = 5  # steps below which points say more than a density
NARROWEST = 0.04  # kernel width
HEIGHT = 230
RECENT = 0.1  # share of the tracked steps that count as the last
CONCAVE, UPHILL = ".concave", ".uphill"  # companions of the panel's key, 1 where it is so


@dataclass(frozen=True)
class Steps:
    """What became of tracked steps; each is counted once.

    Args:
        minima: The normalised sizes of those that have a minimum ahead. Shape ``[n]``.
        concave: Steps along which the loss curves down: their logged value is a convention, not a size.
        uphill: Steps that began uphill.
        missing: Steps without a value.
    """

    minima: NDArray[np.float64]
    concave: int
    uphill: int
    missing: int

    @property
    def total(self) -> int:
        """All of them."""
        return len(self.minima) + self.concave + self.uphill + self.missing


def draw_parabola(scene: Scene) -> Drawing:
    """Density of the scene's one key over ``x²``: start at -1, valley floor at 0, the start's height again at 1."""
    key = scene.keys[0]
    column = scene.column(key)
    if column is None:
        return Drawing(empty_figure(scene), empty=scene.clock)
    column = up_to(column, scene.step)
    fates = _fates(column, scene)
    recent = max(1, math.ceil(RECENT * len(fates)))
    everything, last = _sort(column, fates), _sort(column, fates, recent)
    layout = _layout(scene.colours)
    layout["annotations"] = [*_labels(scene.colours), _reading(column, fates, scene)]
    traces = _densities(everything, last, scene.colours)
    traces += [*_valley(scene.colours), *_ball(column, fates, scene.colours)]
    words = f"{_words(everything, '{} tracked steps')} {_words(last, 'Last {}')}"
    return Drawing({"data": traces, "layout": layout}, words=words, height=HEIGHT)


def _fates(column: Column, scene: Scene) -> NDArray[np.str_]:
    """For each point ``minimum``, ``concave``, ``uphill`` or ``missing``."""
    fates = np.where(np.isfinite(drawable(column)), "minimum", "missing").astype("<U8")
    fates[column.values == -1.0] = "concave"  # by convention logged as "still going downhill"
    for name, companion in (("concave", CONCAVE), ("uphill", UPHILL)):
        flags = scene.column(column.key + companion)
        if flags is not None:
            steps = flags.steps[flags.values == 1]
            fates[np.isin(column.steps, steps) & (fates != "missing")] = name
    return fates


def _sort(column: Column, fates: NDArray[np.str_], last: int = 0) -> Steps:
    """The points (the ``last`` of them, or all) by what became of them."""
    fates, values = fates[-last:], column.values[-last:]
    counts = {name: int(np.count_nonzero(fates == name)) for name in ("concave", "uphill", "missing")}
    return Steps(values[fates == "minimum"].astype(np.float64), **counts)


def density(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian kernel density of ``values`` on :data:`GRID`, by bins of the grid's width.

    Args:
        values: Finite, at least one; what lies outside the grid lowers the density inside. Shape ``[n]``.

    Returns:
        Shape ``[len(GRID)]``.
    """
    spacing = GRID[1] - GRID[0]
    quartiles = np.percentile(values, (25, 75))
    spread = min(float(values.std()), float(quartiles[1] - quartiles[0]) / 1.34)
    width = max(0.9 * spread * len(values) ** -0.2, NARROWEST)
    edges = np.append(GRID - spacing / 2, GRID[-1] + spacing / 2)
    counts, _ = np.histogram(values, edges)
    kernel = np.exp(-0.5 * ((GRID[:, None] - GRID[None, :]) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    result: NDArray[np.float64] = kernel @ counts / len(values)
    return result


def _densities(everything: Steps, last: Steps, colours: Palette) -> list[Json]:
    """Both densities to one scale; where there are few steps, their points on the parabola instead."""
    curves = {}
    if len(everything.minima) >= FEWEST:
        curves["all"] = density(everything.minima)
    if len(last.minima) >= FEWEST:
        curves["last"] = density(last.minima)
    scale = PEAK / max((float(curve.max()) for curve in curves.values()), default=1.0) if curves else 1.0
    traces = []
    for name, steps, dash in (("all", everything, "solid"), ("last", last, "dash")):
        label = f"{name} {steps.total:,}"
        if name in curves:
            fill = {"fill": "tozeroy", "fillcolor": colours.run_fill} if name == "all" else {}
            line = {"color": colours.run if name == "all" else colours.ink, "width": 1.5, "dash": dash}
            place = {"x": typed(GRID), "y": typed(curves[name] * scale)}
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
    """The selected step itself, where it has a place on the parabola."""
    if not len(fates) or fates[-1] != "minimum":
        return []
    value = float(column.values[-1])
    marker = {"color": colours.mark, "size": 11, "line": {"color": colours.paper, "width": 1.5}}
    hover = f"step {int(column.steps[-1]):,}: {number(value)}<extra></extra>"
    place = {"x": [value], "y": [value**2], "mode": "markers", "marker": marker}
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


def _words(steps: Steps, label: str) -> str:
    """What the density leaves out, and its middle."""
    if steps.total == 0:
        return ""
    counts = {fate: getattr(steps, fate) for fate in ("concave", "uphill", "missing")}
    parts = [f"{share(count, steps.total)} {fate}" for fate, count in counts.items() if count]
    parts = parts or ["none concave, uphill or missing"]
    beyond = int(np.count_nonzero(np.abs(steps.minima) > REACH))
    if beyond:
        parts.append(f"{share(beyond, steps.total)} beyond {number(REACH)}")
    middle = f"median {number(float(np.median(steps.minima)))}, " if len(steps.minima) else ""
    return f"{label.format(f'{steps.total:,}')}: {middle}{', '.join(parts)}."
