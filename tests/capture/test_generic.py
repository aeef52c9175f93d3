"""Modules without a closed form: read where the graph uses their parameters, vectorised where that has none either."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from capturing import TIGHT, agree, captured
from harness import Opaque
from reference import by_copies, doubled, one_at_a_time
from sample_by_sample import check, squared
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


class Pair(nn.Module):
    """Two batched arguments, one that has no batch, and one by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Bilinear(3, 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.tanh(), F.pad(x, (0, 1)))


class NoisyBilinear(nn.Bilinear):
    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return super().forward(x, z) * torch.rand(len(x), 1, dtype=torch.float64).to(x)


class NoisyPair(Pair):
    """It cannot be called again; the graph that it left can be walked."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = NoisyBilinear(3, 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(9)
        return super().forward(x)


class PairFromOutside(Pair):
    """To call the module again would be half of it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + F.bilinear(x, F.pad(x, (1, 0)), self.inner.weight)


FORMLESS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "own-parameter": (lambda: nn.Sequential(nn.Linear(3, 4), Scale(4), nn.Linear(4, 2)), (3,)),
    "own-parameter-over-positions": (lambda: nn.Sequential(Scale(3), nn.Linear(3, 2)), (4, 3)),
    "network-that-owns-parameters": (Patches, (4, 3)),
    "transposed-convolution": (lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 3, stride=2), nn.Tanh()), (2, 3, 3)),
    "leaky-slope": (lambda: nn.Sequential(nn.Linear(3, 4), nn.PReLU(4), nn.Linear(4, 2)), (3,)),
    "one-slope-for-all": (lambda: nn.Sequential(nn.Linear(3, 4), nn.PReLU()), (3,)),
    "bilinear": (Pair, (3,)),
    "bilinear-that-draws-random-numbers": (NoisyPair, (3,)),
    "bilinear-twice-from-outside": (PairFromOutside, (3,)),
}


@pytest.mark.parametrize(("make", "shape"), FORMLESS.values(), ids=FORMLESS.keys())
@pytest.mark.parametrize("limit", [1, 1 << 28], ids=["one-by-one", "at-once"])
def test_modules_without_a_closed_form(make: Callable[[], nn.Module], shape: tuple[int, ...], limit: int) -> None:
    torch.manual_seed(0)
    check(make(), torch.randn(N, *shape), limit)


def refused(model: nn.Module, x: Tensor, name: str, words: str) -> None:
    told = captured(model, lambda c: c.register(squared(model, x)).backward())
    assert not told.failures
    assert words in told.left_out[name]
    assert name not in told.gradients


def served(model: nn.Module, x: Tensor) -> None:
    model, x = model.double(), x.double()
    truth = one_at_a_time(model, lambda m: squared(m, x))
    agree(captured(model, lambda c: c.register(squared(model, x)).backward()), truth)


def test_function_of_the_models_own_is_left_out() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 3))

        def forward(self, x: Tensor) -> Tensor:
            return Opaque.apply(x, self.weight)

    refused(nn.Sequential(Own(), nn.Linear(3, 2)), torch.randn(N, 3), "0.weight", "a function of the model's own")


def test_module_that_draws_random_numbers() -> None:
    class Noisy(Scale):
        def forward(self, x: Tensor) -> Tensor:
            torch.manual_seed(9)
            return super().forward(x) * torch.rand_like(x)

    served(nn.Sequential(Noisy(3), nn.Linear(3, 2)), torch.randn(N, 3))


def test_module_that_overwrites_its_input() -> None:
    class Greedy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.randn(3))

        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2.0) * self.factor

    served(nn.Sequential(nn.Linear(3, 3), Greedy()), torch.randn(N, 3))


def test_input_that_is_overwritten_after_the_call() -> None:
    class Overwritten(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.scale = nn.Linear(3, 3), Scale(3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.first(x) + 0
            out = self.scale(h)  # keeps exp(h), not h
            return out + h.zero_()

    served(Overwritten(), torch.randn(N, 3))


def test_module_with_hooks_of_its_own() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor, self.inner = nn.Parameter(torch.randn(3)), nn.Linear(3, 3)
            self.inner.register_forward_hook(lambda module, args, output: output * 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) * self.factor

    model, x = nn.Sequential(Inner(), nn.Linear(3, 2)).double(), torch.randn(N, 3).double()
    told = captured(model, lambda c: c.register(squared(model, x)).backward())
    plain = lambda m: m[1](m[0].inner(x) * m[0].factor)  # noqa: E731 - a copy has the hook, too
    agree(told, one_at_a_time(model, lambda m: squared(lambda _: plain(m), x)))


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_weights_that_hooks_compute() -> None:
    torch.manual_seed(7)
    model = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2)).double()
    plain = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2)).double()
    x = torch.randn(N, 3).double()
    told = captured(model, lambda c: c.register(squared(model, x)).backward())
    plain.load_state_dict(model.state_dict())
    truth = one_at_a_time(plain, lambda m: squared(m, x))
    for old, new in (("0.weight_g", "original0"), ("0.weight_v", "original1")):
        torch.testing.assert_close(told.gradients[old], truth.gradients[f"0.parametrizations.weight.{new}"], **TIGHT)


@pytest.mark.parametrize("track", [True, False])
def test_own_parameter_around_batch_statistics(track: bool) -> None:
    """With one sample at a time each would be normalised by itself, and nothing would fail."""

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor, self.head = nn.Parameter(torch.rand(4)), nn.Linear(4, 2)
            self.norm = nn.BatchNorm2d(4, affine=False, track_running_stats=track)

        def forward(self, x: Tensor, factor: Tensor | None = None) -> Tensor:
            factor = self.factor.expand(len(x), 4) if factor is None else factor
            return self.head(self.norm(x * factor.view(-1, 4, 1, 1)).relu().mean((2, 3)))

    torch.manual_seed(6)
    model, x = Around().double(), torch.randn(N, 4, 3, 3).double()
    told = captured(model, lambda c: c.register(squared(model, x)).backward())
    copies = model.factor.detach().expand(N, 4).clone().requires_grad_()
    (truth,) = torch.autograd.grad(squared(lambda _: model(x, copies), x).sum(), copies)
    torch.testing.assert_close(told.gradients["factor"], truth, **TIGHT)


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


def test_weight_used_without_its_module() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.linear(x, self.used.weight, self.used.bias).tanh())

    served(Functional(), torch.randn(N, 3))


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
