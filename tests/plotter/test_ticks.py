import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cockpit.plotter.ticks import counted, evenly, labels, powers, whole

sizes = st.floats(1e-200, 1e200)


@pytest.mark.parametrize(
    ("ticks", "written"),
    [
        ([0, 0.5, 1], ["0", "0.5", "1"]), ([-0.25, 0.25], ["−0.25", "0.25"]), ([1000, 20000], ["1,000", "20,000"]),
        ([1e-6, 1e-5], ["1e-6", "1e-5"]), ([2.5e-7, 1e-6], ["2.5e-7", "1e-6"]), ([1e5, 1e10], ["1e5", "1e10"]),
        ([0.001, 0.01], ["0.001", "0.01"]), ([100.25, 100.5], ["100.25", "100.5"]), ([], []),
    ],
)  # fmt: skip
def test_ticks_are_written_with_the_digits_they_need(ticks, written):
    assert labels(ticks) == [word.replace("-", "−") for word in written]


def test_steps_are_written_in_full_unless_that_is_longer():
    assert counted([0, 500, 1000]) == ["0", "500", "1,000"]
    assert counted([10_000_000, 10_000_001]) == ["10,000,000", "10,000,001"]
    assert counted([0, 2 * 10**9]) == ["0", "2e9"]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.05, 200, [0.1, 1, 10, 100]), (1e-8, 1e8, [1e-8, 1e-4, 1, 1e4, 1e8]), (0.5, 5, [1, 3]), (0.9, 6, [1, 3]),
        (2.1, 8, [4, 6, 8]), (0.00019, 0.00021, [0.00019, 0.000195, 0.0002, 0.000205, 0.00021]),
    ],
)  # fmt: skip
def test_logarithmic_ticks_are_powers_of_ten_or_round_values_between(low, high, ticks):
    np.testing.assert_allclose(powers(low, high, 5), ticks)


@given(sizes, st.floats(1.001, 1e30), st.integers(2, 7))
def test_logarithmic_ticks_are_few_within_the_limits_and_different_in_words(low, ratio, most):
    ticks = powers(low, low * ratio, most)
    assert (np.diff(np.log(ticks)) >= 0.45 / most * np.log(ratio)).all()
    assert 1 <= len(ticks) <= most + 2
    assert (ticks >= low * (1 - 1e-6)).all()
    assert (ticks <= low * ratio * (1 + 1e-6)).all()
    assert len(set(labels(ticks))) == len(ticks)


@given(st.floats(-1e200, 1e200), st.floats(1e-4, 10), st.integers(2, 7))
def test_even_ticks_are_few_within_the_limits_and_different_in_words(low, share, most):
    high = low + share * max(abs(low), 1e-200)
    ticks = evenly(low, high, most)
    assert len(ticks) <= most + 2
    assert all(low - 1e-6 * (high - low) <= tick <= high + 1e-6 * (high - low) for tick in ticks)
    assert len(set(labels(ticks))) == len(ticks)


@given(st.integers(-1000, 10**12), st.integers(1, 10**9), st.integers(2, 7))
def test_steps_have_whole_ticks(first, length, most):
    ticks = whole(first - 0.5, first + length + 0.5, most)
    assert all(float(tick).is_integer() for tick in ticks)
    assert len(set(counted(ticks))) == len(ticks) <= most + 2


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_every_number_can_be_written(ticks):
    written = labels(ticks)
    assert len(written) == len(ticks)
    for word, tick in zip(written, ticks, strict=True):
        assert math.isclose(float(word.replace("−", "-").replace(",", "")), tick, rel_tol=1e-9)
