"""What a drawing function is given: a panel, its columns, and the step that is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cockpit.dashboard.theme import LIGHT, Palette
from cockpit.panel import Panel
from cockpit.store import Column, Event


@dataclass(frozen=True)
class Scene:
    """All that one panel shows at one step.

    Args:
        panel: What to draw.
        keys: The panel's log keys, in its order; at least one.
        columns: The points by key. A key without points is absent; keys that are not the panel's own are the user's
            metrics, or belong to one of the panel's keys (``alpha.concave`` to ``alpha``).
        step: The selected step, ``None`` for the latest. Columns may reach beyond it.
        events: What happened in the run, in any order.
        colours: The colour scheme.
        log: Whether the value axis is logarithmic.
        clock: What can be said while there are no points: when the first are expected.
    """

    panel: Panel
    keys: tuple[str, ...]
    columns: Mapping[str, Column] = field(default_factory=dict)
    step: int | None = None
    events: Sequence[Event] = ()
    colours: Palette = LIGHT
    log: bool = False
    clock: str = ""

    def column(self, key: str) -> Column | None:
        """The points of ``key``, ``None`` if there are none."""
        column = self.columns.get(key)
        return column if column is not None and len(column.steps) else None


def row_at(column: Column, step: int | None) -> int | None:
    """Index of the last point at or before ``step`` (the last of all for ``None``); ``None`` if there is none."""
    last = len(column.steps) if step is None else int(np.searchsorted(column.steps, step, side="right"))
    return last - 1 if last else None


def value_at(column: Column | None, step: int | None) -> float | None:
    """The scalar at :func:`row_at`; ``None`` where there is no point or the point is missing."""
    if column is None:
        return None
    row = row_at(column, step)
    if row is None or bool(column.missing[row]):
        return None
    return float(column.values[row])


def drawable(column: Column) -> NDArray[np.float64]:
    """The scalar values as they are drawn: NaN, a gap, wherever there is no finite number."""
    values = column.values.astype(np.float64)
    return np.where(np.isfinite(values) & ~column.missing, values, np.nan)
