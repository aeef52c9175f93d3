"""A run's columns as the page needs them: bounded, and read again only where the log has grown."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from cockpit.dashboard.columns import Columns, joined, sample
from cockpit.dashboard.events import Events
from cockpit.dashboard.folds import F, Folds, Of
from cockpit.drawing.cells import columns_for
from cockpit.drawing.columns import rows_of, value_at
from cockpit.drawing.histories import LayerCurves
from cockpit.drawing.stretches import Stretched, Stretches
from cockpit.drawing.timeline import Measure, Timeline, ahead_of
from cockpit.forward_order import FORWARD, in_forward_order
from cockpit.layers import owners_of
from cockpit.store import Column, Event, Header, Reader, Series

MOST_POINTS = 1000  # of a curve; a panel is seldom wider in pixels
MOST_READINGS = 240  # of a layer-wise series, each of which is one number for every layer
MOST_SAMPLED = 20_000  # of what is counted: shares are then right to a percent


class Source:
    """One run. Safe to use from several threads; every column is as of the last :meth:`refresh`."""

    def __init__(self, reader: Reader):
        self._reader = reader
        self._lock = threading.RLock()
        self._forget()
        self.refresh()

    @property
    def reader(self) -> Reader:
        """The log itself, for what wants all of its points."""
        return self._reader

    def _forget(self) -> None:
        self._columns = Columns(self._reader)
        self._folds = Folds(self._reader)
        self._documents: dict[str, Any] = {}
        self.drawn: dict[str, Any] = {}  # its panels as they were drawn last, see panels.py
        self.header: Header = self._reader.header
        self.cursor = -1
        self._overtaken: tuple[tuple[int, int | None], ...] = ()
        self.state = ""
        self.dropped = 0
        self.series: dict[tuple[str, str], Series] = {}
        self.called: list[str] = []
        self.happened = Events()
        self.states: dict[int, str] = {}  # of its processes, if they are several, by rank

    def refresh(self) -> None:
        """Look whether the log has grown; cheap where it has not."""
        with self._lock:
            with self._reader.at_once():
                state, ranks = self._reader.state(), self._reader.ranks()
                states = self._reader.states() if len(ranks) > 1 else {}
                cursor = self._reader.cursor()
                if cursor != self.cursor:
                    self._read_on(cursor)
                    self.happened.listen(self._reader, own=True)
            self.state, self.states = state, states
            for rank in sorted(states.keys() - {self._reader.number}):
                self.happened.listen(self._reader.rank(rank), own=False)

    def _read_on(self, cursor: int) -> None:
        header = self._reader.header
        overtaken = tuple((attempt.cursor, attempt.first_step) for attempt in self._reader.attempts()[1:])
        if cursor < self.cursor or (header.created, overtaken) != (self.header.created, self._overtaken):
            self._forget()  # another run of the same name, or one that goes on at an earlier step
        self.header, self.cursor, self._overtaken = header, cursor, overtaken
        self.dropped = self._reader.dropped()
        self.series = {(series.key, series.kind): series for series in self._reader.series()}
        self._documents = {name: self._reader.document(name) for name in (FORWARD, *self._documents)}
        self.called = self._documents[FORWARD] or []

    @property
    def events(self) -> list[Event]:
        """All that has happened, in the order in which it was heard of."""
        return self.happened.all

    def span(self) -> tuple[int, int] | None:
        """First and last step that have points; ``None`` without points."""
        series = list(self.series.values())
        if not series:
            return None
        return min(entry.first_step for entry in series), max(entry.last_step for entry in series)

    def keys(self, origin: str | None = None) -> list[str]:
        """Keys that have points, once each; of ``"instrument"`` or ``"user"`` origin, or all."""
        return list(dict.fromkeys(entry.key for entry in self.series.values() if origin in (None, entry.origin)))

    def defined(self) -> set[str]:
        """Keys of which some point has a value."""
        return {entry.key for entry in self.series.values() if entry.defined}

    def kinds(self, key: str) -> list[str]:
        """In which kinds ``key`` has points."""
        return [kind for name, kind in self.series if name == key]

    def scalars(self, key: str) -> Column | None:
        """The scalars of ``key``, thinned to :data:`MOST_POINTS`; ``None`` if it has none.

        Between two readings only what was added is read, until that is as much again.
        """
        if (key, "scalar") not in self.series:
            return None
        with self._lock:
            return self._columns.get(key, "scalar", self.cursor, most=MOST_POINTS)

    def sampled(self, key: str, step: int | None) -> Column | None:
        """The scalars of ``key`` for what is counted, not drawn point by point; ``None`` if it has none.

        All of them, or, where they are more than :data:`MOST_SAMPLED`, those of a fair sample of the run's steps, the
        same for the key's parts, and the last one at or before ``step``.
        """
        if (key, "scalar") not in self.series:
            return None
        bits = self.sampling(key)
        with self._lock:
            kept = self._columns.get(
                key, "scalar", self.cursor, name="sampled", reduce=lambda column: sample(column, bits, last=True)
            )
        selected = rows_of(kept, slice(-1, None)) if step is None else self.at(key, "scalar", step)
        return kept if not bits or selected is None else joined(sample(kept, bits), selected)

    def sampling(self, key: str) -> int:
        """How many times the steps of :meth:`sampled` are halved; 0 where they are all."""
        root = key.split(".", 1)[0]
        family = [entry for entry in self.series.values() if entry.kind == "scalar" and entry.key.startswith(root)]
        points = max((entry.points for entry in family), default=0)
        return max(0, (points - 1) // MOST_SAMPLED).bit_length()

    def layered(self, key: str, kind: str, name: str, reduce: Callable[[Column], Column]) -> Column | None:
        """What ``reduce`` makes of a layer-wise series, thinned to :data:`MOST_READINGS`; ``None`` if there is none.

        Args:
            key: Log key.
            kind: ``layers`` or ``layer_histograms``.
            name: Of the reduction: what it has made is kept under it.
            reduce: Makes a smaller column of one that holds all layers, point by point; it may be given few of them.
        """
        if (key, kind) not in self.series:
            return None
        with self._lock:
            return self._columns.get(key, kind, self.cursor, most=MOST_READINGS, name=name, reduce=reduce)

    def glimpse(self, key: str, kind: str) -> Column | None:
        """A point of the series, for what seldom changes, such as which layers it has; ``None`` if there is none.

        It is read anew whenever the series has grown to twice as many points: of a thousand series all would else be
        read at every look.
        """
        entry = self.series.get((key, kind))
        if entry is None:
            return None
        with self._lock:
            return self._columns.glimpse(entry)

    def closeup(self, key: str, steps: tuple[int, int]) -> Column | None:
        """The scalars of ``key`` with full detail within ``steps`` and as in :meth:`scalars` outside."""
        whole = self.scalars(key)
        if whole is None or len(whole) < MOST_POINTS:
            return whole
        with self._lock:
            detail = self._columns.get(key, "scalar", self.cursor, most=MOST_POINTS, steps=steps)
        outside = rows_of(whole, np.flatnonzero((whole.steps < steps[0]) | (whole.steps > steps[1]))[::2])
        return joined(outside, detail) or whole

    def at(self, key: str, kind: str, step: int | None) -> Column | None:
        """The last point of a series at or before ``step`` (of all for ``None``): one row, no row, or ``None``."""
        entry = self.series.get((key, kind))
        if entry is None:
            return None
        with self._lock:
            return self._columns.at(entry, entry.last_step if step is None else step)

    def first(self, key: str, kind: str) -> Column | None:
        """The first point of ``key``: one row, or ``None``."""
        entry = self.series.get((key, kind))
        return None if entry is None else self.at(key, kind, entry.first_step)

    def folded(self, name: Hashable, keys: Sequence[tuple[str, str]], begin: Callable[[], F]) -> F | None:
        """What a fold makes of all points of some series, kept under a name and carried on as they grow.

        Args:
            name: Of the fold, among those of these series.
            keys: Log key and kind of each.
            begin: Makes the fold, still empty.

        Returns:
            ``None`` where one of the series has no points.
        """
        with self._lock:
            series = [self.series[each] for each in keys if each in self.series]
            if len(series) < len(keys):
                return None
            return self._folds.get((name, tuple(keys)), series, self.cursor, begin)

    def layers(self, key: str, *, log: bool = False) -> Stretched | None:
        """The values of ``key`` by layer in so many stretches of the run as a drawing holds; ``None`` without any.

        Args:
            key: Log key.
            log: Whether values are drawn by their logarithm, which decides which of a stretch stands out most.
        """
        latest = self.at(key, "layers", None)
        if latest is None:
            return None
        width = columns_for(len(latest.layers))
        fold = self.folded(width, [(key, "layers")], lambda: Of(Stretches(width), itemgetter(key)))
        return None if fold is None else fold.made.column(key, log=log, layers=self.in_order(fold.made.layers))

    def in_order(self, layers: Sequence[str]) -> list[str]:
        """Names of layers in the order of the forward pass; as the log has them where that is not known."""
        return in_forward_order(layers, owners_of(self.header.model), self.called)

    def timeline(self, measure: Measure, zone: str = "") -> Timeline:
        """What an axis of steps or time shows; the time of a step is that of the longest curve there.

        Times of day are those in ``zone`` when the run began.
        """
        scalars = [entry for entry in self.series.values() if entry.kind == "scalar"]
        longest = max(scalars, key=lambda entry: entry.points, default=None)
        column = self.scalars(longest.key) if longest is not None and measure != "step" else None
        created = self.header.created
        ahead = ahead_of(zone, created)
        if column is None:
            return Timeline(measure, created=created, ahead=ahead)
        return Timeline(measure, column.steps.astype(np.float64), column.times, created, ahead=ahead)

    def scalar_at(self, key: str, step: int | None) -> float | None:
        """The last scalar of ``key`` at or before ``step``; ``None`` if there is none or it is missing."""
        return value_at(self.scalars(key) if step is None else self.at(key, "scalar", step), None)

    def layers_at(self, key: str, step: int | None) -> dict[str, float]:
        """The last values of ``key`` by layer at or before ``step``; those that are missing are left out."""
        column = self.at(key, "layers", step)
        if column is None or not len(column.steps):
            return {}
        values = zip(column.layers, column.values[0], column.missing[0], strict=True)
        return {name: float(value) for name, value, missing in values if not missing}

    def layer(self, key: str, layer: str) -> Column | None:
        """The values of one layer over the run, as a column of scalars; ``None`` if there is no such layer."""
        return self.curves(key, f"layer {layer}", layer.__eq__).get(layer)

    def curves(self, key: str, name: str, wanted: Callable[[str], bool]) -> dict[str, Column]:
        """The values of some layers over the run, as columns of scalars, thinned as in :meth:`scalars`.

        Args:
            key: Log key.
            name: Of what is wanted.
            wanted: Which layers, by their names.
        """
        begin = lambda: Of(LayerCurves(wanted, MOST_POINTS), itemgetter(key))  # noqa: E731
        fold = self.folded(name, [(key, "layers")], begin)
        return {} if fold is None else fold.made.curves

    def document(self, name: str) -> object:
        """The latest document called ``name``, or ``None``."""
        with self._lock:
            if name not in self._documents:
                self._documents[name] = self._reader.document(name)
            found: object = self._documents[name]
            return found

    def close(self) -> None:
        """Let go of the log."""
        with self._lock:
            self._reader.close()
