"""The economy configuration's readings, from the training loop to the log and back, against brute force."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from harness import GRADIENT_KEYS, by_layer, holds, logged, record, record_steps
from reference import alpha, by_copies, one_at_a_time, token_losses
from torch import Tensor, nn

N, C = 6, 4
IGNORED = torch.tensor([[0, 9, 2], [9, 9, 1], [2, 2, 3], [9, 9, 9], [1, 9, 0], [3, 2, 1]])
CLASS_WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 3.0])


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.mix, self.norm = nn.Embedding(7, 5, padding_idx=0), nn.Linear(5, 5), nn.LayerNorm(5)
        self.head = nn.Linear(5, C)

    def forward(self, words: Tensor) -> Tensor:
        h = self.table(words)
        return self.head(self.norm(h + self.mix(h).tanh().cumsum(1)))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, C))


def convnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(inplace=True), nn.Conv2d(4, 3, 2, stride=2),
        nn.Flatten(), nn.Linear(12, C),
    )  # fmt: skip


def normed() -> nn.Module:
    return nn.Sequential(nn.Conv1d(2, 4, 2), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(12, C))


def labels(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    return F.cross_entropy(model(x), y)


def tokens(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    logits = model(x)
    return F.cross_entropy(logits.view(-1, C), y.view(-1), weight=CLASS_WEIGHTS.to(logits), ignore_index=9)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "mlp": (mlp, lambda: torch.randn(N, 5)),
    "convolutions": (convnet, lambda: torch.randn(N, 2, 4, 4)),
    "batch-norm": (normed, lambda: torch.randn(N, 2, 4)),
}


def truth_of(model: nn.Module, batch: tuple[Tensor, Tensor]):
    x, y = batch

    def apart(m: nn.Module) -> Tensor:
        return token_losses(m(x.double()).unsqueeze(1), y.unsqueeze(1))[0]

    coupled = any(isinstance(module, nn.BatchNorm1d) for module in model.modules())
    return by_copies(model, apart, len(y)) if coupled else one_at_a_time(model, apart)


def differences(model: nn.Module, before: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: p.detach().double() - before[name].double() for name, p in model.named_parameters()}


def parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def length(step: dict[str, Tensor]) -> float:
    return float(torch.cat([s.flatten() for s in step.values()]).norm())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
@pytest.mark.parametrize(("make", "inputs"), NETWORKS.values(), ids=NETWORKS.keys())
def test_every_reading_of_four_steps(make, inputs, dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = make().to(dtype)
    batches = [(inputs().to(dtype), torch.randint(C, (N,))) for _ in range(4)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    start, truths, steps, distances = parameters(model), [], [], []

    def step(batch: tuple[Tensor, Tensor]) -> None:
        truths.append(truth_of(model, batch))
        distances.append(length(differences(model, start)))
        before = parameters(model)
        optimizer.zero_grad()
        labels(model, batch).backward()
        optimizer.step()
        steps.append(differences(model, before))

    run = record_steps(tmp_path, model, optimizer, batches, step)
    exact = dtype == torch.float64
    for t in range(4):
        holds(run, t, truths[t], rel=1e-7 if exact else 1e-4, on_the_edge=0 if exact else 1e-3)
        assert logged(run, "update_size", t) == pytest.approx(length(steps[t]), rel=1e-7 if exact else 1e-5)
        assert logged(run, "distance", t) == pytest.approx(distances[t], rel=1e-7 if exact else 1e-5)
        for name, s in steps[t].items():
            assert by_layer(run, "update_size", t)[name] == pytest.approx(float(s.norm()), rel=1e-5)
    assert list(run["alpha"].steps) == [0, 1, 2]
    for t in range(3):
        value, concave, uphill = alpha(truths[t], truths[t + 1], steps[t])
        assert logged(run, "alpha", t) == pytest.approx(value, rel=1e-6 if exact else 1e-3)  # of one over a difference
        assert (logged(run, "alpha.concave", t), logged(run, "alpha.uphill", t)) == (concave, uphill)
    assert (np.diff(run["time"].values) > 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
def test_words_of_different_number_and_weight(dtype: torch.dtype, tmp_path: Path) -> None:
    """One sample has no word left: it has no loss, and the others weigh as much as their words."""
    torch.manual_seed(1)
    model = Words().to(dtype)
    batches = [(torch.randint(7, (N, 3)), IGNORED), (torch.randint(7, (N, 3)), IGNORED.flip(0))]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    truths, steps = [], []

    def step(batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        weights = token_losses(model(x), y, CLASS_WEIGHTS, 9)[1].detach()
        truths.append(one_at_a_time(model, lambda m: token_losses(m(x), y, CLASS_WEIGHTS, 9)[0], weights))
        before = parameters(model)
        optimizer.zero_grad()
        tokens(model, batch).backward()
        optimizer.step()
        steps.append(differences(model, before))

    run = record_steps(tmp_path, model, optimizer, batches, step)
    exact = dtype == torch.float64
    for t in range(2):
        holds(run, t, truths[t], rel=1e-7 if exact else 1e-4, on_the_edge=0 if exact else 1e-3)
    value, concave, uphill = alpha(truths[0], truths[1], steps[0])
    assert logged(run, "alpha", 0) == pytest.approx(value, rel=1e-6 if exact else 1e-3)
    assert (logged(run, "alpha.concave", 0), logged(run, "alpha.uphill", 0)) == (concave, uphill)


def test_class_imbalance_shows_as_it_is(tmp_path: Path) -> None:
    """Rare labels with heavy weights: few samples carry the batch, and the tests say that it is small."""
    torch.manual_seed(2)
    model, x = mlp().double(), torch.randn(32, 5).double()
    y = torch.zeros(32, dtype=torch.long)
    y[[3, 17]] = 3
    weight = torch.tensor([0.01, 1.0, 1.0, 10.0]).double()
    losses, weights = token_losses(model(x).unsqueeze(1), y.unsqueeze(1), weight)
    truth = one_at_a_time(
        model, lambda m: token_losses(m(x).unsqueeze(1), y.unsqueeze(1), weight)[0], weights.detach()
    )  # fmt: skip
    run = record(tmp_path, model, [(x, y)], lambda m, b: F.cross_entropy(m(b[0]), b[1], weight=weight))
    holds(run, 0, truth)
    assert losses.shape == weights.shape == (32,)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_sum_changes_the_logged_loss_and_nothing_else(reduction: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model, x, y = mlp().double(), torch.randn(N, 5).double(), torch.randint(C, (N,))
    truth = truth_of(model, (x, y))
    run = record(tmp_path, model, [(x, y)], lambda m, b: F.cross_entropy(m(b[0]), b[1], reduction=reduction))
    holds(run, 0, truth, keys=[key for key in GRADIENT_KEYS if key != "loss"])
    assert logged(run, "loss", 0) == pytest.approx(truth.loss() * (N if reduction == "sum" else 1), rel=1e-9)


def test_loss_of_the_users_own(tmp_path: Path) -> None:
    torch.manual_seed(4)
    model, x = mlp().double(), torch.randn(N, 5).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    truths, steps = [], []

    def step(batch: Tensor, context) -> None:
        truths.append(one_at_a_time(model, lambda m: m(batch).abs().pow(1.5).sum(1)))
        before = parameters(model)
        optimizer.zero_grad()
        context.losses(model(batch).abs().pow(1.5).sum(1)).backward()
        optimizer.step()
        steps.append(differences(model, before))

    run = record_steps(tmp_path, model, optimizer, [x, x.flip(0)], step)
    holds(run, 0, truths[0])
    assert logged(run, "alpha", 0) == pytest.approx(alpha(truths[0], truths[1], steps[0])[0], rel=1e-6)


def test_float_readings_survive_the_log_to_the_last_bit(tmp_path: Path) -> None:
    torch.manual_seed(5)
    model, x, y = mlp(), torch.randn(N, 5), torch.randint(C, (N,))
    seen = []

    def loss(m: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        value = labels(m, batch)
        seen.append(float(value.detach()))
        return value

    run = record(tmp_path, model, [(x, y)] * 3, loss)
    assert list(run["loss"].values) == seen
