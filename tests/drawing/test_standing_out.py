"""How far layers stand out, against loops over the formula."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cockpit.drawing.standing_out import BELOW, DECADES, FEWEST, from_neighbours, logarithms, scores

NAN = float("nan")
numbers = st.one_of(st.just(NAN), st.floats(-1e6, 1e6))


def one_score(values, history, kinds, index, floor):
    """The formula, layer by layer."""

    def distance(at):
        alike = [other for other in range(len(values)) if kinds[other] == kinds[at] and np.isfinite(values[other])]
        among = alike if len(alike) >= 3 else [other for other in range(len(values)) if np.isfinite(values[other])]
        before, after = [other for other in among if other < at], [other for other in among if other > at]
        near = before[len(before) - max(2, 4 - len(after)) if len(before) > max(2, 4 - len(after)) else 0 :]
        near = near + after[: max(2, 4 - len(before))]
        return values[at] - np.median([values[other] for other in near]) if near else NAN

    if not np.isfinite(values[index]):
        return NAN, NAN
    distances = [distance(at) for at in range(len(values)) if np.isfinite(values[at])]
    known = [abs(found) for found in distances if np.isfinite(found)]
    usual = max(1.4826 * np.median(known), floor) if known else NAN
    past = [row[index] for row in history if np.isfinite(row[index])]
    if len(past) < FEWEST:
        return abs(distance(index)) / usual, NAN
    middle = np.median(past)
    spread = max(1.4826 * np.median([abs(value - middle) for value in past]), floor)
    return abs(distance(index)) / usual, abs(values[index] - middle) / spread


@given(st.data())
def test_scores_are_the_formula(data):
    layers, readings = data.draw(st.integers(1, 9)), data.draw(st.integers(0, 8))
    row = st.lists(numbers, min_size=layers, max_size=layers)
    values = np.array(data.draw(row))
    history = np.array([data.draw(row) for _ in range(readings)]).reshape(readings, layers)
    kinds = data.draw(st.lists(st.sampled_from("ab"), min_size=layers, max_size=layers))
    everything = np.vstack([history, values])
    finite = everything[np.isfinite(everything)]
    floor = 0.02 * (float(np.ptp(finite)) or 1e-12) if len(finite) else 0.02
    found = scores(values, history, np.isnan(values), kinds, log=False)
    for index in range(layers):
        near, past = one_score(values, history, kinds, index, floor)
        np.testing.assert_allclose([found.neighbours[index], found.past[index]], [near, past])


def test_a_frozen_layer_stands_out_on_a_logarithmic_scale():
    values = np.array([1e-3, 1.1e-3, 0.0, 0.9e-3, 1e-3, 1.05e-3])
    found = scores(values, np.zeros((0, 6)), np.zeros(6, bool), ["Linear"] * 6, log=True)
    assert found.score[2] > 20
    assert max(np.delete(found.score, 2)) < 4


def test_a_jump_stands_out_from_the_layers_own_past():
    random = np.random.default_rng(0)
    history = 10 ** random.normal(-3, 0.05, (40, 4))
    values = np.full(4, 1e-3)
    values[1] = 1e-2
    found = scores(values, history, np.zeros(4, bool), ["a", "b", "c", "d"], log=True)
    assert found.past.argmax() == 1
    assert found.past[1] > 10
    assert found.past[0] < 4


def test_what_is_no_number_stands_out_without_bound_and_what_is_missing_does_not_count():
    values = np.array([1.0, NAN, float("inf"), NAN])
    found = scores(values, np.zeros((0, 4)), np.array([False, False, False, True]), ["a"] * 4, log=False)
    assert np.isinf(found.score[[1, 2]]).all()
    assert np.isnan(found.score[[0, 3]]).all()


def test_rounding_does_not_stand_out():
    values = np.array([1e-3, 1e-3, 1.01e-3, 1e-3, 1e-3])
    found = scores(values, np.zeros((0, 5)), np.zeros(5, bool), ["a"] * 5, log=True)
    assert found.score[2] == pytest.approx(np.log10(1.01) / DECADES)


def test_layers_are_compared_with_their_own_type_where_there_are_enough():
    values = np.array([1.0, 9.0, 1.0, 9.0, 1.0, 9.0])
    assert from_neighbours(values, ["norm", "linear"] * 3).tolist() == [0] * 6
    assert from_neighbours(values, list("abcdef")).tolist() != [0] * 6


def test_zeros_count_as_a_thousandth_of_the_least():
    assert logarithms(np.array([100.0, 10.0, 0.0, -1.0])).tolist() == pytest.approx([2, 1, 1 + np.log10(BELOW), -2])
    assert np.isnan(logarithms(np.array([NAN])))


def test_a_single_layer_without_a_past_has_no_score():
    found = scores(np.array([1.0]), np.zeros((0, 1)), np.array([False]), ["a"], log=False)
    assert np.isnan(found.score).all()
