"""Individual gradients of every layer with a closed form, element by element, against brute force."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from capturing import SINGLE, TIGHT, agree, captured
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import by_copies, doubled, one_at_a_time
from sample_by_sample import check, squared
from torch import Tensor, nn

N = 5


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("middle", [(), (3,), (2, 3), (12,)], ids=str)
def test_linear_on_inputs_with_extra_axes(middle: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    check(nn.Sequential(nn.Linear(4, 6, bias=bias), nn.Tanh(), nn.Linear(6, 3, bias=bias)), torch.randn(N, *middle, 4))


@pytest.mark.parametrize("limit", [1, 400, 1 << 28])
def test_small_workspaces_change_nothing(limit: int) -> None:
    torch.manual_seed(1)
    check(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)), torch.randn(N, 7, 4), limit)
    check(nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Conv2d(4, 2, 2)), torch.randn(N, 2, 6, 5), limit)


CONVOLUTIONS = {
    "plain": {},
    "groups": {"groups": 2},
    "depthwise": {"groups": 4},
    "stride": {"stride": 2},
    "stride-leaving-a-rest": {"stride": 3},
    "padding": {"padding": 1},
    "padding-wider-than-the-kernel": {"padding": 3},
    "same": {"padding": "same"},
    "same-dilated": {"padding": "same", "dilation": 2},
    "valid": {"padding": "valid"},
    "reflect": {"padding": 2, "padding_mode": "reflect"},
    "replicate": {"padding": 1, "padding_mode": "replicate"},
    "circular": {"padding": 2, "padding_mode": "circular"},
    "circular-same": {"padding": "same", "padding_mode": "circular"},
    "dilation": {"dilation": 2},
    "everything": {"groups": 2, "stride": 2, "padding": 2, "dilation": 2},
    "without-bias": {"bias": False},
}


@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_convolutions(dimensions: int, options: dict) -> None:
    torch.manual_seed(2)
    layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    model = nn.Sequential(layer(4, 4, 1), nn.Tanh(), layer(4, 4, 3, **options))
    check(model, torch.randn(N, 4, *(7, 6, 5)[:dimensions]))


@settings(max_examples=40, deadline=None)
@given(
    dimensions=st.integers(1, 2),
    samples=st.integers(2, 5),
    groups=st.integers(1, 3),
    inner=st.integers(1, 2),
    outer=st.integers(1, 2),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    rest=st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
def test_any_convolution_geometry(dimensions, samples, groups, inner, outer, kernel, stride, padding, dilation, rest):
    torch.manual_seed(3)
    layer = (nn.Conv1d, nn.Conv2d)[dimensions - 1]
    geometry = [tuple(value[:dimensions]) for value in (kernel, stride, padding, dilation)]
    size = [max(1, d * (k - 1) + 1 - 2 * p + r) for k, _, p, d, r in zip(*geometry, rest[:dimensions], strict=True)]
    model = layer(groups * inner, groups * outer, *geometry, groups=groups)
    x = torch.randn(samples, groups * inner, *size)
    truth = one_at_a_time(model, lambda m: squared(m, doubled(x)))
    model.double()
    agree(captured(model, lambda c: c.register(squared(model, x.double())).backward(), limit=200), truth)


@settings(max_examples=30, deadline=None)
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=3), samples=st.integers(2, 5), outputs=st.integers(1, 4))
def test_any_shape_into_linear(shape: list[int], samples: int, outputs: int) -> None:
    torch.manual_seed(4)
    model, x = nn.Linear(shape[-1], outputs).double(), torch.randn(samples, *shape).double()
    truth = one_at_a_time(model, lambda m: squared(m, x))
    agree(captured(model, lambda c: c.register(squared(model, x)).backward()), truth)


NORMALISATIONS = {
    "layer": (lambda: nn.LayerNorm(6), (6,)),
    "layer-with-positions": (lambda: nn.LayerNorm(6), (3, 6)),
    "layer-over-two-axes": (lambda: nn.LayerNorm((3, 6)), (3, 6)),
    "layer-over-two-axes-with-positions": (lambda: nn.LayerNorm((3, 6)), (2, 3, 6)),
    "layer-without-bias": (lambda: nn.LayerNorm(6, bias=False), (3, 6)),
    "rms": (lambda: nn.RMSNorm(6), (3, 6)),
    "rms-over-two-axes": (lambda: nn.RMSNorm((3, 6), eps=1e-3), (2, 3, 6)),
    "group": (lambda: nn.GroupNorm(2, 6), (6, 4)),
    "group-images": (lambda: nn.GroupNorm(3, 6), (6, 3, 2)),
    "group-without-positions": (lambda: nn.GroupNorm(2, 6), (6,)),
    "instance-1d": (lambda: nn.InstanceNorm1d(6, affine=True), (6, 4)),
    "instance-2d": (lambda: nn.InstanceNorm2d(6, affine=True), (6, 3, 2)),
    "instance-tracked": (lambda: nn.InstanceNorm2d(6, affine=True, track_running_stats=True), (6, 3, 2)),
    "instance-tracked-evaluated": (
        lambda: nn.InstanceNorm2d(6, affine=True, track_running_stats=True).eval(), (6, 3, 2)
    ),
    "batch-evaluated": (lambda: nn.BatchNorm1d(6).eval(), (6,)),
    "batch-evaluated-with-positions": (lambda: nn.BatchNorm1d(6).eval(), (6, 4)),
    "batch-evaluated-images": (lambda: nn.BatchNorm2d(6).eval(), (6, 3, 2)),
}  # fmt: skip


def _shaken(model: nn.Module) -> nn.Module:
    """Parameters and running statistics away from the ones and zeros they start at."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
        for b in model.buffers():
            if b.is_floating_point():
                b.add_(torch.rand_like(b))
    return model


@pytest.mark.parametrize(("make", "shape"), NORMALISATIONS.values(), ids=NORMALISATIONS.keys())
def test_normalisations_that_keep_samples_apart(make, shape: tuple[int, ...]) -> None:
    torch.manual_seed(5)
    check(_shaken(make()), torch.randn(N, *shape))


class _BatchNormed(nn.Module):
    """Two batch normalisations, the second around a shortcut."""

    def __init__(self, images: bool) -> None:
        super().__init__()
        conv = (lambda i, o: nn.Conv2d(i, o, 3, padding=1)) if images else nn.Linear
        norm = nn.BatchNorm2d if images else nn.BatchNorm1d
        self.first, self.norm1 = conv(3, 6), norm(6)
        self.second, self.norm2 = conv(6, 6), norm(6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.first(x)).relu()
        x = x + self.norm2(self.second(x)).relu()
        return self.head(x.mean((2, 3)) if x.dim() == 4 else x)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("images", [True, False], ids=["images", "vectors"])
def test_batch_statistics_give_each_sample_its_share_through_its_activations(images: bool, training: bool) -> None:
    torch.manual_seed(6)
    model = _shaken(_BatchNormed(images)).train(training)
    x = torch.randn(8, 3, 4, 4) if images else torch.randn(8, 3)
    truth = by_copies(model, lambda m: squared(m, x.double()), samples=8)
    if not training:
        apart = one_at_a_time(model, lambda m: squared(m, x.double()))
        for name, rows in truth.gradients.items():
            torch.testing.assert_close(rows, apart.gradients[name], **TIGHT)
    for dtype, tolerance in ((torch.float64, TIGHT), (torch.float32, SINGLE)):
        cast, inputs = model.to(dtype), x.to(dtype)
        told = captured(cast, lambda c, m=cast, i=inputs: c.register(squared(m, i)).backward())
        agree(told, truth, **tolerance)
        assert told.coupled == training


def test_batch_norm_over_flattened_positions() -> None:
    torch.manual_seed(7)

    class Points(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift, self.norm, self.head = nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            rows = self.norm(self.lift(x).flatten(0, 1)).relu()
            return self.head(rows.view(len(x), -1, 6).amax(1))

    model, x = _shaken(Points()).double(), torch.randn(6, 4, 3).double()
    truth = by_copies(model, lambda m: squared(m, x), samples=6)
    agree(captured(model, lambda c: c.register(squared(model, x)).backward()), truth)


EMBEDDINGS = {"plain": {}, "padding": {"padding_idx": 1}, "padding-from-the-end": {"padding_idx": -2},
              "by-frequency": {"scale_grad_by_freq": True}, "both": {"padding_idx": 1, "scale_grad_by_freq": True},
              "sparse": {"sparse": True}}  # fmt: skip


@pytest.mark.parametrize("options", EMBEDDINGS.values(), ids=EMBEDDINGS.keys())
@pytest.mark.parametrize("positions", [(), (4,), (2, 3)], ids=str)
def test_embeddings(positions: tuple[int, ...], options: dict) -> None:
    torch.manual_seed(8)
    words = torch.randint(7, (N, *positions))
    model = nn.Sequential(nn.Embedding(7, 3, **options), nn.Linear(3, 2))
    check(model, words, limit=100)


def test_sum_of_the_shares_is_the_gradient_under_batch_statistics() -> None:
    torch.manual_seed(9)
    model, x, y = _BatchNormed(images=True).double(), torch.randn(8, 3, 4, 4).double(), torch.randint(4, (8,))
    told = captured(model, lambda _: F.cross_entropy(model(x), y).backward())
    for name, p in model.named_parameters():
        torch.testing.assert_close(told.gradients[name].mean(0), p.grad, rtol=1e-7, atol=1e-12)


class _Reused(nn.Module):
    """One module called twice, a weight shared between two modules, a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.left, self.right, self.head = (nn.Linear(4, 4) for _ in range(4))
        self.right.weight = self.left.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.twice(self.twice(x).tanh()).tanh() + x
        return self.head(self.left(h).sigmoid() * self.right(x))


@pytest.mark.parametrize("positions", [(), (3,)], ids=str)
def test_contributions_of_several_calls_add_before_squaring(positions: tuple[int, ...]) -> None:
    torch.manual_seed(10)
    check(_Reused(), torch.randn(N, *positions, 4))


class _Tied(nn.Module):
    """Embedding and output layer share their table."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.mix, self.out = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9, bias=False)
        self.out.weight = self.table.weight

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.mix(self.table(words)).tanh())


@pytest.mark.parametrize("limit", [1, 300, 1000, 1 << 28])
def test_tied_embedding_and_output_layer(limit: int) -> None:
    torch.manual_seed(11)
    check(_Tied(), torch.randint(9, (N, 3)), limit)


def test_kernel_shared_between_strides() -> None:
    torch.manual_seed(12)

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fine, self.coarse = nn.Conv1d(2, 3, 3, padding=1), nn.Conv1d(2, 3, 3, stride=2)
            self.coarse.weight = self.fine.weight

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.fine(x).tanh(), self.coarse(x).tanh()], 2)

    check(Shared(), torch.randn(N, 2, 8), limit=200)


def test_convolution_applied_to_every_frame_of_a_clip() -> None:
    torch.manual_seed(13)

    class Clips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(1, 3, 2), nn.GroupNorm(1, 3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            frames = self.norm(self.conv(x.flatten(0, 1))).tanh().mean((2, 3))
            return self.head(frames.view(len(x), -1, 3).sum(1))

    check(Clips(), torch.randn(N, 3, 1, 4, 4), limit=100)


def test_frozen_parameters_are_let_alone() -> None:
    torch.manual_seed(14)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    model[0].weight.requires_grad_(False)
    check(model, torch.randn(N, 4))


def test_subclass_with_its_own_forward_is_not_mistaken_for_its_parent() -> None:
    torch.manual_seed(15)

    class Scaled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, 2 * self.weight, self.bias)

    check(nn.Sequential(Scaled(4, 3), nn.Tanh(), nn.Linear(3, 2)), torch.randn(N, 4))


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_memory_layout_of_images_does_not_matter(memory_format: torch.memory_format) -> None:
    torch.manual_seed(16)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4).eval(), nn.ReLU(), nn.Conv2d(4, 2, 2, groups=2))
    check(model.to(memory_format=memory_format), torch.randn(N, 2, 6, 5).to(memory_format=memory_format))
