"""Terms in the loss that are no mean over samples: withheld, and never wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from classifier import C, N, Y, cross_entropies, truth_of
from harness import INDIVIDUAL, logged, one_step, reasons, record, withheld
from reference import one_at_a_time
from torch import Tensor, nn


def test_penalty_on_the_weights_is_withheld(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    def step() -> None:
        (F.cross_entropy(model(x), Y) + 0.05 * sum(p.square().sum() for p in model.parameters())).backward()

    run = one_step(tmp_path, model, step)
    withheld(run, "do not add up to its gradient")
    g = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert logged(run, "grad_norm", 0) == pytest.approx(float(g.norm()), rel=1e-9)
    penalty = 0.05 * float(sum(p.detach().square().sum() for p in model.parameters()))
    assert logged(run, "loss", 0) == pytest.approx(truth_of(model, x).loss() + penalty, rel=1e-9)


@pytest.mark.parametrize("key", INDIVIDUAL)
def test_penalty_is_noticed_whichever_instrument_looks(key: str, model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    def loss(m: nn.Module, _: object) -> Tensor:
        return F.cross_entropy(m(x), Y) + 0.05 * sum(p.square().sum() for p in m.parameters())

    run = record(tmp_path, model, [0], loss, instruments=key)
    assert logged(run, key, 0) is None
    assert "do not add up" in reasons(run)[key]


def test_weak_penalty_that_hardly_turns_the_gradient_is_noticed_along_the_weights(tmp_path: Path) -> None:
    """Where no look is taken, what was found at the last one holds."""
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(20, 50), nn.ReLU(), nn.Linear(50, 3))
    batches = [(torch.randn(64, 20), torch.randint(3, (64,))) for _ in range(4)]

    def loss(m: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        penalty = 0.5e-4 * sum(p.square().sum() for p in m.parameters() if p.dim() > 1)
        return F.cross_entropy(m(batch[0]), batch[1]) + penalty

    run = record(tmp_path, model, batches, loss, instruments="economy", track=1)
    left_out = run._reader.document("coverage")["left_out"]
    assert set(left_out) == {"0.weight", "2.weight"}
    assert all("penalty" in reason for reason in left_out.values())
    assert run["norm_test"].missing.all()


def test_penalty_on_one_small_layer_leaves_out_that_layer(tmp_path: Path) -> None:
    model, x = (
        nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, C)).double(),
        torch.randn(N, 5).double(),
    )

    def step() -> None:
        (F.cross_entropy(model(x), Y) + model[2].weight.square().sum()).backward()

    run, truth = one_step(tmp_path, model, step), truth_of(model, x)
    others = [name for name in truth.gradients if name != "2.weight"]
    for key in ("norm_test", "inner_test", "ortho_test"):
        assert logged(run, key, 0) == pytest.approx(getattr(truth, key)(others), rel=1e-7)
    assert (logged(run, "grad_hist_1d", 0) == truth.histogram(only=others)).all()
    coverage = run._reader.document("coverage")
    assert list(coverage["left_out"]) == ["2.weight"]


def test_gradient_penalty_is_withheld(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    def step() -> None:
        inputs = x.clone().requires_grad_()
        loss = F.cross_entropy(model(inputs), Y)
        (g,) = torch.autograd.grad(loss, inputs, create_graph=True)
        (loss + 30 * g.square().sum()).backward()

    withheld(one_step(tmp_path, model, step), "do not add up to its gradient")


def test_penalty_on_a_gradient_norm_is_withheld(x: Tensor, tmp_path: Path) -> None:
    """Where weights carry gradients backwards, the penalty reaches them past every activation."""
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, C)).double()

    def step() -> None:
        loss = F.cross_entropy(model(x), Y)
        found = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
        (loss + sum(g.square().sum() for g in found)).backward()

    run = one_step(tmp_path, model, step)
    withheld(run, "do not add up to its gradient")
    assert set(run._reader.document("coverage")["left_out"]) == {"2.weight", "4.weight"}


def test_hook_on_a_parameter_is_not_taken_for_a_penalty(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    """What it does comes after the loss's own gradient, as clipping does."""
    truth = truth_of(model, x)
    for p in model.parameters():
        p.register_hook(lambda g: g.clamp(-1e-3, 1e-3))
    run = one_step(tmp_path, model, lambda: F.cross_entropy(model(x), Y).backward())
    assert logged(run, "grad_norm", 0) == pytest.approx(truth.grad_norm(), rel=1e-9)
    assert logged(run, "norm_test", 0) == pytest.approx(truth.norm_test(), rel=1e-7)


def test_module_that_mixes_samples_is_noticed(tmp_path: Path) -> None:
    """Its output keeps samples apart, and so does its copy that is called with one of them: only the sum can tell."""

    class Cumulative(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor, self.head = nn.Parameter(torch.randn(200)), nn.Linear(200, C)

        def forward(self, x: Tensor) -> Tensor:
            return (x.repeat(1, 40) * self.factor).cumsum(0)

    model = nn.Sequential(Cumulative(), nn.Linear(200, C)).double()
    x = torch.randn(N, 5).double()
    run = one_step(tmp_path, model, lambda: F.cross_entropy(model(x), Y).backward())
    left_out = run._reader.document("coverage")["left_out"]
    assert "do not add up" in left_out["0.factor"]


def test_learned_weights_of_losses_are_parameters_without_samples(tmp_path: Path) -> None:
    """Their gradient arrives before any loss's does, and no sample's activations lead to them."""

    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.log_scale = nn.Linear(5, C), nn.Parameter(torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x)

    model, x = Weighted().double(), torch.randn(N, 5).double()

    def step() -> None:
        out, scale = model(x), model.log_scale
        losses = torch.stack([F.cross_entropy(out, Y), F.mse_loss(out, torch.ones_like(out))])
        ((-scale).exp() * losses + scale).sum().backward()

    run = one_step(tmp_path, model, step)
    apart = lambda m: cross_entropies(m(x)) + (m(x) - 1).square().mean(1)  # noqa: E731
    truth = one_at_a_time(model, apart)
    for key in ("norm_test", "inner_test", "ortho_test"):
        assert logged(run, key, 0) == pytest.approx(getattr(truth, key)(["body.weight", "body.bias"]), rel=1e-7)
    assert list(run._reader.document("coverage")["left_out"]) == ["log_scale"]
    assert logged(run, "loss", 0) == pytest.approx(truth.loss(), rel=1e-9)
