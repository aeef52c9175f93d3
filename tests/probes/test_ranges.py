"""Ranges that are found rather than given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cockpit.probes.ranges import SETTLING, AdaptiveRange, reach


@settings(max_examples=50, deadline=None)
@given(exponent=st.integers(-30, 30), seed=st.integers(0, 999), numel=st.integers(1, 3000))
def test_reach_is_the_smallest_power_of_two_that_holds_all_but_a_thousandth(exponent, seed, numel):
    values = torch.randn(numel, generator=torch.Generator().manual_seed(seed)) * 2.0**exponent
    high = reach([values[: numel // 2], values[numel // 2 :]])
    assert np.log2(high) == round(np.log2(high))
    size = values.abs()
    assert (size < high).float().mean() >= 0.999
    assert (size < high / 2).float().mean() < 0.999


def test_zeros_and_what_is_not_finite_say_nothing_about_the_reach():
    assert reach([torch.zeros(10_000), torch.tensor([0.3, float("inf"), float("nan")])]) == 0.5
    assert reach([torch.zeros(5)]) == 1.0


def counted(values, high, bins=100):
    return np.bincount(np.digitize(values, np.linspace(-high, high, bins + 1)[1:-1]), minlength=bins)


def after(readings, values, start=1.0):
    """The ranges at each reading of the same values."""
    found = AdaptiveRange(start)
    seen = []
    for _ in range(readings):
        seen.append(found.high)
        found.observe(counted(values, found.high))
    return seen


@pytest.mark.parametrize("width", [1e-9, 1e-5, 1e-3, 0.03, 0.4, 7.0, 1e4])
def test_the_range_settles_within_a_few_readings_and_stays(width):
    values = np.random.default_rng(0).normal(0, width, 20_000)
    ranges = after(60, values)
    assert len(set(ranges[SETTLING + 4 :])) == 1
    high = ranges[-1]
    assert np.log2(high) == round(np.log2(high))
    assert np.mean(np.abs(values) < high) >= 0.99
    assert np.mean(np.abs(values) < high / 64) < 0.99


def test_a_settled_range_bears_eightfold_smaller_values_and_follows_much_larger_ones():
    values = np.random.default_rng(0).normal(0, 1e-3, 20_000)
    found = AdaptiveRange(2.0**-8)
    for _ in range(20):
        found.observe(counted(values, found.high))
    assert found.high == 2.0**-8
    found.observe(counted(values / 8, found.high))
    assert found.high == 2.0**-8
    found.observe(counted(values * 50, found.high))
    assert found.high == 2.0**-6


def test_a_range_never_leaves_what_numbers_can_say():
    ends = AdaptiveRange(1.0), AdaptiveRange(1.0)
    spread, zeros = np.zeros(100, np.int64), np.zeros(100, np.int64)
    spread[[0, -1]], zeros[50] = 10, 10
    for _ in range(200):
        ends[0].observe(spread)
        ends[1].observe(zeros)
        ends[1].observe(np.zeros(100, np.int64))
    assert (ends[0].high, ends[1].high) == (2.0**60, 2.0**-60)
