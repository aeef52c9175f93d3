"""Whatever an instrument may return comes back from the log as it was."""

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import Somewhere
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import ClauseElement, Dialect
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler

from cockpit.reading import Histogram, Histogram2d, Reading, Value
from cockpit.store import Column, Header, Reader, Store, Writer, sqlite

NAMES = ("conv.weight", "conv.bias", "schön", 'it\'s "quoted"')
scalars = st.none() | st.floats(width=64)


@st.composite
def histograms(draw: st.DrawFn) -> Histogram:
    bins = draw(st.integers(1, 5))
    counts = draw(st.lists(st.integers(0, 2**62), min_size=bins, max_size=bins))
    left = draw(st.sampled_from([-1.0, 0.0]))
    return Histogram(np.array(counts, np.int64), np.linspace(left, 1.0, bins + 1))


@st.composite
def histograms2d(draw: st.DrawFn) -> Histogram2d:
    bins = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    counts = draw(st.lists(st.integers(0, 2**62), min_size=bins[0] * bins[1], max_size=bins[0] * bins[1]))
    x, y = (np.linspace(draw(st.sampled_from([-1.0, 0.0])), 1.0, size + 1) for size in bins)
    return Histogram2d(np.array(counts, np.int64).reshape(bins), x, y)


def layered(values: st.SearchStrategy[Value]) -> st.SearchStrategy[dict[str, Value]]:
    return st.dictionaries(st.sampled_from(NAMES), values)


steps = st.integers(0, 5) | st.integers(-(2**63), 2**63 - 1)
numbers = st.builds(
    Reading, scalars, layered(scalars), st.fixed_dictionaries({"part": scalars, "rows": layered(scalars)})
)
counts = st.builds(Reading, st.none() | histograms(), layered(st.none() | histograms()))
pairs = st.builds(Reading, st.none() | histograms2d(), layered(st.none() | histograms2d()))
series = {"norm": numbers, "hist": counts, "pairs": pairs}
logs = st.lists(st.tuples(steps, st.fixed_dictionaries({}, optional=series)), max_size=8)


@contextmanager
def written(log: list[tuple[int, dict[str, Reading]]], somewhere: Somewhere) -> Iterator[Reader]:
    with somewhere() as place:
        writer = Writer(place, Header("run", 0.0))
        for step, readings in log:
            writer.put(step, 0.5, readings)
        writer.close()
        yield Reader(place)


def expected(log: list[tuple[int, dict[str, Reading]]], key: str) -> dict[str, dict[int, Any]]:
    """By series, the value at each step: the later of two counts."""
    found: dict[str, dict[int, Any]] = {key: {}, f"{key}/layers": {}}
    for step, readings in log:
        if key in readings:
            found[key][step] = readings[key].value
            if readings[key].layers:
                found[f"{key}/layers"][step] = readings[key].layers
    return found


def same(found: float, missing: bool, value: Value) -> bool:
    if value is None:
        return missing and math.isnan(found)
    assert isinstance(value, float)
    return not missing and (found == value or (math.isnan(found) and math.isnan(value)))


def check_histogram(column: Column, value: Value, *where: int) -> None:
    """Bins that other histograms have more of are empty and have no width."""
    assert column.missing[where] == (value is None)
    counted = column.values[where]
    if not isinstance(value, (Histogram, Histogram2d)):
        assert not counted.any()
        return
    own = tuple(map(slice, value.counts.shape))
    np.testing.assert_array_equal(counted[own], value.counts)
    assert (counted.sum(dtype=object), counted.ndim) == (value.counts.sum(dtype=object), value.counts.ndim)
    one_axis = isinstance(value, Histogram)
    axes = (
        [(column.edges, value.edges)] if one_axis else [(column.edges, value.x_edges), (column.y_edges, value.y_edges)]
    )
    for logged, edges in axes:
        at = logged if logged.ndim == 1 else logged[where]
        np.testing.assert_array_equal(at[: len(edges)], edges)
        assert (at[len(edges) :] == edges[-1]).all()


@given(log=logs)
@settings(max_examples=40, deadline=None)
def test_numbers_come_back_as_they_were(log: list[tuple[int, dict[str, Reading]]], somewhere: Somewhere) -> None:
    values = expected(log, "norm")
    with written(log, somewhere) as reader:
        assert [event for event in reader.events() if event.kind == "error"] == []
        if values["norm"]:
            column = reader.column("norm")
            assert column.kind == "scalar"
            assert list(column.steps) == sorted(values["norm"])
            for at, step in enumerate(column.steps):
                assert same(column.values[at], column.missing[at], values["norm"][step])
                one = reader.at("norm", int(step))
                assert same(one.values[0], one.missing[0], values["norm"][step])
        if values["norm/layers"]:
            column = reader.column("norm", "layers")
            assert list(column.steps) == sorted(values["norm/layers"])
            for at, step in enumerate(column.steps):
                layers = values["norm/layers"][step]
                for place, name in enumerate(column.layers):
                    assert same(column.values[at, place], column.missing[at, place], layers.get(name))


@pytest.mark.parametrize(("key", "kind"), [("hist", "histogram"), ("pairs", "histogram2d")])
@given(log=logs)
@settings(max_examples=40, deadline=None)
def test_histograms_come_back_as_they_were(
    key: str, kind: str, log: list[tuple[int, dict[str, Reading]]], somewhere: Somewhere
) -> None:
    values = expected(log, key)
    with written(log, somewhere) as reader:
        assert [event for event in reader.events() if event.kind == "error"] == []
        kinds = {series.kind for series in reader.series() if series.key == key}
        if any(value is not None for value in values[key].values()):
            assert "scalar" not in kinds
            column = reader.column(key)
            assert column.kind == kind
            assert list(column.steps) == sorted(values[key])
            for at, step in enumerate(column.steps):
                check_histogram(column, values[key][step], at)
        elif values[key]:
            assert reader.column(key).missing.all()
        layers = values[f"{key}/layers"]
        if any(value is not None for row in layers.values() for value in row.values()):
            assert "layers" not in kinds
            column = reader.column(key, f"layer_{kind.replace('gram', 'grams')}")
            assert list(column.steps) == sorted(layers)
            for at, step in enumerate(column.steps):
                for place, name in enumerate(column.layers):
                    check_histogram(column, layers[step].get(name), at, place)


@given(log=st.lists(st.tuples(st.integers(0, 3), st.floats()), min_size=1, max_size=8))
@settings(max_examples=20, deadline=None)
def test_user_metrics_come_back_as_they_were(log: list[tuple[int, float]], somewhere: Somewhere) -> None:
    with somewhere() as place:
        writer = Writer(place, Header("run", 0.0))
        for step, value in log:
            writer.scalars(step, 0.0, {"valid/accuracy": value})
        writer.close()
        column = Reader(place).column("valid/accuracy")
    last = dict(log)
    assert list(column.steps) == sorted(last)
    np.testing.assert_array_equal(column.values, [last[step] for step in sorted(last)])
    assert not column.missing.any()


def test_counts_take_the_space_of_their_size(tmp_path: Path) -> None:
    empty = Writer(tmp_path / "empty", Header("run", 0.0))
    empty.close()
    sizes = []
    for largest in (100, 2**40):
        writer = Writer(tmp_path / str(largest), Header("run", 0.0))
        numbers = np.random.default_rng(0).integers(0, largest, 1000)
        for step in range(100):
            writer.put(step, 0.0, {"hist": Reading(Histogram(numbers + step, np.arange(1001.0)))})
        writer.close()
        sizes.append(writer.path.stat().st_size - empty.path.stat().st_size)
    assert sizes[0] < 2 * 1000 * 100  # a byte each, and the file's pages
    assert sizes[1] > 3 * sizes[0]


def test_statements_are_compiled_once_for_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[ClauseElement] = []

    class Counted(SQLiteCompiler):
        def __init__(self, dialect: Dialect, statement: ClauseElement | None, **kwargs: Any) -> None:
            compiled.extend([] if statement is None else [statement])  # none: it helps to make the tables
            super().__init__(dialect, statement, **kwargs)

    def log_and_read(name: str) -> int:
        before = len(compiled)
        with closing(Writer(tmp_path / name, Header("run", 0.0))) as writer:
            writer.scalars(1, 0.0, {"valid/accuracy": 0.5})
        assert Reader(tmp_path / name).column("valid/accuracy").values.tolist() == [0.5]
        assert Store(tmp_path).summary(name).state == "finished"
        return len(compiled) - before

    monkeypatch.setattr(sqlite, "_COMPILED", {})
    monkeypatch.setattr(sqlite._common().dialect, "statement_compiler", Counted)
    first, second = log_and_read("a"), log_and_read("b")
    assert second == 0 < first
