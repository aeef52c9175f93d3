"""Lanczos' method on matrices whose spectrum is known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cockpit.probes.lanczos import lanczos


def symmetric(spectrum, seed=0):
    """A float64 matrix with these eigenvalues and random eigenvectors."""
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.as_tensor(spectrum, dtype=torch.float64)
    turned, _ = torch.linalg.qr(torch.randn(len(spectrum), len(spectrum), generator=generator, dtype=torch.float64))
    matrix = turned @ spectrum.diag() @ turned.T
    return (matrix + matrix.T) / 2


def extremes(matrix, products, tol=1e-10, start=None, seed=1):
    generator = torch.Generator().manual_seed(seed)
    basis = torch.full((products + 1, len(matrix)), math.nan, dtype=matrix.dtype)
    basis[0] = torch.randn(len(matrix), generator=generator, dtype=torch.float64) if start is None else start
    return lanczos(lambda v, out: out.copy_(matrix @ v), basis, tol)


SPECTRA = {
    "one by one": [-3.0],
    "zero": [0.0] * 6,
    "rank one": [0.0] * 9 + [4.0],
    "rank one, negative": [0.0] * 9 + [-4.0],
    "clustered": [1.0, 1.0 + 1e-9, 1.0 - 1e-9, 2.0, 2.0, 2.0 + 1e-7, -1.0, -1.0],
    "negative in front": [-1000.0, -900.0, 0.1, 0.2, 1.0, -0.5],
    "negative alone": [-5.0, -3.0, -1.0],
    "identity": [7.0] * 5,
    "many sizes": list(np.logspace(-6, 3, 12)),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_both_ends_of_the_spectrum_are_found(name):
    matrix = symmetric(SPECTRA[name])
    truth, size = torch.linalg.eigvalsh(matrix), max(map(abs, SPECTRA[name]))
    found = extremes(matrix, len(matrix), tol=0.0)
    assert found.largest.value == pytest.approx(truth[-1].item(), rel=1e-9, abs=1e-9 * size)
    assert found.smallest.value == pytest.approx(truth[0].item(), rel=1e-9, abs=1e-9 * size)


@settings(max_examples=80, deadline=None)
@given(
    spectrum=st.lists(st.floats(-100, 100), min_size=1, max_size=12),
    products=st.integers(1, 12),
    seed=st.integers(0, 9),
)
@example(spectrum=[0.0], products=1, seed=0)
@example(spectrum=[1e-30, 0.0, -1e-30], products=3, seed=0)
def test_an_eigenvalue_lies_within_the_residual_of_each_end(spectrum, products, seed):
    matrix = symmetric(spectrum, seed)
    # squares of what is smaller than 1e-150 are zero
    truth, rounding = torch.linalg.eigvalsh(matrix), 1e-11 * max(map(abs, spectrum)) + 1e-150
    found = extremes(matrix, products, tol=1e-12)
    assert 1 <= found.products <= min(products, len(spectrum))
    for end in (found.largest, found.smallest):
        gap = (truth - end.value).abs().min().item()
        assert gap <= end.residual + rounding
        assert truth[0] - rounding <= end.value <= truth[-1] + rounding
        torch.testing.assert_close(end.vector.norm().item(), 1.0)
        residual = (matrix @ end.vector - end.value * end.vector).norm().item()
        assert residual == pytest.approx(end.residual, rel=1e-5, abs=10 * rounding)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), size=st.integers(2, 15))
def test_as_many_products_as_dimensions_are_exact(seed, size):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, size, generator=generator, dtype=torch.float64)
    matrix = matrix + matrix.T
    truth, found = torch.linalg.eigvalsh(matrix), extremes(matrix, size, tol=1e-14)
    assert found.largest.value == pytest.approx(truth[-1].item(), rel=1e-8, abs=1e-8 * float(truth.abs().max()))
    assert found.smallest.value == pytest.approx(truth[0].item(), rel=1e-8, abs=1e-8 * float(truth.abs().max()))


def test_it_stops_at_the_residual_that_is_asked_for():
    matrix = symmetric(np.linspace(0, 1, 60) ** 4)
    counts = []
    for tol in (1e-1, 1e-2, 1e-3):
        found = extremes(matrix, 60, tol=tol)
        assert found.largest.residual <= tol * found.largest.value
        assert extremes(matrix, found.products - 1, tol=tol).largest.residual > tol * found.largest.value
        counts.append(found.products)
    assert counts == sorted(set(counts))


def test_the_largest_is_algebraic_where_the_most_negative_one_dominates():
    spectrum = [-10.0, *np.linspace(-1, 0.5, 200), 1.0]
    assert extremes(symmetric(spectrum), 30, tol=1e-4).largest.value == pytest.approx(1.0, rel=1e-4)


def test_a_long_run_in_single_precision_keeps_its_vectors_apart():
    matrix = symmetric(np.concatenate([np.linspace(0, 1, 150), [-100.0, -50.0]])).float()
    basis = torch.empty(61, len(matrix))
    basis[0] = torch.randn(len(matrix), generator=torch.Generator().manual_seed(0))
    found = lanczos(lambda v, out: out.copy_(matrix @ v), basis, tol=0.0)
    used = basis[: found.products]
    torch.testing.assert_close(used @ used.T, torch.eye(len(used)), rtol=0, atol=1e-4)
    assert found.products == 60
    assert found.largest.value == pytest.approx(1, abs=1e-3)
    assert found.smallest.value == pytest.approx(-100, rel=1e-6)


def test_starting_at_both_ends_finds_both_in_two_products():
    matrix = symmetric(np.linspace(-3, 7, 50))
    exact = extremes(matrix, 50)
    again = extremes(matrix, 50, tol=1e-6, start=exact.largest.vector + exact.smallest.vector)
    assert again.products == 2
    assert again.largest.value == pytest.approx(7)
    assert again.smallest.value == pytest.approx(-3)


def test_what_is_not_finite_gives_nan():
    for broken in (math.nan, math.inf):
        matrix = symmetric([1.0, 2.0, 3.0])
        matrix[0, 0] = broken
        found = extremes(matrix, 3)
        assert found.products == 1
        assert math.isnan(found.largest.value)
        assert math.isnan(found.smallest.residual)
        assert math.isnan(extremes(symmetric([1.0, 2.0]), 2, start=torch.tensor([broken, 1.0])).largest.value)


def test_zero_is_no_start():
    with pytest.raises(ValueError, match="not zero"):
        extremes(symmetric([1.0, 2.0]), 2, start=torch.zeros(2))


def test_a_product_needs_a_row():
    with pytest.raises(ValueError, match="one product at least"):
        extremes(symmetric([1.0, 2.0]), 0)
