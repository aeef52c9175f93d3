"""Whatever a loss is multiplied with on its way, and in however many parts a batch comes: the loss's own readings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from classifier import C, N, Y, cross_entropies, mlp, truth_of
from harness import GRADIENT_KEYS, holds, logged, reasons, record_steps
from reference import one_at_a_time, token_losses
from torch import Tensor, nn

from cockpit.run import Run

POOLED = [key for key in GRADIENT_KEYS if key not in ("inner_test", "ortho_test")]
"""What sums over micro-batches suffice for."""


def train(path: Path, model: nn.Module, step: Callable[[torch.optim.Optimizer], None], lr: float = 0.1) -> Run:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)

    def whole(_: int) -> None:
        optimizer.zero_grad()
        step(optimizer)
        optimizer.step()

    return record_steps(path, model, optimizer, range(1), whole)


@pytest.mark.parametrize("passes", [2, 4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_micro_batches_read_as_one_batch(passes: int, dtype: torch.dtype, x: Tensor, tmp_path: Path) -> None:
    model = mlp().to(dtype)
    truth = truth_of(model, x)

    def step(_: object) -> None:
        for part, labels in zip(x.to(dtype).chunk(passes), Y.chunk(passes), strict=True):
            (F.cross_entropy(model(part), labels) / passes).backward()

    run = train(tmp_path, model, step)
    exact = dtype == torch.float64
    holds(run, 0, truth, keys=POOLED, rel=1e-7 if exact else 1e-4, on_the_edge=0 if exact else 1e-3)
    for key in ("inner_test", "ortho_test"):
        assert logged(run, key, 0) is None
        assert "several backward passes" in reasons(run)[key]
    assert logged(run, "batch_size", 0) == N


def test_micro_batches_of_sums_read_as_one_batch(x: Tensor, tmp_path: Path) -> None:
    model = mlp().double()
    truth = truth_of(model, x)

    def step(_: object) -> None:
        for part, labels in zip(x.double().split(3), Y.split(3), strict=True):
            F.cross_entropy(model(part), labels, reduction="sum").backward()

    run = train(tmp_path, model, step)
    holds(run, 0, truth, keys=[key for key in POOLED if key != "loss"])
    assert logged(run, "loss", 0) == pytest.approx(N * truth.loss(), rel=1e-9)


def test_micro_batches_of_unequal_size_weigh_as_they_are_weighted(x: Tensor, tmp_path: Path) -> None:
    model = mlp()
    truth = truth_of(model, x)

    def step(_: object) -> None:
        for part, labels in ((x[:5], Y[:5]), (x[5:], Y[5:])):
            (F.cross_entropy(model(part), labels) * (len(part) / N)).backward()

    holds(train(tmp_path, model, step), 0, truth, keys=POOLED, rel=1e-4, on_the_edge=1e-3)


def test_micro_batches_of_unequal_weight_have_no_norm_test(x: Tensor, tmp_path: Path) -> None:
    """It would need the inner products with a mean that is known only after the last of them."""
    model = mlp().double()
    truth = truth_of(model, x, weights=[1 / 12] * 6 + [1 / 4] * 2)

    def step(_: object) -> None:
        for part, labels in ((x[:6].double(), Y[:6]), (x[6:].double(), Y[6:])):
            (F.cross_entropy(model(part), labels) / 2).backward()

    run = train(tmp_path, model, step)
    holds(run, 0, truth, keys=["loss", "grad_norm", "grad_hist_1d"])
    assert logged(run, "norm_test", 0) is None
    assert "several backward passes" in reasons(run)["norm_test"]


def test_micro_batches_of_two_losses_each_are_counted_once(x: Tensor, tmp_path: Path) -> None:
    model = mlp().double()
    truth = one_at_a_time(model, lambda m: cross_entropies(m(x.double())) + m(x.double()).square().mean(1))

    def step(_: object) -> None:
        for part, labels in zip(x.double().chunk(2), Y.chunk(2), strict=True):
            out = model(part)
            ((F.cross_entropy(out, labels) + F.mse_loss(out, torch.zeros_like(out))) / 2).backward()

    holds(train(tmp_path, model, step), 0, truth, keys=POOLED)


def test_micro_batch_that_leaves_a_layer_out_counts_as_zeros_there(x: Tensor, tmp_path: Path) -> None:
    class Optional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.extra, self.head = nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, C)

        def forward(self, x: Tensor, extra: bool) -> Tensor:
            h = self.first(x).tanh()
            return self.head(h + self.extra(h) if extra else h)

    model = Optional().double()
    halves = list(zip(x.double().chunk(2), Y.chunk(2), (False, True), strict=True))

    def apart(m: nn.Module) -> Tensor:
        return torch.cat([token_losses(m(p, e).unsqueeze(1), l.unsqueeze(1))[0] for p, l, e in halves])

    truth = one_at_a_time(model, apart)
    for order in (halves, halves[::-1]):

        def step(_: object, order: list = order) -> None:
            for part, labels, extra in order:
                (F.cross_entropy(model(part, extra), labels) / 2).backward()

        holds(train(tmp_path / str(order is halves), model, step, lr=0.0), 0, truth, keys=POOLED)


def test_accumulation_over_sparse_gradients(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Embedding(6, 3, sparse=True), nn.Flatten(), nn.Linear(6, C, bias=False)).double()
    words = torch.arange(2 * N).view(N, 2) % 6
    truth = one_at_a_time(model, lambda m: cross_entropies(m(words)))

    def step(_: object) -> None:
        for part, labels in zip(words.chunk(2), Y.chunk(2), strict=True):
            (F.cross_entropy(model(part), labels) / 2).backward()

    holds(train(tmp_path, model, step), 0, truth, keys=POOLED)


def test_gradients_cleared_between_two_passes_are_not_put_together(x: Tensor, tmp_path: Path) -> None:
    """Two losses that are trained one after the other, say, inside one step."""
    model = mlp()

    def step(optimizer: torch.optim.Optimizer) -> None:
        F.cross_entropy(model(x), Y).backward()
        optimizer.step()
        optimizer.zero_grad()
        F.mse_loss(model(x), torch.zeros(N, C)).backward()

    run = train(tmp_path, model, step)
    for key in GRADIENT_KEYS:
        assert logged(run, key, 0) is None, key
    assert "cleared or changed between two backward passes" in reasons(run)["grad_norm"]
    assert logged(run, "update_size", 0) > 0


def test_losses_of_two_networks_are_no_micro_batches(x: Tensor, tmp_path: Path) -> None:
    """Each network's gradient is its own loss's, whole; as halves of one batch they would read half as long."""
    model = nn.ModuleDict({"actor": mlp(), "critic": mlp()})

    def step(_: object) -> None:
        F.cross_entropy(model["actor"](x), Y).backward()
        F.mse_loss(model["critic"](x), torch.zeros(N, C)).backward()

    run = train(tmp_path, model, step)
    for key in GRADIENT_KEYS:
        assert logged(run, key, 0) is None, key
    assert "reach different parameters" in reasons(run)["grad_norm"]


def test_losses_of_two_networks_may_be_added(x: Tensor, tmp_path: Path) -> None:
    model = nn.ModuleDict({"actor": mlp(), "critic": mlp()}).double()

    def apart(m: nn.Module) -> Tensor:
        values = m["critic"](x.double())
        return cross_entropies(m["actor"](x.double())) + values.square().mean(1)

    truth = one_at_a_time(model, apart)

    def step(_: object) -> None:
        values = model["critic"](x.double())
        (F.cross_entropy(model["actor"](x.double()), Y) + F.mse_loss(values, torch.zeros_like(values))).backward()

    holds(train(tmp_path, model, step), 0, truth)


@pytest.mark.parametrize("clear", ["to none", "to zeros"])
def test_micro_batches_after_gradients_were_cleared(clear: str, x: Tensor, tmp_path: Path) -> None:
    model = mlp().double()
    for p in model.parameters():
        p.grad = torch.zeros_like(p) if clear == "to zeros" else None
    truth = truth_of(model, x)

    def step(_: object) -> None:
        for part, labels in zip(x.double().chunk(2), Y.chunk(2), strict=True):
            (F.cross_entropy(model(part), labels) / 2).backward()

    def whole(_: int) -> None:
        optimizer.zero_grad(set_to_none=clear == "to none")
        step(None)
        optimizer.step()

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    holds(record_steps(tmp_path, model, optimizer, range(2), whole), 0, truth, keys=POOLED)


def test_gradients_of_an_earlier_step_do_not_enter(x: Tensor, tmp_path: Path) -> None:
    """One pass is read by itself; of several only the sum is known, and that holds the old ones too."""
    model = mlp().double()
    truth = truth_of(model, x)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def one(_: int) -> None:
        F.cross_entropy(model(x.double()), Y).backward()

    holds(record_steps(tmp_path / "one", model, optimizer, range(1), one), 0, truth)

    def two(_: int) -> None:
        one(0)
        one(0)

    run = record_steps(tmp_path / "two", model, optimizer, range(1), two)
    assert logged(run, "grad_norm", 0) is None
    assert "gradients of an earlier one" in reasons(run)["grad_norm"]


def test_clipping_comes_after_the_reading(x: Tensor, tmp_path: Path) -> None:
    model = mlp().double()
    truth = truth_of(model, x)

    def step(_: object) -> None:
        F.cross_entropy(model(x.double()), Y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)

    run = train(tmp_path, model, step)
    holds(run, 0, truth)
    assert logged(run, "update_size", 0) == pytest.approx(0.1 * 1e-3, rel=1e-2)


@pytest.mark.parametrize("weight", [0.3, -1.0, 1000.0])
def test_weight_of_the_task_is_undone(weight: float, x: Tensor, tmp_path: Path) -> None:
    model = mlp().double()
    truth = truth_of(model, x)
    run = train(tmp_path, model, lambda _: (weight * F.cross_entropy(model(x.double()), Y)).backward())
    holds(run, 0, truth)


def test_unknown_loss_in_micro_batches_is_read_as_the_optimizer_finds_it(x: Tensor, tmp_path: Path) -> None:
    model = mlp().double()
    truth = one_at_a_time(model, lambda m: m(x.double()).abs().pow(1.5).mean(1))

    def step(_: object) -> None:
        for part in x.double().chunk(4):
            (model(part).abs().pow(1.5).mean() / 4).backward()

    run = train(tmp_path, model, step)
    assert logged(run, "loss", 0) == pytest.approx(truth.loss(), rel=1e-9)
    assert logged(run, "grad_norm", 0) == pytest.approx(truth.grad_norm(), rel=1e-9)
