"""Marks on a step axis: the selected step, and what happened in the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cockpit.dashboard.theme import Json, Palette, plain, shorten, typed
from cockpit.store import Event

EVENTS_HEIGHT = 0.05  # the events' own strip above the step axis, as a share of the plot
MOST = 150  # ticks of one kind
VEIL_BEYOND = 0.02  # of the run: what is drawn at the last step is veiled in full
SYMBOLS = {
    "learning_rate": ("diamond", "learning rate"),
    "evaluation": ("line-ns-open", "evaluation"),
    "warning": ("triangle-up", "warning"),
    "error": ("x", "error"),
}
ALARMS = ("warning", "error")
FREQUENT = ("evaluation",)  # their text would cover the curves wherever the pointer goes


def step_marks(
    step: int | None, span: tuple[int, int], strips: Sequence[tuple[float, float]], colours: Palette
) -> Iterator[Json]:
    """A line at the selected step and a veil over what came later.

    While the latest step is followed (``None``) there is no line, and the veil lies beyond the last step: it gives the
    step axis the same range as in a replay.

    Args:
        step: The selected step.
        span: First and last step on the axis.
        strips: Lower and upper edge of each plot, as shares of the figure's height; headings stay clear of the marks.
        colours: The colour scheme.
    """
    first, last = span
    veil: Json = {"x0": last if step is None else step, "x1": last + max(1.0, VEIL_BEYOND * (last - first))}
    veil |= {"type": "rect", "fillcolor": colours.veil, "opacity": 0 if step is None else 1, "line": {"width": 0}}
    line = {"type": "line", "x0": step, "x1": step, "line": {"color": colours.mark, "width": 1.5}}
    for bottom, top in strips:
        whole = {"yref": "paper", "y0": bottom, "y1": top, "layer": "above"}
        yield whole | veil
        if step is not None:
            yield whole | line


def event_axis() -> Json:
    """The axis the ticks stand on: no values, no zoom."""
    return {"domain": [0, EVENTS_HEIGHT], "range": [0, 1], "visible": False, "fixedrange": True, "anchor": "x"}


def event_traces(events: Sequence[Event], yaxis: str, last: int, colours: Palette) -> Iterator[Json]:
    """Ticks for the events up to step ``last``, one trace per kind, thinned evenly where there are very many."""
    for kind, (symbol, label) in SYMBOLS.items():
        ticks = [event for event in events if event.kind == kind and event.step is not None and event.step <= last]
        ticks = ticks[:: len(ticks) // MOST + 1]
        if not ticks:
            continue
        texts = [plain(shorten(event.text, 90)) for event in ticks]
        marker = {"symbol": symbol, "size": 6, "color": colours.alarm if kind in ALARMS else colours.muted}
        yield {
            "type": "scatter",
            "mode": "markers",
            "name": label,
            "x": typed(np.array([event.step for event in ticks], dtype=np.int64)),
            "y": typed(np.full(len(ticks), 0.5)),
            "yaxis": yaxis,
            "marker": marker,
            "text": texts,
            **({"hoverinfo": "skip"} if kind in FREQUENT else {"hovertemplate": "%{text}<extra></extra>"}),
            "cliponaxis": False,
        }
