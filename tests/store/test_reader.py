import random
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from backends import Backend

from cockpit.reading import Histogram, Reading
from cockpit.store import Reader, UnreadableLog, Writer

EVERY_DATABASE = True

Start = Callable[..., Writer]
EDGES = np.array([0.0, 1.0, 2.0])


def histogram(*counts: int, edges: np.ndarray = EDGES) -> Histogram:
    return Histogram(np.array(counts), edges)


def losses(start: Start, steps: range) -> tuple[Writer, Reader]:
    writer = start()
    for step in steps:
        writer.put(step, 0.1 * step, {"loss": Reading(float(step))})
    assert writer.flush()
    return writer, Reader(writer.path)


def test_a_column_is_in_step_order_whatever_the_order_of_logging(start: Start) -> None:
    writer = start()
    for step in (5, 1, 3, -2):
        writer.put(step, 10.0 - step, {"loss": Reading(float(step))})
    assert writer.flush()
    reader = Reader(writer.path)
    column = reader.column("loss")
    assert list(column.steps) == list(column.values) == [-2, 1, 3, 5]
    assert list(column.times) == [12.0, 9.0, 7.0, 5.0]
    (series,) = reader.series()
    assert (series.points, series.first_step, series.last_step) == (4, -2, 5)


def test_of_a_step_logged_twice_the_later_point_counts(start: Start) -> None:
    writer = start()
    for value in (1.0, 2.0):
        writer.put(7, value, {"loss": Reading(value, {"a": value}), "hist": Reading(histogram(int(value), 0))})
    assert writer.flush()
    reader = Reader(writer.path)
    assert list(reader.column("loss").values) == list(reader.at("loss", 7).values) == [2.0]
    assert reader.column("loss", "layers").values.tolist() == [[2.0]]
    assert reader.column("hist").values.tolist() == reader.at("hist", 9).values.tolist() == [[2, 0]]


def test_nan_and_infinity_are_not_missing_and_missing_is_not_nan(start: Start) -> None:
    writer = start()
    nan, inf = float("nan"), float("inf")
    for step, value in enumerate((nan, inf, -inf, None, 1.0)):
        writer.put(step, 0.0, {"loss": Reading(value, {"a": value, "b": None if step else nan})})
    assert writer.flush()
    reader = Reader(writer.path)
    column = reader.column("loss")
    np.testing.assert_array_equal(column.values, [nan, inf, -inf, nan, 1.0])
    assert list(column.missing) == [False, False, False, True, False]
    layers = reader.column("loss", "layers")
    np.testing.assert_array_equal(layers.values[:, 0], [nan, inf, -inf, nan, 1.0])
    assert layers.missing.tolist() == [[False, False], [False, True], [False, True], [True, True], [False, True]]


def test_an_equal_cursor_means_nothing_new_and_a_cursor_asks_for_what_came_after(start: Start) -> None:
    writer, reader = losses(start, range(10))
    cursor = reader.cursor()
    assert len(reader.column("loss", since=cursor)) == 0
    assert reader.cursor() == cursor
    writer.put(3, 9.0, {"loss": Reading(-3.0, {"a": 1.0})})
    writer.event(3, 9.0, "warning", "careful")
    assert writer.flush()
    assert reader.cursor() > cursor
    new = reader.column("loss", since=cursor)
    assert (list(new.steps), list(new.values)) == ([3], [-3.0])
    assert list(reader.column("loss", "layers", since=cursor).steps) == [3]
    assert [event.text for event in reader.events(since=cursor)] == ["careful"]
    cursor = reader.cursor()
    writer.document("coverage", 1)
    assert writer.flush()
    assert reader.cursor() > cursor
    cursor = reader.cursor()
    writer.close()
    assert reader.cursor() > cursor


def test_what_is_asked_at_once_is_of_one_moment(start: Start) -> None:
    writer, reader = losses(start, range(3))
    with reader.at_once():
        before = reader.cursor()
        writer.put(3, 0.3, {"loss": Reading(3.0)})
        assert writer.flush()
        assert (reader.cursor(), len(reader.column("loss"))) == (before, 3)
    assert reader.cursor() > before
    assert len(reader.column("loss")) == 4


def test_steps_bound_a_column_at_both_ends_inclusively(start: Start) -> None:
    _, reader = losses(start, range(0, 100, 10))
    assert list(reader.column("loss", steps=(20, 50)).steps) == [20, 30, 40, 50]
    assert len(reader.column("loss", steps=(91, 99))) == 0


def test_a_value_at_a_step_is_the_last_one_before_it(start: Start) -> None:
    _, reader = losses(start, range(10, 40, 10))
    assert [list(reader.at("loss", step).values) for step in (9, 10, 19, 20, 1000)] == [
        [],
        [10.0],
        [10.0],
        [20.0],
        [30.0],
    ]


def test_points_are_bounded(start: Start) -> None:
    writer = start()
    for step in range(1000):
        value = 100.0 if step == 777 else 1.0
        writer.put(step, 0.0, {"loss": Reading(value, {"a": value}), "hist": Reading(histogram(step, 1))})
    assert writer.flush()
    reader = Reader(writer.path)
    column = reader.column("loss", max_points=50)
    assert len(column) <= 50
    assert column.values[list(column.steps).index(777)] == 100.0
    for key, kind in (("loss", "layers"), ("hist", "histogram")):
        column = reader.column(key, kind, max_points=50)
        assert len(column) == 50
        assert (column.steps[0], column.steps[-1]) == (0, 999)
        assert set(np.diff(column.steps)) <= {20, 21}
    with pytest.raises(ValueError, match="max_points must be 2 or more, not 1"):
        reader.column("loss", max_points=1)


def test_layers_that_come_and_go_are_all_there_with_gaps(start: Start) -> None:
    writer = start()
    writer.put(0, 0.0, {"norm": Reading(None, {"a": 1.0, "b": 2.0})})
    writer.put(1, 0.0, {"norm": Reading(None, {"b": 3.0, "c": None})})
    assert writer.flush()
    column = Reader(writer.path).column("norm", "layers")
    assert column.layers == ("a", "b", "c")
    np.testing.assert_array_equal(column.values, [[1.0, 2.0, np.nan], [np.nan, 3.0, np.nan]])
    assert column.missing.tolist() == [[False, False, True], [True, False, True]]


def test_edges_are_one_row_where_they_are_shared_and_one_for_each_where_not(start: Start) -> None:
    writer = start()
    wide = EDGES * 10
    writer.put(0, 0.0, {"fixed": Reading(histogram(1, 2)), "moving": Reading(histogram(1, 2))})
    writer.put(1, 0.0, {"fixed": Reading(None), "moving": Reading(histogram(3, edges=wide[:2]))})
    layers = {"a": histogram(1, 2), "b": None, "c": histogram(1, 2, edges=wide)}
    writer.put(2, 0.0, {"fixed": Reading(histogram(5, 6), {"a": histogram(7, 8)}), "layered": Reading(None, layers)})
    assert writer.flush()
    reader = Reader(writer.path)
    fixed = reader.column("fixed")
    np.testing.assert_array_equal(fixed.edges, EDGES)
    assert fixed.values.tolist() == [[1, 2], [0, 0], [5, 6]]
    assert fixed.missing.tolist() == [False, True, False]
    moving = reader.column("moving")
    np.testing.assert_array_equal(moving.edges, [EDGES, [0.0, 10.0, 10.0]])
    assert moving.values.tolist() == [[1, 2], [3, 0]]
    np.testing.assert_array_equal(reader.at("moving", 1).edges, [0.0, 10.0])
    layered = reader.column("layered", "layer_histograms")
    np.testing.assert_array_equal(layered.edges, [[EDGES, [np.nan] * 3, wide]])
    assert layered.missing.tolist() == [[False, True, False]]
    np.testing.assert_array_equal(reader.column("fixed", "layer_histograms").edges, EDGES)


def test_a_histogram_that_was_missing_at_first_is_one_series(start: Start) -> None:
    writer = start()
    writer.put(0, 0.0, {"hist": Reading(None, {"a": None})})
    assert writer.flush()
    reader = Reader(writer.path)
    assert [series.kind for series in reader.series()] == ["scalar", "layers"]
    writer.put(1, 0.0, {"hist": Reading(histogram(1, 2), {"a": histogram(1, 2)})})
    writer.put(2, 0.0, {"hist": Reading(None, {"a": None})})
    assert writer.flush()
    assert [series.kind for series in reader.series()] == ["histogram", "layer_histograms"]
    assert reader.column("hist").missing.tolist() == [True, False, True]
    assert reader.column("hist", "layer_histograms").missing.tolist() == [[True], [False], [True]]


def test_an_unknown_key_names_the_nearest_and_all(start: Start) -> None:
    writer, reader = losses(start, range(1))
    writer.put(1, 0.0, {"grad_norm": Reading(1.0, {"a": 1.0})})
    assert writer.flush()
    with pytest.raises(KeyError, match=r"as 'gradnorm', did you mean 'grad_norm'\? There are: grad_norm, loss"):
        reader.column("gradnorm")
    with pytest.raises(KeyError, match="'grad_norm' is logged as scalar, layers, not as histogram"):
        reader.column("grad_norm", "histogram")
    with pytest.raises(KeyError, match=r"nothing is logged as 'x'\. There are: grad_norm, loss"):
        reader.at("x", 3)


def test_a_reader_may_be_asked_from_many_threads(start: Start) -> None:
    writer, reader = losses(start, range(1000))
    lengths: list[int] = []

    def ask() -> None:
        for _ in range(10):
            lengths.append(len(reader.column("loss")))
            reader.series()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for step in range(1000, 1200):
        writer.put(step, 0.0, {"loss": Reading(1.0)})
    for thread in threads:
        thread.join()
    assert len(lengths) == 40
    assert all(1000 <= length <= 1200 for length in lengths)


def broken(path: Path, how: str) -> None:
    if how == "cut short":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "text":
        path.write_text("loss,step\n" * 100)
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "foreign":
        path.unlink()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE recipes (name TEXT)")
    elif how == "newer":
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE run SET schema_version = 99")
            connection.execute("ALTER TABLE run RENAME COLUMN header TO description")
    elif how == "missing":
        path.unlink()


@pytest.mark.files
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("cut short", "damaged or cut short"),
        ("text", "not a log of Cockpit"),
        ("empty", "it is empty"),
        ("foreign", "not a log of Cockpit"),
        ("newer", r"newer Cockpit \(log version 99, this one reads up to 4\): upgrade with"),
        ("missing", "there is no such file"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(start: Start, how: str, words: str) -> None:
    writer, _ = losses(start, range(2000))
    writer.close()
    broken(writer.path, how)
    with pytest.raises(UnreadableLog, match=words):
        Reader(writer.path).column("loss")


def test_damaged_payloads_say_so(start: Start, backend: Backend) -> None:
    writer = start()
    writer.put(0, 0.0, {"hist": Reading(histogram(1, 2))})
    writer.close()
    backend.tamper(writer, "UPDATE payload SET data = ?", b"u1" + b"x" * 20)
    with pytest.raises(UnreadableLog, match="is damaged"):
        Reader(writer.path).column("hist")


@pytest.mark.parametrize("order", ["ascending", "descending", "random"])
def test_stretches_leave_no_step_out_and_are_of_about_one_size(start: Start, order: str) -> None:
    steps = list(range(-500, 6500))
    {"ascending": list.sort, "descending": list.reverse, "random": random.Random(0).shuffle}[order](steps)
    writer = start()
    for step in steps:
        writer.scalars(step, 0.0, {"loss": float(step)})
    writer.close()
    reader = Reader(writer.path)
    stretches = reader.stretches("loss", "scalar", 1500)
    assert [end + 1 for _, end in stretches[:-1]] == [begin for begin, _ in stretches[1:]]
    parts = [reader.column("loss", "scalar", steps=stretch) for stretch in stretches]
    np.testing.assert_array_equal(np.concatenate([part.values for part in parts]), sorted(steps))
    if order != "random":
        assert len(stretches) > 3
        assert max(map(len, parts)) < 1500 + 1024


def test_a_series_of_few_points_is_one_stretch(start: Start) -> None:
    _, reader = losses(start, range(3))
    assert reader.stretches("loss", "scalar", 3) == [(-(2**63), 2**63 - 1)]
    with pytest.raises(KeyError, match="did you mean 'loss'"):
        reader.stretches("los", "scalar", 3)


def test_a_series_that_only_ever_missed_has_no_value_yet(start: Start) -> None:
    writer = start()
    writer.put(0, 0.0, {"amp": Reading(None), "loss": Reading(float("nan")), "hist": Reading(histogram(1, 2))})
    assert writer.flush()
    reader = Reader(writer.path)
    assert {series.key: series.defined for series in reader.series()} == {"amp": False, "loss": True, "hist": True}
    writer.put(1, 0.1, {"amp": Reading(1024.0)})
    assert writer.flush()
    assert all(series.defined for series in reader.series())


def test_words_that_belong_to_a_reading_are_kept_once(start: Start) -> None:
    writer = start()
    for step in range(3):
        writer.put(step, 0.1 * step, {"input": Reading(1.0, note="the input is of dtype uint8")})
    assert writer.flush()
    (event,) = Reader(writer.path).events()
    assert (event.step, event.kind, event.subject, event.text) == (0, "info", "input", "the input is of dtype uint8")
