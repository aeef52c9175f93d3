"""Whole networks of many kinds, put together by chance: every parameter, element by element, against brute force."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from capturing import SINGLE, TIGHT, agree, captured
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from reference import by_copies, one_at_a_time, token_losses
from torch import Tensor, nn

N = 5

VECTORS: list[Callable[[], nn.Module]] = [
    lambda: nn.Linear(6, 6),
    lambda: nn.Linear(6, 6, bias=False),
    lambda: nn.LayerNorm(6),
    lambda: nn.RMSNorm(6),
    lambda: nn.PReLU(),
    nn.SiLU,
    lambda: nn.ReLU(inplace=True),
    lambda: nn.GELU(),
]
FLAT: list[Callable[[], nn.Module]] = [
    *VECTORS,
    lambda: nn.PReLU(6),
    lambda: nn.BatchNorm1d(6),
    lambda: nn.GroupNorm(3, 6),
]
IMAGES: list[Callable[[], nn.Module]] = [
    lambda: nn.Conv2d(6, 6, 3, padding=1),
    lambda: nn.Conv2d(6, 6, (1, 3), padding="same", groups=3, bias=False),
    lambda: nn.Conv2d(6, 6, 2, stride=(2, 1), padding=1, dilation=(1, 2), padding_mode="circular"),
    lambda: nn.ConvTranspose2d(6, 6, 2),
    lambda: nn.BatchNorm2d(6),
    lambda: nn.GroupNorm(2, 6),
    lambda: nn.InstanceNorm2d(6, affine=True),
    lambda: nn.MaxPool2d(2, stride=1, padding=1),
    lambda: nn.LeakyReLU(0.1, inplace=True),
    lambda: nn.PReLU(),
    lambda: nn.Dropout(0.0),
]
KINDS = {"flat": (FLAT, (6,)), "sequences": (VECTORS, (4, 6)), "images": (IMAGES, (6, 5, 5))}


class Shortcut(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out = self.inner(x.clone())
        return out + x if out.shape == x.shape else out


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), kind=st.sampled_from(sorted(KINDS)), limit=st.sampled_from([1, 2000, 1 << 28]))
def test_any_stack_of_layers(data: st.DataObject, kind: str, limit: int) -> None:
    torch.manual_seed(data.draw(st.integers(0, 1000), label="seed"))
    makers, shape = KINDS[kind]
    layers = [makers[i]() for i in data.draw(st.lists(st.integers(0, len(makers) - 1), min_size=1, max_size=5))]
    layers = [Shortcut(layer) if data.draw(st.booleans()) else layer for layer in layers]
    if len(layers) > 1 and data.draw(st.booleans(), label="repeat"):
        layers.append(layers[0])  # a module that is called twice
    body = nn.Sequential(*layers, nn.Flatten())
    x = torch.randn(N, *shape).double()
    features = body.double()(x.clone()).shape[1]
    model = nn.Sequential(body, nn.Linear(features, 3)).double()
    y = torch.randint(3, (N,))

    def apart(m: nn.Module) -> Tensor:
        return token_losses(m(x.clone()).unsqueeze(1), y.unsqueeze(1))[0]

    try:
        truth = by_copies(model, apart, N)
    except RuntimeError:  # two operations in place, of which the second overwrites what the first has to remember
        reject()
    told = captured(model, lambda _: F.cross_entropy(model(x.clone()), y).backward(), limit)
    below_batch_norm = [name for name in told.left_out if "no axis" in told.left_out[name]]
    assert set(below_batch_norm) == set(told.left_out), "coupled beyond recognition, or dead"
    for name, rows in told.gradients.items():
        expected = truth.gradients[name]
        size = float(expected.abs().max())
        torch.testing.assert_close(
            rows, expected, rtol=1e-6, atol=1e-9 * max(1.0, size), msg=lambda m, n=name: f"{n}: {m}"
        )
    torch.testing.assert_close(told.losses, truth.losses, **TIGHT)


@pytest.mark.parametrize(("height", "width"), [(5, 5), (5, 3), (4, 5), (3, 10)])
def test_segmentation_whose_images_are_as_large_as_the_batch(height: int, width: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(5, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1)).double()
    x, y = torch.randn(N, 5, height, width).double(), torch.randint(3, (N, height, width))
    truth = one_at_a_time(model, lambda m: token_losses(m(x).flatten(2).transpose(1, 2), y.flatten(1))[0])
    agree(captured(model, lambda _: F.cross_entropy(model(x), y).backward()), truth)
    flat = captured(
        model, lambda _: F.cross_entropy(model(x).permute(0, 2, 3, 1).reshape(-1, 3), y.flatten()).backward()
    )
    agree(flat, truth)


def test_segmentation_under_batch_statistics() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1)).double()
    x, y = torch.randn(8, 2, 8, 8).double(), torch.randint(3, (8, 8, 8))
    truth = by_copies(model, lambda m: token_losses(m(x).flatten(2).transpose(1, 2), y.flatten(1))[0], 8)
    agree(captured(model, lambda _: F.cross_entropy(model(x), y).backward()), truth)


@pytest.mark.parametrize("cell", [nn.RNNCell, nn.GRUCell])
def test_cells_unrolled_by_hand(cell: type[nn.Module]) -> None:
    class Unrolled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = cell(3, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(len(x), 4)
            for t in range(x.shape[1]):
                h = self.cell(x[:, t], h)
            return self.head(h)

    torch.manual_seed(2)
    model, x, y = Unrolled().double(), torch.randn(N, 3, 3).double(), torch.randint(3, (N,))
    truth = one_at_a_time(model, lambda m: token_losses(m(x).unsqueeze(1), y.unsqueeze(1))[0])
    told = captured(model, lambda _: F.cross_entropy(model(x), y).backward())
    agree(told, truth)


def test_transformer_layer_without_dropout() -> None:
    torch.manual_seed(3)
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    model = nn.Sequential(layer, nn.Linear(4, 3)).double()
    x, y = torch.randn(N, 6, 4).double(), torch.randint(3, (N, 6))
    truth = one_at_a_time(model, lambda m: token_losses(m(x), y)[0])
    told = captured(model, lambda _: F.cross_entropy(model(x).view(-1, 3), y.view(-1)).backward())
    agree(told, truth)


def test_dropout_in_training_adds_up() -> None:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.ReLU(), nn.Dropout1d(0.3), nn.Linear(8, 3)).double()
    x, y = torch.randn(N, 6).double(), torch.randint(3, (N,))
    told = captured(model, lambda _: F.cross_entropy(model(x), y).backward())
    for name, p in model.named_parameters():
        torch.testing.assert_close(told.gradients[name].mean(0), p.grad, **TIGHT)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_vectorised_modules_under_autocast(dtype: torch.dtype) -> None:
    torch.manual_seed(5)
    model = nn.Sequential(nn.ConvTranspose2d(2, 4, 2), nn.PReLU(4), nn.Flatten(), nn.Linear(64, 3))
    x, y = torch.randn(N, 2, 3, 3), torch.randint(3, (N,))
    truth = one_at_a_time(model, lambda m: token_losses(m(x.double()).unsqueeze(1), y.unsqueeze(1))[0])

    def step(_: object) -> None:
        with torch.autocast("cpu", dtype=dtype):
            loss = F.cross_entropy(model(x), y)
        loss.backward()

    told = captured(model, step)
    rough = 4e-2 if dtype == torch.bfloat16 else 5e-3  # 8 and 11 bits of mantissa
    agree(told, truth, rtol=rough, atol=rough)


def test_loss_of_a_linear_layer_in_one() -> None:
    """The body is read; the layer inside the loss is no module that was called."""
    torch.manual_seed(6)
    fused = getattr(F, "linear_cross_entropy", None)
    if fused is None:
        pytest.skip("this version of torch has no linear_cross_entropy")
    model = nn.ModuleDict({"body": nn.Linear(6, 4), "head": nn.Linear(4, 3, bias=False)}).double()
    model.forward = lambda x: model["body"](x).tanh()
    x, y = torch.randn(N, 6).double(), torch.randint(3, (N,))
    told = captured(model, lambda _: fused(model(x), model["head"].weight, y).backward())
    truth = one_at_a_time(
        model, lambda m: token_losses((m["body"](x).tanh() @ m["head"].weight.T).unsqueeze(1), y.unsqueeze(1))[0]
    )
    assert set(told.left_out) == {"head.weight"}
    torch.testing.assert_close(told.gradients["body.weight"], truth.gradients["body.weight"], **TIGHT)
    torch.testing.assert_close(told.losses, truth.losses, **TIGHT)


def test_single_precision_of_a_deep_network() -> None:
    torch.manual_seed(7)
    layers = [nn.Linear(12, 12), nn.LayerNorm(12), nn.GELU()]
    model = nn.Sequential(*[m for _ in range(6) for m in (nn.Linear(12, 12), nn.LayerNorm(12), nn.GELU())], *layers)
    x, y = torch.randn(16, 12), torch.randint(12, (16,))
    truth = one_at_a_time(model, lambda m: token_losses(m(x.double()).unsqueeze(1), y.unsqueeze(1))[0])
    agree(captured(model, lambda _: F.cross_entropy(model(x), y).backward()), truth, **SINGLE)
