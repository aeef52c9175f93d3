import itertools

import pytest

from cockpit import every, log_spaced
from cockpit.schedule import Auto, as_schedule, describe, describe_intervals


def due(schedule, steps=50):
    return [step for step in range(steps) if schedule(step)]


def test_every_begins_with_the_first_step():
    assert due(every(20)) == [0, 20, 40]
    assert due(every(1), 4) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (1, "every step"),
        (2, "every 2nd step"),
        (11, "every 11th step"),
        (23, "every 23rd step"),
        (112, "every 112th step"),
    ],
)
def test_an_interval_is_told_in_words(interval, words):
    assert describe(every(interval)) == words


def test_log_spaced_steps_come_closer_the_earlier_they_are():
    steps = due(log_spaced(40, points=6))
    assert steps[:2] == [0, 1]
    assert steps[-1] == 40
    gaps = [after - before for before, after in itertools.pairwise(steps)]
    assert gaps == sorted(gaps)


def test_log_spaced_points_on_the_same_step_are_one():
    assert due(log_spaced(3, points=100)) == [0, 1, 2, 3]
    assert due(log_spaced(1, points=1)) == [0, 1]


@pytest.mark.parametrize(("last", "points"), [(0, 5), (-3, 5), (10, 0)])
def test_log_spaced_without_steps_is_refused(last, points):
    with pytest.raises(ValueError, match=f"needs last >= 1 and points >= 1, got {last} and {points}"):
        log_spaced(last, points)


@pytest.mark.parametrize("interval", [0, -1, 2.0, True, "3", None])
def test_an_interval_that_counts_no_steps_is_refused(interval):
    with pytest.raises(ValueError, match="must be a whole number of steps, at least 1, got "):
        every(interval)


def test_a_function_is_a_schedule_and_goes_by_its_name():
    def in_the_morning(step):
        return step < 3

    assert as_schedule(in_the_morning) is in_the_morning
    assert describe(in_the_morning) == "steps chosen by in_the_morning"


def test_auto_leaves_it_to_the_budget():
    assert as_schedule("auto") == Auto()
    assert describe(Auto()) == "as often as the budget allows"


def test_another_word_is_no_schedule():
    with pytest.raises(TypeError, match=r"track must be .auto., a number of steps, .* got 'always'"):
        as_schedule("always")


@pytest.mark.parametrize(
    ("intervals", "words"),
    [
        ([1], "every step"),
        ([3, 3], "every 3rd step"),
        ([4, 32, 8], "every 4th to 32nd step"),
        ([8, 1], "every step to every 8th"),
    ],
)
def test_several_intervals_are_told_in_words(intervals, words):
    assert describe_intervals(intervals) == words
