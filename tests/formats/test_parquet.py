"""The table against what the reader reads: every series, every point, every layer, every bit."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cockpit.formats import parquet
from cockpit.reading import Histogram, Histogram2d, Reading
from cockpit.run import Run, load_run
from cockpit.store import Header, Store, Writer

pq = pytest.importorskip("pyarrow.parquet")

EDGES = np.array([-1.0, 0.0, 0.5, 4.0])
WIDE = np.linspace(-2, 2, 6)


@contextmanager
def written(log: list[tuple[int, dict[str, Reading]]], **about: Any) -> Iterator[Run]:
    with tempfile.TemporaryDirectory() as folder:
        writer = Writer(Path(folder) / "run", Header("run", 12.0, **about))
        for step, readings in log:
            writer.put(step, step / 4, readings)
        writer.close()
        yield load_run(Path(folder) / "run")


def rows_of(run: Run) -> list[dict[str, Any]]:
    """The table's rows, without the cells that are null."""
    with tempfile.TemporaryDirectory() as folder:
        run.to_parquet(Path(folder) / "run.parquet")
        table = pq.read_table(Path(folder) / "run.parquet").to_pylist()
    return [{name: cell for name, cell in row.items() if cell is not None} for row in table]


def test_a_number_is_a_row_a_gap_has_no_value_and_nan_has_one():
    values = [1.5, None, nan, inf, -inf]
    with written([(step, {"loss": Reading(value)}) for step, value in enumerate(values)]) as run:
        rows = rows_of(run)
    same = {"rank": 0, "key": "loss", "kind": "scalar", "origin": "instrument"}
    assert [{**same, "step": step, "time": step / 4} for step in range(5)] == [
        {name: cell for name, cell in row.items() if name != "value"} for row in rows
    ]
    assert [str(row.get("value", "a gap")) for row in rows] == ["1.5", "a gap", "nan", "inf", "-inf"]


def test_layers_have_a_row_each():
    first, second = Reading(2.0, {"a": 0.5, "b": inf}), Reading(3.0, {"a": None, "b": nan})
    with written([(0, {"norm": first}), (1, {"norm": second})]) as run:
        rows = [row for row in rows_of(run) if row["kind"] == "layers"]
    assert [(row["step"], row["layer"]) for row in rows] == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]
    assert [rows[0]["value"], rows[1]["value"], "value" in rows[2]] == [0.5, inf, False]
    assert np.isnan(rows[3]["value"])


def test_histograms_are_lists_of_their_own_length():
    small, large = Histogram(np.array([3, 0, 4]), EDGES), Histogram(np.arange(5), WIDE)
    pairs = Histogram2d(np.arange(6).reshape(3, 2), EDGES, EDGES[:3])
    log = [(0, {"h": Reading(small, {"a": small, "b": None})}), (1, {"h": Reading(large, {"a": large, "b": small})})]
    with written([*log, (2, {"h": Reading(None)}), (3, {"p": Reading(pairs)})]) as run:
        rows = rows_of(run)
    whole = {row["step"]: row for row in rows if row["kind"] == "histogram"}
    assert (whole[0]["counts"], whole[0]["edges"]) == ([3, 0, 4], EDGES.tolist())
    assert (whole[1]["counts"], whole[1]["edges"]) == ([0, 1, 2, 3, 4], WIDE.tolist())
    assert "counts" not in whole[2]
    layered = {(row["step"], row["layer"]): row.get("counts") for row in rows if row["kind"] == "layer_histograms"}
    assert layered == {(0, "a"): [3, 0, 4], (0, "b"): None, (1, "a"): [0, 1, 2, 3, 4], (1, "b"): [3, 0, 4]}
    (both,) = [row for row in rows if row["kind"] == "histogram2d"]
    assert (both["counts"], both["edges"], both["y_edges"]) == ([0, 1, 2, 3, 4, 5], EDGES.tolist(), EDGES[:3].tolist())


def test_arrays_come_with_shape_and_type():
    arrays = {"w": np.array([[1.5, nan], [inf, -0.0]], np.float32), "b": np.array(2.0)}
    with written([(3, {"theta": Reading(None, arrays=arrays)})]) as run:
        rows = [row for row in rows_of(run) if row["kind"] == "arrays"]
    assert [row["layer"] for row in rows] == ["w", "b"]
    for row, array in zip(rows, arrays.values(), strict=True):
        back = np.array(row["array"], row["dtype"]).reshape(row["shape"])
        assert back.dtype == array.dtype
        assert back.tobytes() == array.tobytes()


def test_overtaken_steps_are_left_out(tmp_path):
    for start, value in ((0, 1.0), (5, 2.0)):
        writer = Writer(tmp_path / "run", Header("run", 0.0), resume=start or False)
        for step in range(start, 10):
            writer.put(step, 0.0, {"loss": Reading(value)})
        writer.close()
    rows = rows_of(load_run(tmp_path / "run"))
    assert [(row["step"], row["value"]) for row in rows] == [(step, 1.0 + (step >= 5)) for step in range(10)]


def test_rows_of_several_processes_have_their_ranks(tmp_path):
    for rank in (0, 1):
        writer = Writer(tmp_path / "run", Header("run", 0.0), rank=rank)
        writer.put(3, 0.5, {"loss": Reading(float(rank), layers={"a": 2.0 + rank})})
        writer.close()
    rows = [(row["rank"], row.get("layer"), row["value"]) for row in rows_of(load_run(tmp_path / "run"))]
    assert rows == [(0, None, 0.0), (0, "a", 2.0), (1, None, 1.0), (1, "a", 3.0)]
    (row,) = [row for row in rows_of(load_run(tmp_path / "run" / "rank1")) if "layer" not in row]
    assert (row["rank"], row["value"]) == (1, 1.0)


def test_the_file_says_what_run_it_is(tmp_path):
    with written([], config={"lr": 0.1, "name": "<b>"}, tags=("first",)) as run:
        Store(run.reader.path.parents[1]).annotate("run", notes="good")
        run.to_parquet(tmp_path / "run.parquet")
    file = pq.ParquetFile(tmp_path / "run.parquet")
    assert json.loads(file.schema_arrow.metadata[b"cockpit"]) == {
        "name": "run", "state": "finished", "created": 12.0, "config": {"lr": 0.1, "name": "<b>"}, "tags": ["first"],
        "notes": "good",
    }  # fmt: skip
    assert file.metadata.num_rows == 0


def test_a_long_run_is_read_and_written_a_stretch_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "NUMBERS", 2000)
    writer = Writer(tmp_path / "run", Header("run", 0.0))
    for step in range(6000):
        writer.scalars(step, 0.0, {"loss": float(step)})
        if step % 10 == 0:
            writer.put(step, 0.0, {"norm": Reading(None, dict.fromkeys("abcd", 1.0))})
    writer.close()
    run, read = load_run(tmp_path / "run"), []
    column = type(run.reader).column
    monkeypatch.setattr(
        type(run.reader), "column", lambda *args, **keywords: read.append(column(*args, **keywords)) or read[-1]
    )
    rows = rows_of(run)
    assert [row["value"] for row in rows if row["key"] == "loss"] == list(range(6000))
    assert len([row for row in rows if row["key"] == "norm" and "layer" in row]) == 2400
    assert max(column.values.size for column in read) < 2000 + 1024


numbers = st.none() | st.floats()
names = st.sampled_from(["a", "b", "=1+1", "<b>é</b>"])
histograms = st.integers(1, 4).flatmap(
    lambda bins: st.builds(
        lambda counts, low: Histogram(np.array(counts), low + np.arange(bins + 1.0)),
        st.lists(st.integers(0, 2**40), min_size=bins, max_size=bins), st.floats(-9, 9),
    )
)  # fmt: skip
values = st.one_of(
    st.builds(Reading, numbers, st.dictionaries(names, numbers)),
    st.builds(Reading, st.none() | histograms, st.dictionaries(names, st.none() | histograms)),
)
logs = st.lists(st.tuples(st.integers(-3, 9), st.dictionaries(st.sampled_from(["x", "y"]), values)), max_size=6)


@settings(max_examples=12, deadline=None)
@given(log=logs, held=st.sampled_from([1, 7, 1 << 19]))
def test_the_table_holds_what_the_reader_reads(log, held):
    with pytest.MonkeyPatch.context() as patch, written(log) as run:
        patch.setattr(parquet, "NUMBERS", held)
        rows = rows_of(run)
        found = {(row["key"], row["kind"], row["step"], row.get("layer")): row for row in rows}
        assert len(found) == len(rows)
        for entry in run.reader.series():
            column = run.reader.column(entry.key, entry.kind)
            for at, step in enumerate(column.steps.tolist()):
                for place, layer in enumerate(column.layers or [None]):
                    where = (at, place) if column.layers else (at,)
                    row = found.pop((entry.key, entry.kind, step, layer), {})
                    check(row, column, where)
        assert not found


def check(row, column, where):
    if column.missing[where]:
        assert not row.keys() & {"value", "counts", "edges"}
    elif column.edges is None:
        np.testing.assert_array_equal(row["value"], column.values[where])
    else:
        bins = len(row["counts"])
        edges = column.edges if column.edges.ndim == 1 else column.edges[where]
        np.testing.assert_array_equal(row["counts"], column.values[where][:bins])
        np.testing.assert_array_equal(row["edges"], edges[: bins + 1])
        assert column.values[where].sum() == sum(row["counts"])
        assert (edges[bins + 1 :] == edges[bins]).all()


def test_without_pyarrow_the_extra_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "cockpit.formats.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with written([]) as run, pytest.raises(ImportError, match=r"pip install 'cockpit-debugger\[parquet\]'"):
        run.to_parquet("nowhere.parquet")
