"""What reaches the optimizer: clipping and loss scaling, as users write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from harness import reasons, record, record_steps
from torch import Tensor, nn

from cockpit.run import Run

X, Y = torch.randn(8, 5, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 3


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(5, 3)


def loss(model: nn.Module) -> Tensor:
    return F.cross_entropy(model(X), Y)


def norm(model: nn.Module) -> float:
    return float(torch.cat([p.grad.flatten() for p in model.parameters()]).double().norm())


def train(path: Path, step, steps: int = 3, optimizer=None, **options) -> Run:
    """``step(model, optimizer, index)`` is everything between two updates."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1) if optimizer is None else optimizer(model.parameters())
    options = {"instruments": "clip+amp", **options}
    return record_steps(path, model, optimizer, range(steps), lambda index: step(model, optimizer, index), **options)


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "under a scaler"])
@pytest.mark.parametrize("parts", [1, 2], ids=["whole", "micro-batches"])
def test_clipping_by_norm_is_seen_where_it_happens(scaled: bool, parts: int, tmp_path: Path) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1000.0, enabled=scaled)  # rounds, as it is no power of two
    thresholds, norms = [10.0, 0.1, 0.05], []

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        optimizer.zero_grad()
        for x, y in zip(X.chunk(parts), Y.chunk(parts), strict=True):
            scaler.scale(F.cross_entropy(model(x), y) / parts).backward()
        scaler.unscale_(optimizer)
        norms.append(norm(model))
        nn.utils.clip_grad_norm_(model.parameters(), thresholds[index])
        scaler.step(optimizer)
        scaler.update()

    run = train(tmp_path, step)
    assert list(run["clip"].values) == [0, 1, 1]
    left = [min(1, threshold / n) for threshold, n in zip(thresholds, norms, strict=True)]
    assert run["clip.left"].values == pytest.approx(left, rel=1e-4)
    assert run["clip.norm"].values == pytest.approx([norms[0], 0.1, 0.05], rel=1e-4)
    assert run["amp"].missing.all() != scaled


def test_clipping_by_value_is_seen(tmp_path: Path) -> None:
    lefts = []

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        optimizer.zero_grad()
        loss(model).backward()
        before = norm(model)
        nn.utils.clip_grad_value_(model.parameters(), [1e3, 0.01, 0.02][index])
        lefts.append(norm(model) / before)
        optimizer.step()

    run = train(tmp_path, step)
    assert list(run["clip"].values) == [0, 1, 1]
    assert run["clip.left"].values == pytest.approx(lefts, rel=1e-5)


def test_nothing_is_logged_of_clipping_before_there_is_any(tmp_path: Path) -> None:
    """As no panel stands there for what a training does not do; once it has, steps without count as 0."""

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        optimizer.zero_grad()
        (0.5 * loss(model)).backward()
        if index == 1:
            nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        optimizer.step()

    run = train(tmp_path, step)
    assert list(run["clip"].missing) == [True, False, False]
    assert list(run["clip"].values[1:]) == [1, 0]
    assert reasons(run) == {}


def test_a_weight_of_the_loss_is_no_clipping(tmp_path: Path) -> None:
    """Nor is a constant tensor that nobody takes back, although it looks like a scaler's."""

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        optimizer.zero_grad()
        (loss(model) * torch.tensor(0.25)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1e3)
        optimizer.step()

    assert list(train(tmp_path, step)["clip"].values) == [0, 0, 0]


def test_gradients_of_an_earlier_step_leave_clipping_unknown(tmp_path: Path) -> None:
    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        loss(model).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        optimizer.step()

    run = train(tmp_path, step)
    assert list(run["clip"].missing) == [False, True, True]
    assert "gradients of an earlier one" in reasons(run)["clip"]


def test_an_optimizer_that_evaluates_the_loss_itself_leaves_clipping_unknown(tmp_path: Path) -> None:
    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        def closure() -> float:
            optimizer.zero_grad()
            value = loss(model)
            value.backward()
            return float(value.detach())

        optimizer.step(closure)

    run = train(tmp_path, step, optimizer=lambda ps: torch.optim.LBFGS(ps, lr=0.1, max_iter=2))
    assert run["clip"].missing.all()
    assert "evaluates the loss itself" in reasons(run)["clip"]


def overflowing(scaler: torch.amp.GradScaler, broken: int):
    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        optimizer.zero_grad()
        scaler.scale(loss(model) * (float("inf") if index == broken else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def test_an_overflow_skips_the_step_and_halves_the_scale(tmp_path: Path) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    run = train(tmp_path, overflowing(scaler, broken=1), instruments="clip+amp+update_size")
    assert list(run["amp"].values) == [1024, 1024, 512]
    assert list(run["amp.skipped"].values) == [0, 1, 0]
    assert list(run["update_size"].values == 0) == [False, True, False]
    assert run["clip"].missing.all()  # nothing was done to the gradients but to unscale them


def test_a_fused_optimizer_tells_that_it_skipped(tmp_path: Path) -> None:
    """It is called in any case, unscales by itself, and is handed what the scaler found."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def fused(parameters):
        return torch.optim.SGD(parameters, lr=0.1, fused=True)

    run = train(tmp_path, overflowing(scaler, broken=1), optimizer=fused)
    assert list(run["amp.skipped"].values) == [0, 1, 0]
    assert list(run["amp"].values) == [1024, 1024, 512]


def test_a_loss_that_the_cockpit_does_not_know_is_unscaled_with_the_scale_of_its_own_step(tmp_path: Path) -> None:
    """The scaler moves its scale, in place, before the step is over."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1)
    model = network().double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    losses, norms = [], []

    def step(_: int) -> None:
        optimizer.zero_grad()
        value = model(X.double()).square().sum()
        scaler.scale(value).backward()
        scaler.step(optimizer)
        norms.append(norm(model))
        losses.append(float(value.detach()))
        scaler.update()

    run = record_steps(tmp_path, model, optimizer, range(3), step, instruments="loss+grad_norm+amp")
    assert list(run["amp"].values) == [1024, 2048, 4096]
    assert run["loss"].values == pytest.approx(losses)
    assert run["grad_norm"].values == pytest.approx(norms)


def test_without_a_scaler_the_loss_scale_is_missing_without_a_word(tmp_path: Path) -> None:
    run = record(tmp_path, network(), range(2), lambda m, _: loss(m), instruments="amp")
    assert run["amp"].missing.all()
    assert np.isnan(run["amp"].values).all()
    assert reasons(run) == {}


def test_the_threshold_is_known_once_two_gradients_were_cut_to_the_same_norm(tmp_path: Path) -> None:
    thresholds = [0.1, 0.1, 10.0, 0.05, 0.05]

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        optimizer.zero_grad()
        loss(model).backward()
        nn.utils.clip_grad_norm_(model.parameters(), thresholds[index])
        optimizer.step()

    run = train(tmp_path, step, steps=5)
    threshold = run["clip.threshold"]
    assert list(threshold.steps) == [1, 2, 4]
    assert threshold.values == pytest.approx([0.1, 0.1, 0.05], rel=1e-4)


def test_the_range_of_float16_is_that_of_the_scaled_gradient(tmp_path: Path) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, index: int) -> None:
        optimizer.zero_grad()
        scaler.scale(loss(model)).backward()
        scaler.step(optimizer)
        scaler.update()

    run = train(tmp_path, step, steps=1)
    largest = 2.0 ** run["amp.largest"].values[0]
    assert float(torch.tensor(1024 * largest).half()) == torch.finfo(torch.float16).max
    smallest = 2.0 ** run["amp.smallest"].values[0]
    assert float(torch.tensor(1024 * smallest).half()) > 0
    assert float(torch.tensor(1024 * smallest / 4).half()) == 0
