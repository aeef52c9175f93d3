"""Differences that leave no doubt: as recorded from two trainings, and as processes whose answer is known make them."""

import json
from pathlib import Path

import numpy as np
import pytest

from cockpit.comparing.divergence import Points, first_divergence
from cockpit.comparing.effect import departure, far, fork

RECORDED = json.loads((Path(__file__).parent / "demo_pair.json").read_text(encoding="utf-8"))


def recorded(key):
    """The verdict on a healthy training and one whose second convolution has the learning rate 0."""
    runs = RECORDED[key]
    return first_divergence(*(Points(np.array(each["steps"]), np.array(each["values"])) for each in runs.values()))


def white(random, n):
    return random.normal(size=n)


def dependent(random, n, correlation=0.9):
    found = np.sqrt(1 - correlation**2) * random.normal(size=n + 200)
    for at in range(1, len(found)):
        found[at] += correlation * found[at - 1]
    return found[200:]


def verdict_of(a, b):
    steps = np.arange(len(a))
    return first_divergence(Points(steps, a), Points(steps, b))


@pytest.mark.parametrize(
    ("key", "earliest", "latest"),
    [
        ("loss", 700, 1100),
        ("valid/accuracy", 400, 1000),
        ("update_size conv2.weight", 0, 0),
        ("distance conv2.weight", 5, 5),
    ],
)
def test_a_frozen_layer_and_what_it_costs_are_apart_from_where_the_eye_sees_them_part(key, earliest, latest):
    assert earliest <= recorded(key).step <= latest


def test_updates_of_a_layer_that_trains_in_both_runs_are_not_apart():
    assert recorded("update_size fc2.weight").step is None


@pytest.mark.parametrize(
    ("process", "n"), [(white, 100), (white, 1000), (dependent, 1000)], ids=["white 100", "white 1000", "AR 1000"]
)
def test_a_second_half_that_is_apart_by_thrice_the_noise_of_the_difference_is_found(process, n):
    """In 19 of 20 pairs, and in 9 of 10 within a tenth of the run of where it begins."""
    random, found, near = np.random.default_rng(1), 0, 0
    for _ in range(40):
        a, b = process(random, n), process(random, n)
        b[n // 2 :] += 3 * np.sqrt(2)
        step = verdict_of(a, b).step
        found += step is not None
        near += step is not None and abs(step - n // 2) <= n // 10
    assert found >= 38
    assert near >= 36


def test_a_leap_of_few_dependent_readings_is_found():
    random, found = np.random.default_rng(1), 0
    for _ in range(20):
        a, b = dependent(random, 100), dependent(random, 100)
        b[50:] += 6 * np.sqrt(2)
        step = verdict_of(a, b).step
        found += step is not None and abs(step - 50) <= 10
    assert found >= 19


def test_dependent_readings_that_are_far_beyond_their_spread_are_found():
    random, found = np.random.default_rng(1), 0
    for _ in range(20):
        a, b = dependent(random, 1000), dependent(random, 1000)
        b[500:] += 14 * np.sqrt(2)
        found += verdict_of(a, b).step == pytest.approx(500, abs=100)
    assert found >= 18


def test_runs_that_wander_have_to_be_further_apart_than_those_that_scatter():
    random, still = np.random.default_rng(0), np.zeros(60)
    settled = [white(random, 60) for _ in range(40)], [white(random, 60).cumsum() for _ in range(40)]
    settled = [[(each - each[-20:].mean()) / each[-20:].std() for each in runs] for runs in settled]
    scatter, walk = (np.median([far(each, still + 5) for each in runs]) for runs in settled)
    assert scatter < 0.02
    assert walk > 10 * scatter


def test_what_comes_together_at_the_end_is_not_far():
    random = np.random.default_rng(0)
    a, b = random.normal(size=90), random.normal(size=90)
    b[:60] += 50
    assert far(a, b) == 1


def test_the_chance_of_runs_that_are_far_depends_on_neither_unit_nor_order():
    random = np.random.default_rng(0)
    a, b = random.normal(size=90), random.normal(size=90) + 2
    assert far(a, b) == pytest.approx(far(b, a), rel=1e-12)
    assert far(1000 * a, 1000 * b) == pytest.approx(far(a, b), rel=1e-9)


@pytest.mark.parametrize("at", [3, 60, 190])
def test_copies_that_fork_are_apart_from_the_first_difference_beyond_rounding(at):
    random = np.random.default_rng(at)
    a = np.exp(random.normal(size=200))
    b = a * (1 + 1e-9)
    b[at:] *= 1 + 1e-4 * random.normal(size=200 - at)
    verdict = verdict_of(a, b)
    assert (verdict.step, verdict.chance) == (at, 0)


def test_runs_that_begin_with_the_same_constant_are_no_copies():
    a, b = np.zeros(50), np.zeros(50)
    b[20:] = 1 / 128
    assert fork(a, b, a - b) is None
    assert verdict_of(a, b).step != 20 or verdict_of(a, b).chance > 0


def test_a_copy_that_differs_now_and_then_has_not_forked():
    a = np.random.default_rng(0).normal(size=100)
    b = a.copy()
    b[50::7] += 0.1
    assert fork(a, b, a - b) is None


def test_a_run_at_zero_is_apart_from_where_the_other_is_above_it_for_good():
    random = np.random.default_rng(0)
    moving = np.abs(random.normal(size=80)) + 0.01
    moving[:6] = 0
    verdict = verdict_of(np.zeros(80), moving)
    assert (verdict.step, verdict.chance) == (6, 0)


def test_a_run_that_scatters_about_the_value_at_which_the_other_stands_is_not_apart_in_its_level():
    verdict = verdict_of(np.zeros(80), np.random.default_rng(0).normal(size=80))
    assert verdict.step is None or verdict.spread


def test_a_departure_is_for_good_and_long_enough():
    assert departure(np.array([1.0, -1, 1, 1, 1, 1, 1]), 5) == 2
    assert departure(np.array([1.0, -1, 1, 1, 1]), 5) is None
    assert departure(np.array([1.0, 1, 1, 1, 1, 1, 0]), 1) is None


def test_runs_read_at_other_steps_and_with_gaps_are_far_apart_all_the_same():
    random = np.random.default_rng(2)
    steps = np.arange(0, 8000, 100), np.sort(random.choice(np.arange(8000), 90, replace=False))
    levels = [np.where(at < 3000, 2.0, low) for at, low in zip(steps, (0.02, 0.4), strict=True)]
    a, b = (
        Points(at, level * np.exp(0.3 * random.normal(size=len(at)))) for at, level in zip(steps, levels, strict=True)
    )
    assert first_divergence(a, b).step == pytest.approx(3000, abs=300)
