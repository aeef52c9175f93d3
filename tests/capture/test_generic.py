"""Modules without a closed form: vectorised where that repeats the call, left out with a reason where it would not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from harness import SINGLE, TIGHT, agree, captured
from reference import by_copies, doubled, one_at_a_time
from torch import Tensor, nn

N = 5


class Scale(nn.Module):
    """A parameter of the user's own; what it adds to is saved by nobody."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.factor, self.shift = nn.Parameter(torch.randn(shape)), nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x.exp() * self.factor + self.shift


class Patches(nn.Module):
    """A network that owns raw parameters beside its modules: positions, and a token in front."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.head, self.norm = nn.Linear(3, 4), nn.Linear(4, 2), nn.LayerNorm(4)
        self.places, self.token = nn.Parameter(torch.randn(1, 5, 4)), nn.Parameter(torch.randn(1, 1, 4))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.cat([self.token.expand(len(x), -1, -1), self.lift(x)], 1) + self.places
        return self.head(self.norm(h).tanh().cumsum(1).mean(1))


class Attention(nn.Module):
    def __init__(self, batch_first: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(4, 2, batch_first=batch_first, dropout=dropout)
        self.first, self.head = batch_first, nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.first else x.transpose(0, 1)
        h, _ = self.attend(x, x, x, need_weights=False)
        return self.head(h.tanh() if self.first else h.transpose(0, 1).tanh())


class Pair(nn.Module):
    """Two batched arguments, one that has no batch, and one by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Bilinear(3, 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.tanh(), F.pad(x, (0, 1)))


def squared(model: nn.Module, x: Tensor) -> Tensor:
    out = model(x)
    return (out * torch.linspace(0.5, 1.5, out[0].numel()).view(out[0].shape).to(out)).flatten(1).square().mean(1)


VECTORISED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "own-parameter": (lambda: nn.Sequential(nn.Linear(3, 4), Scale(4), nn.Linear(4, 2)), (3,)),
    "own-parameter-over-positions": (lambda: nn.Sequential(Scale(3), nn.Linear(3, 2)), (4, 3)),
    "network-that-owns-parameters": (Patches, (4, 3)),
    "transposed-convolution": (lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 3, stride=2), nn.Tanh()), (2, 3, 3)),
    "leaky-slope": (lambda: nn.Sequential(nn.Linear(3, 4), nn.PReLU(4), nn.Linear(4, 2)), (3,)),
    "one-slope-for-all": (lambda: nn.Sequential(nn.Linear(3, 4), nn.PReLU()), (3,)),
    "bilinear": (Pair, (3,)),
}


@pytest.mark.parametrize(("make", "shape"), VECTORISED.values(), ids=VECTORISED.keys())
@pytest.mark.parametrize("limit", [1, 1 << 28], ids=["one-by-one", "at-once"])
def test_modules_that_can_be_vectorised(make: Callable[[], nn.Module], shape: tuple[int, ...], limit: int) -> None:
    torch.manual_seed(0)
    model, x = make(), torch.randn(N, *shape)
    truth = one_at_a_time(model, lambda m: squared(m, x.double()))
    for dtype, tolerance in ((torch.float64, TIGHT), (torch.float32, SINGLE)):
        cast, inputs = model.to(dtype), x.to(dtype)
        told = captured(cast, lambda c, m=cast, i=inputs: c.register(squared(m, i)).backward(), limit)
        agree(told, truth, **tolerance)


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_without_dropout(batch_first: bool) -> None:
    """Its output projection is never called as a module, and its own parameters are."""
    torch.manual_seed(1)
    model, x = Attention(batch_first).double(), torch.randn(N, 3, 4).double()
    truth = one_at_a_time(model, lambda m: squared(m, x))
    told = captured(model, lambda c: c.register(squared(model, x)).backward())
    assert set(told.left_out) == {"attend.out_proj.weight", "attend.out_proj.bias"}
    assert set(told.left_out.values()) == {"it reaches the loss without a call of the module that owns it"}
    for name, rows in told.gradients.items():
        torch.testing.assert_close(rows, truth.gradients[name], **TIGHT)


def refused(model: nn.Module, x: Tensor, name: str, words: str, loss=squared) -> None:
    told = captured(model, lambda c: c.register(loss(model, x)).backward())
    assert not told.failures
    assert words in told.left_out[name]
    assert name not in told.gradients


def test_module_that_draws_random_numbers_is_not_repeated() -> None:
    class Noisy(Scale):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * torch.rand_like(x)

    refused(nn.Sequential(Noisy(3), nn.Linear(3, 2)), torch.randn(N, 3), "0.factor", "drew random numbers")


def test_attention_with_dropout_is_not_repeated() -> None:
    refused(Attention(True, 0.2), torch.randn(N, 3, 4), "attend.in_proj_weight", "drew random numbers")


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_recurrent_layers_say_why_they_are_left_out(kind: type[nn.Module]) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = kind(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.cell(x)[0])

    torch.manual_seed(2)
    model, x = Recurrent().double(), torch.randn(N, 4, 3).double()
    refused(model, x, "cell.weight_ih_l0", "returns several tensors")
    told = captured(model, lambda c: c.register(squared(model, x)).backward())
    truth = one_at_a_time(model, lambda m: squared(m, x))
    torch.testing.assert_close(told.gradients["head.weight"], truth.gradients["head.weight"], **TIGHT)


def test_module_that_overwrites_its_input_is_not_repeated() -> None:
    class Greedy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.randn(3))

        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2.0) * self.factor

    model = nn.Sequential(nn.Linear(3, 3), Greedy())
    refused(model, torch.randn(N, 3), "1.factor", "changes its input in place")


def test_input_that_is_overwritten_after_the_call_is_not_read() -> None:
    class Overwritten(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.scale = nn.Linear(3, 3), Scale(3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.first(x) + 0
            out = self.scale(h)  # keeps exp(h), not h
            return out + h.zero_()

    refused(Overwritten(), torch.randn(N, 3), "scale.factor", "was overwritten after the call")


def test_module_with_hooks_of_its_own_is_not_repeated() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor, self.inner = nn.Parameter(torch.randn(3)), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) * self.factor

    model = nn.Sequential(Inner(), nn.Linear(3, 2))
    model[0].inner.register_forward_hook(lambda module, args, output: output * 2)
    refused(model, torch.randn(N, 3), "0.factor", "has hooks of its own")
    told = captured(model, lambda c: c.register(squared(model, torch.ones(N, 3))).backward())
    truth = one_at_a_time(model, lambda m: squared(m, torch.ones(N, 3).double()))
    torch.testing.assert_close(told.gradients["0.inner.weight"], truth.gradients["0.inner.weight"], **SINGLE)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_weights_that_hooks_compute_are_left_out() -> None:
    model = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2))
    refused(model, torch.randn(N, 3), "0.weight_g", "has hooks of its own")


@pytest.mark.parametrize("track", [True, False])
def test_own_parameter_around_batch_statistics_is_not_repeated_sample_by_sample(track: bool) -> None:
    """With one sample at a time each would be normalised by itself, and nothing would fail."""

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor, self.head = nn.Parameter(torch.randn(4)), nn.Linear(4, 2)
            self.norm = nn.BatchNorm2d(4, affine=False, track_running_stats=track)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(x * self.factor.view(-1, 1, 1)).relu().mean((2, 3)))

    refused(Around(), torch.randn(N, 4, 3, 3), "factor", "mixes samples")


def test_running_buffer_and_attributes_stay_what_they_were() -> None:
    class Remembering(Scale):
        def __init__(self) -> None:
            super().__init__(3)
            self.register_buffer("calls", torch.zeros(()))
            self.last: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            self.last = x
            return super().forward(x)

    torch.manual_seed(3)
    model, x = nn.Sequential(Remembering(), nn.Linear(3, 2)).double(), torch.randn(N, 3).double()
    truth = one_at_a_time(model, lambda m: squared(m, x))
    agree(captured(model, lambda c: c.register(squared(model, x)).backward()), truth)
    assert model[0].calls == 1
    assert model[0].last is x


def test_parameter_shared_with_a_module_inside_is_not_counted_twice() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 3, bias=False)
            self.matrix = self.inner.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x).tanh() @ self.matrix

    torch.manual_seed(4)
    model, x = nn.Sequential(Outer(), nn.Linear(3, 2)).double(), torch.randn(N, 3).double()
    truth = one_at_a_time(model, lambda m: squared(m, x))
    agree(captured(model, lambda c: c.register(squared(model, x)).backward()), truth)


def test_weight_used_without_its_module_is_left_out() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.linear(x, self.used.weight, self.used.bias).tanh())

    refused(Functional(), torch.randn(N, 3), "used.weight", "without a call of the module that owns it")


def test_closed_forms_and_copies_agree_on_a_network_of_many_kinds() -> None:
    """The two ways to the truth, against each other and against the engine."""
    torch.manual_seed(5)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.PReLU(4), nn.ConvTranspose2d(4, 3, 2), nn.Flatten(), nn.Linear(75, 3)
    )
    x = torch.randn(4, 2, 6, 6).double()
    apart, copied = one_at_a_time(model, lambda m: squared(m, x)), by_copies(model, lambda m: squared(m, x), 4)
    for name, rows in apart.gradients.items():
        torch.testing.assert_close(rows, copied.gradients[name], **TIGHT)
    told = captured(doubled(model).train(), lambda _: None)
    assert told.gradients == {}
    model = doubled(model)
    agree(captured(model, lambda c: c.register(squared(model, x)).backward()), apart)
