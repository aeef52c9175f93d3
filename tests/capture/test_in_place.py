"""In-place operations on a layer's output: they orphan a plain hook silently, where the output is a view."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from capturing import TIGHT, agree, captured
from reference import by_copies, one_at_a_time
from torch import Tensor, nn

N = 4

OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu_": Tensor.relu_,
    "functional-relu": lambda x: F.relu(x, inplace=True),
    "add_": lambda x: x.add_(0.5),
    "mul_": lambda x: x.mul_(1.5),
    "iadd-itself": lambda x: x.__iadd__(x.detach().tanh()),
    "clamp_": lambda x: x.clamp_(-0.7, 0.7),
    "tanh_": Tensor.tanh_,
    "masked-fill": lambda x: x.masked_fill_(x.detach() < -0.5, 0.0),
    "part": lambda x: x[..., :1].mul_(3.0).new_ones(()) * x,
    "twice": lambda x: x.mul_(0.5).relu_(),
    "copied-over": lambda x: x.copy_(x.clone().exp()),
    "viewed-first": lambda x: x.view(x.shape).relu_().mul(2) + x,
    "none": lambda x: x,
}

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear-on-vectors": (lambda: nn.Linear(6, 6), (6,)),
    "linear-on-sequences": (lambda: nn.Linear(6, 6), (3, 6)),
    "linear-without-bias-on-sequences": (lambda: nn.Linear(6, 6, bias=False), (3, 6)),
    "linear-on-images": (lambda: nn.Linear(6, 6), (2, 3, 6)),
    "conv1d": (lambda: nn.Conv1d(6, 6, 2), (6, 3)),
    "conv2d": (lambda: nn.Conv2d(6, 6, 2, groups=2), (6, 3, 3)),
    "batch-norm": (lambda: nn.BatchNorm1d(6), (6,)),
    "batch-norm-on-sequences": (lambda: nn.BatchNorm1d(6), (6, 3)),
    "batch-norm-evaluated": (lambda: nn.BatchNorm2d(6).eval(), (6, 2, 2)),
    "instance-norm": (lambda: nn.InstanceNorm1d(6, affine=True), (6, 3)),
    "instance-norm-on-images": (lambda: nn.InstanceNorm2d(6, affine=True), (6, 2, 3)),
    "group-norm": (lambda: nn.GroupNorm(2, 6), (6, 3)),
    "layer-norm": (lambda: nn.LayerNorm(6), (6,)),
    "layer-norm-on-sequences": (lambda: nn.LayerNorm(6), (3, 6)),
    "rms-norm": (lambda: nn.RMSNorm(6), (3, 6)),
    "embedding": (lambda: nn.Embedding(7, 6), ()),
    "embedding-of-sequences": (lambda: nn.Embedding(7, 6), (3,)),
    "bilinear": (lambda: Doubled(nn.Bilinear(6, 6, 6)), (6,)),
    "transposed-convolution": (lambda: nn.ConvTranspose1d(6, 6, 2), (6, 3)),
}


class Doubled(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x)


class Applied(nn.Module):
    """A layer and what is done to its output; a head, so that the gradient that returns is another everywhere."""

    def __init__(self, layer: nn.Module, operation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.operation = layer, operation

    def forward(self, x: Tensor) -> Tensor:
        return self.operation(self.layer(x))


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
@pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS.keys())
def test_gradient_at_the_output_survives(
    make: Callable[[], nn.Module], shape: tuple[int, ...], operation: Callable[[Tensor], Tensor]
) -> None:
    torch.manual_seed(0)
    model = Applied(make(), operation).double()
    words = any(isinstance(module, nn.Embedding) for module in model.modules())
    x = torch.randint(7, (N, *shape)) if words else torch.randn(N, *shape).double()

    def losses(m: nn.Module) -> Tensor:
        out = m(x).flatten(1)
        return (out * torch.linspace(0.5, 1.5, out.shape[1]).double()).square().sum(1)

    coupled = isinstance(model.layer, nn.BatchNorm1d)
    truth = by_copies(model, losses, N) if coupled else one_at_a_time(model, losses)
    told = captured(model, lambda step: step.register(losses(model)).backward())
    agree(told, truth)
    for name, p in model.named_parameters():
        torch.testing.assert_close(told.gradients[name].mean(0), p.grad, **TIGHT)


def test_plain_hook_on_a_view_is_never_called() -> None:
    """The reason for all this. Where it ever is called, the detour by way of the base can go."""
    layer, called = nn.Linear(3, 4), []
    out = layer(torch.randn(2, 5, 3))
    out.register_hook(called.append)
    out.relu_().sum().backward()
    assert called == []
