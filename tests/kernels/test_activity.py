"""Sums over a module's output: compiled loop, torch twin and NumPy agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cockpit.kernels import compiled
from cockpit.kernels.activity import activity

SHAPES = [((5, 7), -1), ((5, 7), 1), ((3, 4, 6), -1), ((3, 4, 6), 1), ((2, 3, 4, 5), 1), ((2, 3, 4, 5), -1), ((9,), -1),
          ((2, 2500), -1), ((2, 3, 1500), 1), ((1, 1), -1)]  # fmt: skip


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def _variant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "compiled":
        pytest.importorskip("numba", reason="the compiled loops need the extra 'fast'")
    else:
        monkeypatch.setattr(compiled, "usable", lambda tensor: False)


def holds(values: Tensor, axis: int) -> None:
    x = values.double().numpy()
    units = x.shape[axis]
    alive = torch.zeros(units, dtype=torch.bool)
    alive[0] = True  # as an earlier call has left it
    with np.errstate(all="ignore"):
        expected = [x.sum(), np.square(x).sum(), (x == 0).sum(), (~np.isfinite(x)).sum()]
    np.testing.assert_allclose(activity(values, axis, alive).numpy(), expected, rtol=1e-6, atol=1e-5)
    other = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    marked = (x != 0).any(other) if other else x != 0
    marked[0] = True
    np.testing.assert_array_equal(alive.numpy(), marked)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
def test_any_shape(shape: tuple[int, ...], axis: int, dtype: torch.dtype) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype).relu()
    if values.dim() > 1:
        values.movedim(axis, 0)[-1] = 0
    holds(values, axis)


def test_channels_last_and_other_layouts() -> None:
    values = torch.randn(2, 6, 5, 4, generator=torch.Generator().manual_seed(1)).relu()
    values[:, 2] = 0
    holds(values.to(memory_format=torch.channels_last), 1)
    holds(values[:, ::2], 1)
    holds(values.transpose(1, 3), -1)


@pytest.mark.parametrize("awkward", [float("nan"), float("inf"), -float("inf"), 3e38])
def test_numbers_that_are_none_are_counted_and_large_ones_are_not(awkward: float) -> None:
    values = torch.ones(3, 4, 5)
    values[1, 2, 3] = awkward
    values[:, 1] = 0
    holds(values, 1)
    holds(values, -1)


def test_half_precision_does_not_overflow_in_the_sum() -> None:
    holds(torch.full((4, 300), 300.0, dtype=torch.float16), -1)
