"""One quantity of several runs over one axis: colour and dashes tell the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cockpit.dashboard.lines import log_ticks
from cockpit.dashboard.marks import EVENTS_HEIGHT, event_axis, event_traces, time_axis
from cockpit.dashboard.scene import STEPS
from cockpit.dashboard.theme import Drawing, Json, Palette, axis, base_layout, plain, shorten, typed
from cockpit.drawing.columns import broken, drawable, lone
from cockpit.drawing.smoothing import is_noisy, moving_average
from cockpit.drawing.timeline import Timeline
from cockpit.store import Column, Event

HEIGHT = 210  # pixels
GHOST = 0.35  # opacity of readings behind their average


@dataclass(frozen=True)
class Curve:
    """One run's readings.

    Args:
        run: The run's name.
        colour: Its colour.
        column: The readings; at least one.
        x: Where they stand on the axis. Shape ``[n]``.
        events: What happened in the run.
        timeline: Where its steps stand on the axis.
        dash: How its line is dashed, as plotly names it or in pixels, ``"9px,4px"``.
    """

    run: str
    colour: str
    column: Column
    x: NDArray[np.int64] | NDArray[np.float64]
    events: Sequence[Event] = ()
    timeline: Timeline = STEPS
    dash: str = "solid"


def draw_overlay(
    key: str, curves: Sequence[Curve], across: Timeline, colours: Palette, *, log: bool, parting: int | None = None
) -> Drawing:
    """All runs' readings of ``key``.

    Args:
        key: Names the value axis.
        curves: Of each run that has readings.
        across: The horizontal axis, which reaches over all runs.
        colours: The colour scheme.
        log: Whether the value axis is logarithmic, unless that could show nothing.
        parting: The step from which on two runs stay apart, where a line is drawn on axes of steps.
    """
    log = log and any(bool((drawable(curve.column) > 0).any()) for curve in curves)
    layout = base_layout(colours, left=58, bottom=38)
    layout |= {"hovermode": "x", "meta": {"cursor": ["xy"], "legend": True}}
    layout["shapes"] = list(_line(parting, across, colours))
    layout["xaxis"] = time_axis(across, colours) | {"anchor": "free", "position": 0}
    scale = log_ticks(_distance(curves)) if log else {"type": "linear", "nticks": 5}
    place = {"tickfont": {"size": 10}, "domain": [EVENTS_HEIGHT + 0.01, 1]}
    layout["yaxis"] = axis(colours, shorten(key, 34), uirevision=scale["type"], **place, **scale)
    layout["yaxis2"] = event_axis()
    traces = [trace for curve in curves for trace in (*_traces(curve, log), *_events(curve, colours))]
    return Drawing({"data": traces, "layout": layout}, _words(curves, log), height=HEIGHT)


def _line(parting: int | None, across: Timeline, colours: Palette) -> Iterator[Json]:
    if parting is not None and across.measure in ("step", "log"):  # elsewhere each run has a place of its own for it
        x = across.at(parting)
        place = {"x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1}
        yield {"type": "line", "line": {"color": colours.ink, "width": 1, "dash": "dash"}, **place}


def _distance(curves: Sequence[Curve]) -> str | int:
    """Plotly's distance of ticks on a logarithmic axis: powers of ten, or 1, 2 and 5 of each where those are few."""
    values = np.concatenate([drawable(curve.column) for curve in curves])
    positive = values[values > 0]
    decades = float(np.log10(positive.max() / positive.min()))
    return "D2" if decades < 2 else max(1, round(decades / 5))


def _traces(curve: Curve, log: bool) -> Iterator[Json]:
    """The curve (faint and whole, behind its average, where it is noisy) and the points that a line cannot show."""
    values = drawable(curve.column)
    name = plain(shorten(curve.run, 30)).replace("%{", "% {")  # plotly would look up what stands in %{…}
    line: Json = {"type": "scatter", "mode": "lines", "name": name, "x": typed(curve.x), "y": typed(values)}
    noisy = is_noisy(values, log)
    thin = {"color": curve.colour, "width": 1 if noisy else 1.8, "dash": "solid" if noisy else curve.dash}
    yield line | {"line": thin, "opacity": GHOST if noisy else 1, "hovertemplate": f"{name} %{{y:.4~g}}<extra></extra>"}
    if noisy:
        thick = {"color": curve.colour, "width": 2, "dash": curve.dash}
        yield line | {"y": typed(moving_average(values, log)), "line": thick, "hoverinfo": "skip"}
    alone, lost = lone(values), broken(curve.column)
    crosses = lost & ~np.concatenate([[False], lost[:-1]])  # one for each stretch: a row of them would hide the others
    finite = values[np.isfinite(values)]
    ceiling = np.full(len(values), finite.max() if len(finite) else 1.0)
    marks = ((alone, values, {"size": 4}), (crosses, ceiling, {"size": 8, "symbol": "x-thin", "line": {"width": 2}}))
    for which, heights, marker in marks:
        if which.any():
            place = {"x": typed(curve.x[which]), "y": typed(heights[which])}
            coloured = {"color": curve.colour, **marker}
            if "line" in coloured:
                coloured["line"] = {"width": 2, "color": curve.colour}
            yield {"type": "scatter", "mode": "markers", "name": name, "marker": coloured, "hoverinfo": "skip", **place}


def _events(curve: Curve, colours: Palette) -> Iterator[Json]:
    """Ticks in the run's colour, up to its last reading."""
    own = replace(colours, muted=curve.colour, alarm=curve.colour)
    return event_traces(curve.events, "y2", int(curve.column.steps[-1]), own, curve.timeline)


def _words(curves: Sequence[Curve], log: bool) -> str:
    """What the curves cannot show."""
    said: dict[str, list[str]] = {}
    for curve in curves:
        run, values = shorten(curve.run, 30), drawable(curve.column)
        hidden = int(np.count_nonzero(values <= 0)) if log else 0
        counts = (
            (hidden, "at or below 0, which a log axis cannot show"),
            (int(np.count_nonzero(curve.column.missing)), "missing"),
            (int(np.count_nonzero(broken(curve.column))), "not finite, from each cross on"),
        )
        for count, what in counts:
            if count:
                said.setdefault(what, []).append(f"{run}: {count}")
    return "; ".join(f"{', '.join(runs)} {what}" for what, runs in said.items())
