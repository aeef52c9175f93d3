"""Columns that are kept and carried on."""

import numpy as np
import pytest
from drawn import scalars
from synthetic import header

from cockpit.dashboard import columns as columns_module
from cockpit.dashboard.columns import Columns, joined, thinned
from cockpit.reading import Reading
from cockpit.store import Reader, Writer

KEYS = ("loss", "grad_norm")


class Counting:
    """A log that counts how often it is read, by what for."""

    def __init__(self, reader):
        self._reader, self.asked = reader, []

    def __getattr__(self, name):
        def asked(*arguments, **settings):
            self.asked.append((name, *(setting for setting, value in settings.items() if value)))
            return getattr(self._reader, name)(*arguments, **settings)

        return asked


@pytest.fixture
def writer(tmp_path):
    writer = Writer(tmp_path / "run", header("run"), flush_interval=0.05)
    yield writer
    writer.close()


def put(writer, steps):
    for step in steps:
        writer.put(step, 0.1 * step, {key: Reading(float(np.sin(step))) for key in KEYS})
    assert writer.flush()


def test_a_growing_curve_is_read_once_and_then_its_news_once_for_all_curves(tmp_path, writer):
    put(writer, range(300))
    log = Counting(Reader(tmp_path / "run"))
    columns = Columns(log)
    for first in range(300, 1500, 150):
        cursor = log._reader.cursor()
        for key in KEYS:
            found = columns.get(key, "scalar", cursor, most=100)
            assert len(found) <= 200
            assert (found.steps[0], found.steps[-1]) == (0, first - 1)
        put(writer, range(first, first + 150))
    assert log.asked == [("column", "max_points")] * 2 + [("news",)] * 7


def test_what_was_missed_for_long_is_read_for_itself(tmp_path, writer, monkeypatch):
    monkeypatch.setattr(columns_module, "SHARED", 50)
    put(writer, range(100))
    log = Counting(Reader(tmp_path / "run"))
    columns = Columns(log)
    columns.get("loss", "scalar", log._reader.cursor())
    put(writer, range(100, 200))
    found = columns.get("loss", "scalar", log._reader.cursor())
    assert log.asked == [("column",), ("column", "since")]
    np.testing.assert_array_equal(found.steps, np.arange(200))


def test_what_is_made_of_points_is_made_of_some(tmp_path, writer):
    put(writer, range(10))
    reader, sizes = Reader(tmp_path / "run"), []
    columns = Columns(reader)

    def reduce(column):
        sizes.append(len(column))
        return column

    for _ in range(2):
        columns.get("loss", "scalar", reader.cursor(), name="sizes", reduce=reduce)
        writer.put(50, 5.0, {"other": Reading(1.0)})
        assert writer.flush()
    assert sizes == [10]


def test_a_stretch_of_steps_grows_within_its_ends(tmp_path, writer):
    put(writer, range(100))
    log = Counting(Reader(tmp_path / "run"))
    columns = Columns(log)
    assert columns.get("loss", "scalar", log._reader.cursor(), steps=(50, 120)).steps.tolist() == list(range(50, 100))
    put(writer, range(100, 200))
    assert columns.get("loss", "scalar", log._reader.cursor(), steps=(50, 120)).steps.tolist() == list(range(50, 121))


def test_a_point_is_read_again_only_where_its_series_has_grown(tmp_path, writer):
    put(writer, range(10))
    log = Counting(Reader(tmp_path / "run"))
    columns = Columns(log)
    for _ in range(3):
        (series, _) = log._reader.series()
        assert columns.at(series, 5).steps.tolist() == [5]
    assert log.asked == [("at",)]
    writer.put(5, 9.0, {"loss": Reading(7.0)})
    assert writer.flush()
    (series, _) = log._reader.series()
    assert columns.at(series, 5).values.tolist() == [7.0]


def test_thinning_keeps_both_ends_every_extreme_and_the_first_gap_of_each_sort():
    values = np.random.default_rng(0).normal(0, 1, 5000)
    values[[1234, 4321]] = 50, -50
    values[[777, 778]], values[2000], values[3000] = np.nan, np.inf, -np.inf
    column = scalars("loss", values.tolist(), range(0, 50_000, 10))
    column.missing[1500] = True
    found = thinned(column, 200)
    assert len(found) <= 200
    assert {0, 49_990, 12_340, 43_210, 7770, 20_000, 30_000, 15_000} <= set(found.steps.tolist())
    assert 7780 not in found.steps


def test_thinning_is_even_over_the_steps_however_the_points_lie():
    """As after a while of a live run: few points of the long past, all of the last moment."""
    steps = [*range(0, 100_000, 1000), *range(100_000, 100_400)]
    found = thinned(scalars("loss", np.sin(steps).tolist(), steps), 100)
    assert np.count_nonzero(found.steps < 100_000) > 90


def test_thinning_again_and_again_never_loses_the_largest():
    random = np.random.default_rng(1)
    kept = scalars("loss", [0.0], [0])
    for first in range(1, 20_000, 500):
        values = random.lognormal(0, 1, 500)
        values[250] = 1000.0 if first == 5001 else values[250]
        kept = joined(kept, scalars("loss", values.tolist(), range(first, first + 500)))
        kept = thinned(kept, 300) if len(kept) > 600 else kept
    assert kept.steps[kept.values.argmax()] == 5251
    assert np.diff(kept.steps).max() < 2 * 20_000 / 149
