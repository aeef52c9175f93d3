"""Covariance of updates, against twins of model and optimizer that take every step for real."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_optimizer
import schedulefree
import torch
import torch.nn.functional as F
from classifier import Y, mlp
from harness import logged, reasons, record_steps
from torch import Tensor, nn

from cockpit import Cockpit, load_run
from cockpit.instruments import UpdateCovarianceMaxEV
from cockpit.optim import ScaledAdam
from cockpit.probes.optimizer_twin import trial_step

NAME = "update_covariance_max_ev"
PARTS = 4

MAKES: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "loss-scaled Adam": lambda p: ScaledAdam(p, lr=0.01, scale=256.0),
}


def backward(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    (optimizer.scale(loss) if isinstance(optimizer, ScaledAdam) else loss).backward()


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def step_of_a_part(
    model: nn.Module, optimizer: torch.optim.Optimizer, make: Callable[..., Any], x: Tensor, y: Tensor, factor: float
) -> Tensor:
    """What a twin of both does with some samples."""
    twin = copy.deepcopy(model)
    other = make(twin.parameters())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    backward(twin, other, x, y)
    for p in twin.parameters():
        p.grad *= factor
    before = flat(twin)
    other.step()
    return flat(twin) - before


def largest(rows: Tensor) -> float:
    """Of the whole covariance matrix, by its singular values."""
    centred = rows - rows.mean(0)
    return float(torch.linalg.svd(centred.T @ centred / len(rows)).S[0])


def gradient_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    gradients = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    return torch.cat([g.reshape(-1) for g in gradients])


@pytest.mark.parametrize("clip", [False, True], ids=["as it comes", "clipped"])
@pytest.mark.parametrize("kind", MAKES)
def test_it_is_the_largest_singular_value_of_the_whole_matrix(kind: str, clip: bool, x: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, model, x = MAKES[kind], mlp().double(), x.double()
    optimizer = make(model.parameters())
    parts = [(x[m::PARTS], Y[m::PARTS]) for m in range(PARTS)]
    truth, gradients = [], []
    watched = UpdateCovarianceMaxEV(parts=PARTS)
    with Cockpit(model, optimizer, instruments=watched, run=tmp_path / "run", track=1) as cockpit:
        for _ in range(3):
            norm = float(gradient_of(model, x, Y).norm()) * (256.0 if kind.startswith("loss") else 1.0)
            factor = 0.3 * norm / (norm + 1e-6) if clip else 1.0  # as torch has it
            truth.append(torch.stack([step_of_a_part(model, optimizer, make, *each, factor) for each in parts]))
            gradients.append(torch.stack([gradient_of(model, *each) for each in parts]))
            with cockpit.step():
                backward(model, optimizer, x, Y)
                if clip:
                    nn.utils.clip_grad_norm_(model.parameters(), 0.3 * norm)
                optimizer.step()
    run = load_run(tmp_path / "run")
    for t in range(3):
        assert logged(run, NAME, t) == pytest.approx(largest(truth[t]), rel=1e-7)
        variances = truth[t].var(0, correction=0)
        assert logged(run, f"{NAME}.trace", t) == pytest.approx(float(variances.sum()), rel=1e-7)
        assert logged(run, f"{NAME}.gradient", t) == pytest.approx(largest(gradients[t]), rel=1e-7)
    assert logged(run, f"{NAME}.parts", 0) == PARTS


def test_micro_batches_and_loss_scales_make_no_difference(x: Tensor, tmp_path: Path) -> None:
    found = []
    for sizes, scale in (([8], 1.0), ([2, 4, 2], 512.0)):
        torch.manual_seed(0)
        model = mlp().double()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

        def step(_: int) -> None:
            optimizer.zero_grad()  # noqa: B023
            for rows, y in zip(x.double().split(sizes), Y.split(sizes), strict=True):  # noqa: B023
                (F.cross_entropy(model(rows), y) * scale * len(y) / 8).backward()  # noqa: B023
            for p in model.parameters():  # noqa: B023
                p.grad /= scale  # noqa: B023
            optimizer.step()  # noqa: B023

        (tmp_path / str(len(sizes))).mkdir()
        watched = UpdateCovarianceMaxEV(parts=PARTS)
        found.append(record_steps(tmp_path / str(len(sizes)), model, optimizer, range(2), step, instruments=watched))
    for key in (NAME, f"{NAME}.gradient"):
        assert found[1][key].values == pytest.approx(found[0][key].values, rel=1e-7)


def clip_values(optimizer: torch.optim.Optimizer) -> None:
    nn.utils.clip_grad_value_(optimizer.param_groups[0]["params"], 0.01)
    optimizer.step()


def never(optimizer: torch.optim.Optimizer) -> None:
    """Skips, as a gradient scaler does."""


@pytest.mark.parametrize(
    ("make", "step", "words"),
    [
        (MAKES["Adam"], clip_values, "was changed before the step by more than a factor"),
        (MAKES["Adam"], never, "the optimizer did not step"),
        (torch.optim.LBFGS, lambda o: o.step(lambda: 0.0), "LBFGS cannot be tried on copies of its parameters"),
        (torch.optim.SparseAdam, lambda o: None, "the optimizer did not step"),
    ],
)
def test_where_no_trial_is_possible_it_is_missing_with_the_reason(
    make: Any, step: Any, words: str, x: Tensor, tmp_path: Path
) -> None:
    model = mlp()
    optimizer = make(model.parameters())

    def whole(_: int) -> None:
        backward(model, optimizer, x, Y)
        step(optimizer)

    run = record_steps(tmp_path, model, optimizer, range(1), whole, instruments=NAME)
    assert run[NAME].missing.all()
    assert words in reasons(run)[NAME]


def test_an_optimizer_that_evaluates_the_loss_itself_is_not_tried(x: Tensor, tmp_path: Path) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), Y)
        loss.backward()
        return loss

    run = record_steps(tmp_path, model, optimizer, range(1), lambda _: optimizer.step(closure), instruments=NAME)
    assert "evaluates the loss itself" in reasons(run)[NAME]


def test_one_sample_cannot_be_split(x: Tensor, tmp_path: Path) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_: int) -> None:
        backward(model, optimizer, x[:1], Y[:1])
        optimizer.step()

    run = record_steps(tmp_path, model, optimizer, range(1), step, instruments=NAME)
    assert reasons(run)[NAME] == "a single sample cannot be split"
    with pytest.raises(ValueError, match="at least 2, got 1"):
        UpdateCovarianceMaxEV(parts=1)


SHIPPED = [c for c in vars(torch.optim).values() if inspect.isclass(c) and issubclass(c, torch.optim.Optimizer)]
ELSEWHERE = (torch.optim.Optimizer, torch.optim.LBFGS, torch.optim.SparseAdam)
OTHERS = [schedulefree.SGDScheduleFree, schedulefree.AdamWScheduleFree, pytorch_optimizer.Lion]


@pytest.mark.parametrize("kind", [*(c for c in SHIPPED if c not in ELSEWHERE), *OTHERS], ids=lambda c: c.__name__)
def test_a_trial_is_the_step_that_the_optimizer_then_makes_and_leaves_no_trace(kind: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4, bias=False), nn.Tanh(), nn.Linear(4, 4, bias=False))
    optimizer = kind(model.parameters(), lr=0.05)
    if hasattr(optimizer, "train"):  # as those without a schedule ask for
        optimizer.train()
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    counted = []
    optimizer.register_step_pre_hook(lambda *_: counted.append(1))
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(6, 5)).square().mean().backward()
        given = {p: p.grad.clone() for p in model.parameters()}
        before = flat(model), copy.deepcopy(optimizer.state_dict()), torch.get_rng_state()
        tried = trial_step(optimizer, given)
        assert torch.equal(flat(model), before[0])
        assert torch.equal(torch.get_rng_state(), before[2])
        torch.testing.assert_close(optimizer.state_dict(), before[1], rtol=0, atol=0)
        optimizer.step()
        steps = torch.cat([step.reshape(-1) for step in tried.values()])
        torch.testing.assert_close(flat(model), before[0] + steps, rtol=0, atol=1e-7)
        scheduler.step()
    assert len(counted) == 3


class Noisy(torch.optim.SGD):
    """Draws random numbers, as Langevin dynamics do."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)
        for p in self.param_groups[0]["params"]:
            p += 0.1 * torch.randn_like(p)


def test_random_numbers_are_the_same_in_every_trial_and_stay_for_the_training(x: Tensor, tmp_path: Path) -> None:
    """What the optimizer draws is no noise of the samples."""
    found = []
    for watched in (UpdateCovarianceMaxEV(parts=PARTS), "loss"):
        torch.manual_seed(0)
        model = mlp().double()
        optimizer = Noisy(model.parameters(), lr=0.1)

        def step(_: int) -> None:
            backward(model, optimizer, x.double(), Y)  # noqa: B023
            optimizer.step()  # noqa: B023

        (tmp_path / str(len(found))).mkdir()
        run = record_steps(tmp_path / str(len(found)), model, optimizer, range(2), step, instruments=watched)
        found.append((run, flat(model)))
    torch.testing.assert_close(found[0][1], found[1][1], rtol=0, atol=0)
    ratio = found[0][0][NAME].values / found[0][0][f"{NAME}.gradient"].values
    assert ratio == pytest.approx([0.01, 0.01], rel=1e-6)


def test_a_hook_on_all_optimizers_does_not_see_trial_steps(x: Tensor, tmp_path: Path) -> None:
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    counted = []
    handle = register_optimizer_step_pre_hook(lambda *_: counted.append(1))
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Cockpit(model, optimizer, instruments=NAME, run=tmp_path / "run", track=1) as cockpit,
            cockpit.step(),
        ):
            backward(model, optimizer, x, Y)
            optimizer.step()
    finally:
        handle.remove()
    assert len(counted) == 1
