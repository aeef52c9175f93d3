"""Long curves that are drawn from what is told of their chunks."""

from collections.abc import Callable

import numpy as np
import pytest

from cockpit.reading import Reading
from cockpit.store import Reader, Writer, encoder, history, upkeep

Start = Callable[..., Writer]
STEPS, BOUND = 4000, 60


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "_TAIL", (64, 64))
    monkeypatch.setattr(encoder, "_LENGTH", (32, 32))
    monkeypatch.setattr(encoder, "_SPARE_CHUNKS", 100)
    monkeypatch.setattr(upkeep, "LONGEST", 32)


def written(start: Start, odd: dict[int, float | None], name: str = "run") -> Reader:
    writer = start(name)
    values = np.random.default_rng(0).normal(size=STEPS)
    for step in range(STEPS):
        writer.put(step, 0.01 * step, {"loss": Reading(odd.get(step, float(values[step])))})
    writer.close()
    return Reader(writer.path)


def test_no_spike_and_no_gap_is_lost_whatever_chunk_it_is_in(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    odd: dict[int, float | None] = {0: 1e3, 1234: 1e6, 1333: -1e6, 2000: None, 2777: float("nan"), STEPS - 1: 5.0}
    odd |= {3001: float("inf"), 3002: float("-inf")}
    reader = written(start, odd)
    monkeypatch.setattr(history, "decode_points", None)  # no chunk need be opened
    column = reader.column("loss", max_points=BOUND)
    assert len(column) <= BOUND
    assert set(odd) <= set(column.steps.tolist())
    for step, value in odd.items():
        at = column.steps.tolist().index(step)
        np.testing.assert_equal(column.values[at], np.nan if value is None else value)
        assert column.missing[at] == (value is None)
        assert column.times[at] == pytest.approx(0.01 * step)


def test_a_cut_at_both_ends_shows_no_point_outside(start: Start) -> None:
    reader = written(start, {101: 1e9, 3900: -1e9})
    column = reader.column("loss", steps=(101, 3900), max_points=BOUND)
    assert (column.steps[0], column.steps[-1]) == (101, 3900)
    assert (column.values[0], column.values[-1]) == (1e9, -1e9)
    assert reader.column("loss", steps=(102, 3899), max_points=BOUND).values.max() < 1e9


def test_each_stretch_keeps_its_own_spike(start: Start) -> None:
    spikes = dict.fromkeys(range(100, STEPS, 200), 1e6)
    column = written(start, spikes).column("loss", max_points=BOUND)
    assert set(spikes) <= set(column.steps.tolist())


def test_steps_that_are_logged_again_are_shown_once(start: Start) -> None:
    written(start, {})
    writer = start(resume=True)
    for step in range(STEPS, STEPS + 5):
        writer.put(step, 99.0, {"loss": Reading(0.0)})
    for step in range(1000, 1100):
        writer.put(step, 99.0, {"loss": Reading(1e6)})
    writer.close()
    column = Reader(writer.path).column("loss", max_points=BOUND)
    assert (np.diff(column.steps) > 0).all()
    assert (column.steps[0], column.steps[-1]) == (0, STEPS + 4)
    assert set(column.steps[column.values == 1e6].tolist()) <= set(range(1000, 1100))
    again = (column.steps >= 1000) & (column.steps < 1100)
    assert again.any()
    assert (column.values[again] == 1e6).all()
