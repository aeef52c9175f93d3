import numpy as np
import pytest

from cockpit.drawing.smoothing import is_noisy, moving_average


def test_noise_is_noisy():
    assert is_noisy(np.random.default_rng(0).normal(size=100))


@pytest.mark.parametrize(
    "curve", [np.linspace(0, 1, 100), np.exp(-np.arange(100) / 10), np.full(100, 3.0), np.repeat([0.1, 0.01], 50)]
)
def test_schedules_and_decays_are_not_noisy(curve):
    assert not is_noisy(curve)


def test_a_curve_that_trembles_on_a_plateau_is_not_noisy():
    rise = 1 - np.exp(-np.arange(60) / 5)
    assert not is_noisy(rise + 0.002 * (-1) ** np.arange(60))


def test_what_trembles_on_a_log_axis_is_noisy_there():
    decay = np.exp(-np.arange(100) / 30 + 0.5 * (-1) ** np.arange(100))
    assert is_noisy(decay, log=True)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_few_points_are_never_noisy(count):
    assert not is_noisy(np.random.default_rng(0).normal(size=count))


def test_gaps_do_not_hide_noise():
    curve = np.random.default_rng(0).normal(size=100)
    curve[::7] = np.nan
    assert is_noisy(curve)


def test_a_constant_is_its_own_average():
    np.testing.assert_allclose(moving_average(np.full(50, 3.0)), 3.0)


def test_the_first_average_is_the_first_value():
    assert moving_average(np.array([7.0, 1.0, 1.0]))[0] == 7.0


def test_a_gap_stays_a_gap_and_the_average_goes_on():
    averages = moving_average(np.array([2.0, np.nan, 2.0]))
    np.testing.assert_array_equal(averages, [2.0, np.nan, 2.0])


def test_on_a_log_axis_the_logarithms_are_averaged():
    averages = moving_average(np.array([1.0, 100.0, 1.0, 100.0]), log=True)
    np.testing.assert_allclose(averages, np.exp(moving_average(np.log([1.0, 100.0, 1.0, 100.0]))))


def test_values_without_a_logarithm_are_gaps_on_a_log_axis():
    assert np.isnan(moving_average(np.array([1.0, 0.0, -1.0]), log=True)[1:]).all()


def test_no_values_have_no_average():
    assert moving_average(np.zeros(0)).shape == (0,)
