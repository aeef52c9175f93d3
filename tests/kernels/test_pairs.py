"""Counting elements beside their parameters: compiled loops, torch twins and NumPy agree to the last pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_histogram import AWKWARD, PRECISIONS, RANGES, numbers
from torch import Tensor

from cockpit.kernels import compiled, histogram
from cockpit.kernels.histogram import Edges, count_rows
from cockpit.kernels.pairs import (
    Partners,
    pair_lookups,
    pair_lookups_torch,
    pair_outer,
    pair_outer_torch,
    pair_rows,
    pair_rows_torch,
)


def numpy_pairs(values: Tensor, edges: Edges, parameters: Tensor, parameter_edges: Edges) -> np.ndarray:
    """NumPy's answer; the last column is that of parameters that are NaN."""
    x, y = (t.numpy().ravel() for t in torch.broadcast_tensors(values, parameters))
    kept = ~np.isnan(x)
    column = np.searchsorted(parameter_edges.inner(parameters).numpy(), y, side="right")
    column[np.isnan(y)] = parameter_edges.bins
    counts = np.zeros((edges.bins, parameter_edges.bins + 1), np.int64)
    np.add.at(counts, (np.searchsorted(edges.inner(values).numpy(), x[kept], side="right"), column[kept]), 1)
    return counts


pytestmark = pytest.mark.usefixtures("variant")


spans = st.sampled_from(RANGES)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), precision=st.sampled_from(sorted(PRECISIONS)), N=st.integers(1, 4), m=st.integers(1, 8))
def test_any_rows(data: st.DataObject, precision: str, N: int, m: int) -> None:
    dtype, width = PRECISIONS[precision]
    edges, parameter_edges = Edges.uniform(*data.draw(spans)), Edges.uniform(*data.draw(spans))
    rows = torch.tensor(data.draw(numbers(width, N * m)), dtype=dtype).view(N, m)
    factors = torch.tensor(data.draw(numbers(width, N)), dtype=dtype)
    theta = torch.tensor(data.draw(numbers(width, m)), dtype=dtype)
    partners = Partners.of(theta, parameter_edges)
    expected = numpy_pairs(rows * factors.unsqueeze(1), edges, theta, parameter_edges)
    for count in (pair_rows, pair_rows_torch):
        np.testing.assert_array_equal(count(rows, factors, edges, partners), expected)


@settings(max_examples=100, deadline=None)
@given(
    data=st.data(), precision=st.sampled_from(sorted(PRECISIONS)),
    N=st.integers(1, 3), inputs=st.integers(1, 9), outputs=st.integers(1, 4),
)  # fmt: skip
def test_any_outer_products(data: st.DataObject, precision: str, N: int, inputs: int, outputs: int) -> None:
    dtype, width = PRECISIONS[precision]
    edges, parameter_edges = Edges.uniform(*data.draw(spans)), Edges.uniform(*data.draw(spans))
    a = torch.tensor(data.draw(numbers(width, N * inputs)), dtype=dtype).view(N, inputs)
    d = torch.tensor(data.draw(numbers(width, N * outputs)), dtype=dtype).view(N, outputs)
    theta = torch.tensor(data.draw(numbers(width, inputs * outputs)), dtype=dtype).view(outputs, inputs)
    partners = Partners.of(theta, parameter_edges)
    expected = numpy_pairs(d.unsqueeze(2) * a.unsqueeze(1), edges, theta, parameter_edges)
    for count in (pair_outer, pair_outer_torch):
        np.testing.assert_array_equal(count(a, d, edges, partners), expected)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), R=st.integers(1, 6), V=st.integers(1, 4), E=st.integers(1, 5))
def test_any_rows_of_a_table(data: st.DataObject, R: int, V: int, E: int) -> None:
    edges, parameter_edges = Edges.uniform(*data.draw(spans)), Edges.uniform(*data.draw(spans))
    rows = torch.tensor(data.draw(numbers(64, R * E)), dtype=torch.float64).view(R, E)
    factors = torch.tensor(data.draw(numbers(64, R)), dtype=torch.float64)
    owners = torch.tensor(data.draw(st.lists(st.integers(0, V - 1), min_size=R, max_size=R)))
    table = torch.tensor(data.draw(numbers(64, V * E)), dtype=torch.float64).view(V, E)
    partners = Partners.of(table, parameter_edges)
    expected = numpy_pairs(rows * factors.unsqueeze(1), edges, table[owners], parameter_edges)
    for count in (pair_lookups, pair_lookups_torch):
        np.testing.assert_array_equal(count(rows, factors, owners, edges, partners), expected)
    touched = numpy_pairs(torch.zeros_like(rows), edges, table[owners], parameter_edges).sum(0)
    np.testing.assert_array_equal(partners.totals(owners), touched)


@pytest.mark.parametrize("scale", [0.001, 0.02, 0.5], ids=["narrow", "two bins and more", "wide"])
@pytest.mark.parametrize("m", [1, 255, 256, 257, 40_000])
def test_long_rows_and_short_ones(m: int, scale: float) -> None:
    """Blocks that lie in the two middle bins, almost, and not at all."""
    generator = torch.Generator().manual_seed(m)
    rows, theta = torch.randn(3, m, generator=generator) * scale, torch.randn(m, generator=generator)
    edges, parameter_edges = Edges.uniform(-1, 1, 100), Edges.uniform(-1, 1, 40)
    ones = torch.ones(3)
    found = pair_rows(rows, ones, edges, Partners.of(theta, parameter_edges))
    np.testing.assert_array_equal(found, numpy_pairs(rows, edges, theta, parameter_edges))
    np.testing.assert_array_equal(found.sum(1), count_rows(rows, ones, edges))


@pytest.mark.parametrize("inputs", [1, 300])
@pytest.mark.parametrize("outputs", [1, 63, 64, 65, 130])
@pytest.mark.parametrize("positive", [True, False])
def test_wide_layers_and_narrow_ones(inputs: int, outputs: int, positive: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    a, d = torch.randn(4, inputs, generator=generator), torch.randn(4, outputs, generator=generator) * 0.1
    a = a.relu() if positive else a
    theta = torch.randn(outputs, inputs, generator=generator)
    edges, parameter_edges = Edges.uniform(-1, 1, 100), Edges.uniform(-1, 1, 40)
    found = pair_outer(a, d, edges, Partners.of(theta, parameter_edges))
    np.testing.assert_array_equal(found, numpy_pairs(d.unsqueeze(2) * a.unsqueeze(1), edges, theta, parameter_edges))


def test_work_for_several_cores_is_counted_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_WORTH_THREADS", 0)
    rows, edges = torch.randn(7, 1000, generator=torch.Generator().manual_seed(2)), Edges.uniform(-1, 1, 20)
    partners = Partners.of(rows[0], edges)
    expected = numpy_pairs(rows, edges, rows[0], edges)
    np.testing.assert_array_equal(pair_rows(rows, torch.ones(7), edges, partners), expected)
    partners = Partners.of(rows[:3], edges)
    outer = rows[:, :3].unsqueeze(2) * rows.unsqueeze(1)
    expected = numpy_pairs(outer, edges, rows[:3], edges)
    np.testing.assert_array_equal(pair_outer(rows, rows[:, :3], edges, partners), expected)


def test_torch_twins_work_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histogram, "_CHUNK", 8)
    rows, edges = torch.randn(7, 5, generator=torch.Generator().manual_seed(3)), Edges.uniform(-1, 1, 20)
    expected = numpy_pairs(rows, edges, rows[0], edges)
    np.testing.assert_array_equal(pair_rows_torch(rows, torch.ones(7), edges, Partners.of(rows[0], edges)), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("bins", [2, 254, 255, 256, 1000])
def test_a_parameter_is_looked_up_in_its_own_precision_and_half_of_it_in_single(dtype: torch.dtype, bins: int) -> None:
    edges = Edges.uniform(-1, 1, bins)
    values = torch.cat([torch.tensor(AWKWARD), torch.linspace(-1.2, 1.2, 500)]).to(dtype)
    exact = values if dtype == torch.float64 else values.float()
    partners = Partners.of(values, edges)
    expected = np.searchsorted(edges.inner(exact).numpy(), exact.numpy(), side="right")
    expected[np.isnan(exact.numpy())] = bins
    np.testing.assert_array_equal(partners.places.int().flatten(), expected)
    np.testing.assert_array_equal(partners.totals(), np.bincount(expected, minlength=bins + 1))
