"""What the model is fed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from harness import logged, reasons, record, record_steps
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cockpit.run import Run


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))


def images(seed: int, N: int = 6, scale: float = 1.0, offset: float = 0.0) -> Tensor:
    return offset + scale * torch.randn(N, 3, 4, generator=torch.Generator().manual_seed(seed))


def loss(model: nn.Module, x: Tensor) -> Tensor:
    return F.cross_entropy(model(x), torch.arange(len(x)) % 3)


def holds(run: Run, step: int, batch: np.ndarray, rel: float = 1e-6) -> None:
    batch = batch.astype(np.float64)
    assert logged(run, "input", step) == pytest.approx(batch.std(), rel=rel)
    assert logged(run, "input.mean", step) == pytest.approx(batch.mean(), rel=rel, abs=rel * batch.std())
    assert logged(run, "input.min", step) == pytest.approx(batch.min(), rel=rel)
    assert logged(run, "input.max", step) == pytest.approx(batch.max(), rel=rel)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_statistics_of_the_batch(offset: float, dtype: torch.dtype, tmp_path: Path) -> None:
    batches = [images(seed, offset=offset).to(dtype) for seed in range(3)]
    run = record(tmp_path, network().to(dtype), batches, loss, instruments="input")
    for t, batch in enumerate(batches):
        holds(run, t, batch.numpy())
        assert logged(run, "input.bits", t) == 8 * dtype.itemsize
    assert reasons(run)["input"] == f"the input is of dtype {str(dtype).removeprefix('torch.')}"


def test_micro_batches_are_one_batch(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    parts = [images(0, 6), images(1, 3, scale=10, offset=5)]

    def step(_: int) -> None:
        optimizer.zero_grad()
        for part in parts:
            (loss(model, part) / 2).backward()
        optimizer.step()

    run = record_steps(tmp_path, model, optimizer, range(1), step, instruments="input")
    holds(run, 0, torch.cat(parts).numpy())


def test_token_ids_are_numbers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 3))
    words = torch.randint(9, (6, 3))
    run = record(tmp_path, model, [words], loss, instruments="input")
    holds(run, 0, words.numpy())
    assert logged(run, "input.bits", 0) == 64
    assert reasons(run)["input"] == "the input is of dtype int64"


def test_evaluations_are_no_input_and_a_checkpointed_model_has_it_once(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_: int) -> None:
        optimizer.zero_grad()
        with torch.no_grad():
            model(images(7, scale=100))
        model.eval()
        model(images(8, scale=100))
        model.train()
        x = images(0)
        F.cross_entropy(checkpoint(model, x, use_reentrant=False), torch.arange(6) % 3).backward()
        optimizer.step()

    run = record_steps(tmp_path, model, optimizer, range(1), step, instruments="input")
    holds(run, 0, images(0).numpy())


def test_the_batch_is_read_before_the_model_changes_it(tmp_path: Path) -> None:
    class Normalises(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.mul_(0.01))

    torch.manual_seed(0)
    raw = images(0, scale=100)
    expected = raw.clone()
    run = record(tmp_path, Normalises(nn.Flatten(), nn.Linear(12, 3)), [raw], loss, instruments="input")
    holds(run, 0, expected.numpy())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_none_show(bad: float, tmp_path: Path) -> None:
    x = images(0)
    x[0, 0, 0] = bad
    run = record(tmp_path, network(), [x], loss, instruments="input")
    assert np.isnan(logged(run, "input", 0))
    assert not np.isfinite(logged(run, "input.max", 0))


def test_a_model_that_is_called_in_parts_has_no_input(tmp_path: Path) -> None:
    run = record(tmp_path, network(), [images(0)], lambda m, x: loss(m[1], m[0](x)), instruments="input")
    assert logged(run, "input", 0) is None
    assert "the model itself was not called" in reasons(run)["input"]
