"""Runs that go on, and at an earlier step than they had reached."""

from collections.abc import Callable

import numpy as np
import pytest
from backends import Backend

from cockpit.reading import Reading
from cockpit.store import Reader, Store, Writer

EVERY_DATABASE = True

Start = Callable[..., Writer]


def put(writer: Writer, steps: range, value: float) -> None:
    for step in steps:
        writer.put(step, 0.1 * step, {"loss": Reading(value), "norm": Reading(value, {"a": value})})
        writer.event(step, 0.1 * step, "warning", f"{value} at {step}")


def begun(start: Start) -> Writer:
    writer = start()
    put(writer, range(5000), 1.0)
    writer.close()
    return writer


def test_what_an_attempt_overtakes_is_seen_only_on_request(start: Start, backend: Backend) -> None:
    begun(start)
    writer = start(resume=3000)
    reader = Reader(writer.path)
    series = reader.series()[0]
    assert (writer.last_step, writer.attempt, series.points, series.last_step) == (2999, 2, 3000, 2999)
    put(writer, range(3000, 3500), 2.0)
    writer.close()
    for kind in ("scalar", "layers"):
        column = reader.column("loss" if kind == "scalar" else "norm", kind)
        assert column.steps.tolist() == list(range(3500))
        assert column.values.ravel().tolist() == [1.0] * 3000 + [2.0] * 500
        assert reader.at(column.key, 10_000, kind).steps.tolist() == [3499]
        first = reader.column(column.key, kind, attempt=1)
        assert (len(first), first.values.ravel().tolist()) == (5000, [1.0] * 5000)
        assert reader.column(column.key, kind, attempt=2).steps.tolist() == list(range(3000, 3500))
    assert [(each.number, each.first_step) for each in reader.attempts()] == [(1, 0), (2, 3000)]
    warnings = [event.text for event in reader.events() if event.kind == "warning"]
    assert warnings == [f"{1.0 if step < 3000 else 2.0} at {step}" for step in range(3500)]
    (summary,) = Store(backend.logs).runs()
    assert (summary.last_step, summary.last_loss, summary.latest) == (3499, 2.0, {"loss": 2.0, "norm": 2.0})


def test_an_attempt_that_reads_an_older_step_first_masks_from_there(start: Start) -> None:
    begun(start)
    writer = start(resume=True)
    assert (writer.last_step, Reader(writer.path).attempts()[-1].first_step) == (4999, 5000)
    writer.scalars(10, 0.0, {"valid": 1.0})  # of the step before the one that comes: this alone says nothing
    assert writer.flush()
    assert len(Reader(writer.path).column("loss")) == 5000
    put(writer, range(4000, 4002), 2.0)
    assert writer.flush()
    reader = Reader(writer.path)
    assert reader.column("loss").steps.tolist() == list(range(4002))
    assert [series.points for series in reader.series()] == [4002, 4002, 4002, 1]
    put(writer, range(3990, 3991), 3.0)  # what comes out of order masks nothing more
    writer.close()
    assert reader.column("loss").steps.tolist() == list(range(4002))
    assert reader.at("loss", 3990).values.tolist() == [3.0]
    assert [series.last_step for series in reader.series()] == [4001, 4001, 4001, 10]


def test_a_run_that_begins_again_has_no_series_until_it_reads_them(start: Start) -> None:
    begun(start)
    writer = start(resume=0)
    reader = Reader(writer.path)
    assert (writer.last_step, reader.series(), reader.latest()) == (None, (), {})
    with pytest.raises(KeyError, match="nothing is logged as 'loss'"):
        reader.column("loss")
    writer.put(1, 0.0, {"loss": Reading(7.0)})
    writer.close()
    assert reader.column("loss").values.tolist() == [7.0]


def test_every_attempt_masks_those_before_it(start: Start) -> None:
    for number, first in enumerate((0, 40, 20), 1):
        writer = start(resume=first)
        put(writer, range(first, first + 30), float(number))
        writer.close()
    column = Reader(writer.path).column("loss")
    assert column.steps.tolist() == list(range(50))
    assert column.values.tolist() == [1.0] * 20 + [3.0] * 30


def test_an_attempt_that_there_is_not_is_refused(start: Start) -> None:
    writer = begun(start)
    for attempt in (0, 2):
        with pytest.raises(ValueError, match=f"the run has attempts 1 to 1, not {attempt}"):
            Reader(writer.path).column("loss", attempt=attempt)


def test_a_thinned_curve_of_a_resumed_run_has_no_masked_point(start: Start) -> None:
    writer = start()
    for step in range(6000):
        writer.put(step, 0.0, {"loss": Reading(1e9 if step >= 4000 else 1.0)})
    writer.close()
    writer = start(resume=4000)
    for step in range(4000, 8000):
        writer.put(step, 0.0, {"loss": Reading(-1.0 if step == 5000 else 1.0)})
    writer.close()
    column = Reader(writer.path).column("loss", max_points=20)
    assert len(column) <= 20
    assert (np.diff(column.steps) > 0).all()
    assert (column.values.max(), column.values.min()) == (1.0, -1.0)
    assert (column.steps[0], column.steps[-1]) == (0, 7999)
