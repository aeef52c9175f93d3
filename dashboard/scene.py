"""What a drawing function is given: a panel, its columns, and the step that is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cockpit.dashboard.theme import LIGHT, Palette
from cockpit.drawing.columns import drawable as drawable
from cockpit.drawing.columns import row_at as row_at
from cockpit.drawing.columns import value_at as value_at
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
