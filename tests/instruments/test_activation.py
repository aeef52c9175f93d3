"""What modules return, against a forward pass by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from harness import by_layer, logged, reasons, record, record_steps
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cockpit.run import Run

N, C = 6, 3
PARTS = ("rms", "mean", "zeros", "non_finite")


class Network(nn.Module):
    """Channels first, then features; an activation module in place, one that is used twice, and a functional one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.relu, self.drop = nn.Conv2d(2, 4, 3), nn.ReLU(inplace=True), nn.Dropout(0.5)
        self.hidden, self.twice, self.head = nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, C)
        with torch.no_grad():
            self.conv.bias[1] = -100.0  # a dead channel
            self.hidden.bias[3] = -100.0  # a dead feature

    def features(self, x: Tensor) -> Tensor:
        return self.drop(self.relu(self.conv(x))).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.twice(self.twice(self.hidden(self.features(x))))))


def images(seed: int, size: int = N) -> Tensor:
    return torch.randn(size, 2, 4, 4, generator=torch.Generator().manual_seed(seed))


def by_hand(model: Network, x: Tensor) -> dict[str, tuple[np.ndarray, int]]:
    """What each module returns, all calls together, and the axis of its units."""
    model.drop.p = 0.0
    with torch.no_grad():
        conv = F.conv2d(x, model.conv.weight, model.conv.bias)
        relu = conv.clamp(min=0)
        hidden = relu.flatten(1) @ model.hidden.weight.T + model.hidden.bias
        twice = hidden.clamp(min=0)
        head = twice.tanh() @ model.head.weight.T + model.head.bias
    outputs = {"conv": (conv, 1), "relu": (relu, 1), "hidden": (hidden, 1)}
    outputs |= {"twice": (torch.cat([twice, twice]), 1), "head": (head, 1)}
    return {name: (value.double().numpy(), axis) for name, (value, axis) in outputs.items()}


def holds(run: Run, step: int, outputs: dict[str, tuple[np.ndarray, int]], rel: float = 1e-5) -> None:
    found = {part: by_layer(run, f"activation.{part}", step) for part in PARTS}
    dead = by_layer(run, "activation", step)
    assert list(dead) == list(outputs)
    for name, (value, axis) in outputs.items():
        others = tuple(i for i in range(value.ndim) if i != axis)
        assert dead[name] == (value == 0).all(others).mean(), name
        assert found["rms"][name] == pytest.approx(np.sqrt(np.square(value).mean()), rel=rel), name
        assert found["mean"][name] == pytest.approx(value.mean(), rel=rel, abs=rel), name
        assert found["zeros"][name] == pytest.approx((value == 0).mean()), name
        assert found["non_finite"][name] == (~np.isfinite(value)).sum(), name


def train(path: Path, forward: Callable[[Network], None], model: Network | None = None) -> Run:
    """One step in which ``forward`` runs forward and backward passes."""
    model = Network() if model is None else model
    model.drop.p = 0.0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def step(_: int) -> None:
        optimizer.zero_grad()
        forward(model)
        optimizer.step()

    return record_steps(path, model, optimizer, range(1), step, instruments="activation")


def loss(scores: Tensor) -> Tensor:
    return F.cross_entropy(scores, torch.arange(len(scores)) % C)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
def test_every_module_is_what_it_is_by_hand(dtype: torch.dtype, tmp_path: Path) -> None:
    model, x = Network().to(dtype), images(0).to(dtype)
    outputs = by_hand(model, x)
    run = train(tmp_path, lambda m: loss(m(x)).backward(), model)
    holds(run, 0, outputs, rel=1e-7 if dtype == torch.float64 else 1e-5)
    relu, twice = (outputs[name][0] for name in ("relu", "twice"))
    dead = (relu == 0).all((0, 2, 3)).sum() + (twice == 0).all(0).sum()
    assert logged(run, "activation", 0) == pytest.approx(dead / (4 + 5))
    assert dead >= 2


def test_a_network_without_activation_modules_counts_all_units(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, C))
    with torch.no_grad():
        model[0].weight[:3] = 0
        model[0].bias[:3] = 0
    x = torch.randn(N, 4)
    run = record(tmp_path, model, [x], lambda m, x: loss(m(x)), instruments="activation")
    assert logged(run, "activation", 0) == pytest.approx(3 / (6 + C))


def test_micro_batches_are_one_batch(tmp_path: Path) -> None:
    """A unit that moves in one of them is not dead."""

    def parts(model: Network) -> None:
        for x in images(0).split(2):
            (loss(model(x)) / 3).backward()

    outputs = by_hand(Network(), images(0))
    holds(train(tmp_path, parts), 0, outputs)


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_a_checkpoint_computes_twice_counts_once(reentrant: bool, tmp_path: Path) -> None:
    def forward(model: Network) -> None:
        x = images(0).requires_grad_()
        h = checkpoint(model.features, x, use_reentrant=reentrant)
        loss(model.head(torch.tanh(model.twice(model.twice(model.hidden(h)))))).backward()

    outputs = by_hand(Network(), images(0))
    found = by_layer(train(tmp_path, forward), "activation.zeros", 0)
    assert found == pytest.approx({name: (value == 0).mean() for name, (value, _) in outputs.items()})


def test_evaluations_within_the_step_are_not_looked_at(tmp_path: Path) -> None:
    def forward(model: Network) -> None:
        with torch.no_grad():
            model(images(5))
        model.eval()
        model(images(6))
        model.train()
        loss(model(images(0))).backward()

    holds(train(tmp_path, forward), 0, by_hand(Network(), images(0)))


def test_outputs_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    model = Network()
    with torch.no_grad():
        model.hidden.weight[0, 0] = float("nan")
    run = train(tmp_path, lambda m: loss(m(images(0))).backward(), model)
    assert by_layer(run, "activation.non_finite", 0) == {
        "conv": 0,
        "relu": 0,
        "hidden": N,
        "twice": 2 * N,
        "head": C * N,
    }
    assert np.isnan(by_layer(run, "activation.rms", 0)["hidden"])
    assert logged(run, "activation", 0) is not None


def test_sequences_have_their_units_last_and_tuples_are_opened(tmp_path: Path) -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.mix, self.act, self.lstm, self.head = nn.Linear(4, 5), nn.ReLU(), nn.LSTM(5, 6), nn.Linear(6, C)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lstm(self.act(self.mix(x)))[0][-1])

    model = Reads()
    with torch.no_grad():
        model.mix.bias[2] = -100.0
    run = record(tmp_path, model, [torch.randn(7, N, 4)], lambda m, x: loss(m(x)), instruments="activation")
    assert by_layer(run, "activation", 0) == {"mix": 0.0, "act": 1 / 5, "lstm": 0.0, "head": 0.0}


def test_half_precision_of_autocast(tmp_path: Path) -> None:
    def forward(model: Network) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            scores = model(images(0))
        loss(scores.float()).backward()

    found = by_layer(train(tmp_path, forward), "activation.rms", 0)
    outputs = by_hand(Network(), images(0))
    for name, (value, _) in outputs.items():
        assert found[name] == pytest.approx(np.sqrt(np.square(value).mean()), rel=0.02), name


def test_no_module_no_reading(tmp_path: Path) -> None:
    run = train(
        tmp_path, lambda m: loss(F.linear(images(0).flatten(1), torch.ones(C, 32, requires_grad=True))).backward()
    )
    assert logged(run, "activation", 0) is None
    assert "no module" in reasons(run)["activation"]
