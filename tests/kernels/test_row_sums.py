"""Norms, inner products and sums by column of rows: the compiled loop and the torch twin against float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from cockpit.kernels import compiled
from cockpit.kernels.row_sums import Squares, row_sums
from cockpit.probes.row_sums import RowSums, add_chunk

pytestmark = pytest.mark.usefixtures("variant")
every_variant = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def numbers(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@every_variant
@given(
    n=st.integers(1, 9),
    m=st.sampled_from([1, 3, 2047, 2048, 2049, 5000]),
    directions=st.integers(0, 5),
    columns=st.integers(0, 3),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 99),
)
def test_all_sums_are_those_of_float64(n, m, directions, columns, dtype, seed):
    rows, along = numbers(seed, n, m, dtype=dtype), numbers(seed + 1, directions, m, dtype=dtype)
    coefficients, before = numbers(seed + 2, columns, n), numbers(seed + 3, columns, m, dtype=dtype)
    sums = before.clone()
    pairs = zip(coefficients, sums, strict=True)
    sq_norms, dots = row_sums(rows, list(along), [Squares(*pair) for pair in pairs])
    exact = rows.double()
    close = {"rtol": 1e-5, "atol": 1e-5 * math.sqrt(m)} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-10}
    assert sq_norms.dtype == torch.float64
    torch.testing.assert_close(sq_norms, exact.square().sum(1), **close)
    assert len(dots) == directions
    for found, direction in zip(dots, along, strict=True):
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, exact @ direction.double(), **close)
    expected = before.double() + coefficients.double() @ exact.square()
    torch.testing.assert_close(sums.double(), expected, **close)


def test_what_is_not_finite_shows_in_its_row_and_column_alone():
    rows = numbers(0, 3, 4100)
    rows[1, 7], rows[2, 4099] = math.nan, math.inf
    sums = torch.zeros(4100)
    sq_norms, (dots,) = row_sums(rows, [torch.ones(4100)], [Squares(torch.ones(3), sums)])
    assert [math.isfinite(x) for x in sq_norms.tolist()] == [True, False, False]
    assert [math.isfinite(x) for x in dots.tolist()] == [True, False, False]
    assert math.isnan(sq_norms[1])
    assert sq_norms[2] == math.inf
    assert sums.isfinite().logical_not().nonzero().flatten().tolist() == [7, 4099]


def test_half_precision_is_summed_in_single_precision():
    rows = torch.full((2, 3000), 300.0, dtype=torch.float16)
    sq_norms, _ = row_sums(rows, [], [])
    assert sq_norms.tolist() == pytest.approx([3000 * 300.0**2] * 2, rel=1e-6)


def test_chunks_and_those_who_ask_add_up_to_the_whole():
    rows, along, other = numbers(1, 10, 300), numbers(2, 300), numbers(3, 15, 20)
    coefficients = numbers(4, 10).double()
    first, second, third = RowSums([along, other]), RowSums([along]), RowSums(coefficients=coefficients)
    for start in (0, 4, 8):
        add_chunk([first, second, third], start, rows[start : start + 4])
    exact = rows.double()
    for sums in (first, second, third):
        torch.testing.assert_close(sums.sq_norms, exact.square().sum(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(first.dots[0], exact @ along.double(), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(first.dots[1], exact @ other.flatten().double(), rtol=1e-5, atol=1e-4)
    assert torch.equal(second.dots[0], first.dots[0])
    torch.testing.assert_close(third.squares.double(), coefficients @ exact.square(), rtol=1e-5, atol=1e-5)
    assert first.squares is None


def test_threads_change_nothing_but_rounding(monkeypatch):
    rows, along = numbers(5, 40, 9000), numbers(6, 9000)
    found = {}
    for limit in (0, 10**9):
        monkeypatch.setattr(compiled, "_WORTH_THREADS", limit)
        found[limit] = row_sums(rows, [along], [])
    torch.testing.assert_close(found[0], found[10**9], rtol=1e-6, atol=1e-4)
