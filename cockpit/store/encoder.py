"""Readings as rows of the log. Knows no database: a batch of rows can be committed again after a failure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

from cockpit.reading import Histogram, Histogram2d, Reading, Value
from cockpit.store.arrays import Array, encode_arrays
from cockpit.store.attempts import Attempt
from cockpit.store.batch import Batch, SeriesRow
from cockpit.store.chunks import LONGEST, VECTORS
from cockpit.store.codec import encode_counts, encode_floats, stack
from cockpit.store.layouts import Layouts
from cockpit.store.plain import text
from cockpit.store.schema import ARRAYS, FINITE, MISSING, Origin, flag_of

_STEP_LIMIT = 2**63

# Of numbers, and of vectors: rows from which on the oldest become a chunk, and how many do.
_TAIL, _LENGTH = (2 * LONGEST, 2 * VECTORS), (LONGEST, VECTORS)
_BULKY = 1 << 15  # bytes of a payload with which chunks gain nothing
_SPARE_CHUNKS, _POINTS_PER_CHUNK = 4, 128

_NOBODY = Attempt(1, None, 0, 0.0, "", 0, "")


class Encoder:
    """Turns readings into rows, numbers them, and keeps the series' summaries.

    Args:
        instruments: Keys that belong to instruments: a user's metric of the same name is stored as ``user/<key>``.
        series: What the log already holds.
        layouts: Number of each layout the log already holds, by digest.
        cursor: Last number given.
        last_step: Highest step logged.
        elapsed: Time of the last point.
        attempt: Who writes.

    Attributes:
        attempt: The same, with the step of its first reading where that is lower.
    """

    def __init__(
        self,
        instruments: Iterable[str] = (),
        series: Iterable[SeriesRow] = (),
        layouts: Mapping[bytes, int] | None = None,
        cursor: int = 0,
        last_step: int | None = None,
        elapsed: float = 0.0,
        attempt: Attempt = _NOBODY,
    ) -> None:
        self.cursor, self.last_step, self.elapsed = cursor, last_step, elapsed
        self.attempt, self._has_read = attempt, False
        self._series: dict[tuple[str, bool, Origin], list[SeriesRow]] = {}
        for row in series:
            self._series.setdefault((row.key, row.layered, row.origin), []).append(row)
        self._instrument_keys = set(instruments) | {key for key, _, origin in self._series if origin == "instrument"}
        self._series_count = max((row.id for rows in self._series.values() for row in rows), default=0)
        self._layouts = Layouts(layouts)
        self._said: set[tuple[str, str]] = set()
        self._touched: dict[int, SeriesRow] = {}
        self._long: dict[int, SeriesRow] = {}
        self._stuck: set[int] = set()
        self._batch = Batch()

    def take(self) -> Batch:
        """The rows of everything encoded since the last call."""
        batch, self._batch = self._batch, Batch()
        batch.layouts += self._layouts.take()
        batch.long = self._due(_SPARE_CHUNKS + len(batch.points) // _POINTS_PER_CHUNK)
        batch.series = {number: tuple(vars(row).values()) for number, row in self._touched.items()}
        batch.cursor, batch.last_step, batch.elapsed = self.cursor, self.last_step, self.elapsed
        self._touched = {}
        return batch

    def _due(self, most: int) -> list[tuple[SeriesRow, int]]:
        """Series, and how many of their rows are to become chunks: as many as points call for, and a few to catch up.

        The others wait: no commit takes long.
        """
        due = []
        for row in list(self._long.values()):
            tail, length = _TAIL[row.vectors], _LENGTH[row.vectors]
            chunks = min(most, (row.tail - tail - 1) // length + 1)
            if chunks > 0:
                due.append((dataclasses.replace(row), chunks * length))
                row.tail -= chunks * length
                most -= chunks
                self._touched[row.id] = row
            if row.tail <= tail:
                del self._long[row.id]
        return due

    def lost(self, batch: Batch) -> None:
        """The batch cannot be stored: what later points refer to goes with the next one."""
        self._batch.layouts[:0] = batch.layouts
        self._batch.attempt = self._batch.attempt or batch.attempt
        uncut = {row.id: count for row, count in batch.long}
        self._stuck.update(uncut)  # what the database did not take may be these
        for row in (row for rows in self._series.values() for row in rows if row.id in batch.series):
            self._touched[row.id] = row
            row.tail += uncut.get(row.id, 0)

    def readings(self, step: int, time: float, readings: Mapping[str, Reading]) -> None:
        """One step's readings, without their arrays.

        What cannot be stored becomes an error event with the key as its subject; the rest is stored.
        """
        step, time = _checked_step(step), rounded(time)
        if not self._has_read:
            self._begun(step)
        for key, reading in readings.items():
            self._instrument_keys.add(key)
            try:
                self._reading(step, time, key, reading)
            except Exception as error:  # a user's instrument may hand over anything; its mistake must not stop the log
                self.say(step, time, "error", f"the reading of {key!r} cannot be stored: {error!r}", key)

    def arrays(self, step: int, time: float, key: str, arrays: Mapping[str, Array]) -> None:
        """The arrays of one reading, by name; what cannot be stored becomes an error event."""
        step, time = _checked_step(step), rounded(time)
        try:
            self._arrays(step, time, key, arrays)
        except Exception as error:  # as above
            self.say(step, time, "error", f"the arrays of {key!r} cannot be stored: {error!r}", key)

    def scalars(self, step: int, time: float, values: Mapping[str, float | None]) -> None:
        """The user's own metrics."""
        step, time = _checked_step(step), rounded(time)
        for key, value in values.items():
            if key in self._instrument_keys:
                self.say(step, time, "warning", f"{key!r} is an instrument's key: your metric is 'user/{key}'", key)
                key = f"user/{key}"
            self._network(step, time, key, value, "user")

    def event(self, step: int | None, time: float, kind: str, words: str, subject: str) -> None:
        """Something that happened."""
        step = None if step is None else _checked_step(step)
        self._batch.events.append((self._number(), step, float(time), text(kind), text(words), text(subject)))

    def say(self, step: int | None, time: float, kind: str, words: str, subject: str) -> None:
        """An event, unless the same words, numbers aside, have been said of this subject."""
        said = (subject, re.sub(r"\d+", "#", words))
        if said not in self._said:
            self._said.add(said)
            self.event(step, time, kind, words, subject)

    def document(self, name: str, value: str) -> None:
        """JSON text under a name, in place of the last one."""
        name = text(name)
        self._batch.documents[name] = (name, self._number(), value)

    def piece(self, name: str, number: int, data: bytes) -> None:
        """A piece of something large; the first one takes the place of all that is kept under its name."""
        self._batch.pieces.append((text(name), number, data))

    def seen(self, rows: Iterable[SeriesRow], last_step: int | None) -> None:
        """What is left of the series after an attempt has masked some of their points."""
        by_number = {row.id: row for row in rows}
        for own in (own for of_key in self._series.values() for own in of_key):
            vars(own).update(vars(by_number[own.id]))
        self.last_step = last_step

    def _begun(self, step: int) -> None:
        """The attempt's first reading tells where it begins: a script may go on from an older checkpoint."""
        self._has_read = True
        if self.attempt.first_step is None or step < self.attempt.first_step:
            self._batch.attempt = self.attempt = dataclasses.replace(self.attempt, first_step=step)

    def _number(self) -> int:
        self.cursor += 1
        return self.cursor

    def _reading(self, step: int, time: float, key: str, reading: Reading) -> None:
        self._network(step, time, key, reading.value, "instrument")
        if reading.layers:
            self._layered(step, time, key, reading.layers)
        for part, value in reading.parts.items():
            if isinstance(value, Mapping):
                self._layered(step, time, f"{key}.{part}", value)
            else:
                self._network(step, time, f"{key}.{part}", value, "instrument")
        for words in (reading.reason, reading.note):
            if words is not None:
                self.say(step, time, "info", words, key)

    def _network(self, step: int, time: float, key: str, value: Value, origin: Origin) -> None:
        if isinstance(value, (Histogram, Histogram2d)):
            one = stack([value])
            row = self._series_row(key, False, one.axes, origin)
            layout = self._layouts.number(None, one.edges)
            self._point(row, step, time, None, FINITE, layout, encode_counts(one.counts, one.missing))
            return
        number = None if value is None else float(value)
        flag = flag_of(number)
        row = self._series_row(key, False, None if number is None else 0, origin)
        self._point(row, step, time, number if flag == FINITE else None, flag)

    def _layered(self, step: int, time: float, key: str, layers: Mapping[str, Value]) -> None:
        values = list(layers.values())
        axes: int | None
        payload: bytes | None
        if any(isinstance(value, (Histogram, Histogram2d)) for value in values):
            all_ = stack(values)
            axes, payload = all_.axes, encode_counts(all_.counts, all_.missing)
            layout = self._layouts.number(tuple(layers), all_.edges)
        else:
            payload, layout = encode_floats(values), self._layouts.number(tuple(layers))
            axes = None if payload is None else 0
        row = self._series_row(key, True, axes, "instrument")
        self._point(row, step, time, None, MISSING if payload is None else FINITE, layout, payload)

    def _arrays(self, step: int, time: float, key: str, arrays: Mapping[str, Array]) -> None:
        payload = encode_arrays(arrays)
        layout = self._layouts.number_of_arrays(arrays)
        row = self._series_row(key, True, ARRAYS, "instrument")
        self._point(row, step, time, None, FINITE, layout, payload)

    def _point(
        self, row: SeriesRow, step: int, time: float, value: float | None, flag: int, layout: int | None = None,
        payload: bytes | None = None,
    ) -> None:  # fmt: skip
        number = self._number()
        if row.points == 0:
            row.first_step = row.last_step = step
        row.points += 1
        row.first_step = min(row.first_step, step)
        if step >= row.last_step:
            row.last_step, row.last_value, row.last_flag = step, value, flag
        row.revision = number
        row.tail += 1
        self._touched[row.id] = row
        if row.tail > _TAIL[row.vectors] and self._may_be_chunks(row, payload):
            self._long[row.id] = row
        self.last_step = step if self.last_step is None else max(self.last_step, step)
        if time > self.elapsed:
            self.elapsed = time
        self._batch.points.append((number, row.id, step, time, value, flag, layout))
        if payload is not None:
            self._batch.payloads.append((number, payload))

    def _may_be_chunks(self, row: SeriesRow, payload: bytes | None) -> bool:
        return row.histogram != ARRAYS and len(payload or b"") < _BULKY and row.id not in self._stuck

    def _series_row(self, key: str, layered: bool, axes: int | None, origin: Origin) -> SeriesRow:
        """The series a point belongs to. One that only ever missed becomes what its first defined point is.

        Arrays keep to themselves: they stand beside a value of the same key.
        """
        key = text(key)
        rows = self._series.setdefault((key, layered, origin), [])
        for row in rows:
            undefined = axes is None or row.histogram is None
            if row.histogram == axes or (undefined and ARRAYS not in (axes, row.histogram)):
                row.histogram = axes if row.histogram is None else row.histogram
                return row
        self._series_count += 1
        row = SeriesRow(self._series_count, key, origin, layered, axes)
        rows.append(row)
        return row


def rounded(time: float) -> float:
    """To microseconds: no clock that is asked from Python is better, and they take a quarter of the space."""
    return round(float(time), 6)


def _checked_step(step: int) -> int:
    step = int(step)
    if not -_STEP_LIMIT <= step < _STEP_LIMIT:
        raise OverflowError(f"step {step} does not fit into 64 bits")
    return step
