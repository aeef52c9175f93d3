"""Brute force: what the readings have to be. Slow, obvious, in float64, and without anything from the package.

An individual gradient is had in one of two ways. Where samples do not mix, by differentiating one sample's loss at a
time. Where they do (batch statistics), the gradient of one loss is not the sample's share of the mini-batch gradient;
there every sample is given a copy of every parameter, and the mini-batch loss is differentiated for copy ``n``. Both
agree wherever both make sense, and a test says so.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

torch.set_num_threads(1)  # networks of a few numbers: a second thread would only be waited for


@dataclass(frozen=True)
class Truth:
    """One mini-batch at one point of the parameter space, sample by sample.

    Args:
        losses: ``l_n``; whatever stands in place of a sample without a loss has weight 0. Shape ``[N]``.
        weights: ``w_n`` of ``L = Σ w_n l_n``. Shape ``[N]``.
        gradients: ``g_n`` by parameter, not divided by anything. Shape ``[N, *parameter]``.
    """

    losses: Tensor
    weights: Tensor
    gradients: Mapping[str, Tensor]

    @property
    def counted(self) -> list[int]:
        return [n for n in range(len(self.weights)) if self.weights[n] > 0]

    def loss(self) -> float:
        return sum(float(self.weights[n] * self.losses[n]) for n in self.counted)

    def flat(self, only: Sequence[str] | None = None) -> Tensor:
        """All parameters in one row, shape ``[N, D]``."""
        names = list(self.gradients) if only is None else list(only)
        return torch.cat([self.gradients[name].reshape(len(self.weights), -1) for name in names], 1)

    def mean_gradient(self, only: Sequence[str] | None = None) -> Tensor:
        rows = self.flat(only)
        return sum((self.weights[n] * rows[n] for n in self.counted), torch.zeros_like(rows[0]))

    def grad_norm(self, only: Sequence[str] | None = None) -> float:
        return float(self.mean_gradient(only).norm())

    def mean_sq_norm(self, only: Sequence[str] | None = None) -> float:
        rows = self.flat(only)
        return sum(float(self.weights[n] * rows[n] @ rows[n]) for n in self.counted)

    def _spread(self, squares: Callable[[Tensor, Tensor], Tensor], only: Sequence[str] | None) -> float:
        """``N/(N−1) Σ w_n² x_n``: the estimated variance of a weighted mean, from squared deviations."""
        rows, g = self.flat(only), self.mean_gradient(only)
        N = len(self.counted)
        return N / (N - 1) * sum(float(self.weights[n] ** 2 * squares(rows[n], g)) for n in self.counted)

    def norm_test(self, only: Sequence[str] | None = None) -> float:
        return self._spread(lambda row, g: (row - g) @ (row - g), only) ** 0.5 / self.grad_norm(only)

    def inner_test(self, only: Sequence[str] | None = None) -> float:
        return self._spread(lambda row, g: (row @ g / (g @ g) - 1) ** 2, only) ** 0.5

    def ortho_test(self, only: Sequence[str] | None = None) -> float:
        def across(row: Tensor, g: Tensor) -> Tensor:
            rest = row - row @ g / (g @ g) * g
            return rest @ rest / (g @ g)

        return self._spread(across, only) ** 0.5

    def histogram(self, low: float = -1.0, high: float = 1.0, bins: int = 100, only: Sequence[str] | None = None):
        """Counts of all elements; what lies outside is counted in the end bins."""
        edges = np.linspace(low, high, bins + 1)
        elements = self.flat(only).numpy().ravel()
        inside = np.digitize(elements, edges[1:-1])
        return np.bincount(inside, minlength=bins)

    def histogram2d(
        self, parameters: Mapping[str, Tensor], x: tuple[float, float, int], y: tuple[float, float, int],
        only: Sequence[str] | None = None, samples: Sequence[int] | None = None,
    ):  # fmt: skip
        """Counts of all pairs of an element and its parameter; what lies outside is counted in the end bins."""
        counts = np.zeros((x[2], y[2]), np.int64)
        inner = [np.linspace(low, high, bins + 1)[1:-1] for low, high, bins in (x, y)]
        for name in self.gradients if only is None else only:
            theta = parameters[name].double().numpy().ravel()
            for n in range(len(self.weights)) if samples is None else samples:
                elements = self.gradients[name][n].numpy().ravel()
                np.add.at(counts, (np.digitize(elements, inner[0]), np.digitize(theta, inner[1])), 1)
        return counts

    def slopes(self, step: Mapping[str, Tensor]) -> Tensor:
        """``⟨g_n, s⟩``, shape ``[N]``."""
        along = torch.cat([step[name].reshape(-1).double() for name in self.gradients])
        return self.flat() @ along

    def observed(self, values: Tensor) -> tuple[float, float]:
        """A weighted mean and the variance of that mean."""
        N = len(self.counted)
        mean = sum(float(self.weights[n] * values[n]) for n in self.counted)
        variance = sum(float(self.weights[n] ** 2 * (values[n] - mean) ** 2) for n in self.counted)
        return mean, N / (N - 1) * variance


def alpha(first: Truth, second: Truth, step: Mapping[str, Tensor]) -> tuple[float, bool, bool]:
    """Position of a step that led from one mini-batch to another: ``alpha``, and whether concave, whether uphill."""
    return alpha_of(
        [
            first.observed(first.losses),
            second.observed(second.losses),
            first.observed(first.slopes(step)),
            second.observed(second.slopes(step)),
        ]
    )


def alpha_without_start(first: Truth, second: Truth, step: Mapping[str, Tensor]) -> tuple[float, bool, bool]:
    """The same through both losses and the slope at the end alone: ``f(0) = a``, ``f(1) = b``, ``f'(1) = c``."""
    a, b, c = (
        first.observed(first.losses)[0],
        second.observed(second.losses)[0],
        second.observed(second.slopes(step))[0],
    )
    w2, w3 = 2 * (b - a) - c, c - (b - a)
    return (-1.0, True, False) if w3 <= 0 else (-2 * w3 / w2 - 1, False, w2 > 0)


def alpha_of(observations: Sequence[tuple[float, float]]) -> tuple[float, bool, bool]:
    """The same from the four observations: losses at 0 and 1, slopes at 0 and 1, each with its variance."""
    _, w2, w3 = parabola(observations)
    if w3 <= 0:
        return -1.0, True, False
    return -2 * w3 / w2 - 1, False, w2 > 0


def parabola(observations: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Weighted least squares by normal equations and Cramer's rule, in exact fractions."""
    design = [[1, 0, 0], [1, 1, 1], [0, 1, 0], [0, 1, 2]]
    means = [Fraction(mean) for mean, _ in observations]
    weights = [1 / Fraction(variance) for _, variance in observations]
    normal = [[sum(w * a[i] * a[j] for w, a in zip(weights, design, strict=True)) for j in range(3)] for i in range(3)]
    right = [sum(w * a[i] * y for w, a, y in zip(weights, design, means, strict=True)) for i in range(3)]

    def determinant(m: list[list[Fraction]]) -> Fraction:
        (a, b, c), (d, e, f), (g, h, i) = m
        return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)

    def replaced(column: int) -> list[list[Fraction]]:
        return [[right[i] if j == column else normal[i][j] for j in range(3)] for i in range(3)]

    w1, w2, w3 = (float(determinant(replaced(column)) / determinant(normal)) for column in range(3))
    return w1, w2, w3


def one_at_a_time(
    model: nn.Module, losses: Callable[[nn.Module], Tensor], weights: Tensor | Sequence[float] | None = None
) -> Truth:
    """Differentiates one sample's loss at a time, in float64.

    Args:
        model: The model; a copy of it is used.
        losses: Given the copy, the individual losses ``l_n``, shape ``[N]``.
        weights: ``w_n``; equal if not given.
    """
    model = doubled(model)
    values = losses(model)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    rows: dict[str, list[Tensor]] = {name: [] for name in parameters}
    for value in values:
        found = torch.autograd.grad(value, list(parameters.values()), retain_graph=True, allow_unused=True)
        for (name, p), gradient in zip(parameters.items(), found, strict=True):
            dense = torch.zeros_like(p) if gradient is None else gradient.to_dense()
            rows[name].append(dense.detach())
    N = len(values)
    weights = torch.full((N,), 1 / N, dtype=torch.float64) if weights is None else torch.as_tensor(weights)
    return Truth(values.detach(), weights.double(), {name: torch.stack(rows[name]) for name in rows})


def by_copies(model: nn.Module, losses: Callable[[nn.Module], Tensor], samples: int) -> Truth:
    """Gives every sample a copy of every parameter and differentiates the mini-batch loss for each copy.

    Serves models whose parameters are used by modules of their own that see the batch along their first axis.

    Args:
        model: The model; a copy of it is used.
        losses: Given the copy, the individual losses, shape ``[N]``; their plain mean is the loss.
        samples: Batch size ``N``.
    """
    model = doubled(model)
    names = {id(p): name for name, p in reversed(list(model.named_parameters()))}
    copies: dict[str, Tensor] = {}
    for module in list(model.modules()):
        own = {attribute: p for attribute, p in module._parameters.items() if p is not None}
        if own:
            shared = {attribute: names[id(p)] for attribute, p in own.items()}
            for attribute, p in own.items():
                copies.setdefault(
                    shared[attribute], p.detach().expand(samples, *p.shape).clone().requires_grad_(p.requires_grad)
                )
            module.forward = _with_copies(module, {attribute: copies[name] for attribute, name in shared.items()})
    values = losses(model)
    trained = {name: c for name, c in copies.items() if c.requires_grad}
    found = torch.autograd.grad(values.mean(), list(trained.values()), allow_unused=True)
    gradients = {
        name: torch.zeros_like(c) if g is None else samples * g
        for (name, c), g in zip(trained.items(), found, strict=True)
    }
    return Truth(values.detach(), torch.full((samples,), 1 / samples, dtype=torch.float64), gradients)


def _with_copies(module: nn.Module, copies: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """The module's forward pass in which sample ``n`` meets copy ``n`` of every parameter."""
    plain = type(module).forward

    def normalised(x: Tensor) -> Tensor:
        """Batch normalisation mixes samples before its parameters come in: those come last, by hand."""
        use_batch = module.training or module.running_mean is None
        axes = [axis for axis in range(x.dim()) if axis != 1]
        mean = x.mean(axes) if use_batch else module.running_mean
        variance = x.var(axes, unbiased=False) if use_batch else module.running_var
        shape = [1, -1] + [1] * (x.dim() - 2)
        out = (x - mean.view(shape)) / (variance.view(shape) + module.eps).sqrt()
        weight, bias = (_repeated(copies[a], len(x)).view(len(x), -1, *shape[2:]) for a in ("weight", "bias"))
        return out * weight + bias

    def one_by_one(x: Tensor) -> Tensor:
        rows = []
        for n, entry in enumerate(x):
            swapped = {attribute: _repeated(stack, len(x))[n] for attribute, stack in copies.items()}
            module.forward = lambda value: plain(module, value)
            rows.append(functional_call(module, swapped, (entry.unsqueeze(0),)))
            module.forward = forward
        return torch.cat(rows)

    forward = normalised if isinstance(module, nn.modules.batchnorm._BatchNorm) else one_by_one
    return forward


def _repeated(copies: Tensor, entries: int) -> Tensor:
    """Where a sample makes several entries of the batch axis, one after the other, each meets the sample's copy."""
    return copies.repeat_interleave(entries // len(copies), 0)


def doubled(value):
    """A copy in float64 of a model, a tensor, or anything made of them; integers stay what they are."""
    if isinstance(value, nn.Module):
        return copy.deepcopy(value).double()
    if isinstance(value, Tensor):
        return value.detach().double() if value.is_floating_point() else value
    if isinstance(value, (tuple, list)):
        return type(value)(doubled(item) for item in value)
    return value


def token_losses(
    logits: Tensor,
    targets: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy written out, token by token.

    Args:
        logits: Shape ``[N, T, C]``.
        targets: Shape ``[N, T]``.
        weight: Weight of each class. Shape ``[C]``.
        ignore_index: Target that is not counted.
        label_smoothing: Share of the target that is spread over all classes.

    Returns:
        Individual losses ``l_n`` and weights ``w_n``, both of shape ``[N]``.
    """
    N, T, C = logits.shape
    weight = torch.ones(C, dtype=logits.dtype) if weight is None else weight.to(logits.dtype)
    losses, weights = [], []
    for n in range(N):
        total, count = logits.new_zeros(()), logits.new_zeros(())
        for t in range(T):
            label = int(targets[n, t])
            if label == ignore_index:
                continue
            surprise = logits[n, t].logsumexp(0) - logits[n, t]
            total = total + (1 - label_smoothing) * weight[label] * surprise[label]
            total = total + label_smoothing / C * (weight * surprise).sum()
            count = count + weight[label]
        losses.append(total / count if count > 0 else total)
        weights.append(count)
    return torch.stack(losses), torch.stack(weights) / torch.stack(weights).sum()
