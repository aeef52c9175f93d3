"""Quantiles of histograms, and bins that changed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cockpit.drawing.quantiles import medians, on_one_axis, quantiles


@given(st.lists(st.lists(st.one_of(st.just(float("nan")), st.floats(-1e9, 1e9)), min_size=3, max_size=3), max_size=7))
def test_a_median_is_that_of_the_numbers_there_are(rows):
    values = np.array(rows).reshape(-1, 3)
    for column, found in zip(values.T, medians(values), strict=True):
        known = column[~np.isnan(column)]
        np.testing.assert_allclose(found, np.median(known) if len(known) else np.nan)


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any),
    st.floats(0, 1),
)
def test_a_quantile_is_where_the_distribution_reaches_its_share(counts, share):
    edges = np.arange(len(counts) + 1.0)
    (found,) = quantiles(np.array(counts), edges, (share,))
    below = np.interp(found, edges, np.concatenate([[0], np.cumsum(counts)]))
    assert below == pytest.approx(share * sum(counts), abs=1e-9)


def test_every_row_has_its_own_bins():
    counts = np.array([[1, 1], [0, 2]])
    edges = np.array([[0.0, 1.0, 2.0], [0.0, 10.0, 20.0]])
    assert quantiles(counts, edges, (0.5,))[:, 0].tolist() == [1.0, 15.0]


def test_an_empty_histogram_has_no_quantiles():
    found = quantiles(np.array([[0, 0], [0, 4]]), np.array([0.0, 1.0, 2.0]), (0.1, 0.5))
    assert np.isnan(found[0]).all()
    assert found[1, 1] == 1.5


def test_each_histogram_stands_over_its_fullest_bin_without_the_ends_that_are_always_empty():
    shares, edges = on_one_axis(np.array([[0, 1, 0, 2, 0], [0, 0, 3, 0, 0]]), np.arange(6.0))
    np.testing.assert_equal(shares, [[0.5, np.nan, 1], [np.nan, 1, np.nan]])
    assert edges.tolist() == [1, 2, 3, 4]


def test_ends_that_hold_next_to_nothing_are_left_out():
    shares, edges = on_one_axis(np.array([[1, 100, 1, 100, 1]]), np.arange(6.0), least=0.01)
    assert shares.tolist() == [[1, 0.01, 1]]
    assert edges.tolist() == [1, 2, 3, 4]


def test_bins_that_changed_are_shared_out_on_one_axis():
    counts = np.array([[2, 6], [4, 4]])
    edges = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0]])
    shares, grid = on_one_axis(counts, edges)
    assert shares.tolist() == [[1 / 3, 1], [1, 1]]
    assert grid.tolist() == [-2, 0, 2]


def test_histograms_of_nothing_stay_nothing():
    for edges in (np.arange(4.0), np.full((2, 4), np.nan)):
        shares, _ = on_one_axis(np.zeros((2, 3), int), edges)
        assert np.isnan(shares).all()
