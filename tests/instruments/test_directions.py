"""Cosines between update, gradient and the gradient of the next step, against brute force."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from harness import by_layer, logged, reasons, record, record_steps
from reference import one_at_a_time, token_losses
from torch import Tensor, nn

from cockpit.instruments import UpdateGradCosine
from cockpit.probes.gradient_dots import _PIECE, dot

N, C = 6, 3
NAME = "update_grad_cosine"
GENERATOR = torch.Generator().manual_seed(0)
BATCHES = [(torch.randn(N, 5, generator=GENERATOR), torch.randint(C, (N,), generator=GENERATOR)) for _ in range(4)]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, C))


def gradient(model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    x, y = batch
    truth = one_at_a_time(model, lambda m: token_losses(m(x.double()).unsqueeze(1), y.unsqueeze(1))[0])
    return {name: rows.mean(0) for name, rows in truth.gradients.items()}


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().double().clone() for name, p in model.named_parameters()}


def cosine(left: dict[str, Tensor], right: dict[str, Tensor], only: str | None = None) -> float:
    names = list(left) if only is None else [only]
    x, y = (torch.cat([vectors[name].flatten() for name in names]) for vectors in (left, right))
    return float(x @ y / (x.norm() * y.norm()))


def clipped(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    F.cross_entropy(model(x), y).backward()
    nn.utils.clip_grad_value_(model.parameters(), 0.02)


def micro_batches(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    for x, y in zip(batch[0].split(2), batch[1].split(2), strict=True):
        (F.cross_entropy(model(x), y) / 3).backward()


def scaled(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    (F.cross_entropy(model(x), y) * -1024).backward()
    for p in model.parameters():
        p.grad /= -1024


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
@pytest.mark.parametrize("backward", [clipped, micro_batches, scaled])
def test_cosines_are_those_of_the_gradient_as_it_was(backward, dtype: torch.dtype, tmp_path: Path) -> None:
    model = network().to(dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05, weight_decay=0.01)
    gradients, steps = [], []

    def step(batch: tuple[Tensor, Tensor]) -> None:
        batch = batch[0].to(dtype), batch[1]
        gradients.append(gradient(model, batch))
        before = values(model)
        optimizer.zero_grad()
        backward(model, batch)
        optimizer.step()
        steps.append({name: before[name] - after for name, after in values(model).items()})

    run = record_steps(tmp_path, model, optimizer, BATCHES, step, instruments=NAME)
    tolerance = {"rel": 1e-7} if dtype == torch.float64 else {"rel": 1e-4, "abs": 1e-6}
    assert list(run[NAME].steps) == [0, 1, 2]
    for t in range(3):
        assert logged(run, NAME, t) == pytest.approx(cosine(steps[t], gradients[t]), **tolerance)
        turn = cosine(gradients[t], gradients[t + 1])
        assert logged(run, f"{NAME}.next_gradient", t) == pytest.approx(turn, **tolerance)
        for name, found in by_layer(run, NAME, t).items():
            assert found == pytest.approx(cosine(steps[t], gradients[t], name), **tolerance), name


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def test_gradient_descent_follows_the_gradient(tmp_path: Path) -> None:
    run = record(tmp_path, network(), BATCHES, loss, instruments=NAME)
    assert run[NAME].values == pytest.approx([1.0] * 3, abs=1e-6)
    assert (run[NAME].values <= 1).all()


def test_pairs_of_steps_that_are_apart_are_not_mixed_up(tmp_path: Path) -> None:
    """Steps 0, 1, 3, 4 are seen: the gradient of step 1 is not the one before step 3's."""
    model = network().double()
    gradients = []

    def seen(m: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        batch = batch[0].double(), batch[1]
        gradients.append(gradient(m, batch))
        return loss(m, batch)

    run = record(tmp_path, model, [*BATCHES, BATCHES[0]], seen, instruments=UpdateGradCosine(track=3))
    assert list(run[NAME].steps) == [0, 3]
    for t in (0, 3):
        assert logged(run, f"{NAME}.next_gradient", t) == pytest.approx(cosine(gradients[t], gradients[t + 1]))


def test_a_parameter_that_no_gradient_reaches_counts_in_the_update_alone(tmp_path: Path) -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(5, C), nn.Linear(5, C)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    torch.manual_seed(0)
    model = Idle().double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = BATCHES[0]
    expected = []

    def step(_: int) -> None:
        g, before = gradient(model, (x, y)), values(model)
        optimizer.zero_grad()
        F.cross_entropy(model(x.double()), y).backward()
        optimizer.step()
        with torch.no_grad():
            model.idle.weight += 0.01  # as by decoupled weight decay
        moved = {name: before[name] - after for name, after in values(model).items()}
        expected.append(cosine(moved, g))

    run = record_steps(tmp_path, model, optimizer, range(2), step, instruments=NAME)
    assert logged(run, NAME, 0) == pytest.approx(expected[0])
    assert set(by_layer(run, NAME, 0)) == {"used.weight", "used.bias"}


@pytest.mark.parametrize(
    ("lr", "weight", "reason"),
    [(0.0, 1.0, "the parameters did not move"), (0.1, 0.0, "the gradient that arrives at the loss is zero")],
)
def test_no_direction_is_missing_with_the_reason(lr: float, weight: float, reason: str, tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    run = record(tmp_path, model, BATCHES, lambda m, b: weight * loss(m, b), optimizer, instruments=NAME)
    assert run[NAME].missing.all()
    assert reasons(run)[NAME] == reason


def test_gradients_that_are_not_finite_show(tmp_path: Path) -> None:
    run = record(tmp_path, network(), BATCHES[:2], lambda m, b: loss(m, b) * float("inf"), instruments=NAME)
    assert torch.tensor(run[NAME].values).isnan().all()
    assert not run[NAME].missing.any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1, 1000, 2 * _PIECE + 3])
def test_long_inner_products_lose_no_digits(size: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(size, generator=generator).to(dtype) for _ in range(2))
    exact = float((x.double() * y.double()).sum())
    scale = float(x.double().norm() * y.double().norm())
    assert float(dot(x, y)) == pytest.approx(exact, abs=scale * (1e-14 if dtype == torch.float64 else 1e-6))
