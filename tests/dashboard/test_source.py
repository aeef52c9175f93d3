import numpy as np
import pytest
from synthetic import header, write_run

from cockpit.dashboard import source as source_module
from cockpit.dashboard.source import MOST_POINTS, Source
from cockpit.dashboard.sources import Sources
from cockpit.reading import Reading
from cockpit.store import Store, Writer


@pytest.fixture
def writer(tmp_path):
    writer = Writer(tmp_path / "run", header("run"), flush_interval=0.05)
    yield writer
    writer.close()


def put(writer, steps, key="loss"):
    for step in steps:
        writer.put(step, 0.1 * step, {key: Reading(float(np.sin(step)))})
    assert writer.flush()


def assert_same(column, other):
    for name in ("steps", "times", "values", "missing"):
        np.testing.assert_array_equal(getattr(column, name), getattr(other, name))


def test_a_run_without_points_has_no_span(tmp_path, writer):
    source = Source(Store(tmp_path).open("run"))
    assert source.span() is None
    assert source.scalars("loss") is None
    assert source.at("grad_hist_1d", "histogram", None) is None
    assert source.scalar_at("loss", None) is None


def test_growing_columns_equal_columns_read_at_once(tmp_path, writer):
    put(writer, range(0, 50))
    source = Source(Store(tmp_path).open("run"))
    source.scalars("loss")
    put(writer, range(50, 70))
    assert len(source.scalars("loss").steps) == 50  # as of the last refresh
    source.refresh()
    assert_same(source.scalars("loss"), Store(tmp_path).open("run").column("loss"))


def test_points_that_come_late_or_twice_take_their_place(tmp_path, writer):
    put(writer, [0, 10, 20])
    source = Source(Store(tmp_path).open("run"))
    source.scalars("loss")
    writer.put(10, 1.0, {"loss": Reading(7.0)})
    writer.put(5, 0.5, {"loss": Reading(None)})
    assert writer.flush()
    source.refresh()
    column = source.scalars("loss")
    assert_same(column, Store(tmp_path).open("run").column("loss"))
    assert column.steps.tolist() == [0, 5, 10, 20]
    assert column.values[2] == 7.0


def test_long_curves_stay_bounded_while_they_grow(tmp_path, writer):
    put(writer, range(3 * MOST_POINTS))
    source = Source(Store(tmp_path).open("run"))
    assert len(source.scalars("loss").steps) <= MOST_POINTS
    for start in range(3 * MOST_POINTS, 6 * MOST_POINTS, MOST_POINTS // 2):
        put(writer, range(start, start + MOST_POINTS // 2))
        source.refresh()
        column = source.scalars("loss")
        assert len(column.steps) <= 2 * MOST_POINTS
        assert column.steps[-1] == start + MOST_POINTS // 2 - 1


def test_what_is_counted_is_all_there_is(tmp_path, writer):
    put(writer, range(2 * MOST_POINTS), key="alpha")
    source = Source(Store(tmp_path).open("run"))
    assert len(source.sampled("alpha", None).steps) == 2 * MOST_POINTS
    assert source.sampling("alpha") == 0


def put_alphas(writer, steps):
    for step in steps:
        writer.put(step, 0.1 * step, {"alpha": Reading(0.1 * step, parts={"concave": float(step % 40 == 0)})})
    assert writer.flush()


def test_of_very_many_steps_a_fair_sample_is_counted_that_grows_with_them(tmp_path, writer, monkeypatch):
    monkeypatch.setattr(source_module, "MOST_SAMPLED", 100)
    source = Source(Store(tmp_path).open("run"))
    for first in range(0, 30_000, 3000):
        put_alphas(writer, range(first, first + 3000, 10))
        source.refresh()
        alpha, concave = (source.sampled(key, None) for key in ("alpha", "alpha.concave"))
        assert_same(alpha, Source(Store(tmp_path).open("run")).sampled("alpha", None))
        np.testing.assert_array_equal(alpha.steps, concave.steps)
        assert alpha.steps[-1] == first + 2990
        assert 40 < len(alpha.steps) <= 110
    thirds, _ = np.histogram(alpha.steps, (0, 10_000, 20_000, 30_000))
    np.testing.assert_allclose(thirds, len(alpha.steps) / 3, atol=2)
    assert concave.values.mean() == pytest.approx(0.25, abs=0.05)


def test_the_selected_step_is_in_the_sample(tmp_path, writer, monkeypatch):
    monkeypatch.setattr(source_module, "MOST_SAMPLED", 100)
    put_alphas(writer, range(0, 10_000, 10))
    source = Source(Store(tmp_path).open("run"))
    for step in range(0, 200, 10):
        assert step in source.sampled("alpha", step).steps


def test_a_closeup_has_every_point_of_its_steps(tmp_path, writer):
    put(writer, range(4 * MOST_POINTS))
    column = Source(Store(tmp_path).open("run")).closeup("loss", (100, 300))
    inside = column.steps[(column.steps >= 100) & (column.steps <= 300)]
    assert inside.tolist() == list(range(100, 301))
    assert len(column.steps) <= 2 * MOST_POINTS
    assert (column.steps[0], column.steps[-1]) == (0, 4 * MOST_POINTS - 1)


def test_a_histogram_is_the_last_one_before_the_step(tmp_path):
    write_run(tmp_path / "run", 40)
    source = Source(Store(tmp_path).open("run"))
    assert source.at("grad_hist_1d", "histogram", 29).steps.tolist() == [21]
    assert source.at("grad_hist_1d", "histogram", None).steps.tolist() == [31]


def test_events_arrive_once(tmp_path, writer):
    writer.event(0, 0.0, "warning", "first")
    assert writer.flush()
    source = Source(Store(tmp_path).open("run"))
    writer.event(1, 0.1, "warning", "second")
    assert writer.flush()
    for _ in range(3):
        source.refresh()
    assert [event.text for event in source.events] == ["first", "second"]


def test_the_state_follows_the_run(tmp_path, writer):
    put(writer, [0])
    source = Source(Store(tmp_path).open("run"))
    assert source.state == "running"
    writer.close()
    source.refresh()
    assert source.state == "finished"


def test_another_run_in_the_same_place_is_a_new_run(tmp_path):
    write_run(tmp_path / "run", 200, created=1.0)
    sources = Sources(Store(tmp_path))
    assert sources.get("run").span() == (0, 191)
    (tmp_path / "run" / "rank0.db").unlink()
    write_run(tmp_path / "run", 50, created=2.0)
    source = sources.get("run")
    assert source.header.created == 2.0
    assert len(source.scalars("loss").steps) == 10
    assert source.span() == (0, 41)


def test_few_runs_are_kept_open(tmp_path):
    for number in range(8):
        write_run(tmp_path / f"run{number}", 20)
    sources = Sources(Store(tmp_path))
    for number in range(8):
        assert sources.get(f"run{number}").span() == (0, 11)
    assert len(sources._open) <= 6


def test_an_unknown_run_is_named(tmp_path):
    with pytest.raises(KeyError, match="no run 'nothing'"):
        Sources(Store(tmp_path)).get("nothing")


@pytest.mark.parametrize("logged", [(), ("loss",)])
def test_times_of_day_are_the_readers_whether_or_not_a_run_has_curves(tmp_path, writer, logged):
    for key in logged:
        put(writer, range(5), key)
    timeline = Source(Store(tmp_path).open("run")).timeline("wall", "Asia/Kolkata")
    assert timeline.ahead == 5.5 * 3600
    assert timeline.title.endswith("UTC+05:30")
