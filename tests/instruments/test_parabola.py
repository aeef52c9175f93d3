"""The parabola of alpha: weighted least squares, and where a step ends on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference import alpha_of, parabola

from cockpit.instruments._alpha import Observation, fit_parabola, position


def fit(*observations: tuple[float, float]) -> np.ndarray | None:
    return fit_parabola(*(Observation(mean, variance) for mean, variance in observations))


def exact(f: Callable[[float], float], slope: Callable[[float], float], variances=(1.0, 1.0, 1.0, 1.0)):
    means = (f(0.0), f(1.0), slope(0.0), slope(1.0))
    return list(zip(means, variances, strict=True))


# The parabola


@pytest.mark.parametrize("w", [(1.0, -2.0, 1.0), (0.3, -0.1, 2.0), (-5.0, 3.0, 0.5), (0.0, 1.0, -1.0)])
@pytest.mark.parametrize("variances", [(1.0, 1.0, 1.0, 1.0), (1e-3, 5.0, 0.2, 7.0), (0.0, 0.0, 0.0, 0.0)])
def test_noiseless_observations_give_the_parabola_they_lie_on(w: tuple[float, ...], variances) -> None:
    observations = exact(lambda u: w[0] + w[1] * u + w[2] * u**2, lambda u: w[1] + 2 * w[2] * u, variances)
    np.testing.assert_allclose(fit(*observations), w, rtol=1e-9, atol=1e-9)


numbers = st.floats(-10, 10)

variances = st.floats(1e-6, 1e3)


@settings(max_examples=200, deadline=None)
@given(st.tuples(*[st.tuples(numbers, variances)] * 4))
def test_fit_is_the_weighted_least_squares_solution(observations) -> None:
    found, expected = fit(*observations), parabola(observations)
    scale = max(abs(mean) for mean, _ in observations)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7 * scale + 1e-12)


@settings(max_examples=100, deadline=None)
@given(st.tuples(*[st.tuples(numbers, variances)] * 4), st.floats(1e-3, 1e3))
def test_unit_of_the_loss_does_not_matter(observations, unit: float) -> None:
    w2, w3 = (Fraction(w) for w in parabola(observations)[1:])
    assume(abs(w2) > Fraction(1, 1000) and abs(w3) > Fraction(1, 1000))
    scaled = [(mean * unit, variance * unit**2) for mean, variance in observations]
    assert position(fit(*scaled)).alpha == pytest.approx(position(fit(*observations)).alpha, rel=1e-5)


def test_surer_observations_pull_harder() -> None:
    """Loss and slope at the start say a floor at 1/2; the slope at the end says it has not been reached."""
    at_start = ((1.0, 1e-4), (1.0, 1.0), (-1.0, 1e-4), (-0.5, 1e-4))
    at_end = ((1.0, 1e-4), (1.0, 1e-4), (-1.0, 1e-4), (-0.5, 1.0))
    assert position(fit(*at_start)).alpha < 0 < position(fit(*at_end)).alpha
    for observations in (at_start, at_end):
        assert position(fit(*observations)).alpha == pytest.approx(alpha_of(observations)[0], rel=1e-9)


@pytest.mark.parametrize("place", range(4))
def test_one_exact_observation_is_met(place: int) -> None:
    observations = [(1.0, 1.0), (0.2, 1.0), (-1.0, 1.0), (0.4, 1.0)]
    observations[place] = (observations[place][0], 0.0)
    w1, w2, w3 = fit(*observations)
    fitted = (w1, w1 + w2 + w3, w2, w2 + 2 * w3)
    assert fitted[place] == pytest.approx(observations[place][0], abs=1e-9)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", range(4))
def test_observation_that_is_no_number_gives_no_parabola(bad: float, place: int) -> None:
    observations = [(1.0, 1.0), (0.2, 1.0), (-1.0, 1.0), (0.4, 1.0)]
    observations[place] = (bad, 1.0)
    assert fit(*observations) is None
    observations[place] = (1.0, bad)
    assert fit(*observations) is None


# Where the step ends


@pytest.mark.parametrize("floor", [0.25, 0.5, 1.0, 2.0, 100.0])
def test_position_counts_from_the_floor(floor: float) -> None:
    where = position(np.array([0.0, -2 * floor, 1.0]))
    assert where.alpha == pytest.approx(1 / floor - 1)
    assert (where.concave, where.uphill) == (False, False)


@pytest.mark.parametrize("w", [(0.0, -1.0, -1.0), (0.0, 1.0, -1.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0)])
def test_without_a_floor_the_step_is_still_going_downhill(w: tuple[float, ...]) -> None:
    where = position(np.array(w))
    assert (where.alpha, where.concave, where.uphill) == (-1.0, True, False)


@pytest.mark.parametrize("floor", [-0.01, -1.0, -100.0])
def test_step_away_from_the_floor_is_told_apart(floor: float) -> None:
    where = position(np.array([0.0, -2 * floor, 1.0]))
    assert where.uphill
    assert not where.concave
    assert where.alpha == pytest.approx(1 / floor - 1)


def test_floor_at_the_start_is_uphill_without_end() -> None:
    where = position(np.array([0.0, 0.0, 1.0]))
    assert (where.alpha, where.uphill) == (math.inf, True)


def test_flat_line_has_no_position() -> None:
    assert position(np.array([1.0, 0.0, 0.0])) is None


# Any optimizer
