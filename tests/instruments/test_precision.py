"""Autocast, gradient scaling and models in half precision: readings at scale one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from classifier import N, Y, mlp, truth_of
from harness import GRADIENT_KEYS, holds, logged, reasons, record, record_steps
from reference import Truth, one_at_a_time
from torch import Tensor, nn

HALF = {
    torch.bfloat16: 4e-2,  # 8 bits of mantissa, and two layers of them
    torch.float16: 5e-3,  # 11 bits
}


@pytest.mark.parametrize("dtype", HALF)
def test_autocast_reads_as_in_full_precision(dtype: torch.dtype, x: Tensor, tmp_path: Path) -> None:
    model = mlp()
    truth = truth_of(model, x)

    def loss(m: nn.Module, _: object) -> Tensor:
        with torch.autocast("cpu", dtype=dtype):
            return F.cross_entropy(m(x), Y)

    run = record(tmp_path, model, [0], loss)
    keys = [key for key in GRADIENT_KEYS if key != "grad_hist_1d"]
    holds(run, 0, truth, keys=keys, rel=HALF[dtype])
    counts = np.cumsum(logged(run, "grad_hist_1d", 0) - truth.histogram())
    assert np.abs(counts).sum() < 0.05 * N * truth.flat().shape[1]


def _scaler(initial: float) -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=initial, growth_interval=1000)


@pytest.mark.parametrize("scale", [1.0, 1024.0, 65536.0])
def test_gradient_scaling_is_undone(scale: float, x: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = mlp()
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.1), _scaler(scale)
    truths: list[Truth] = []

    def step(_: int) -> None:
        truths.append(truth_of(model, x))
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = F.cross_entropy(model(x), Y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()

    run = record_steps(tmp_path, model, optimizer, range(3), step)
    keys = [key for key in GRADIENT_KEYS if key != "grad_hist_1d"]
    for t in range(3):
        holds(run, t, truths[t], keys=keys, rel=1e-2)  # float16 keeps 11 bits
    assert logged(run, "alpha", 0) is not None


def test_skipped_step_moves_nothing_and_reads_at_scale_one(x: Tensor, tmp_path: Path) -> None:
    """The scale is so large that gradients overflow: the scaler skips the step, and halves the scale for the next."""
    torch.manual_seed(2)
    model = mlp()
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.1), _scaler(2.0**24)
    truths: list[Truth] = []

    def step(_: int) -> None:
        truths.append(truth_of(model, x))
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = F.cross_entropy(model(x), Y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    run = record_steps(tmp_path, model, optimizer, range(12), step)
    sizes = run["update_size"].values
    skipped = int((sizes == 0).sum())
    assert 0 < skipped < 11
    for t in range(12):
        assert logged(run, "loss", t) == pytest.approx(truths[t].loss(), rel=1e-2)
    assert logged(run, "alpha", 0) is None
    assert "did not move" in reasons(run)["alpha"]
    holds(run, skipped, truths[skipped], keys=["grad_norm", "norm_test", "inner_test", "ortho_test"], rel=1e-2)


@pytest.mark.parametrize("scaled", [False, True])
def test_unknown_loss_reads_at_scale_one_too(scaled: bool, x: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = mlp()
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.1), _scaler(1024.0)

    def step(_: int) -> None:
        optimizer.zero_grad()
        loss = model(x).abs().pow(1.5).mean()
        if scaled:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        else:
            loss.backward()
            optimizer.step()

    truth = one_at_a_time(model, lambda m: m(x.double()).abs().pow(1.5).mean(1))
    run = record_steps(tmp_path, model, optimizer, range(1), step)
    assert logged(run, "loss", 0) == pytest.approx(truth.loss(), rel=1e-5)
    assert logged(run, "grad_norm", 0) == pytest.approx(truth.grad_norm(), rel=1e-5)
    assert logged(run, "norm_test", 0) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_model_in_half_precision(dtype: torch.dtype, x: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(4)
    model = mlp().to(dtype)
    truth = truth_of(model, x.to(dtype))
    run = record(tmp_path, model, [0], lambda m, _: F.cross_entropy(m(x.to(dtype)), Y))
    keys = [key for key in GRADIENT_KEYS if key != "grad_hist_1d"]
    holds(run, 0, truth, keys=keys, rel=HALF[dtype])
