"""Brute force for second derivatives: the whole Hessian of small networks, and graphs to take products from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from reference import doubled
from torch import Tensor, nn

from cockpit.capture.capture import Capture
from cockpit.capture.samples.layout import Layouts
from cockpit.capture.second_order.loss_graph import LossGraph
from cockpit.parameters import ParameterTable


def full_hessian(model: nn.Module, loss: Callable[[nn.Module], Tensor]) -> Tensor:
    """``∇²L`` over all trainable parameters in the model's order, float64, shape ``[D, D]``.

    Args:
        model: The model; a copy in float64 is used.
        loss: Given the copy, the loss.
    """
    model = doubled(model)
    tensors = trained(model)[1]
    rows = []
    found = torch.autograd.grad(loss(model), tensors, create_graph=True, allow_unused=True)
    for gradient, tensor in zip(found, tensors, strict=True):
        for j in range(tensor.numel()):
            if gradient is None or not gradient.requires_grad:
                row = [torch.zeros_like(t) for t in tensors]
            else:
                entry = gradient.reshape(-1)[j]
                row = torch.autograd.grad(entry, tensors, retain_graph=True, materialize_grads=True, allow_unused=True)
            rows.append(torch.cat([part.reshape(-1) for part in row]))
    return torch.stack(rows)


def blocks(model: nn.Module, matrix: Tensor) -> dict[str, Tensor]:
    """Diagonal blocks of a matrix over all trainable parameters, by parameter."""
    found, start = {}, 0
    for name, p in model.named_parameters():
        if p.requires_grad:
            found[name] = matrix[start : start + p.numel(), start : start + p.numel()]
            start += p.numel()
    return found


@dataclass
class _Looking:
    look: Callable[[LossGraph], Any]
    seen: list[Any] = field(default_factory=list)

    def before_backward(self, graph: LossGraph) -> None:
        self.seen.append(self.look(graph))

    def gradient(self, index: int, gradient: Tensor, backward: object) -> None: ...

    def end_pass(self, backward: object) -> None: ...


def looked_at(model: nn.Module, look: Callable[[LossGraph], Any], step: Callable[[], Any]) -> list[Any]:
    """What ``look`` finds in the graph of each backward pass of a step."""
    receiver, failures = _Looking(look), []
    table = ParameterTable(model, [torch.optim.SGD(model.parameters(), lr=0.1)])
    capture = Capture(model, table, Layouts(), receiver, False, failures.append, second_order=True)
    capture.open()
    try:
        step()
    finally:
        capture.close()
    if failures:
        raise failures[0]
    return receiver.seen


def trained(model: nn.Module) -> tuple[list[str], list[Tensor]]:
    """Names and tensors of the parameters that a cockpit watches."""
    pairs = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [name for name, _ in pairs], [p for _, p in pairs]


def full_gauss_newton(
    model: nn.Module, outputs: Callable[[nn.Module], Tensor], loss: Callable[[Tensor], Tensor]
) -> Tensor:
    """``Jᵀ (∇²_f L) J`` with the dense Jacobian of all outputs ``f``, float64, shape ``[D, D]``.

    Args:
        model: The model; a copy in float64 is used.
        outputs: Given the copy, ``f``.
        loss: Given ``f``, the loss.
    """
    model = doubled(model)
    tensors, f = trained(model)[1], outputs(model)
    rows = [
        torch.autograd.grad(entry, tensors, retain_graph=True, materialize_grads=True, allow_unused=True)
        for entry in f.reshape(-1)
    ]
    jacobian = torch.stack([torch.cat([part.reshape(-1) for part in row]) for row in rows])
    curvature = torch.autograd.functional.hessian(loss, f.detach()).reshape(f.numel(), f.numel())
    return jacobian.T @ curvature @ jacobian


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm, self.head = nn.Linear(5, 5), nn.LayerNorm(5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x + F.gelu(self.inner(x))))


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x)[0].mean(1))


class Twice(nn.Module):
    """One layer called twice, and a parameter that takes no part."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.unused = nn.Linear(5, 5), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x).tanh())[:, :3]


def convolutional() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), nn.BatchNorm2d(4), nn.Softplus()),
        *(nn.Conv2d(4, 3, 2, dilation=2), nn.MaxPool2d(1), nn.Flatten(), nn.Linear(3, 3)),
    )


N = 6
torch.manual_seed(5)
FLAT, IMAGES, WORDS = torch.randn(N, 5).double(), torch.randn(N, 2, 6, 6).double(), torch.randn(N, 3, 4).double()
Y, T = torch.randint(3, (N,)), torch.randn(N, 3).double()
BY_CLASS = torch.tensor([1.0, 3.0, 0.5]).double()

Networks = dict[str, tuple[Callable[[], nn.Module], Tensor]]
"""What makes a network, and a batch for it, by name."""

NETWORKS: Networks = {
    "tanh": (lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), FLAT),
    "relu": (lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), FLAT),
    "linear": (lambda: nn.Linear(5, 3), FLAT),
    "residual": (Residual, FLAT),
    "called twice": (Twice, FLAT),
    "convolutions": (convolutional, IMAGES),
    "attention": (Attentive, WORDS),
}

LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "cross-entropy": lambda out: F.cross_entropy(out, Y),
    "weighted": lambda out: F.cross_entropy(out, Y, weight=BY_CLASS, ignore_index=int(Y[0])),
    "squares": lambda out: F.mse_loss(out, T),
    "binary": lambda out: F.binary_cross_entropy_with_logits(out, T.sigmoid()),
}


def network(name: str, among: Networks = NETWORKS) -> tuple[nn.Module, Tensor]:
    """A small network in float64, the same each time, and a batch for it."""
    make, x = among[name]
    torch.manual_seed(1)
    return make().double(), x


SCALED: dict[str, Callable[[Tensor], Tensor]] = {
    # the same mean loss, multiplied
    "a sum": lambda out: F.cross_entropy(out, Y, reduction="sum"),
    "accumulated": lambda out: F.cross_entropy(out, Y) / 4,
    "a loss scale": lambda out: F.cross_entropy(out, Y) * 65536.0,
    "reduced by hand": lambda out: F.cross_entropy(out, Y, reduction="none").mean(),
}
