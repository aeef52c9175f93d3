"""What a drawing is made from: a panel and its points, as a run's log holds them up to some step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cockpit.drawing.arrange import keys_of
from cockpit.drawing.bars import SAMPLES
from cockpit.drawing.positions import CONCAVE, UPHILL
from cockpit.panel import Panel
from cockpit.store import Column, Reader

MOST_POINTS = 2000  # of a curve: more than a printed line can show
HISTOGRAMS = ("histogram", "histogram2d")
_FIRST = -(2**62)


@dataclass(frozen=True)
class Scene:
    """All that one panel shows.

    Args:
        panel: What to draw.
        keys: The panel's log keys, in its order; at least one.
        columns: The points by key, none of them empty. Keys that are not the panel's own are the user's metrics, or
            belong to one of the panel's keys (``alpha.concave`` to ``alpha``).
        span: First and last step of the page, for axes over steps.
        log_steps: Whether such axes are logarithmic.
    """

    panel: Panel
    keys: tuple[str, ...]
    columns: Mapping[str, Column] = field(default_factory=dict)
    span: tuple[int, int] = (0, 1)
    log_steps: bool = False

    @property
    def shown(self) -> list[str]:
        """Those of the panel's own keys that have points."""
        return [key for key in self.keys if key in self.columns]

    @property
    def log(self) -> bool:
        """Whether the value axis is logarithmic."""
        return self.panel.yscale == "log"


class Log:
    """A run's points up to a step, as drawings need them.

    Args:
        reader: The log.
        until: The last step that counts; ``None``: all do.
    """

    def __init__(self, reader: Reader, until: int | None = None) -> None:
        self._reader, self._until = reader, until
        self._series = [entry for entry in reader.series() if until is None or entry.first_step <= until]

    @property
    def keys(self) -> list[str]:
        """Keys that have points."""
        return list(dict.fromkeys(entry.key for entry in self._series))

    @property
    def metrics(self) -> list[str]:
        """Those of them that the user logged."""
        return list(dict.fromkeys(entry.key for entry in self._series if entry.origin == "user"))

    @property
    def span(self) -> tuple[int, int]:
        """First and last step that have points; both 0 without points."""
        first = min((entry.first_step for entry in self._series), default=0)
        last = max((entry.last_step for entry in self._series), default=0)
        return first, last if self._until is None else min(last, max(first, self._until))

    def columns(self, panel: Panel, keys: Sequence[str]) -> dict[str, Column]:
        """The points that a panel of these keys shows, by key; keys without points are absent."""
        if panel.kind in HISTOGRAMS:
            found = {key: self._last(key, panel.kind) for key in keys}
            found |= {key + SAMPLES: self._scalars(key + SAMPLES, None) for key in keys if found[key] is not None}
        elif panel.kind == "parabola":
            companions = [key + suffix for key in keys for suffix in (CONCAVE, UPHILL)]
            found = {key: self._scalars(key, None) for key in (*keys, *companions)}
        else:
            users = self.metrics if panel.user_metrics else ()
            found = {key: self._scalars(key, MOST_POINTS) for key in (*keys, *users)}
        return {key: column for key, column in found.items() if column is not None and len(column)}

    def _scalars(self, key: str, most: int | None) -> Column | None:
        if not self._has(key, "scalar"):
            return None
        steps = None if self._until is None else (_FIRST, self._until)
        return self._reader.column(key, "scalar", steps=steps, max_points=most)

    def _last(self, key: str, kind: str) -> Column | None:
        """The last histogram of ``key``: one row."""
        return self._reader.at(key, self.span[1], kind) if self._has(key, kind) else None

    def _has(self, key: str, kind: str) -> bool:
        return any(entry.key == key and entry.kind == kind for entry in self._series)


def scenes_of(log: Log, panels: Mapping[str, Panel], log_steps: bool) -> dict[str, Scene]:
    """For each panel that has points what it shows, by the panel's name; one that is optional needs a value."""
    scenes = {}
    for name, panel in panels.items():
        keys = keys_of(name, panel)
        columns = log.columns(panel, keys)
        if columns and not (panel.optional and all(column.missing.all() for column in columns.values())):
            scenes[name] = Scene(panel, keys, columns, log.span, log_steps)
    return scenes
