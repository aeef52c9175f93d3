r"""Vectors at a loss's input whose outer products are the loss's Hessian there, drawn at random or one by one.

They are what the generalised Gauss-Newton matrix :math:`\sum_i c_i J_i^\top (\nabla^2 e_i) J_i` is made of: pulled back
to the parameters, their squares are its diagonal. Loss entries are drawn independently of each other, so that entries
of different samples, or of different words, do not mix on average.

Dangel et al., *BackPACK: packing more into backprop* (2020), section 2.3.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from cockpit.capture.losses.loss_call import Arrangement
from cockpit.capture.second_order.loss_graph import OpenLoss
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import working
from cockpit.probes.loss_hessian import INSTEAD, LossHessian, inputs_of

ELEMENTWISE = frozenset(
    {
        *("mse_loss", "huber_loss", "smooth_l1_loss", "soft_margin_loss", "poisson_nll_loss", "gaussian_nll_loss"),
        *("binary_cross_entropy", "binary_cross_entropy_with_logits", "l1_loss"),
    }
)
"""Losses each of whose entries depends on one number of the input, if that alone is part of the graph."""


class HessianRoot(ABC):
    """A root ``S`` of one loss's Hessian with respect to its input, ``S Sᵀ = Σ_i c_i ∇² e_i``.

    Args:
        at: The loss's input, attached to the graph.
        shape: Shape of the loss entries, or of what stands for them.
        arrangement: How they belong to samples; ``None`` where that is not known, or they are not the entries.
    """

    def __init__(self, at: Tensor, shape: torch.Size, arrangement: Arrangement | None) -> None:
        self.at = at
        self._shape, self._arrangement = shape, arrangement

    @abstractmethod
    def draw(self, generator: torch.Generator) -> Tensor:
        """A random vector ``v`` with ``E[v vᵀ] = S Sᵀ`` and ``E[v] = 0`` at the model's output; shape of ``at``."""

    def columns(self, apart: bool = False) -> Iterator[Tensor]:
        """The columns of ``S``; those of different samples together in one vector, unless they are wanted apart.

        Args:
            apart: Whether each vector is to be zero for all samples but one.
        """
        numbers = torch.arange(self._shape.numel(), device=self.at.device).view(self._shape)
        together = None if apart else self._arrangement
        for members in numbers.reshape(-1, 1) if together is None else together.deal(numbers).T:
            counted = torch.zeros_like(numbers, dtype=torch.bool).view(-1).index_fill_(0, members, True)
            yield from self._columns(counted.view(self._shape))

    @abstractmethod
    def _columns(self, counted: Tensor) -> Iterator[Tensor]:
        """Columns of the entries that are counted, one from each entry in a vector."""


class _Categorical(HessianRoot):
    r"""Of a distribution over classes: :math:`\nabla^2 = a^2 (\mathrm{diag}\, p - p p^\top)`.

    With ``ŷ ~ p``, ``E[(p − e_ŷ)(p − e_ŷ)ᵀ]`` is the matrix in brackets. At log-probabilities the vector is ``−e_ŷ``,
    from which ``log_softmax`` makes ``p − e_ŷ`` on the way back.

    Args:
        at: Logits or log-probabilities, shape ``[M, C, …]`` or ``[C]``.
        probabilities: ``p``, of the same shape.
        amplitude: ``a`` for each entry.
        logarithmic: Whether the input is log-probabilities.
        arrangement: How entries belong to samples.
    """

    def __init__(
        self,
        at: Tensor,
        probabilities: Tensor,
        amplitude: Tensor,
        logarithmic: bool,
        arrangement: Arrangement | None,
    ) -> None:
        super().__init__(at, amplitude.shape, arrangement)
        self._dim = _class_axis(at)
        self._p, self._amplitude, self._logarithmic = probabilities, amplitude, logarithmic

    def _toward(self, labels: Tensor, amplitude: Tensor) -> Tensor:
        """``a (p − e_ŷ)``, for labels of the entries' shape."""
        vector = torch.zeros_like(self._p) if self._logarithmic else self._p.clone()
        index = labels.unsqueeze(self._dim)
        vector.scatter_add_(self._dim, index, torch.full_like(index, -1, dtype=vector.dtype))
        return (vector * amplitude.unsqueeze(self._dim)).to(self.at.dtype)

    def draw(self, generator: torch.Generator) -> Tensor:
        # The first of independent exponential clocks with rates p; unlike torch.multinomial it lets NaN through.
        clocks = torch.empty_like(self._p).exponential_(generator=generator)
        return self._toward((self._p / clocks).argmax(self._dim), self._amplitude)

    def _columns(self, counted: Tensor) -> Iterator[Tensor]:
        for k in range(self._p.shape[self._dim]):
            amplitude = self._amplitude * counted * self._p.select(self._dim, k).sqrt()
            yield self._toward(torch.full_like(counted, k, dtype=torch.long), amplitude)


class _Elementwise(HessianRoot):
    """Of a loss whose Hessian is diagonal.

    Args:
        at: The loss's input.
        amplitude: Root of the diagonal, shape of ``at``.
        arrangement: How numbers of the input belong to samples.
    """

    def __init__(self, at: Tensor, amplitude: Tensor, arrangement: Arrangement | None) -> None:
        super().__init__(at, at.shape, arrangement)
        self._amplitude = amplitude

    def draw(self, generator: torch.Generator) -> Tensor:
        return (self._amplitude * _signs(self._amplitude, generator)).to(self.at.dtype)

    def _columns(self, counted: Tensor) -> Iterator[Tensor]:
        yield (self._amplitude * counted).to(self.at.dtype)


class HessianPairs:
    """A loss of which nothing is known but that it has a Hessian ``H``: pairs ``(ε, H ε)`` with ``E[ε εᵀ] = 1``.

    Args:
        loss: The loss.
        boost: As for :func:`hessian_root_of`.

    Raises:
        Unavailable: If it has no second derivative.
    """

    def __init__(self, loss: OpenLoss, boost: float) -> None:
        self.at = [loss.arguments[name] for name in inputs_of(loss)]
        self._boost = boost
        self._hessian = LossHessian(loss)

    def draw(self, generator: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
        """Random signs, and the Hessian times them."""
        return self._pair([_signs(x, generator) for x in self._hessian.inputs])

    def columns(self) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
        """Unit vectors, and the Hessian times each."""
        inputs = self._hessian.inputs
        for i, x in enumerate(inputs):
            for j in range(x.numel()):
                units = [torch.zeros_like(other) for other in inputs]
                units[i].view(-1)[j] = 1
                yield self._pair(units)

    def _pair(self, vectors: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        products = self._hessian.times(vectors)
        return (
            [(v * self._boost).to(at.dtype) for v, at in zip(vectors, self.at, strict=True)],
            [(h * self._boost).to(at.dtype) for h, at in zip(products, self.at, strict=True)],
        )


def hessian_root_of(loss: OpenLoss, boost: float = 1.0) -> HessianRoot | HessianPairs:
    """How to come by a loss's Hessian with respect to its input, times the coefficients of its entries.

    Cross-entropy's is the same for every label; class weights and label smoothing only scale it. The negative
    log-likelihood of log-probabilities, linear in its input, is taken for the cross-entropy that it is.

    Args:
        loss: The loss.
        boost: What vectors are multiplied with, so that they survive half precision.

    Raises:
        Unavailable: If the loss has no second derivative, or its Gauss-Newton matrix would have negative eigenvalues;
            or if it is not known what it was computed from.
    """
    if not loss.arguments:
        raise Unavailable(
            "what the losses handed over with step.losses were computed from is not known, and the Gauss-Newton matrix "
            f"needs it: {INSTEAD}"
        )
    if loss.call.problem is not None:
        raise Unavailable(loss.call.problem)
    if bool((loss.coefficients < 0).any()):
        raise Unavailable(f"'{loss.name}' is subtracted from the objective, which therefore has no Gauss-Newton matrix")
    if inputs_of(loss) != ["input"]:
        return HessianPairs(loss, boost)
    if loss.name in ("cross_entropy", "nll_loss"):
        return _categorical(loss, boost)
    return _elementwise(loss, boost) if loss.name in ELEMENTWISE else HessianPairs(loss, boost)


def columns_of(loss: OpenLoss) -> float:
    """How many columns the root of a loss's Hessian has, those of different samples together.

    Infinitely many for a loss of which nothing but products with its Hessian is known.

    Args:
        loss: The loss.
    """
    if inputs_of(loss) != ["input"] or loss.name not in ELEMENTWISE | {"cross_entropy", "nll_loss"}:
        return math.inf
    arrangement, numel = loss.call.arrangement, loss.arguments["input"].numel()
    return float(numel if arrangement is None else numel // arrangement.samples)


def _class_axis(scores: Tensor) -> int:
    return 1 if scores.dim() > 1 else 0


def _categorical(loss: OpenLoss, boost: float) -> HessianRoot:
    at: Tensor = loss.arguments["input"]
    scores = working(at.detach())
    logarithmic = loss.name == "nll_loss"
    p = scores.exp() if logarithmic else scores.softmax(_class_axis(at))
    if logarithmic:
        off = float((p.sum(_class_axis(at)) - 1).abs().max())
        if off > 0.05:
            raise Unavailable(
                f"what 'nll_loss' was given is no logarithm of probabilities (they add up to 1 ± {off:.2g}): put "
                f"log_softmax before it, or {INSTEAD}"
            )
    weights = _class_weights(loss, p).to(p.dtype)
    amplitude = _amplitude(loss, loss.coefficients.to(p.dtype) * weights)
    return _Categorical(at, p, amplitude * boost, logarithmic, loss.call.arrangement)


def _class_weights(loss: OpenLoss, p: Tensor) -> Tensor:
    """Each entry's ``Σ_c w_c q_c`` with the target's probabilities ``q``, 0 where it is ignored."""
    dim, C = _class_axis(p), p.shape[_class_axis(p)]
    target, smoothing = loss.arguments["target"], loss.arguments.get("label_smoothing", 0.0)
    given: Tensor | None = loss.arguments.get("weight")
    weight = p.new_ones(C) if given is None else given.detach().to(p.dtype)
    if target.is_floating_point():
        q = target.detach().to(p.dtype) * (1 - smoothing) + smoothing / C
        weights: Tensor = q.movedim(dim, -1) @ weight
        return weights
    kept = target != loss.arguments["ignore_index"]
    spread = (1 - smoothing) * weight[torch.where(kept, target, 0)] + smoothing / C * weight.sum()
    counted: Tensor = spread * kept
    return counted


def _elementwise(loss: OpenLoss, boost: float) -> HessianRoot:
    at: Tensor = loss.arguments["input"]
    (curvatures,) = LossHessian(loss).row_sums
    arrangement = loss.call.arrangement if at.shape == loss.entries.shape else None
    return _Elementwise(at, _amplitude(loss, curvatures) * boost, arrangement)


def _amplitude(loss: OpenLoss, curvatures: Tensor) -> Tensor:
    """Roots of what has to be positive."""
    if bool((curvatures < 0).any()):
        raise Unavailable(
            f"'{loss.name}' is concave in part of its input, as with negative weights, so that its Gauss-Newton matrix "
            f"has no root: {INSTEAD}"
        )
    return curvatures.sqrt()


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    signs = torch.randint(2, like.shape, generator=generator, device=like.device, dtype=torch.int8)
    return signs.to(like.dtype).mul_(2).sub_(1)
