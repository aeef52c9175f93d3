"""Gradients that are zero but for rounding are no sign of a penalty; a penalty on them is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from harness import logged, record
from reference import one_at_a_time
from torch import Tensor, nn

N, C = 6, 3


class Embedding(nn.Module):
    """Of the distances between what it returns, which is all that a triplet loss knows, the last bias is no part."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).tanh())


def triplets(model: nn.Module, x: Tensor, reduction: str = "mean") -> Tensor:
    return F.triplet_margin_loss(*(model(part) for part in x.unbind(1)), reduction=reduction)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_terms_that_cancel_within_each_sample_are_covered(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, batches = Embedding().to(dtype), [torch.randn(N, 3, 3, dtype=dtype) for _ in range(4)]
    truth = one_at_a_time(model, lambda m: triplets(m, batches[0].double(), "none"))
    run = record(tmp_path, model, batches, lambda m, x: triplets(m, x), instruments="economy")
    assert run.reader.document("coverage")["left_out"] == {}
    assert not run["norm_test"].missing.any()
    assert logged(run, "norm_test", 0) == pytest.approx(truth.norm_test(), rel=1e-4)


def test_penalty_on_a_gradient_that_is_zero_but_for_rounding_is_noticed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, batches = Embedding().double(), [torch.randn(N, 3, 3).double() for _ in range(3)]

    def loss(m: nn.Module, x: Tensor) -> Tensor:
        return triplets(m, x) + 1e-11 * m.last.bias.square().sum()

    run = record(tmp_path, model, batches, loss, instruments="norm_test")
    assert list(run.reader.document("coverage")["left_out"]) == ["last.bias"]


@pytest.mark.parametrize("before", ["Linear", "Conv1d"])
def test_bias_before_batch_normalisation_is_covered(before: str, tmp_path: Path) -> None:
    def linear() -> Callable[[], nn.Module]:
        return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, C))

    def convolutional() -> Callable[[], nn.Module]:
        pool = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten())
        return nn.Sequential(nn.Conv1d(1, 5, 3), nn.BatchNorm1d(5), nn.Tanh(), pool, nn.Linear(5, C))

    torch.manual_seed(1)
    model = linear() if before == "Linear" else convolutional()
    shape = (64, 4) if before == "Linear" else (64, 1, 300)
    batches = [torch.randn(shape) for _ in range(4)]
    y = torch.randint(C, (64,))
    run = record(tmp_path, model, batches, lambda m, x: F.cross_entropy(m(x), y), instruments="norm_test")
    assert run.reader.document("coverage")["left_out"] == {}


def test_gradients_whose_squares_are_too_small_take_no_reading_along(tmp_path: Path) -> None:
    """Where gradients vanish; in float32 the squares of theirs are zero, and not all that is made of them is."""
    torch.manual_seed(2)
    layers = [layer for _ in range(60) for layer in (nn.Linear(4, 4), nn.Tanh())]
    model, y = nn.Sequential(*layers, nn.Linear(4, C)), torch.randint(C, (8,))
    batches = [torch.randn(8, 4) for _ in range(2)]
    run = record(tmp_path, model, batches, lambda m, x: F.cross_entropy(m(x), y), instruments="norm_test")
    assert not run["norm_test"].missing.any()
    assert run["norm_test"].values[0] > 0
