import numpy as np
import pytest

from cockpit.drawing.smoothing import envelope, is_noisy, moving_average, stands_still


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


def test_a_given_weight_of_the_past_is_that_of_the_average():
    values = np.array([1.0, 3.0, 2.0])
    expected = [1.0, (0.5 * 1 + 3) / 1.5, (0.25 * 1 + 0.5 * 3 + 2) / 1.75]
    np.testing.assert_allclose(moving_average(values, past=0.5), expected)
    np.testing.assert_allclose(moving_average(values, past=0.0), values)


def test_the_envelope_holds_every_value_of_its_stretches():
    values = np.random.default_rng(0).normal(size=1003)
    values[17] = np.nan
    middles, (least, most) = envelope(values, 200)
    assert len(middles) == 200
    assert (least <= most).all()
    assert (least.min(), most.max()) == (np.nanmin(values), np.nanmax(values))


def test_a_stretch_without_values_has_no_envelope():
    assert np.isnan(envelope(np.array([1.0, 2.0, np.nan, np.nan]), 2)[1][:, 1]).all()


def test_a_schedule_of_steps_stands_still_and_a_decay_does_not():
    assert stands_still(np.repeat([0.1, 0.01, 0.001], 50))
    assert stands_still(np.array([1.0, np.nan]))
    assert not stands_still(np.exp(-np.arange(100) / 10))
    assert not stands_still(np.random.default_rng(0).normal(size=100))
