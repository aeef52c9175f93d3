"""Hooks of the user's on activations: gradients are what they make of them, sample by sample, or withheld."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from capturing import agree, captured
from classifier import C, Y, cross_entropies
from reference import Truth, one_at_a_time
from torch import Tensor, nn

from cockpit.capture.samples.layout import Layouts


class Hooked(nn.Module):
    """A hook on what a layer returns, a view where there are positions, as a forward pass of the user's places it."""

    def __init__(self, hook: Callable[[Tensor], Tensor | None]) -> None:
        super().__init__()
        self.first, self.last, self.hook = nn.Linear(5, 6), nn.Linear(6, C), hook

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        h.register_hook(self.hook)
        h = h.tanh() if x.dim() == 2 else h.tanh_().mean(1)
        return self.last(h)


def shares(model: nn.Module, x: Tensor) -> Truth:
    """Brute force, each sample's loss as it is in the mean: hooks may do something else where gradients are larger."""
    N = len(x)
    truth = one_at_a_time(model, lambda m: cross_entropies(m(x)) / N)
    return Truth(truth.losses * N, truth.weights, {name: rows * N for name, rows in truth.gradients.items()})


HOOKS: dict[str, Callable[[Tensor], Tensor | None]] = {
    "looks": lambda g: None,
    "reversal": lambda g: -0.3 * g,
    "clamp": lambda g: g.clamp(-0.01, 0.01),
    "mask": lambda g: g * (torch.arange(g.shape[-1]) % 2),
}


@pytest.mark.parametrize("positions", [(), (3,)], ids=["", "view"])
@pytest.mark.parametrize("hook", HOOKS)
def test_what_a_hook_does_to_each_sample_shows_in_its_gradient(hook: str, positions: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, x = Hooked(HOOKS[hook]).double(), torch.randn(len(Y), *positions, 5).double()
    layouts = Layouts()
    for _ in range(2):
        told = captured(model, lambda _: F.cross_entropy(model(x), Y).backward(), layouts=layouts)
        agree(told, shares(model, x))
        for name, p in model.named_parameters():
            torch.testing.assert_close(told.gradients[name].mean(0), p.grad)


TOGETHER: dict[str, Callable[[Tensor], Tensor]] = {
    "centred": lambda g: g - g.mean(0),
    "normalised": lambda g: g / g.norm(),
    "clipped": lambda g: g * (1e-3 / g.norm()).clamp(max=1),
}


@pytest.mark.parametrize("hook", TOGETHER)
def test_of_a_hook_that_looks_at_all_samples_it_is_said(hook: str, x: Tensor) -> None:
    model = Hooked(TOGETHER[hook]).double()
    told = captured(model, lambda _: F.cross_entropy(model(x), Y).backward())
    assert set(told.left_out) == {"first.weight", "first.bias"}
    assert all("several samples together" in reason for reason in told.left_out.values()), told.left_out
    truth = one_at_a_time(model, lambda m: cross_entropies(m(x)))
    for name in ("last.weight", "last.bias"):
        torch.testing.assert_close(told.gradients[name], truth.gradients[name])


def test_hook_that_comes_with_a_later_step_is_noticed(x: Tensor) -> None:
    model, layouts = Hooked(lambda g: None).double(), Layouts()
    step = lambda _: F.cross_entropy(model(x), Y).backward()  # noqa: E731
    assert not captured(model, step, layouts=layouts).left_out
    model.hook = lambda g: 2 * g
    agree(captured(model, step, layouts=layouts), shares(model, x))


def test_hook_that_is_placed_after_the_loss_is_seen(x: Tensor) -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.Linear(6, C)).double()

    def step(_: object) -> None:
        h = model[0](x)
        loss = F.cross_entropy(model[1](h), Y)
        h.register_hook(lambda g: 3 * g)
        loss.backward()

    told = captured(model, step)
    for name, p in model.named_parameters():
        torch.testing.assert_close(told.gradients[name].mean(0), p.grad)
