"""Squared norms, on which every reading rests: no digits lost to length, precision or size."""

from __future__ import annotations

import pytest
import torch

from cockpit.kernels.row_sums import row_sq_norms
from cockpit.parameters import sq_norms

LENGTHS = [1, 1000, 1 << 16, (1 << 16) + 1, (1 << 17) + 3, 1_000_003]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_long_sums_keep_their_digits(length: int, dtype: torch.dtype, rel: float) -> None:
    values = (torch.rand(length, generator=torch.Generator().manual_seed(0)) + 0.5).to(dtype)
    exact = float(values.double().square().sum())
    assert float(sq_norms([values])[0]) == pytest.approx(exact, rel=rel)
    assert float(row_sq_norms(values.view(1, -1))[0]) == pytest.approx(exact, rel=rel)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_half_precision_is_that_of_the_elements_alone(length: int, dtype: torch.dtype, size: float) -> None:
    """A norm of 1e3 · √length does not fit into float16, nor does its square."""
    rel = 5e-5  # float32 sums of float16 numbers, which are not summed in pairs as float32 numbers are
    values = ((torch.rand(length, generator=torch.Generator().manual_seed(1)) + 0.5) * size).to(dtype)
    exact = float(values.double().square().sum())
    assert float(sq_norms([values])[0]) == pytest.approx(exact, rel=rel)
    assert float(row_sq_norms(values.view(1, -1))[0]) == pytest.approx(exact, rel=rel)


def test_each_row_has_its_own_norm() -> None:
    rows = torch.arange(6.0).view(2, 3)
    assert row_sq_norms(rows).tolist() == pytest.approx([5.0, 50.0])
    assert row_sq_norms(rows).dtype == torch.float64
