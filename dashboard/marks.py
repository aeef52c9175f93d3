"""The axis of steps or of time, and the marks on it: the selected step, and what happened in the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cockpit.dashboard.events import ALARMS
from cockpit.dashboard.scene import STEPS
from cockpit.dashboard.theme import Json, Palette, axis, plain, shorten, typed
from cockpit.drawing.timeline import DAY, Measure, Timeline
from cockpit.store import Event

T = TypeVar("T")

EVENTS_HEIGHT = 0.05  # the events' own strip above the step axis, as a share of the plot
BRIEF = 600  # seconds of training, for which the time of day is told to the second
MOST = 150  # ticks of one kind
MOST_FREQUENT = 40
SYMBOLS = {
    "learning_rate": ("diamond", "learning rate"),
    "evaluation": ("line-ns-open", "evaluation"),
    "warning": ("triangle-up", "warning"),
    "error": ("x", "error"),
}
FREQUENT = ("evaluation",)  # their text would cover the curves wherever the pointer goes


def _thinned(kind: str, ticks: Sequence[T]) -> Sequence[T]:
    """As many ticks of a kind as can be told apart, at even distances."""
    return ticks[:: len(ticks) // (MOST_FREQUENT if kind in FREQUENT else MOST) + 1]


def step_marks(
    step: int | None,
    span: tuple[int, int],
    strips: Sequence[tuple[float, float]],
    colours: Palette,
    timeline: Timeline = STEPS,
) -> Iterator[Json]:
    """A line at the selected step and a veil over what came later.

    While the latest step is followed (``None``) there is no line, and the veil lies beyond the last step: it gives the
    step axis the same range as in a replay.

    Args:
        step: The selected step.
        span: First and last step on the axis.
        strips: Lower and upper edge of each plot, as shares of the figure's height; headings stay clear of the marks.
        colours: The colour scheme.
        timeline: What the axis shows.
    """
    at, end = timeline.at(span[1] if step is None else step), ending(step, span, timeline)
    veil: Json = {"x0": at, "x1": end}
    veil |= {"type": "rect", "fillcolor": colours.veil, "opacity": 0 if step is None else 1, "line": {"width": 0}}
    line = {"type": "line", "x0": at, "x1": at, "line": {"color": colours.mark, "width": 1.5}}
    for bottom, top in strips:
        whole = {"yref": "paper", "y0": bottom, "y1": top, "layer": "above"}
        yield whole | veil
        if step is not None:
            yield whole | line


def beginning(places: NDArray[np.int64] | NDArray[np.float64], events: Sequence[Event], timeline: Timeline) -> float:
    """The first place on the axis of time at which there is something to see.

    Args:
        places: Where the readings stand; at least one. Shape ``[n]``.
        events: What happened in the run.
        timeline: What the axis shows.
    """
    told = (timeline.at(event.step, event.time) for event in events if event.step is not None)
    return min([float(places.min()), *told])


def ending(step: int | None, span: tuple[int, int], timeline: Timeline) -> float:
    """Where the veil ends, and with it an axis of steps: a little beyond the last step.

    Args:
        step: The selected step.
        span: First and last step on the axis.
        timeline: What the axis shows.
    """
    first, last = map(timeline.at, span)
    return timeline.beyond(last if step is None else timeline.at(step), first, last)


def time_axis(timeline: Timeline, colours: Palette, begin: float | None = None, end: float | None = None) -> Json:
    """The axis of steps or of time, with a line under the pointer that other figures show too.

    Args:
        timeline: What it shows.
        colours: The colour scheme.
        begin: Where it begins at the earliest, however far a drawing reaches; ``None``: wherever the drawing does.
        end: Where it ends at the latest, if it shows steps: times of single readings may lie beyond.
    """
    crosshair = {"showspikes": True, "spikemode": "across", "spikesnap": "cursor", "spikethickness": 1}
    style = {"spikedash": "dot", "spikecolor": colours.muted}
    length = timeline.length
    clock = "%H:%M:%S" if length < BRIEF else "%H:%M" if length < DAY else "%-d %b %H:%M"
    kinds: dict[Measure, Json] = {
        "step": {"type": "linear", "tickformat": ",~f", "hoverformat": ",~d"},  # of few steps ticks stand between them
        "log": {"type": "log", "tickformat": ",~d", "dtick": 1},
        "wall": {"type": "date", "nticks": 5, "tickformat": clock},
        "relative": {"type": "linear", "tickformat": ",~r"},
        "samples": {"type": "linear", "tickformat": ",~s"},
    }
    kind = {"nticks": 0, "dtick": None, "tickformat": None, "hoverformat": None, "tickangle": 0} | kinds[
        timeline.measure
    ]
    reach = {} if begin is None else {"clipmin": begin}
    reach |= {"clipmax": end} if end is not None and timeline.measure in ("step", "log") else {}
    return axis(
        colours, timeline.title, uirevision=timeline.measure, autorangeoptions=reach, **kind, **crosshair, **style
    )


def event_axis() -> Json:
    """The axis the ticks stand on: no values, no zoom."""
    return {"domain": [0, EVENTS_HEIGHT], "range": [0, 1], "visible": False, "fixedrange": True, "anchor": "x"}


def event_traces(
    events: Sequence[Event], yaxis: str, last: int, colours: Palette, timeline: Timeline = STEPS
) -> Iterator[Json]:
    """Ticks for the events up to step ``last``, one trace per kind, thinned evenly where there are very many."""
    for kind, (symbol, label) in SYMBOLS.items():
        known = [(event.step, event) for event in events if event.kind == kind and event.step is not None]
        ticks = _thinned(kind, [(step, event) for step, event in known if step <= last])
        if not ticks:
            continue
        texts = [plain(shorten(event.text, 90)) for _, event in ticks]
        marker = {"symbol": symbol, "size": 6, "color": colours.alarm if kind in ALARMS else colours.muted}
        yield {
            "type": "scatter",
            "mode": "markers",
            "name": label,
            "x": typed(np.array([timeline.at(step, event.time) for step, event in ticks])),
            "y": typed(np.full(len(ticks), 0.5)),
            "yaxis": yaxis,
            "marker": marker,
            "text": texts,
            **({"hoverinfo": "skip"} if kind in FREQUENT else {"hovertemplate": "%{text}<extra></extra>"}),
            "cliponaxis": False,
        }
