"""What a drawing function is given: a panel, its columns, and the step that is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cockpit.dashboard.theme import LIGHT, Palette
from cockpit.drawing.columns import drawable as drawable
from cockpit.drawing.columns import row_at as row_at
from cockpit.drawing.columns import value_at as value_at
from cockpit.drawing.timeline import Measure, Timeline
from cockpit.panel import Panel
from cockpit.store import Column, Event

STEPS = Timeline()


@dataclass(frozen=True)
class Manner:
    """How the reader wants curves drawn.

    Args:
        measure: What axes of steps or time show.
        smooth: Weight of the past in averages; ``None``: noisy curves are averaged as suits them.
        zone: Name of the reader's time zone; empty where it is not known.
    """

    measure: Measure = "step"
    smooth: float | None = None
    zone: str = ""


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
        why: What the run says of readings that are missing.
        timeline: What an axis of time shows.
        smooth: Weight of the past in the averages of curves; ``None``: noisy curves are averaged as suits them.
        sampled: Whether what is counted is a sample of the run's steps.
    """

    panel: Panel
    keys: tuple[str, ...]
    columns: Mapping[str, Column] = field(default_factory=dict)
    step: int | None = None
    events: Sequence[Event] = ()
    colours: Palette = LIGHT
    log: bool = False
    clock: str = ""
    why: str = ""
    timeline: Timeline = STEPS
    smooth: float | None = None
    sampled: bool = False

    def is_same(self, other: Scene) -> bool:
        """Whether both are drawn alike, as far as that is seen at a glance: columns count as such, not their points."""
        if self.columns.keys() != other.columns.keys() or {self.timeline.measure, other.timeline.measure} != {"step"}:
            return False
        same = all(column is other.columns[key] for key, column in self.columns.items())
        return same and replace(self, columns={}, timeline=STEPS) == replace(other, columns={}, timeline=STEPS)

    @property
    def counted(self) -> str:
        """What is counted, its number left out."""
        return "A sample of {} steps" if self.sampled else "{} tracked steps"

    def column(self, key: str) -> Column | None:
        """The points of ``key``, ``None`` if there are none."""
        column = self.columns.get(key)
        return column if column is not None and len(column.steps) else None

    def belongs(self, key: str) -> bool:
        """Whether a key is the panel's own or is drawn beside one of these: then it is no metric of the user's."""
        panel = self.panel
        beside = (*panel.thresholds, *panel.shares)
        return key in (*self.keys, *(panel.band or ()), panel.error, *(name for name, _ in beside))
