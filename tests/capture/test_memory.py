"""Never ``N × D`` at once: the largest tensor that a tracked step allocates."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from harness import logged
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cockpit import Cockpit, load_run
from cockpit.capture.hooks.calls import tensors_in
from cockpit.capture.individual.gradients import SampleGradients
from cockpit.capture.individual.outer_products import OuterProducts
from cockpit.instruments import Alpha, NormTest

N = 32


class Largest(TorchDispatchMode):
    """Remembers the largest storage that any operation inside the block made."""

    nbytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {t.untyped_storage().data_ptr() for t in tensors_in((args, kwargs or {})) if t.layout == torch.strided}
        result = func(*args, **(kwargs or {}))
        for tensor in tensors_in(result):
            storage = tensor.untyped_storage() if tensor.layout == torch.strided else None
            if storage is not None and storage.data_ptr() not in given:
                self.nbytes = max(self.nbytes, storage.nbytes())
        return result


class Dead(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - 1e9).relu()


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(100, 300), nn.Tanh(), nn.Linear(300, 200), nn.Tanh(), nn.Linear(200, 10))


def dead() -> nn.Module:
    return nn.Sequential(nn.Linear(100, 300), Dead(), nn.Linear(300, 200), Dead(), nn.Linear(200, 10))


def tagger() -> nn.Module:
    return nn.Sequential(nn.Linear(100, 150), nn.Tanh(), nn.Linear(150, 150), nn.LayerNorm(150), nn.Linear(150, 10))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(500, 60), nn.Linear(60, 500, bias=False)
        self.out.weight = self.table.weight

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.table(words)).mean(1)[:, :10]


def convnet() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 60, 3), nn.ReLU(), nn.Conv2d(60, 60, 3), nn.Flatten(), nn.Linear(240, 10))


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.matrix, self.head = nn.Parameter(torch.randn(200, 200) / 14), nn.Linear(200, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x.repeat(1, 2) @ self.matrix).tanh())


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "vectors": (mlp, lambda: torch.randn(N, 100)),
    "dead": (dead, lambda: torch.randn(N, 100)),
    "sequences": (tagger, lambda: torch.randn(N, 12, 100)),
    "tied": (Tied, lambda: torch.randint(500, (N, 5))),
    "images": (convnet, lambda: torch.randn(N, 3, 6, 6)),
    "vectorised": (Own, lambda: torch.randn(N, 100)),
}


@pytest.mark.parametrize(("make", "inputs"), NETWORKS.values(), ids=NETWORKS.keys())
def test_no_tensor_of_all_individual_gradients(make, inputs, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = make()
    x, y = inputs(), torch.randint(10, (N,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    largest = max(p.numel() for p in model.parameters())
    limit = 4 * N * largest // 4
    outputs = 4 * N * 12 * 150
    with Cockpit(model, optimizer, run=tmp_path / "run", track=1) as cockpit:
        cockpit._tracker.workspace.limit = limit
        for _ in range(2):
            with cockpit.step(), Largest() as seen:
                optimizer.zero_grad()
                out = model(x)
                F.cross_entropy(out if out.dim() == 2 else out.mean(1), y).backward()
                optimizer.step()
            assert seen.nbytes < 4 * N * largest, "all individual gradients of a layer at once"
            assert seen.nbytes <= max(limit, outputs, 4 * largest)
    run = load_run(tmp_path / "run")
    assert logged(run, "grad_hist_1d", 0) is not None
    assert "alpha" in run


def test_pairs_of_positions_are_formed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cockpit.capture.individual.outer_products.DEFAULT_LIMIT", 2 * 8 * 10**2 * 3)
    torch.manual_seed(1)
    inputs, deltas = torch.randn(N, 10, 40).double(), torch.randn(N, 10, 50).double()
    gradients = OuterProducts(inputs, deltas)
    with Largest() as seen:
        norms = gradients.sq_norms()
    assert seen.nbytes <= 8 * 10**2 * 3
    expected = torch.einsum("nto,nti->noi", deltas, inputs).square().sum((1, 2))
    torch.testing.assert_close(norms, expected, rtol=1e-10, atol=0)


def individual_gradients() -> list[SampleGradients]:
    """All that are held by anybody."""
    return [kept for kept in gc.get_objects() if issubclass(type(kept), SampleGradients)]


@pytest.mark.parametrize(("instrument", "held"), [(Alpha(), 6), (Alpha(start=False), 0)], ids=["start", "no-start"])
@pytest.mark.parametrize("make", [mlp, convnet])
def test_individual_gradients_wait_for_the_step_only_for_the_slope_at_its_start(
    make, instrument: Alpha, held: int, tmp_path: Path
) -> None:
    model, x = make(), torch.randn(N, 100) if make is mlp else torch.randn(N, 3, 6, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gc.collect()
    others = individual_gradients()  # of other tests; held here, they stay as many
    seen = []
    with Cockpit(model, optimizer, run=tmp_path / "run", track=1, instruments=[instrument, NormTest()]) as cockpit:
        for _ in range(3):
            with cockpit.step():
                optimizer.zero_grad()
                F.cross_entropy(model(x), torch.randint(10, (N,))).backward()
                seen.append(len(individual_gradients()) - len(others))
                optimizer.step()
    assert seen == [held] * 3
    assert logged(load_run(tmp_path / "run"), "alpha", 1) is not None


def test_nothing_of_the_network_outlives_the_backward_pass(tmp_path: Path) -> None:
    """Without an instrument that waits for the step, inputs and output gradients are let go of at once."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    instruments = "norm_test+grad_hist_1d"
    cockpit = Cockpit(model, optimizer, run=tmp_path / "run", track=1, instruments=instruments)
    with cockpit, cockpit.step() as context:
        F.cross_entropy(model(torch.randn(N, 100)), torch.randint(10, (N,))).backward()
        (backward,) = context._step.capture.passes
        assert len(backward.walked) == 3
        assert all(call.delta is None and call.args == () for call in backward.walked)
        optimizer.step()
