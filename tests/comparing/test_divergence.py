from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cockpit.comparing.divergence import FEWEST, Points, first_divergence
from cockpit.comparing.level import LONGEST_WINDOW

SEEDS = st.integers(0, 2**32 - 1)
PATIENT = settings(deadline=None)  # what is made once for each length takes its time


def points(values, every=1, first=0):
    values = np.asarray(values, dtype=np.float64)
    return Points(first + every * np.arange(len(values)), values)


def noise(seed, n, correlation=0.0):
    """Normal noise of variance 1 whose readings depend on the one before."""
    white = np.random.default_rng(seed).normal(size=n)
    found = np.empty(n)
    found[0] = white[0]
    for at in range(1, n):
        found[at] = correlation * found[at - 1] + np.sqrt(1 - correlation**2) * white[at]
    return found


def training(seed, n=400, level=0.3, correlation=0.0):
    """A loss that falls, with multiplicative noise."""
    return np.exp(0.8 - np.linspace(0, 2.5, n) ** 0.5 + level * noise(seed, n, correlation))


series = st.lists(
    st.one_of(st.floats(-1e6, 1e6), st.sampled_from([nan, inf, -inf, 0.0, 1.0])), min_size=FEWEST, max_size=80
)


@PATIENT
@given(series)
def test_identical_runs_never_part(values):
    verdict = first_divergence(points(values), points(values))
    assert verdict is None or verdict.step is None


@PATIENT
@given(SEEDS, st.integers(FEWEST, 600))
def test_identical_trainings_never_part(seed, n):
    assert first_divergence(points(training(seed, n)), points(training(seed, n))).step is None


@PATIENT
@given(series, series)
def test_it_does_not_matter_which_run_comes_first(a, b):
    assert first_divergence(points(a), points(b)) == first_divergence(points(b), points(a))


@PATIENT
@given(series, series, st.integers(2, 9), st.integers(2, 9), st.integers(-20, 20))
def test_it_does_not_matter_which_run_comes_first_where_their_steps_differ(a, b, every_a, every_b, first):
    one, other = points(a, every_a), points(b, every_b, first)
    assert first_divergence(one, other) == first_divergence(other, one)


@PATIENT
@given(SEEDS, st.sampled_from([2.0**40, 2.0**-40, 1024.0, -8.0, -1.0]), st.booleans())
def test_the_unit_of_a_quantity_changes_nothing(seed, factor, signed):
    a, b = training(seed), training(seed + 1)
    b[250:] *= 4
    if signed:
        a, b = a - 1, b - 1
    plain = first_divergence(points(a), points(b))
    scaled = first_divergence(points(factor * a), points(factor * b))
    assert (scaled.step, scaled.from_start, scaled.until) == (plain.step, plain.from_start, plain.until)
    assert scaled.noises == pytest.approx(plain.noises, rel=1e-6)


@PATIENT
@given(SEEDS, st.integers(2, 50), st.integers(-1000, 1000))
def test_the_length_of_a_step_changes_only_where_it_is(seed, every, first):
    a, b = training(seed), training(seed + 1)
    b[250:] *= 4
    plain = first_divergence(points(a), points(b))
    spread = first_divergence(points(a, every, first), points(b, every, first))
    assert spread.step == first + every * plain.step


@pytest.mark.parametrize("correlation", [0.0, 0.6])
@pytest.mark.parametrize("seed", range(50))
def test_a_shift_beyond_the_scatter_of_single_readings_is_found_within_a_window(seed, correlation):
    start = 60 + 29 * seed % 241
    a, b = (noise(2 * seed + run, 400, correlation) for run in (0, 1))
    b[start:] += 6.0
    verdict = first_divergence(points(a), points(b))
    assert abs(verdict.step - start) <= LONGEST_WINDOW
    assert not verdict.from_start


@pytest.mark.parametrize(("n", "shift"), [(100, 5.0), (400, 2.5), (3000, 1.5)])
def test_a_shift_by_some_standard_deviations_is_found_near_its_step_in_9_of_10_runs(n, shift):
    found = 0
    for seed in range(100):
        a, b = noise(2 * seed, n), noise(2 * seed + 1, n)
        b[n // 2 :] += shift
        verdict = first_divergence(points(a), points(b))
        found += verdict.step is not None and abs(verdict.step - n // 2) <= max(LONGEST_WINDOW, n // 30)
    assert found >= 90


@pytest.mark.parametrize("correlation", [0.0, 0.6])
@pytest.mark.parametrize("n", [100, 400])
def test_noise_alone_parts_in_fewer_than_1_of_50_runs(n, correlation):
    alarms = 0
    for seed in range(200):
        a, b = noise(2 * seed, n, correlation), noise(2 * seed + 1, n, correlation)
        alarms += first_divergence(points(a), points(b)).step is not None
    assert alarms < 4


def test_runs_that_are_the_same_up_to_a_step_part_there():
    a = training(0)
    b = np.concatenate([a[:130], 3 * training(1)[130:]])
    assert first_divergence(points(a), points(b)).step == pytest.approx(130, abs=LONGEST_WINDOW // 2)


def test_runs_that_are_apart_for_a_while_do_not_part():
    a, b = noise(0, 400), noise(1, 400)
    b[100:180] += 6
    assert first_divergence(points(a), points(b)).step is None


def test_runs_that_come_together_again_part_where_they_do_so_for_the_last_time():
    a, b = noise(0, 1000), noise(1, 1000)
    b[100:200] += 6
    b[700:] += 6
    assert first_divergence(points(a), points(b)).step == pytest.approx(700, abs=LONGEST_WINDOW // 2)


def test_runs_that_were_never_together_are_apart_from_the_start():
    verdict = first_divergence(points(noise(0, 200)), points(noise(1, 200) + 6))
    assert verdict.from_start
    assert verdict.step <= 2


def test_a_setting_without_noise_parts_where_it_changes():
    a, b = np.full(100, 0.1), np.full(100, 0.1)
    b[60:] = 0.01
    verdict = first_divergence(points(a), points(b))
    assert (verdict.step, verdict.until) == (60, 99)


def test_the_rounding_of_float32_is_no_difference():
    a = np.linspace(1, 2, 200)
    assert first_divergence(points(a), points(a.astype(np.float32))).step is None


@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("last", [1, 150])
def test_a_run_that_is_no_longer_finite_parts_there(value, last):
    a, b = training(0), training(1)
    b[-last:] = value
    verdict = first_divergence(points(a), points(b))
    assert (verdict.step, verdict.noises) == (400 - last, inf)


def test_a_run_that_parts_before_it_is_no_longer_finite_is_sure_to_be_apart():
    a, b = noise(0, 100), noise(1, 100)
    b[50:] += 6
    b[80:] = nan
    verdict = first_divergence(points(a), points(b))
    assert verdict.step == pytest.approx(50, abs=4)
    assert verdict.chance == 0


def test_a_reading_that_is_not_finite_for_once_is_no_parting():
    a, b = training(0), training(1)
    b[200] = nan
    assert first_divergence(points(a), points(b)).step is None


def test_runs_that_are_both_no_longer_finite_are_compared_up_to_there():
    a, b = training(0), training(1)
    a[300:] = b[300:] = nan
    verdict = first_divergence(points(a), points(b))
    assert (verdict.step, verdict.until) == (None, 299)


@pytest.mark.parametrize(("every", "first"), [(3, 0), (7, 0), (10, 4), (1, 150)])
def test_runs_that_were_read_at_other_steps_are_compared_where_both_were(every, first):
    a, b = noise(0, 2000), noise(1, 2000)
    b[1200:] += 5
    which = np.arange(first, 2000, every)
    verdict = first_divergence(points(a), Points(which, b[which]))
    assert verdict.step == pytest.approx(1200, abs=LONGEST_WINDOW // 2 * every)


@pytest.mark.parametrize("every", [2, 3, 10])
def test_a_smooth_curve_read_at_other_steps_is_the_same_curve(every):
    steps = np.arange(0, 2000, 7), np.arange(0, 2000, every)
    a, b = (Points(at, np.exp(-at / 400) + 0.1) for at in steps)
    assert first_divergence(a, b).step is None


def test_a_gap_in_one_run_is_left_out():
    a, b = noise(0, 600), noise(1, 600)
    b[400:] += 5
    kept = np.r_[0:100, 250:600]
    assert first_divergence(points(a), Points(kept, b[kept])).step == pytest.approx(400, abs=LONGEST_WINDOW // 2)


def test_too_few_readings_tell_nothing():
    assert first_divergence(points(np.zeros(FEWEST - 1)), points(np.ones(FEWEST - 1))) is None
    assert first_divergence(points([]), points(np.ones(50))) is None
    assert first_divergence(points(np.zeros(50)), points(np.ones(50), first=1000)) is None
