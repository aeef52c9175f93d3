"""Backward passes that are not one plain ``loss.backward()``: right, or withheld with a reason, and never wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from capturing import captured
from classifier import C, N, Y, truth_of
from harness import GRADIENT_KEYS, INDIVIDUAL, holds, logged, one_step, record, record_steps, withheld
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap


def test_gradients_taken_aside_are_no_backward_pass(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    def step() -> None:
        loss = F.cross_entropy(model(x), Y)
        torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
        (3 * loss).backward()

    holds(one_step(tmp_path, model, step), 0, truth_of(model, x))


def test_gradients_taken_aside_for_the_input_are_no_backward_pass(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    def step() -> None:
        inputs = x.clone().requires_grad_()
        (direction,) = torch.autograd.grad(F.cross_entropy(model(inputs), Y), inputs)
        F.cross_entropy(model(x + 0.0 * direction), Y).backward()

    holds(one_step(tmp_path, model, step), 0, truth_of(model, x))


def test_only_gradients_taken_aside_give_no_reading(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    def step() -> None:
        found = torch.autograd.grad(F.cross_entropy(model(x), Y), list(model.parameters()))
        for p, g in zip(model.parameters(), found, strict=True):
            p.grad = g

    run = one_step(tmp_path, model, step)
    withheld(run, "no backward pass was seen")
    assert logged(run, "grad_norm", 0) is None
    assert logged(run, "loss", 0) is None


def test_function_transforms_are_no_backward_pass(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    def step() -> None:
        parameters = {name: p.detach() for name, p in model.named_parameters()}

        def loss(p: dict[str, Tensor], inputs: Tensor, label: Tensor) -> Tensor:
            return F.cross_entropy(functional_call(model, p, (inputs,)), label)

        vmap(grad(loss), (None, 0, 0))(parameters, x, Y)
        F.cross_entropy(model(x), Y).backward()

    holds(one_step(tmp_path, model, step), 0, truth_of(model, x))


def test_graph_of_the_gradients_may_be_asked_for(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    def step() -> None:
        F.cross_entropy(model(x), Y).backward(create_graph=True)
        for p in model.parameters():
            p.grad = p.grad.detach()  # or the graph would outlive the step

    torch.set_warn_always(True)  # else PyTorch gives it once in a process
    try:
        with pytest.warns(UserWarning, match="create_graph=True"):
            run = one_step(tmp_path, model, step)
    finally:
        torch.set_warn_always(False)
    holds(run, 0, truth_of(model, x))


def test_second_walk_through_one_graph_is_withheld(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    def step() -> None:
        loss = F.cross_entropy(model(x), Y)
        (8 * loss).backward(retain_graph=True)
        (8 * loss).backward()

    run, truth = one_step(tmp_path, model, step), truth_of(model, x)
    withheld(run, "walked backwards twice")
    holds_norm = logged(run, "grad_norm", 0)
    assert holds_norm == pytest.approx(truth.grad_norm(), rel=1e-9)
    assert logged(run, "loss", 0) == pytest.approx(truth.loss(), rel=1e-9)


def test_two_losses_sent_backwards_one_after_the_other(tmp_path: Path) -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.one, self.two = nn.Linear(5, 6), nn.Linear(6, C), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = self.trunk(x).tanh()
            return self.one(h), self.two(h)

    model, x = Heads().double(), torch.randn(N, 5).double()

    def step() -> None:
        one, two = model(x)
        first, second = F.cross_entropy(one, Y), F.mse_loss(two, torch.ones_like(two))
        first.backward(retain_graph=True)
        second.backward()

    withheld(one_step(tmp_path, model, step), "walked backwards twice")


def test_backward_for_some_parameters_reads_those(model: nn.Module, x: Tensor) -> None:
    truth = truth_of(model, x)
    told = captured(model, lambda _: F.cross_entropy(model(x), Y).backward(inputs=[model[2].weight]))
    assert set(told.gradients) == {"2.weight"}
    torch.testing.assert_close(told.gradients["2.weight"], truth.gradients["2.weight"])


def test_first_evaluation_of_a_closure_is_the_reading(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    truths, evaluations = [], 0

    def step(_: int) -> None:
        truths.append(truth_of(model, x))

        def closure() -> Tensor:
            nonlocal evaluations
            evaluations += 1
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), Y)
            loss.backward()
            return loss

        optimizer.step(closure)

    run = record_steps(tmp_path, model, optimizer, range(3), step)
    assert evaluations > 6
    for t in range(3):
        holds(run, t, truths[t])


@pytest.mark.parametrize("clear_to", [None, 0.0])
def test_closure_may_take_its_batch_in_parts(
    clear_to: float | None, model: nn.Module, x: Tensor, tmp_path: Path
) -> None:
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    truths = []

    def step(_: int) -> None:
        truths.append(truth_of(model, x))

        def closure() -> Tensor:
            optimizer.zero_grad(set_to_none=clear_to is None)
            total = torch.zeros(())
            for part, labels in zip(x.chunk(2), Y.chunk(2), strict=True):
                loss = F.cross_entropy(model(part), labels) / 2
                loss.backward()
                total = total + loss.detach()
            return total

        optimizer.step(closure)

    run = record_steps(tmp_path, model, optimizer, range(2), step)
    for t in range(2):
        holds(run, t, truths[t], keys=["loss", "grad_norm", "norm_test", "grad_hist_1d"])


def test_evaluation_without_a_gradient_is_invisible(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    def step() -> None:
        with torch.no_grad():
            F.cross_entropy(model(x[:3]), Y[:3])
        F.cross_entropy(model(x), Y).backward()
        model.eval()
        F.cross_entropy(model(x[:2]), Y[:2])
        model.train()

    holds(one_step(tmp_path, model, step), 0, truth_of(model, x))


def test_frozen_trunk_and_trained_head(x: Tensor, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, C)).double()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.0)
    run = record(tmp_path, model, [0], lambda m, _: F.cross_entropy(m(x), Y), optimizer)
    truth = truth_of(model, x)
    assert set(truth.gradients) == {"2.weight", "2.bias"}
    holds(run, 0, truth)


def test_layers_that_a_step_does_not_use_are_not_missed(x: Tensor, tmp_path: Path) -> None:
    """Stochastic depth: most of the parameters may sit out, and what remains is the whole gradient."""

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.skipped, self.head = nn.Linear(5, 500), nn.Linear(5, C)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x)

    model = Deep().double()
    run = one_step(tmp_path, model, lambda: F.cross_entropy(model(x), Y).backward())
    truth = truth_of(model, x)
    used = ["head.weight", "head.bias"]
    for key in ("grad_norm", "norm_test", "inner_test", "ortho_test"):
        assert logged(run, key, 0) == pytest.approx(getattr(truth, key)(used), rel=1e-7)
    assert (logged(run, "grad_hist_1d", 0) == truth.histogram(only=used)).all()


def test_every_key_is_looked_at_here() -> None:
    assert {*INDIVIDUAL, "loss", "grad_norm"} == set(GRADIENT_KEYS)


def test_step_in_which_a_backward_pass_broke_off_is_withheld(model: nn.Module, x: Tensor, tmp_path: Path) -> None:
    """The user catches the error and goes on in the same step."""

    def fail(_: Tensor) -> None:
        raise ValueError("the user's own")

    def step() -> None:
        out = model[0](x)
        out.register_hook(fail)
        with pytest.raises(ValueError, match="own"):
            F.cross_entropy(model[2](model[1](out)), Y).backward()
        model.zero_grad()
        F.cross_entropy(model(x), Y).backward()

    run = one_step(tmp_path, model, step)
    withheld(run, "did not come to its end")
    assert logged(run, "grad_norm", 0) is None
