"""Norms of the individual gradients and their inner products with the mean gradient."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.backward.pooled import pooled_shares
from cockpit.capture.individual.gradients import SampleGradients
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import sq_norms
from cockpit.probes.adding_up import Looks, apart, lowest_precision, penalised
from cockpit.probes.gradient_dots import dot
from cockpit.probes.gradient_norms import square_of_sum
from cockpit.probes.probe import Collector, Probe, Reduction, Surroundings
from cockpit.probes.row_sums import RowSums
from cockpit.statistics import mean

MINIMAL_COVERAGE = 0.5
"""Share of the parameters below which no network-wise reading of individual gradients is given."""


@dataclass(frozen=True)
class Moments:
    """Everything the gradient tests need; all tensors on the host, in float64, of the unscaled mean loss.

    Args:
        names: Parameters with individual gradients, in the model's order.
        weights: ``w_n``, adding up to 1. Shape ``[N]``.
        layer_sq_norms: ``‖g_n‖²`` by parameter. Shape ``[P, N]``.
        layer_dots: ``⟨g_n, g⟩`` by parameter; ``None`` where the batch came in several backward passes. ``[P, N]``.
        layer_grad_sq_norms: ``‖g‖²`` by parameter. Shape ``[P]``.
    """

    names: tuple[str, ...]
    weights: Tensor
    layer_sq_norms: Tensor
    layer_dots: Tensor | None
    layer_grad_sq_norms: Tensor

    @cached_property
    def samples(self) -> int:
        """Number of samples that have a loss."""
        return int(np.count_nonzero(self.weights.numpy() > 0))

    def directionless(self) -> str | None:
        """Why noise cannot be measured against the mean gradient; ``None`` where it can."""
        if self.samples < 2:
            return "a single sample says nothing about noise"
        return "the mean gradient is zero" if float(self.grad_sq_norm) == 0 else None

    @cached_property
    def mean_sq_norm(self) -> Tensor:
        """``Σ_n w_n ‖g_n‖²`` over all parameters, shape ``[]``."""
        return mean(self.sq_norms, self.weights)

    @cached_property
    def sq_norms(self) -> Tensor:
        """``‖g_n‖²`` over all parameters, shape ``[N]``."""
        return self.layer_sq_norms.sum(0)

    @cached_property
    def dots(self) -> Tensor:
        """``⟨g_n, g⟩`` over all parameters, shape ``[N]``.

        Raises:
            Unavailable: If the batch came in several backward passes: the mean gradient was not known in the first.
        """
        if self.layer_dots is None:
            raise Unavailable(
                "the batch came in several backward passes, and the inner product with its mean gradient would need "
                "all of them at once"
            )
        return self.layer_dots.sum(0)

    @cached_property
    def grad_sq_norm(self) -> Tensor:
        """``‖g‖²`` over all parameters, shape ``[]``."""
        return self.layer_grad_sq_norms.sum()


@dataclass(frozen=True)
class PerSampleMoments(Probe[Moments]):
    """``‖g_n‖²`` and ``⟨g_n, g⟩``, per parameter, without ever holding all ``g_n``."""

    individual: ClassVar[bool] = True

    def collector(self, surroundings: Surroundings) -> Collector[Moments]:
        """Begins a step."""
        return _MomentsCollector(surroundings)


@dataclass
class _Sums:
    """What one backward pass brought: raw sums of the parameters at ``places``, shape ``[P, N]`` each."""

    places: dict[int, int]
    sq_norms: Tensor
    dots: Tensor


class MomentsReduction(Reduction):
    """``‖G_n‖²`` and ``⟨G_n, V⟩`` of one parameter.

    Args:
        gradients: Its individual gradients, raw.
        gradient: ``V``: what they have to add up to.
        values: The parameter's values, if the sum is to be looked at along these as well: a penalty on the weights lies
            along them, and may be nearly orthogonal to the gradient.
        closely: Whether to measure what each individual gradient is the sum of.
    """

    def __init__(
        self, gradients: SampleGradients, gradient: Tensor, values: Tensor | None = None, closely: bool = False
    ) -> None:
        self._gradients: SampleGradients | None = gradients
        self.summed = gradients.summed() if closely else None
        self.direction, self._values = gradient, values
        self.sq_norms: Tensor | None = None
        self.dots: Tensor | None = None
        self.gap_along_values: Tensor | None = None
        """``Σ ⟨G_n, θ⟩ − ⟨g, θ⟩`` over ``‖θ‖``, where that was asked for."""
        self._along: Tensor | None = None

    def closed(self) -> bool:
        """Norms and inner products by closed forms."""
        assert self._gradients is not None
        self.sq_norms = self._gradients.sq_norms()
        if self.sq_norms is not None:
            self.dots = self._gradients.dots(self.direction)
        if self.dots is None:
            self.sums = RowSums([self.direction] if self._values is None else [self.direction, self._values])
            return False
        if self._values is not None:
            self._along = self._gradients.dots(self._values)
        return True

    def finish(self) -> None:
        """Reads the sums, and lets go of the gradients."""
        if self.sums is not None:
            self.sq_norms = self.sums.sq_norms
            self.dots, *along = self.sums.dots
            self._along = along[0] if along else None
        if self._values is not None and self._along is not None:
            there, size = dot(self.direction, self._values), sq_norms([self._values]).sqrt()[0]
            self.gap_along_values = (self._along.double().sum() - there) / size
        self._gradients = self._values = self.sums = None

    def adds_up(self, parameter: Tensor, lowest: torch.dtype) -> bool:
        """Whether the individual gradients add up to the gradient, as far as rounding lets one tell.

        Args:
            parameter: The parameter.
            lowest: The coarsest dtype that any layer computed in.
        """
        assert self.sq_norms is not None
        assert self.dots is not None
        square = float(sq_norms([self.direction]))
        gap = abs(float(self.dots.double().sum()) - square)
        size = float((self.sq_norms.sum() * len(self.sq_norms)).sqrt())
        return not apart(gap, square, size, parameter, lowest)


class _MomentsCollector(Collector[Moments]):
    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._open: dict[int, MomentsReduction] = {}
        self._passes: list[tuple[BackwardPass, _Sums | None]] = []
        self._totals: dict[int, Tensor] = {}  # ‖g‖², raw, over all passes
        self._squares: dict[int, Tensor] = {}  # of the pass that is running
        self._looks = looks_of(surroundings)
        self._looking = self._looks.due()

    def reduction(
        self, index: int, gradients: SampleGradients, gradient: Tensor, backward: BackwardPass
    ) -> Reduction | None:
        parameter = self._surroundings.table[index].tensor
        values = parameter.detach() if self._looking else None
        reduction = MomentsReduction(gradients, gradient, values, closely=index in self._looks.summed)
        self._open[index] = reduction
        self._squares[index] = backward.sq_norm(index, gradient)
        self._totals[index] = square_of_sum(self._surroundings, index, gradient, backward, first=not self._passes)
        return reduction

    def end_pass(self, backward: BackwardPass) -> None:
        reductions = {i: r for i, r in self._open.items() if i not in self._surroundings.left_out}
        self._open = {}
        sums: _Sums | None = None
        if reductions:
            places = {index: place for place, index in enumerate(reductions)}
            norms = torch.stack([_known(r.sq_norms).double() for r in reductions.values()])
            sums = _Sums(places, norms, torch.stack([_known(r.dots).double() for r in reductions.values()]))
            self._withhold(sums, reductions, lowest_precision(backward))
        self._passes.append((backward, sums))

    def _withhold(self, sums: _Sums, reductions: dict[int, MomentsReduction], precision: torch.dtype) -> None:
        """The individual gradients have to add up to the gradient: whatever else the loss held would go unnoticed."""
        squares = torch.cat([self._squares[index] for index in reductions])
        sizes = (sums.sq_norms.sum(1) * sums.sq_norms.shape[1]).sqrt()
        numbers = torch.stack([(sums.dots.sum(1) - squares).abs(), squares, sizes]).tolist()
        along, looks = self._along_values(reductions), self._looks
        looks.sizes.update(zip(sums.places, numbers[2], strict=True))
        for index, gap, square in zip(list(sums.places), *numbers[:2], strict=True):
            parameter = self._surroundings.table[index].tensor
            if (summed := reductions[index].summed) is not None:
                looks.summed[index] = float(summed)
            if looks.off(index, along[index] * square**0.5, square, parameter, precision):
                looks.left_out[index] = penalised(along[index] / square**0.5)
            elif self._looking:
                looks.left_out.pop(index, None)
            reason = looks.left_out.get(index)
            if looks.off(index, gap, square, parameter, precision):
                reason = penalised(gap / square)
            if reason is not None:
                del sums.places[index]
                self._surroundings.left_out[index] = reason

    @staticmethod
    def _along_values(reductions: dict[int, MomentsReduction]) -> dict[int, float]:
        """How far the sums are off along the parameters' values; 0 where nobody looked, or there is no direction."""
        gaps = {index: r.gap_along_values for index, r in reductions.items() if r.gap_along_values is not None}
        found = torch.stack(list(gaps.values())).abs().nan_to_num(0.0).tolist() if gaps else []
        return dict.fromkeys(reductions, 0.0) | dict(zip(gaps, found, strict=True))

    def result(self) -> Moments:
        if not self._passes:
            raise Unavailable("no backward pass was seen")
        passes = [backward for backward, _ in self._passes]
        whole, shares = pooled_shares(passes)
        weights = [backward.weights() * share for backward, share in zip(passes, shares, strict=True)]
        table = self._surroundings.table
        indices = covered(self._surroundings, self._totals)
        return Moments(
            tuple(table[i].name for i in indices),
            torch.cat(weights).cpu(),
            self._stack(indices, "sq_norms", power=2),
            None if len(passes) > 1 else self._stack(indices, "dots", power=1) / whole,
            torch.cat([self._totals[i] for i in indices]).cpu() / whole**2,
        )

    def _stack(self, indices: Sequence[int], what: Literal["sq_norms", "dots"], power: int) -> Tensor:
        """One copy to the host per pass, all parameters and samples together; shape ``[P, N]``."""
        pieces = []
        for backward, sums in self._passes:
            factors = backward.factors()
            nothing = torch.zeros_like(factors)  # a parameter that this micro-batch did not use
            rows: Sequence[Tensor] = () if sums is None else getattr(sums, what).unbind()
            found = {} if sums is None else {index: rows[place] for index, place in sums.places.items()}
            raw = torch.stack([found.get(i, nothing) for i in indices])
            pieces.append((raw * factors.to(raw.device) ** power).cpu())
        return torch.cat(pieces, dim=1)


def looks_of(surroundings: Surroundings) -> Looks:
    """What earlier steps tell of sums of individual gradients."""
    looks: Looks = surroundings.memory.setdefault(PerSampleMoments(), Looks())
    return looks


def covered(surroundings: Surroundings, seen: Collection[int]) -> list[int]:
    """Parameters that a network-wise reading of individual gradients is made of, in the model's order.

    Those that no gradient reached are not among them, and not missed.

    Args:
        surroundings: The step's.
        seen: Parameters whose individual gradients were seen.

    Raises:
        Unavailable: If the reading would stand for less than half of the network; with the most frequent reason.
    """
    table, left_out = surroundings.table, surroundings.left_out
    indices = [i for i in range(len(table)) if i in seen and i not in left_out]
    share = 1 - sum(table[i].tensor.numel() for i in left_out) / table.numel
    if not indices or share < MINIMAL_COVERAGE:
        reasons = list(left_out.values()) or ["no gradient arrived"]
        share = share if indices else 0.0
        raise Unavailable(
            f"individual gradients cover {share:.0%} of the parameters: {max(reasons, key=reasons.count)}"
        )
    return indices


def _known(sums: Tensor | None) -> Tensor:
    assert sums is not None
    return sums
