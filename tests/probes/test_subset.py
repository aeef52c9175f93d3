"""Part of a mini-batch."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cockpit.probes.subset import Subset


@given(st.integers(1, 200), st.integers(1, 300))
def test_a_number_of_samples_is_spread_evenly(count, N):
    found = Subset.of(count).of_batch(N)
    assert len(found) == min(count, N)
    assert found[0] == 0
    gaps = {b - a for a, b in itertools.pairwise(found)}
    assert all(gap in (N // len(found), N // len(found) + 1) for gap in gaps)
    assert N - found[-1] >= N // len(found)


@pytest.mark.parametrize(
    ("samples", "found"),
    [([5, 0, 2], [0, 2, 5]), ((9, 1), [1]), (slice(2, 4), [2, 3]), (slice(None, None, -3), [2, 5]), (slice(8, 9), [])],
)
def test_indices_and_slices_mean_what_they_say_in_a_batch_of_six(samples, found):
    assert Subset.of(samples).of_batch(6) == tuple(found)


def test_all_samples_are_no_subset():
    assert Subset.of(None) is None


@pytest.mark.parametrize(
    ("samples", "error", "words"),
    [
        (0, ValueError, "at least one sample"),
        ([], ValueError, "at least one"),
        ([1, 1], ValueError, "different indices"),
        ([-1], ValueError, "from 0 on"),
        (True, TypeError, "a number, a slice, or a list of indices"),
        ("all", TypeError, "got 'all'"),
        ([0.5], TypeError, "a list of indices"),
        (1.5, TypeError, "got 1.5"),
    ],
)
def test_what_is_no_part_of_a_batch_is_refused(samples, error, words):
    with pytest.raises(error, match=words):
        Subset.of(samples)
