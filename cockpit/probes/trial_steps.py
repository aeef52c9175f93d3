"""Steps that the optimizer would have made from where it stands, had it been given parts of the mini-batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from cockpit.capture.backward.accumulation import Accumulation
from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.backward.pooled import pooled_shares
from cockpit.capture.individual.gradients import SampleGradients
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import working
from cockpit.probes.gradient_dots import dot
from cockpit.probes.optimizer_twin import trial_step
from cockpit.probes.per_sample_moments import covered
from cockpit.probes.probe import Collector, Probe, Reduction, Surroundings
from cockpit.probes.sampled_elements import Elements, places_in

PARTS = 16
"""Parts that a mini-batch is split into, if it has as many samples."""

_PIECE = 1 << 18
"""Terms of a sum in the tensors' own precision; pieces are added in float64."""

_ONE_FACTOR = 1e-3
"""How far, relative to its length, a gradient may be from a multiple of what the backward pass brought."""


@dataclass(frozen=True)
class Trials:
    """``M`` steps from the same parameters, state and random numbers; all tensors on the host, in float64.

    Args:
        updates: Inner products of ``s_m − s̄``. Shape ``[M, M]``.
        gradients: Those of ``g_m − ḡ``, the unscaled mean gradients of the parts. Shape ``[M, M]``.
        elements: Some elements of the steps ``s_m``.
        samples: How many samples all parts have together.
    """

    updates: Tensor
    gradients: Tensor
    elements: Elements
    samples: int


@dataclass(frozen=True)
class TrialSteps(Probe[Trials]):
    """The mini-batch is split into parts, sample by sample in turn. Their gradients come from the individual ones, and
    the optimizer is tried on copies of everything that it holds.

    Args:
        parts: ``M``; fewer where the mini-batch has fewer samples.

    Raises:
        ValueError: For fewer than 2 parts.
    """

    parts: int = PARTS

    individual: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.parts < 2:
            raise ValueError(f"parts= needs at least 2, got {self.parts}")

    def collector(self, surroundings: Surroundings) -> Collector[Trials]:
        """Begins a step."""
        return _TrialsCollector(self, surroundings)


class _PartSums(Reduction):
    """``Σ_n G_n`` over each part, added to what other passes brought.

    Args:
        gradients: A parameter's individual gradients, raw.
        sums: Shape ``[M, numel]``.
        first: The part that the first sample belongs to.
    """

    def __init__(self, gradients: SampleGradients, sums: Tensor, first: int) -> None:
        self._gradients: SampleGradients | None = gradients
        self._sums, self._first = sums, first

    def closed(self) -> bool:
        """A product for each part, where that will do."""
        assert self._gradients is not None
        parts = len(self._sums)
        for offset in range(min(parts, self._gradients.samples)):
            chosen = self._gradients.select(range(offset, self._gradients.samples, parts))
            total = None if chosen is None else chosen.total()
            if total is None:
                return False
            self._sums[(self._first + offset) % parts] += total
        return True

    def rows(self, start: int, rows: Tensor) -> None:
        """Adds the rows of a chunk to their parts."""
        parts = (self._first + start + torch.arange(len(rows), device=rows.device)) % len(self._sums)
        self._sums.index_add_(0, parts, rows.to(self._sums.dtype))

    def finish(self) -> None:
        """Lets go of the gradients."""
        self._gradients = None


class _Products:
    """Inner products of vectors less their mean, parameter by parameter."""

    def __init__(self) -> None:
        self.sum: Tensor = torch.zeros((), dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        """Adds those of one parameter; shape ``[M, numel]``."""
        for piece in rows.split(_PIECE, dim=1):
            centred = piece - piece.mean(0)
            self.sum = self.sum + (centred @ centred.T).double().cpu()


class _TrialsCollector(Collector[Trials]):
    def __init__(self, probe: TrialSteps, surroundings: Surroundings) -> None:
        self._probe, self._surroundings = probe, surroundings
        self._sums: dict[int, Tensor] = {}
        self._passes: list[BackwardPass] = []
        self._samples = 0
        self._updates, self._gradients = _Products(), _Products()
        self._elements: dict[int, Tensor] = {}

    def reduction(
        self, index: int, gradients: SampleGradients, gradient: Tensor, backward: BackwardPass
    ) -> Reduction | None:
        if index not in self._sums:
            shape = (self._probe.parts, gradients.numel)
            self._sums[index] = self._surroundings.workspace.take(f"trial {index}", shape, working(gradient)).zero_()
        return _PartSums(gradients, self._sums[index], self._samples % self._probe.parts)

    def end_pass(self, backward: BackwardPass) -> None:
        self._passes.append(backward)
        self._samples += 0 if backward.arrangement is None else backward.arrangement.samples

    def before_optimizer(self, optimizer: Optimizer, accumulation: Accumulation) -> None:
        if not self._passes:
            raise Unavailable("the optimizer evaluates the loss itself, and cannot be given a part of the mini-batch")
        if accumulation.left_over():
            raise Unavailable("the step began with gradients of an earlier one, and these were added to them")
        places = {id(parameter.tensor): index for index, parameter in enumerate(self._surroundings.table)}
        held = [places.get(id(p), -1) for group in optimizer.param_groups for p in group["params"]]
        indices = [i for i in held if i in self._sums and i not in self._surroundings.left_out]
        if indices and not set(indices) & set(self._elements):
            altered = accumulation.disturbed() or bool(self._passes[-1].unaltered)
            self._try(optimizer, indices, {i: self._factor(i) if altered else 1.0 for i in indices})

    def _factor(self, index: int) -> float:
        """What the gradient was multiplied with between backward pass and optimizer."""
        parameter = self._surroundings.table[index]
        given, brought = parameter.tensor.grad, self._sums[index].sum(0)
        square = float(dot(brought, brought))
        if given is None or square == 0:
            return 1.0
        found = working(given.detach() if given.layout == torch.strided else given.detach().to_dense()).reshape(-1)
        factor = float(dot(found, brought)) / square
        gap = found - factor * brought
        if float(dot(gap, gap)) > _ONE_FACTOR**2 * float(dot(found, found)):
            raise Unavailable(
                f"the gradient of {parameter.name} was changed before the step by more than a factor, as by clipping "
                "its values or averaging over processes: what that would do to a part of the mini-batch is not known"
            )
        return factor

    def _try(self, optimizer: Optimizer, indices: Sequence[int], factors: Mapping[int, float]) -> None:
        """Steps once for each part; the steps take the place of the gradients."""
        table, (weights, whole) = self._surroundings.table, self._weights()
        rows = {i: self._sums[i][: len(weights)] for i in indices}
        for i in indices:
            rows[i] /= weights.to(rows[i]).unsqueeze(1)
            self._gradients.add(rows[i] / whole)
        for part in range(len(weights)):
            given = {table[i].tensor: (rows[i][part] * factors[i]).view_as(table[i].tensor) for i in indices}
            steps = trial_step(optimizer, given)
            for i in indices:
                rows[i][part] = steps[table[i].tensor].reshape(-1)
        for i in indices:
            self._updates.add(rows[i])
            self._elements[i] = rows[i][:, places_in(table, i)]

    def _weights(self) -> tuple[Tensor, float]:
        """Each part's share of the mean, shape ``[M]``, and what the gradient of the mean is multiplied with."""
        whole, shares = pooled_shares(self._passes)
        of_samples = [backward.weights() * share for backward, share in zip(self._passes, shares, strict=True)]
        weights = torch.cat(of_samples).cpu()
        parts = min(self._probe.parts, self._samples)
        if parts < 2:
            raise Unavailable("a single sample cannot be split")
        sums = torch.zeros(parts, dtype=torch.float64)
        sums.index_add_(0, torch.arange(len(weights)) % self._probe.parts, weights)
        if not bool((sums > 0).all()):
            raise Unavailable("a part of the mini-batch has no sample with a loss: choose fewer parts")
        return sums, whole

    def result(self) -> Trials:
        if not self._passes:
            raise Unavailable("no backward pass was seen")
        if not self._elements:
            raise Unavailable("the optimizer did not step, or holds no parameter with individual gradients")
        table = self._surroundings.table
        indices = covered(self._surroundings, self._elements)
        elements = Elements.of({table[i].name: self._elements[i] for i in indices})
        return Trials(self._updates.sum, self._gradients.sum, elements, self._samples)
