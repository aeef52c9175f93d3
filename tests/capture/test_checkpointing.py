"""Activations that are computed again in the backward pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from capturing import captured
from harness import holds, one_step, record_steps
from reference import by_copies, one_at_a_time, token_losses
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cockpit.capture.capture import Capture

N, C = 6, 4


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(N, 5).double()


Y = torch.arange(N) % C


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool, dropout: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        middle = nn.BatchNorm1d(6) if norm else nn.Identity()
        self.inner = nn.Sequential(nn.Linear(6, 6), middle, nn.Tanh(), nn.Dropout(dropout), nn.Linear(6, 6))
        self.first, self.last, self.reentrant = nn.Linear(5, 6), nn.Linear(6, C), reentrant

    def forward(self, x: Tensor) -> Tensor:
        return self.last(checkpoint(self.inner, self.first(x).tanh(), use_reentrant=self.reentrant))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("norm", [False, True], ids=["plain", "batch-norm"])
def test_checkpointed_layers_are_read(norm: bool, reentrant: bool, x: Tensor, tmp_path: Path) -> None:
    model = Checkpointed(reentrant, norm=norm).double()
    run = one_step(tmp_path, model, lambda: F.cross_entropy(model(x), Y).backward())
    plain = lambda m: m.last(m.inner(m.first(x).tanh()))  # noqa: E731

    def apart(m: nn.Module) -> Tensor:
        return token_losses(plain(m).unsqueeze(1), Y.unsqueeze(1))[0]

    truth = by_copies(model, apart, N) if norm else one_at_a_time(model, apart)
    holds(run, 0, truth)


def test_checkpointed_micro_batches_are_read(x: Tensor, tmp_path: Path) -> None:
    model = Checkpointed(reentrant=False).double()

    def step() -> None:
        for part, labels in zip(x.chunk(3), Y.chunk(3), strict=True):
            (F.cross_entropy(model(part), labels) / 3).backward()

    run = one_step(tmp_path, model, step)
    truth = one_at_a_time(
        model, lambda m: token_losses(m.last(m.inner(m.first(x).tanh())).unsqueeze(1), Y.unsqueeze(1))[0]
    )
    holds(run, 0, truth, keys=["loss", "grad_norm", "norm_test", "grad_hist_1d"])


def test_nothing_is_kept_of_what_is_computed_again(x: Tensor) -> None:
    model = Checkpointed(reentrant=False).double()

    def step(capture: Capture) -> None:
        F.cross_entropy(model(x), Y).backward()
        calls = capture._recorder.calls
        assert [call.name for call in calls] == ["first", "inner.0", "inner.4", "last"]
        assert all(call.args == () and call.delta is None for call in calls)

    told = captured(model, step)
    assert not told.failures


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("preserve", [True, False])
def test_checkpointed_training_is_the_same_to_the_last_bit(reentrant: bool, preserve: bool, tmp_path: Path) -> None:
    """A recomputed forward pass draws random numbers and moves running statistics; measuring must not add to them."""

    def train(watched: bool) -> list[Tensor]:
        torch.manual_seed(1)
        model = Checkpointed(reentrant, dropout=0.5, norm=True)
        model.forward = lambda x: model.last(
            checkpoint(model.inner, model.first(x).tanh(), use_reentrant=reentrant, preserve_rng_state=preserve)
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def step(_: int) -> None:
            optimizer.zero_grad()
            F.cross_entropy(model(torch.randn(N, 5)), Y).backward()
            optimizer.step()

        if watched:
            record_steps(tmp_path, model, optimizer, range(3), step)
        else:
            for i in range(3):
                step(i)
        return [*(t.clone() for t in model.state_dict().values()), torch.get_rng_state()]

    for mine, plain in zip(train(True), train(False), strict=True):
        assert torch.equal(mine, plain)


# Closures
