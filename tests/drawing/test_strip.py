import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cockpit.drawing.strip import EDGES, MOST_STRETCHES, strip_of
from cockpit.store import Column


def strip(values, fates=None, places=None, log=False):
    values = np.array(values, float)
    steps = np.arange(1, len(values) + 1)
    column = Column("alpha", "scalar", steps, steps * 0.1, values, np.isnan(values))
    fates = np.array(["minimum"] * len(values) if fates is None else fates)
    return strip_of(column, fates, steps if places is None else np.array(places, float), log)


def test_quartiles_of_a_stretch_are_those_of_its_steps():
    values = np.random.default_rng(0).normal(0, 0.3, 160)
    found = strip(values)
    assert found.steps.sum() == 160
    own = values[(np.arange(1, 161) >= found.edges[0]) & (np.arange(1, 161) < found.edges[1])]
    np.testing.assert_allclose(found.quartiles[:, 0], np.percentile(own, (25, 50, 75)))


def test_shares_of_a_stretch_add_up_to_what_lies_on_the_axis():
    found = strip([0.1, 0.2, 5.0, -9.0])
    assert found.shares.sum(0) == pytest.approx([0.5])


def test_each_step_counts_in_the_row_of_its_value():
    found = strip([0.32])
    row = int(np.flatnonzero(found.shares[:, 0])[0])
    assert EDGES[row] <= 0.32 < EDGES[row + 1]


def test_only_steps_with_a_minimum_count():
    found = strip([0.1, -1.0, 99.0, np.nan], ["minimum", "concave", "uphill", "missing"])
    assert found.steps.tolist() == [1]
    assert found.quartiles[1].tolist() == [0.1]


def test_a_stretch_without_a_minimum_is_a_gap():
    fates = ["minimum"] * 40 + ["concave"] * 40 + ["minimum"] * 40
    found = strip([0.1] * 120, fates)
    empty = found.steps == 0
    assert empty.any()
    assert np.isnan(found.shares[:, empty]).all()
    assert np.isnan(found.quartiles[:, empty]).all()


def test_no_minimum_at_all_is_one_empty_stretch():
    found = strip([-1.0] * 5, ["concave"] * 5)
    assert found.steps.tolist() == [0]


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=700), st.booleans())
def test_every_step_is_in_one_stretch(values, log):
    found = strip(values, log=log)
    assert found.steps.sum() == len(values)
    assert len(found.steps) <= MOST_STRETCHES
    assert (np.diff(found.edges) > 0).all()
    assert found.edges[0] <= 1 + 1e-9
    assert found.edges[-1] >= len(values) - 1e-6
