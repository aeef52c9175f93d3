"""A portion of a log as what other tools keep: at a step and time, values by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cockpit.reading import Histogram
from cockpit.store import Column, Event, Portion
from cockpit.store.schema import is_layered

_LEFT_OUT = {
    "arrays": "arrays",
    "histogram2d": "histograms of pairs",
    "layer_histograms2d": "histograms of pairs",
}


@dataclass
class Row:
    """What was logged at one step at one time.

    Args:
        step: Its step; ``None`` for events at none.
        time: Seconds since the run began.
        values: By log key, layer-wise ones by ``key/layer``; what is missing is left out.
        events: What happened then.
    """

    step: int | None
    time: float
    values: dict[str, float | Histogram] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)


def rows_of(portion: Portion) -> list[Row]:
    """By step, those of one step by time; events at no step come first."""
    rows: dict[tuple[int | None, float], Row] = {}

    def row(step: int | None, time: float) -> Row:
        return rows.setdefault((step, time), Row(step, time))

    for column in portion.columns:
        if column.kind in _LEFT_OUT:
            continue
        for step, time, values in zip(column.steps.tolist(), column.times.tolist(), _named(column), strict=True):
            if values:
                row(step, time).values.update(values)
    for event in portion.events:
        row(event.step, event.time).events.append(event)
    return sorted(rows.values(), key=lambda row: (row.step is not None, row.step or 0, row.time))


def left_out(portion: Portion) -> dict[str, str]:
    """Keys of what has no place in a row, and what that is."""
    return {column.key: _LEFT_OUT[column.kind] for column in portion.columns if column.kind in _LEFT_OUT}


def _named(column: Column) -> Iterator[dict[str, float | Histogram]]:
    """Of each point its values by name, without those that are missing."""
    names = [f"{column.key}/{layer}" for layer in column.layers] if is_layered(column.kind) else [column.key]
    missing: list[list[bool]] = column.missing.reshape(len(column), len(names)).tolist()
    if column.edges is None:
        numbers: Any = column.values.reshape(len(column), len(names)).tolist()
        for gaps, entries in zip(missing, numbers, strict=True):
            yield {name: entry for name, gap, entry in zip(names, gaps, entries, strict=True) if not gap}
        return
    for at, gaps in enumerate(missing):
        places = [place for place, gap in enumerate(gaps) if not gap]
        yield {names[place]: _histogram(column, (at, place) if is_layered(column.kind) else (at,)) for place in places}


def _histogram(column: Column, at: tuple[int, ...]) -> Histogram:
    """One of a column's, without the empty bins of no width that fill it up to the others' number."""
    assert column.edges is not None
    own: NDArray[np.float64] = column.edges if column.edges.ndim == 1 else column.edges[at]
    edges = own[: 1 + int(np.count_nonzero(np.diff(own)))]
    counts: NDArray[Any] = column.values[at]
    return Histogram(counts[: len(edges) - 1], edges)
