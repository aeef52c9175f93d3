from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cockpit.drawing.timeline import MEASURES, Timeline, ahead_of, samples_at
from cockpit.store import Column

STEPS = np.array([0, 10, 20, 50], np.int64)
TIMES = np.array([0.0, 60.0, 120.0, 600.0])


def column():
    return Column("loss", "scalar", STEPS, TIMES, np.ones(4), np.zeros(4, bool))


def timeline(measure):
    return Timeline(measure, STEPS.astype(float), TIMES, created=1000.0)


def test_steps_are_themselves():
    assert timeline("step").of(column()).tolist() == [0, 10, 20, 50]
    assert timeline("step").title == "step"


def test_a_logarithmic_axis_has_a_place_for_step_zero():
    assert timeline("log").of(column()).tolist() == [0.5, 10, 20, 50]


def test_the_time_of_day_counts_milliseconds_since_1970():
    assert timeline("wall").of(column()).tolist() == [1e6, 1.06e6, 1.12e6, 1.6e6]


SUMMER, WINTER = 1_782_000_000.0, 1_798_000_000.0  # of 2026


@pytest.mark.parametrize(
    ("zone", "moment", "hours"),
    [
        ("Europe/Berlin", SUMMER, 2), ("Europe/Berlin", WINTER, 1), ("America/New_York", SUMMER, -4),
        ("Asia/Kolkata", WINTER, 5.5), ("UTC", SUMMER, 0), ("", SUMMER, 0), ("Nowhere/Atlantis", SUMMER, 0),
        ("../../etc/passwd", SUMMER, 0), ("Europe/Berlin", 1e30, 0), ("Europe/Berlin", float("nan"), 0),
    ],
)  # fmt: skip
def test_a_zone_is_ahead_as_it_was_at_that_moment_and_not_at_all_where_nothing_is_known(zone, moment, hours):
    assert ahead_of(zone, moment) == 3600 * hours


def test_times_of_day_are_those_of_the_readers_clock():
    here, there = timeline("wall"), replace(timeline("wall"), ahead=7200.0)
    np.testing.assert_array_equal(there.of(column()) - here.of(column()), 7200e3)
    assert there.ends(1e6, 1.6e6) == ["1970-01-01 02:16:40.000000", "1970-01-01 02:26:40.000000"]
    assert there.steps_between(1e6, 1.6e6) == here.steps_between(1e6, 1.6e6) == (0, 50)


def test_time_since_the_beginning_has_a_unit_that_suits_it():
    assert timeline("relative").of(column()).tolist() == [0, 1, 2, 10]
    assert timeline("relative").title == "minutes of training"
    assert Timeline("relative", STEPS.astype(float), TIMES / 100).title == "seconds of training"
    assert Timeline("relative", STEPS.astype(float), TIMES * 100).title == "hours of training"


def test_the_time_of_a_step_without_a_reading_lies_between_its_neighbours():
    assert timeline("relative").at(15) == pytest.approx(1.5)
    assert timeline("relative").at(15, time=90.0) == pytest.approx(1.5)


def test_a_run_without_points_has_axes_too():
    assert [Timeline(measure).at(0) for measure in MEASURES] == [0, 0.5, 0, 0]


@given(measure=st.sampled_from(MEASURES), low=st.integers(0, 49), width=st.integers(1, 40))
def test_a_stretch_of_the_axis_holds_the_steps_it_was_made_of(measure, low, width):
    axis = timeline(measure)
    ends = axis.at(low), axis.at(min(low + width, 50))
    first, last = axis.steps_between(*(np.log10(ends) if measure == "log" else ends))
    assert first <= low < min(low + width, 50) <= last
    assert first >= low - 1
    assert last <= min(low + width, 50) + 1


@given(measure=st.sampled_from(MEASURES), step=st.integers(0, 50))
def test_what_lies_beyond_the_last_step_lies_right_of_it(measure, step):
    axis = timeline(measure)
    first, last = axis.at(0), axis.at(50)
    assert axis.beyond(axis.at(step), first, last) > last
    assert axis.beyond(last, first, last) - last < 0.2 * (last - first) + 2000


def test_the_time_of_day_is_that_of_a_named_day():
    assert timeline("wall").title == "1970-01-01, UTC"
    assert replace(timeline("wall"), ahead=-19800.0).title == "1969-12-31, UTC-05:30"
    assert Timeline("wall", STEPS.astype(float), TIMES * 1000).title == "time of day, UTC"


def test_samples_add_up_by_the_batch_size_that_holds():
    def sizes(values, steps):
        values = np.array(values, float)
        return Column("batch_size", "scalar", np.array(steps), np.zeros(len(steps)), values, np.isnan(values))

    known = sizes([10.0, np.nan, 100.0], [0, 2, 4])
    assert samples_at(np.array([0, 1, 3, 4, 6]), known).tolist() == [10, 20, 40, 140, 340]
    assert samples_at(np.array([0, 5]), sizes([10.0], [5])).tolist() == [10, 60]
    assert Timeline("samples", sizes=known).at(3) == 40


def test_an_axis_of_several_runs_has_the_unit_of_the_longest():
    axis = Timeline("relative", STEPS.astype(float), TIMES / 100, longest=7 * 3600.0)
    assert axis.title == "hours of training"
    assert axis.of(column())[-1] == pytest.approx(1 / 6)
