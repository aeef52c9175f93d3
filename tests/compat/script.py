"""A script for f-dangel/cockpit, taken apart into what tests want to vary."""

from __future__ import annotations

import copy
from typing import Any

import torch
from backpack import extend
from reference import by_copies, token_losses
from torch import Tensor, nn

from cockpit import Cockpit, load_run
from cockpit.run import Run

N = 6


class Script:
    """Its model, loss, optimizer and batch, in float64, and the parameters before each step."""

    def __init__(self, reduction: str = "mean", weight: Tensor | None = None, model: nn.Module | None = None) -> None:
        torch.manual_seed(0)
        layers = (nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        self.model = extend((nn.Sequential(*layers) if model is None else model).double())
        self.loss = extend(nn.CrossEntropyLoss(weight, reduction=reduction))
        self.losses = nn.CrossEntropyLoss(weight, reduction="none")
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.x, self.y = torch.randn(N, 4).double(), torch.arange(N) % 3
        self.before: list[nn.Module] = []

    def cockpit(self, *quantities: Any, **options: Any) -> Any:
        return Cockpit(self.model.parameters(), quantities=list(quantities), **options)

    def step(self, cockpit: Any, index: int, *exts: Any, **info: Any) -> None:
        self.optimizer.zero_grad()
        self.before.append(copy.deepcopy(self.model))
        scores = self.model(self.x)
        loss, losses = self.loss(scores, self.y), self.losses(scores, self.y)
        given = {"batch_size": N, "individual_losses": losses, "loss": loss, "optimizer": self.optimizer, **info}
        with cockpit(index, *exts, info=given):
            loss.backward(create_graph=cockpit.create_graph(index))
        self.optimizer.step()

    def step_and_close(self, cockpit: Any) -> None:
        self.step(cockpit, 0)
        cockpit.close()

    def truth(self, step: int) -> Any:
        return by_copies(self.before[step], lambda m: token_losses(m(self.x).unsqueeze(1), self.y.unsqueeze(1))[0], N)


def finished(cockpit: Any) -> Run:
    """The run of a cockpit that is closed now."""
    cockpit.close()
    return load_run(cockpit.run)
