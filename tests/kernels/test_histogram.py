"""Counting into bins: compiled loops, torch twins and NumPy agree to the last element."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from cockpit.kernels import compiled, histogram
from cockpit.kernels.histogram import Edges, count_outer, count_outer_torch, count_rows, count_rows_torch

PRECISIONS = {"float32": (torch.float32, 32), "float64": (torch.float64, 64)}
AWKWARD = [0.0, -0.0, 1.0, -1.0, 0.02, -0.02, 0.98, float("inf"), float("-inf"), float("nan"), 1e-45, -1e-45, 3e38]


def numpy_counts(values: Tensor, edges: Edges) -> np.ndarray:
    """NumPy's answer, for values and edges in the values' precision."""
    kept = values[~values.isnan()].numpy()
    return np.bincount(np.searchsorted(edges.inner(values).numpy(), kept, side="right"), minlength=edges.bins)


def numbers(width: int, size: int) -> st.SearchStrategy[list[float]]:
    anything = st.floats(width=width, allow_nan=True, allow_infinity=True)
    usual = st.floats(-1.5, 1.5, width=width)
    return st.lists(st.one_of(usual, st.sampled_from(AWKWARD), anything), min_size=size, max_size=size)


RANGES = [
    (-1.0, 1.0, 100),
    (-1.0, 1.0, 2),
    (-0.5, 0.5, 3),
    (0.0, 1.0, 7),
    (-3.0, -1.0, 10),
    (1.0, 3.0, 10),
    (-1e-30, 1e-30, 50),
]


pytestmark = pytest.mark.usefixtures("variant")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("span", RANGES, ids=str)
@pytest.mark.parametrize("N", [1, 5])
def test_rows_of_every_kind_of_number(precision: str, span: tuple[float, float, int], N: int) -> None:
    dtype, _ = PRECISIONS[precision]
    edges = Edges.uniform(*span)
    on_edges = torch.as_tensor(edges.values).to(dtype)
    beside = torch.cat([torch.nextafter(on_edges, on_edges + s) for s in (-1, 1)])
    line = torch.cat([on_edges, beside, torch.tensor(AWKWARD, dtype=dtype), torch.linspace(-2, 2, 700, dtype=dtype)])
    rows, factors = line.repeat(N, 1), torch.linspace(1, 2, N, dtype=dtype)
    expected = sum(numpy_counts(factor * row, edges) for factor, row in zip(factors, rows, strict=True))
    np.testing.assert_array_equal(count_rows(rows, factors, edges), expected)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), precision=st.sampled_from(sorted(PRECISIONS)), N=st.integers(1, 3), m=st.integers(1, 8))
def test_any_rows(data: st.DataObject, precision: str, N: int, m: int) -> None:
    dtype, width = PRECISIONS[precision]
    edges = Edges.uniform(*data.draw(st.sampled_from(RANGES)))
    rows = torch.tensor(data.draw(numbers(width, N * m)), dtype=dtype).view(N, m)
    factors = torch.tensor(data.draw(numbers(width, N)), dtype=dtype)
    expected = numpy_counts(rows * factors.unsqueeze(1), edges)
    np.testing.assert_array_equal(count_rows(rows, factors, edges), expected)
    np.testing.assert_array_equal(count_rows_torch(rows, factors, edges), expected)


@settings(max_examples=100, deadline=None)
@given(
    data=st.data(), precision=st.sampled_from(sorted(PRECISIONS)),
    N=st.integers(1, 3), inputs=st.integers(1, 9), outputs=st.integers(1, 4),
)  # fmt: skip
def test_any_outer_products(data: st.DataObject, precision: str, N: int, inputs: int, outputs: int) -> None:
    dtype, width = PRECISIONS[precision]
    edges = Edges.uniform(*data.draw(st.sampled_from(RANGES)))
    a = torch.tensor(data.draw(numbers(width, N * inputs)), dtype=dtype).view(N, inputs)
    d = torch.tensor(data.draw(numbers(width, N * outputs)), dtype=dtype).view(N, outputs)
    expected = numpy_counts(d.unsqueeze(2) * a.unsqueeze(1), edges)
    np.testing.assert_array_equal(count_outer(a, d, edges), expected)
    np.testing.assert_array_equal(count_outer_torch(a, d, edges), expected)


@settings(max_examples=100, deadline=None)
@given(
    low=st.floats(-1e6, 1e6), width=st.floats(1e-6, 1e6), bins=st.integers(2, 300),
    precision=st.sampled_from(sorted(PRECISIONS)), seed=st.integers(0, 99),
)  # fmt: skip
@example(low=1e6, width=1.0, bins=100, precision="float32", seed=0)
@example(low=-1e5, width=0.5, bins=50, precision="float32", seed=0)
@example(low=0.0, width=1e-42, bins=3, precision="float32", seed=0)
@example(low=100.0, width=1e-6, bins=3, precision="float32", seed=0)
def test_any_range(low: float, width: float, bins: int, precision: str, seed: int) -> None:
    """Also one whose bins are narrower than what tells its numbers apart."""
    dtype, _ = PRECISIONS[precision]
    assume(low < low + width)
    edges = Edges.uniform(low, low + width, bins)
    values = low + width * (2 * torch.rand(3, 50, dtype=dtype, generator=torch.Generator().manual_seed(seed)) - 0.5)
    ones = torch.ones(3, dtype=dtype)
    np.testing.assert_array_equal(count_rows(values, ones, edges), numpy_counts(values, edges))
    np.testing.assert_array_equal(count_outer(values, ones.unsqueeze(1), edges), numpy_counts(values, edges))


@pytest.mark.parametrize("shape", [(3, 5000), (2, 511), (2, 512), (2, 513), (40, 1), (1, 1)])
def test_long_lines_and_short_ones(shape: tuple[int, int]) -> None:
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 0.1
    factors, edges = torch.linspace(-1, 1, shape[0]), Edges.uniform(-0.2, 0.2, 30)
    expected = numpy_counts(rows * factors.unsqueeze(1), edges)
    np.testing.assert_array_equal(count_rows(rows, factors, edges), expected)
    assert expected.sum() == rows.numel()


@pytest.mark.parametrize("outputs", [1, 31, 33, 100])
def test_wide_layers_and_narrow_ones(outputs: int) -> None:
    generator = torch.Generator().manual_seed(1)
    a, d = torch.randn(4, 300, generator=generator).relu(), torch.randn(4, outputs, generator=generator) * 0.1
    edges = Edges.uniform(-1, 1, 100)
    np.testing.assert_array_equal(count_outer(a, d, edges), numpy_counts(d.unsqueeze(2) * a.unsqueeze(1), edges))


def test_work_for_several_cores_is_counted_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_WORTH_THREADS", 0)
    rows, edges = torch.randn(7, 1000, generator=torch.Generator().manual_seed(2)), Edges.uniform(-1, 1, 20)
    np.testing.assert_array_equal(count_rows(rows, torch.ones(7), edges), numpy_counts(rows, edges))
    outer = rows[:, :3].unsqueeze(2) * rows.unsqueeze(1)
    np.testing.assert_array_equal(count_outer(rows, rows[:, :3], edges), numpy_counts(outer, edges))


def test_torch_twins_work_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histogram, "_CHUNK", 8)
    rows, edges = torch.randn(7, 5, generator=torch.Generator().manual_seed(3)), Edges.uniform(-1, 1, 20)
    np.testing.assert_array_equal(count_rows_torch(rows, torch.ones(7), edges), numpy_counts(rows, edges))


@pytest.mark.parametrize("value", [-5.0, -1.0, -0.0, 0.0, 0.3, 0.999, 1.0, 7.0])
def test_bin_of_one_value_is_where_it_is_counted(value: float) -> None:
    edges = Edges.uniform(-1, 1, 10)
    counts = count_rows(torch.tensor([[value]], dtype=torch.float64), torch.ones(1), edges)
    assert list(np.flatnonzero(counts)) == [edges.bin_of(value)]


@pytest.mark.parametrize(("low", "high", "bins"), [(1, 1, 5), (1, 0, 5), (0, 1, 1), (float("nan"), 1, 5)])
def test_range_without_bins_is_refused(low: float, high: float, bins: int) -> None:
    with pytest.raises(ValueError, match="low < high and at least 2 bins"):
        Edges.uniform(low, high, bins)


def test_serial_and_parallel_loops_are_kept_apart_on_disk() -> None:
    pytest.importorskip("numba", reason="the compiled loops need the extra 'fast'")
    from cockpit.kernels import exponent_loops, loops, pair_loops

    for module in (loops, exponent_loops, pair_loops):
        names = [name.removesuffix("_serial") for name in vars(module) if name.endswith("_serial")]
        assert names
        for name in names:
            serial, parallel = (getattr(module, f"{name}_{kind}") for kind in ("serial", "parallel"))
            assert serial.py_func.__qualname__ != parallel.py_func.__qualname__
