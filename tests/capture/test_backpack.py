"""BackPACK's individual gradients against brute force, and ``extend`` for as long as a block lasts."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from backpack import backpack, extend
from backpack.context import CTX
from backpack.extensions import BatchGrad, DiagHessian
from capturing import SINGLE, agree, captured
from reference import by_copies, one_at_a_time, token_losses
from torch import Tensor, nn

from cockpit.capture.hooks.extended import extended
from cockpit.capture.individual.backpack import batch_gradients

N = 5

# torch's own remark on full backward hooks, of the first layer that is extended
first_layer = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


class Residual(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.inner(x).tanh())


def images(*layers: nn.Module) -> tuple[nn.Module, Tensor]:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.LazyLinear(3)), torch.randn(N, 2, 6, 6)


def flat(*layers: nn.Module) -> tuple[nn.Module, Tensor]:
    return nn.Sequential(*layers, nn.Linear(6, 3)), torch.randn(N, 6)


NETWORKS = {
    "multilayer perceptron": lambda: flat(
        nn.Linear(6, 6), nn.ReLU(inplace=True), nn.Linear(6, 6, bias=False), nn.GELU()
    ),
    "convolutions": lambda: images(
        nn.Conv2d(2, 4, 3, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 2, groups=2, dilation=2)
    ),
    "transposed convolution": lambda: images(nn.ConvTranspose2d(2, 4, 3, stride=2), nn.Sigmoid()),
    "residual": lambda: flat(Residual(nn.Linear(6, 6), nn.Tanh()), Residual(nn.Linear(6, 6))),
    "called twice": lambda: flat(Twice()),
    "batch statistics": lambda: images(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_individual_gradients_match_brute_force(name: str, reduction: str) -> None:
    torch.manual_seed(0)
    model, x = NETWORKS[name]()
    model(x)
    model, x, y = model.double(), x.double(), torch.randint(3, (N,))
    truth = by_copies(model, lambda m: token_losses(m(x).unsqueeze(1), y.unsqueeze(1))[0], N)
    told = captured(
        model, lambda _: F.cross_entropy(model(x), y, reduction=reduction).backward(), source=batch_gradients
    )
    agree(told, truth)


def test_sequences_match_brute_force() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 7)).double()
    x, y = torch.randn(N, 6, 4).double(), torch.randint(7, (N, 6))
    truth = one_at_a_time(model, lambda m: token_losses(m(x), y)[0])
    told = captured(
        model, lambda _: F.cross_entropy(model(x).view(-1, 7), y.view(-1)).backward(), source=batch_gradients
    )
    agree(told, truth)


def test_embeddings_match_brute_force_in_the_only_precision_that_backpack_has_them() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 7))
    x, y = torch.randint(7, (N, 6)), torch.randint(7, (N, 6))
    truth = one_at_a_time(model, lambda m: token_losses(m(x), y)[0])
    for exact in (model, copy.deepcopy(model).double()):
        told = captured(
            exact, lambda _, m=exact: F.cross_entropy(m(x).view(-1, 7), y.view(-1)).backward(), source=batch_gradients
        )
        if exact is model:
            agree(told, truth, **SINGLE)
        else:
            assert set(told.left_out) == {"0.weight"}
            assert "'0': BackPACK failed: RuntimeError: expected scalar type Float" in told.left_out["0.weight"]


def test_tokens_flattened_before_the_model_are_added_by_sample() -> None:
    torch.manual_seed(2)
    body = nn.Linear(4, 3).double()
    model = nn.Sequential(nn.Flatten(0, 1), body)
    x, y = torch.randn(N, 6, 4).double(), torch.randint(3, (N, 6))
    truth = one_at_a_time(model, lambda m: token_losses(m(x).view(N, 6, 3), y)[0])
    agree(captured(model, lambda _: F.cross_entropy(model(x), y.view(-1)).backward(), source=batch_gradients), truth)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.LayerNorm(6), "BackPACK has no individual gradients for LayerNorm"),
        (nn.PReLU(), "BackPACK has no individual gradients for PReLU"),
    ],
)
def test_what_backpack_does_not_support_is_left_out_with_a_reason(layer: nn.Module, words: str) -> None:
    model, x = flat(nn.Linear(6, 6), layer)
    told = captured(model, lambda _: F.cross_entropy(model(x), torch.arange(N) % 3).backward(), source=batch_gradients)
    assert set(told.left_out) == {f"1.{name}" for name, _ in layer.named_parameters()}
    assert all(words in reason for reason in told.left_out.values())
    assert {"0.weight", "0.bias", "2.weight", "2.bias"} == set(told.gradients)


def test_a_circular_convolution_is_left_out() -> None:
    model, x = images(nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"))
    model(x)
    told = captured(model, lambda _: F.cross_entropy(model(x), torch.arange(N) % 3).backward(), source=batch_gradients)
    assert "no individual gradients for Conv2d" in told.left_out["0.weight"]


def test_backpack_brings_no_torchvision_and_comes_late() -> None:
    program = (
        "import sys, cockpit.session, cockpit.capture.hooks.extended, cockpit.capture.individual.backpack as b; "
        "assert 'backpack' not in sys.modules; b._batch_grad(); "
        "assert 'backpack' in sys.modules and 'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def attributes(model: nn.Module) -> list[dict[str, object]]:
    return [
        {name: dict(value) if "hook" in name and isinstance(value, dict) else value for name, value in vars(m).items()}
        for m in model.modules()
    ]


@first_layer
def test_a_block_leaves_no_trace_of_extend() -> None:
    model, x = flat(nn.Linear(6, 6), nn.ReLU())
    loss = nn.CrossEntropyLoss()
    before, handles = attributes(model) + attributes(loss), len(CTX.hook_handles)
    with extended(model, loss), backpack(DiagHessian()):
        loss(model(x), torch.arange(N) % 3).backward()
        diagonals = [p.diag_h for p in model.parameters()]
        for p in model.parameters():
            del p.diag_h
        loss(model(x), torch.arange(N) % 3)  # a forward pass that no backward pass follows
    assert all(d.shape == p.shape for d, p in zip(diagonals, model.parameters(), strict=True))
    assert attributes(model) + attributes(loss) == before
    assert len(CTX.hook_handles) == handles
    assert torch.equal(copy.deepcopy(model)(x), model(x))


@first_layer
def test_what_the_user_extended_stays_extended() -> None:
    model, x = flat(nn.Linear(6, 6), nn.ReLU())
    extend(model[0])
    with extended(model), backpack(BatchGrad()):
        F.cross_entropy(model(x), torch.arange(N) % 3).backward()
    assert [hasattr(m, "_backpack_extend") for m in model] == [True, False, False]
    del model[0].weight.grad_batch, model[2].weight.grad_batch
    with backpack(BatchGrad()):
        F.cross_entropy(model(x), torch.arange(N) % 3).backward()
    assert hasattr(model[0].weight, "grad_batch")
    assert not hasattr(model[2].weight, "grad_batch")


def test_an_error_in_the_block_leaves_no_trace_either() -> None:
    model, x = flat(nn.Linear(6, 6))
    before = attributes(model)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), extended(model):
        model[1](model[0](x).T)
    assert attributes(model) == before


def test_modules_that_cannot_be_extended_are_refused_before_any_is() -> None:
    model, _ = flat(nn.Linear(6, 6), nn.ReLU(inplace=True))
    with pytest.raises(ValueError, match=r"BackPACK cannot extend ReLU\(inplace=True\)"), extended(model):
        pass
    own = nn.Module()
    own.output = nn.Linear(6, 6)
    with pytest.raises(ValueError, match="it keeps tensors in the attribute 'output'"), extended(own):
        pass
    assert not any(hasattr(m, "_backpack_extend") for m in model.modules())
