"""Counting by exponent: compiled loops, torch twins and Python's own ``frexp`` agree to the last element."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cockpit.kernels import compiled, exponents
from cockpit.kernels.exponents import (
    EDGES,
    HIGHEST,
    LOWEST,
    count_outer,
    count_outer_torch,
    count_rows,
    count_rows_torch,
)

PRECISIONS = {"float32": (torch.float32, 32), "float64": (torch.float64, 64)}
INF, NAN = float("inf"), float("nan")
AWKWARD = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    1.5,
    2.0,
    0.5,
    INF,
    -INF,
    NAN,
    1e-45,
    5e-324,
    1.2e-38,
    3e38,
    1.7e308,
    2.0**-64,
    2.0**16,
]


def counted(values: Tensor) -> np.ndarray:
    """Zeros first, then bins; one number at a time."""
    counts = np.zeros(1 + HIGHEST - LOWEST, np.int64)
    for value in values.flatten().tolist():
        if value == 0:
            counts[0] += 1
        elif not math.isnan(value):
            exponent = HIGHEST if math.isinf(value) else math.frexp(value)[1] - 1
            counts[1 + min(max(exponent, LOWEST), HIGHEST - 1) - LOWEST] += 1
    return counts


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def _variant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "compiled":
        pytest.importorskip("numba", reason="the compiled loops need the extra 'fast'")
    else:
        monkeypatch.setattr(compiled, "usable", lambda tensor: False)


def numbers(width: int, size: int) -> st.SearchStrategy[list[float]]:
    anything = st.floats(width=width, allow_nan=True, allow_infinity=True)
    tight = st.floats(0.5, 2.25, width=width)
    small = st.floats(-(2.0**-60), 2.0**-60, width=width)
    return st.lists(st.one_of(tight, small, st.sampled_from(AWKWARD), anything), min_size=size, max_size=size)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), precision=st.sampled_from(sorted(PRECISIONS)), N=st.integers(1, 3), m=st.integers(1, 9))
def test_any_rows(data: st.DataObject, precision: str, N: int, m: int) -> None:
    dtype, width = PRECISIONS[precision]
    rows = torch.tensor(data.draw(numbers(width, N * m)), dtype=dtype).view(N, m)
    factors = torch.tensor(data.draw(numbers(width, N)), dtype=dtype)
    expected = counted(rows * factors.unsqueeze(1))
    np.testing.assert_array_equal(count_rows(rows, factors), expected)
    np.testing.assert_array_equal(count_rows_torch(rows, factors), expected)


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(), precision=st.sampled_from(sorted(PRECISIONS)),
    N=st.integers(1, 3), inputs=st.integers(1, 9), outputs=st.integers(1, 5),
)  # fmt: skip
def test_any_outer_products(data: st.DataObject, precision: str, N: int, inputs: int, outputs: int) -> None:
    dtype, width = PRECISIONS[precision]
    a = torch.tensor(data.draw(numbers(width, N * inputs)), dtype=dtype).view(N, inputs)
    d = torch.tensor(data.draw(numbers(width, N * outputs)), dtype=dtype).view(N, outputs)
    expected = counted(d.unsqueeze(2) * a.unsqueeze(1))
    np.testing.assert_array_equal(count_outer(a, d), expected)
    np.testing.assert_array_equal(count_outer_torch(a, d), expected)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_products_that_round_to_a_power_of_two(precision: str) -> None:
    """Mantissas one step to either side of where their product carries."""
    dtype, _ = PRECISIONS[precision]
    a = torch.rand(4, 300, dtype=dtype, generator=torch.Generator().manual_seed(0)) + 1
    exact = 2 / a[:, :40]
    d = torch.cat([exact, *(torch.nextafter(exact, exact + s) for s in (-1, 1))], 1)
    np.testing.assert_array_equal(count_outer(a, d), counted(d.unsqueeze(2) * a.unsqueeze(1)))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("power", [-80, -64, -63, -20, 0, 15, 16, 40])
def test_a_power_of_two_opens_its_bin(precision: str, power: int) -> None:
    dtype, _ = PRECISIONS[precision]
    at = torch.tensor([[2.0]], dtype=dtype) ** power
    below = torch.nextafter(at, torch.zeros_like(at))
    bin_of = lambda x: int(np.flatnonzero(count_rows(x, torch.ones(1, dtype=dtype)))[0]) - 1  # noqa: E731
    assert bin_of(at) == np.clip(power, LOWEST, HIGHEST - 1) - LOWEST
    assert bin_of(below) == np.clip(power - 1, LOWEST, HIGHEST - 1) - LOWEST
    assert EDGES[bin_of(at)] == np.clip(power, LOWEST, HIGHEST - 1)


@pytest.mark.parametrize("shape", [(3, 5000), (2, 239), (2, 240), (2, 241), (40, 1), (2, 0)])
@pytest.mark.parametrize("spread", [1, 30])
def test_long_lines_and_short_ones(shape: tuple[int, int], spread: float) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(*shape, generator=generator).relu() * torch.exp2(
        spread * torch.randn(*shape, generator=generator)
    )
    factors = torch.linspace(-1, 1, shape[0])
    np.testing.assert_array_equal(count_rows(rows, factors), counted(rows * factors.unsqueeze(1)))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("outputs", [1, 33, 100])
def test_layers_as_they_are(precision: str, outputs: int) -> None:
    dtype, _ = PRECISIONS[precision]
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(4, 300, generator=generator, dtype=dtype).relu()
    d = torch.randn(4, outputs, generator=generator, dtype=dtype) * 1e-4
    np.testing.assert_array_equal(count_outer(a, d), counted(d.unsqueeze(2) * a.unsqueeze(1)))


def test_work_for_several_cores_is_counted_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_WORTH_THREADS", 0)
    rows = torch.randn(7, 1000, generator=torch.Generator().manual_seed(2))
    np.testing.assert_array_equal(count_rows(rows, torch.ones(7)), counted(rows))
    outer = rows[:, :3].unsqueeze(2) * rows.unsqueeze(1)
    np.testing.assert_array_equal(count_outer(rows, rows[:, :3]), counted(outer))


def test_torch_twins_work_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exponents, "_CHUNK", 8)
    rows = torch.randn(7, 5, generator=torch.Generator().manual_seed(3))
    np.testing.assert_array_equal(count_rows_torch(rows, torch.ones(7)), counted(rows))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_counted_by_the_twin(dtype: torch.dtype) -> None:
    rows = (torch.randn(3, 50, generator=torch.Generator().manual_seed(4)) * 1e-6).to(dtype)
    np.testing.assert_array_equal(count_rows(rows, torch.ones(3)), counted(rows))
