"""A small training to put under a cockpit."""

from __future__ import annotations

import gc
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack

from cockpit.store import Event, Reader
from cockpit.tracking.open_step import OpenStep

ECONOMY = {
    *("alpha", "distance", "grad_hist_1d", "grad_norm", "inner_test", "loss", "norm_test", "ortho_test", "time"),
    "update_size",
    *("noise_scale", "sample_grad_norm", "update_weight_ratio"),
    *("activation", "amp", "clip", "grad_log_hist", "input", "update_grad_cosine"),
}
NEED_INDIVIDUAL = {
    *(
        "alpha",
        "grad_hist_1d",
        "grad_log_hist",
        "inner_test",
        "noise_scale",
        "norm_test",
        "ortho_test",
        "sample_grad_norm",
    ),
}

torch.set_num_threads(1)  # networks of a few numbers: a second thread would only be waited for


class Loop:
    """Model, optimizer and the update that a cockpit watches.

    Args:
        seed: Of the model and the data.
        model: In place of the small network for inputs ``[N, 4]`` and three classes.
    """

    def __init__(self, seed: int = 0, model: nn.Module | None = None) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)) if model is None else model
        self.optimizer = torch.optim.SGD([p for p in self.model.parameters() if p.requires_grad] or [_unused()], lr=0.1)

    def backward(self, N: int = 8, score: float = 0.0, weight: float = 1.0) -> Tensor:
        """Forward and backward pass of a random batch.

        Args:
            N: Batch size.
            score: Added to the score of class 0, which occurs.
            weight: Of the loss.

        Returns:
            The loss, without its weight.
        """
        self.optimizer.zero_grad()
        y = torch.randint(3, (N,))
        y[0] = 0
        loss = F.cross_entropy(self.model(torch.randn(N, 4)) + torch.tensor([score, 0.0, 0.0]), y)
        (loss * weight).backward()
        return loss

    def update(self, **options: float) -> Tensor:
        """One step; returns the loss."""
        loss = self.backward(**options)
        self.optimizer.step()
        return loss

    def steps(self, cockpit, count: int, **options) -> None:
        """So many steps under a cockpit."""
        for _ in range(count):
            with cockpit.step():
                self.update(**options)

    def parameters(self) -> list[Tensor]:
        """A copy of what is trained."""
        return [p.detach().clone() for p in self.model.parameters()]


def hooks(model: nn.Module, *optimizers: torch.optim.Optimizer) -> int:
    """How many hooks of any kind hang on a model, its parameters and its optimizers."""
    found = 0
    for owner in (*model.modules(), *optimizers):
        found += sum(len(value) for name, value in vars(owner).items() if "hook" in name and isinstance(value, dict))
    for p in model.parameters():
        found += len(p._backward_hooks or ()) + len(p._post_accumulate_grad_hooks or ())
    return found


def no_trace(loop: Loop) -> None:
    """Between steps nothing of the cockpit's is to be found."""
    assert hooks(loop.model, loop.optimizer) == 0
    assert _get_current_function_mode_stack() == []


def open_steps(loop: Loop) -> int:
    """How many tracked steps of this model are held by anybody."""
    gc.collect()
    steps = [found for found in gc.get_objects() if type(found) is OpenStep]
    return sum(step.capture._model is loop.model for step in steps)


def events(path: Path) -> list[Event]:
    """Warnings and errors in the log of the run in ``path / "run"``."""
    return [event for event in Reader(path / "run").events() if event.kind in ("warning", "error")]


def _unused() -> nn.Parameter:
    return nn.Parameter(torch.zeros(1))
