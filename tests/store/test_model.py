"""A log against a plain list of what was put into it: whatever was done, every question has the same answer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pytest
from backends import Somewhere
from hypothesis import given, settings
from hypothesis import strategies as st

from cockpit.reading import Histogram, Reading
from cockpit.store import Column, Header, Reader, Writer, encoder, upkeep

EDGES = np.linspace(0, 1, 4)
LAYERS = ("a", "b")
Value: TypeAlias = Any

steps = st.integers(0, 12)
numbers = st.none() | st.floats(allow_nan=True) | st.sampled_from([0.0, 1.0])
rows = st.fixed_dictionaries(dict.fromkeys(LAYERS, numbers))
counts = st.none() | st.lists(st.integers(0, 300), min_size=3, max_size=3)
operations = st.lists(
    st.tuples(st.just("put"), steps, numbers, rows, counts)
    | st.tuples(st.just("many"), steps, st.integers(1, 12))
    | st.tuples(st.just("flush"))
    | st.tuples(st.just("resume"), st.just(True) | steps),
    max_size=30,
)


@dataclass
class Point:
    attempt: int
    step: int
    time: float
    values: dict[str, Value]


@dataclass
class Model:
    """What was put, in that order, and where each attempt begins."""

    points: list[Point] = field(default_factory=list)
    firsts: list[int | None] = field(default_factory=lambda: [None])
    has_read: bool = False

    def put(self, step: int, time: float, values: dict[str, Value]) -> None:
        if not self.has_read:
            first = self.firsts[-1]
            self.firsts[-1] = step if first is None else min(step, first)
            self.has_read = True
        self.points.append(Point(len(self.firsts) - 1, step, time, values))

    def resume(self, at: bool | int) -> None:
        last = max((point.step for point in self.seen()), default=-1)
        self.firsts.append(last + 1 if at is True else at)
        self.has_read = False

    def seen(self, points: list[Point] | None = None) -> list[Point]:
        def masked(point: Point) -> bool:
            later = self.firsts[point.attempt + 1 :]
            return any(first is not None and point.step >= first for first in later)

        return [point for point in (self.points if points is None else points) if not masked(point)]


def newest(points: list[Point]) -> list[Point]:
    """By step; of one step the last."""
    by_step = {point.step: point for point in points}
    return [by_step[step] for step in sorted(by_step)]


@contextmanager
def short_tails() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "_TAIL", (6, 4))
        patch.setattr(encoder, "_LENGTH", (4, 3))
        patch.setattr(upkeep, "LONGEST", 4)
        patch.setattr(upkeep, "VECTORS", 3)
        yield


def reading(values: dict[str, Value]) -> dict[str, Reading]:
    found = values["hist"]
    histogram = None if found is None else Histogram(np.array(found), EDGES)
    return {"norm": Reading(values["norm"], values["layers"]), "hist": Reading(histogram)}


def same(one: float, missing: bool, value: float | None) -> bool:
    if value is None:
        return bool(missing) and math.isnan(one)
    return not missing and (one == value or (math.isnan(one) and math.isnan(value)))


def check(column: Column, points: list[Point], key: str) -> None:
    assert column.steps.tolist() == [point.step for point in points]
    assert column.times.tolist() == [point.time for point in points]
    for at, point in enumerate(points):
        if key == "norm":
            assert same(column.values[at], column.missing[at], point.values[key])
        elif key == "layers":
            for place, name in enumerate(column.layers):
                assert same(column.values[at, place], column.missing[at, place], point.values[key][name])
        elif column.kind == "histogram":
            assert column.missing[at] == (point.values[key] is None)
            counts = point.values[key]
            assert not column.values[at].any() if counts is None else column.values[at].tolist() == counts


QUESTIONS = (("norm", "norm", "scalar"), ("layers", "norm", "layers"), ("hist", "hist", None))


def glance(reader: Reader, model: Model, cursors: list[tuple[int, int]]) -> bool:
    """What is asked of a log that grows: what there is, and what is new; whether there is anything."""
    seen = model.seen()
    keys = {series.key: series for series in reader.series() if series.kind != "layers"}
    assert (not seen) == (not keys)
    if not seen:
        return False
    for series in keys.values():
        steps = [point.step for point in seen]
        assert (series.points, series.first_step, series.last_step) == (len(seen), min(steps), max(steps))
    last = newest(seen)[-1].values["norm"]
    latest = reader.latest()["norm"]
    assert same(np.nan if latest is None else latest, latest is None, last)
    for key, name, kind in QUESTIONS:
        for cursor, length in cursors:
            check(reader.column(name, kind, since=cursor), newest(model.seen(model.points[length:])), key)
    return True


def ask(reader: Reader, model: Model, cursors: list[tuple[int, int]]) -> None:
    """Every kind of question."""
    if not glance(reader, model, cursors):
        return
    seen = model.seen()
    for key, name, kind in QUESTIONS:
        check(reader.column(name, kind), newest(seen), key)
        check(reader.column(name, kind, steps=(3, 8)), [p for p in newest(seen) if 3 <= p.step <= 8], key)
        for step in range(-1, 14, 3):
            check(reader.at(name, step, kind), [p for p in newest(seen) if p.step <= step][-1:], key)
        for attempt in range(len(model.firsts)):
            own = [point for point in model.points if point.attempt == attempt]
            check(reader.column(name, kind, attempt=attempt + 1), newest(own), key)
        whole, thinned = reader.column(name, kind), reader.column(name, kind, max_points=5)
        assert len(thinned) <= 5
        assert {whole.steps[0], whole.steps[-1]} <= set(thinned.steps) <= set(whole.steps)


@dataclass
class Play:
    """A log that is written, and its model."""

    place: str
    model: Model = field(default_factory=Model)
    cursors: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])
    clock: float = 0.0

    def __post_init__(self) -> None:
        self.writer = self.begun(False)

    def begun(self, resume: bool | int) -> Writer:
        return Writer(self.place, Header("run", 0.0), resume=resume, flush_interval=60.0)

    def put(self, step: int, norm: Value, layers: Value, hist: Value) -> None:
        self.clock += 0.25
        values = {"norm": norm, "layers": layers, "hist": hist}
        self.writer.put(step, self.clock, reading(values))
        self.model.put(step, self.clock, values)

    def many(self, first: int, count: int) -> None:
        for step in range(first, first + count):
            self.put(step, step / 8, {"a": 1.0, "b": None}, [step, 0, 1])

    def resume(self, at: bool | int) -> None:
        self.writer.close()
        self.writer = self.begun(at)
        self.model.resume(at)
        self.flush()

    def flush(self) -> None:
        assert self.writer.flush()
        reader = Reader(self.writer.path)
        glance(reader, self.model, [(0, 0), self.cursors[-1]])
        self.cursors.append((reader.cursor(), len(self.model.points)))

    def end(self) -> None:
        self.flush()
        ask(Reader(self.writer.path), self.model, self.cursors[-3:])
        self.writer.close()
        reader = Reader(self.writer.path)
        ask(reader, self.model, self.cursors[-3:])
        assert [event.text for event in reader.events() if event.kind == "error"] == []


@given(actions=operations)
@settings(max_examples=15, deadline=None)
def test_a_log_answers_as_a_list_of_all_points_would(actions: list[tuple[Any, ...]], somewhere: Somewhere) -> None:
    with somewhere() as place, short_tails():
        play = Play(place)
        try:
            for what, *arguments in actions:
                getattr(play, what)(*arguments)
            play.end()
        finally:
            play.writer.close()
