"""Small networks with symmetries, and by unit the direction along which the loss does not change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

C = 3
IMAGES = torch.randn(6, 2, 6, 6, generator=torch.Generator().manual_seed(1)).double()
LABELS = torch.arange(6) % C
Direction = dict[str, Tensor]
ALL = np.s_[:]


class Signs(torch.optim.Optimizer):
    """The sign of the gradient, which keeps no symmetry."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p -= 0.01 * p.grad.sign()


def part(model: nn.Module, name: str, where: Any, factor: float = 1.0) -> Direction:
    """Some elements of a parameter, zeros elsewhere."""
    value = model.get_parameter(name).detach()
    mask = torch.zeros_like(value)
    mask[where] = factor
    return {name: value * mask}


def together(*parts: Direction) -> Direction:
    return {name: direction for each in parts for name, direction in each.items()}


def rescaled(into: Sequence[str], out: str, columns: Callable[[int], Any] = lambda j: np.s_[:, j]) -> Any:
    """What multiplies the weights into unit ``j`` and divides those out of it."""
    return lambda m, j: together(*(part(m, name, j) for name in into), part(m, out, columns(j), -1.0))


@dataclass(frozen=True)
class Case:
    """A network, and by layer the number of its units and the direction that belongs to each."""

    network: Callable[[], nn.Module]
    layers: dict[str, tuple[int, Callable[[nn.Module, int], Direction]]]


class Heads(nn.Module):
    """Units that two layers see, a functional activation, and a weight that is used as it stands."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(72, 4, bias=False)
        self.one, self.two = nn.Linear(4, C), nn.Parameter(torch.randn(4, C))

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.body(x), 0.1)
        return self.one(h) + h @ self.two


def flat(*layers: nn.Module) -> Callable[[], nn.Module]:
    """What makes a network of these layers, with parameters drawn when it is made."""

    def network() -> nn.Module:
        model = nn.Sequential(nn.Flatten(), *layers)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
        return model

    return network


RESCALED = {
    "ReLU": Case(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 5), nn.ReLU(), nn.Linear(5, 4), nn.PReLU(), nn.Linear(4, C)),
        {
            "1.weight": (5, rescaled(["1.weight", "1.bias"], "3.weight")),
            "3.weight": (4, rescaled(["3.weight", "3.bias"], "5.weight")),
        },
    ),
    "no bias, dropout, several positions": Case(
        lambda: nn.Sequential(nn.Flatten(2), nn.Linear(36, 5, bias=False), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(),
                              nn.Linear(10, C)),
        {"1.weight": (5, rescaled(["1.weight"], "5.weight", lambda j: np.s_[:, [j, 5 + j]]))},
    ),
    "convolutions": Case(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.LeakyReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 2, groups=2), nn.ReLU(),
            nn.AvgPool2d(1), nn.Flatten(), nn.Linear(24, C)),
        {
            "0.weight": (4, rescaled(["0.weight", "0.bias"], "3.weight",
                                     lambda j: np.s_[3 * (j // 2) : 3 * (j // 2) + 3, j % 2])),
            "3.weight": (6, rescaled(["3.weight", "3.bias"], "7.weight", lambda j: np.s_[:, 4 * j : 4 * j + 4])),
        },
    ),
    "batch normalisation, pooling, a transposed convolution": Case(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 5, 2), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, C)),
        {
            "1.weight": (4, rescaled(["1.weight", "1.bias"], "3.weight", lambda j: j)),
            "3.weight": (5, lambda m, j: together(
                part(m, "3.weight", np.s_[:, j]), part(m, "3.bias", j), part(m, "7.weight", np.s_[:, j], -1.0))),
        },
    ),
    "two heads": Case(
        lambda: nn.Sequential(nn.Flatten(), Heads()),
        {"1.body.weight": (4, lambda m, j: together(
            part(m, "1.body.weight", j), part(m, "1.one.weight", np.s_[:, j], -1.0), part(m, "1.two", j, -1.0)))},
    ),
}  # fmt: skip

SCALED = {
    "features": Case(
        lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(72, 5), nn.BatchNorm1d(5, eps=1e-30), nn.ReLU(), nn.Linear(5, C)),
        {"1.weight": (5, lambda m, j: part(m, "1.weight", j))},
    ),
    "channels, and a bias behind a ReLU": Case(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4, eps=1e-30), nn.Conv2d(4, 3, 2), nn.LeakyReLU(),
            nn.BatchNorm2d(3, eps=1e-30), nn.Flatten(), nn.Linear(27, C)),
        {
            "0.weight": (4, lambda m, j: part(m, "0.weight", j)),
            "2.weight": (3, lambda m, j: together(part(m, "2.weight", j), part(m, "2.bias", j))),
        },
    ),
}  # fmt: skip


def alike(name: str, where: Callable[[int], Any]) -> Callable[[nn.Module, int], Direction]:
    """The same added to all scores."""

    def direction(model: nn.Module, j: int) -> Direction:
        ones = torch.zeros_like(model.get_parameter(name))
        ones[where(j)] = 1.0
        return {name: ones}

    return direction


def with_bias(inputs: int, weight: Any, bias: Any) -> Callable[[nn.Module, int], Direction]:
    return lambda m, j: weight(m, j) if j < inputs else bias(m, j)


SHIFTED = {
    "a linear layer": Case(
        flat(nn.Linear(72, 4), nn.Tanh(), nn.Linear(4, C)),
        {"3.weight": (5, with_bias(4, alike("3.weight", lambda j: np.s_[:, j]), alike("3.bias", lambda j: ALL)))},
    ),
    "a convolution": Case(
        lambda: nn.Sequential(nn.Conv2d(2, C, 6, bias=False), nn.Flatten()),
        {"0.weight": (72, alike("0.weight", lambda j: np.s_[:, j // 36, j // 6 % 6, j % 6]))},
    ),
}


def loss(model: nn.Module, _: Any = None) -> Tensor:
    return F.cross_entropy(model(IMAGES), LABELS)


def three_layers() -> nn.Module:
    torch.manual_seed(0)
    inner = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, eps=1e-30), nn.ReLU()
    return nn.Sequential(*inner, nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, C)).double()
