"""One backward pass: which losses it started from, at what scale, and with what weight for each sample."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from cockpit.capture.calls import ModuleCall
from cockpit.capture.losses import Arrangement, IndividualLosses, LossCall
from cockpit.capture.unavailable import Unavailable


@dataclass(eq=False)
class BackwardPass:
    """What one backward pass tells.

    Args:
        arrangement: How loss entries belong to samples; ``None`` where no batch was found.
        deferred: Whether the scale is known only at the end, because several losses are involved.
    """

    arrangement: Arrangement | None
    deferred: bool = False
    root: Tensor | None = None
    losses: list[LossCall] = field(default_factory=list)
    gradients: list[tuple[int, Tensor]] = field(default_factory=list)
    walked: list[ModuleCall] = field(default_factory=list)
    problem: str | None = None
    _individual: tuple[int, IndividualLosses] | None = field(default=None, repr=False)
    _factors: tuple[IndividualLosses, Tensor] | None = field(default=None, repr=False)

    def scale(self) -> float:
        """What this pass is divided by: loss scale, accumulation, task weight, or their product.

        Raises:
            Unavailable: If no gradient of a size that could be undone arrived.
        """
        if not self.losses:
            return 1.0
        largest = max((self._scale_of(call) for call in self.losses), key=abs)
        if largest == 0:
            raise Unavailable("the gradient that arrives at the loss is zero")
        return largest

    def loss(self) -> float:
        """The user's number: a sum where the loss was a sum; several losses add as they are weighted."""
        if not self.losses:
            assert self.root is not None
            return float(self.root)
        scale = self.scale()
        total = 0.0
        for call in self.losses:
            if call.reduced:
                share = self._scale_of(call) / scale
                # A sum keeps its own size: scale counts how much larger it is than the mean.
                total += share * float(call.output) if len(self.losses) > 1 else float(call.output)
            else:
                assert call.arrived is not None
                total += float((call.arrived.double() * call.entries.detach().double()).sum()) / scale
        return total

    def individual(self) -> IndividualLosses:
        """Individual losses and weights.

        Raises:
            Unavailable: If the loss was not recognised, or cannot be shared out among the samples.
        """
        if self.problem is not None:
            raise Unavailable(self.problem)
        if not self.losses:
            raise Unavailable("no loss of torch.nn or torch.nn.functional was seen; register yours with step.losses")
        # Every parameter asks; only another loss could change the answer.
        if self._individual is None or self._individual[0] != len(self.losses):
            self._individual = (len(self.losses), self._taken_apart())
        return self._individual[1]

    def _taken_apart(self) -> IndividualLosses:
        scale = self.scale()
        shares = [self._share(call) for call in self.losses]
        if len(shares) == 1:
            numerators, counts = shares[0]
            values = torch.where(counts > 0, numerators / counts, 0.0)
            return IndividualLosses(values, counts / counts.sum())
        return self._combined(shares, scale)

    def factors(self) -> Tensor:
        """What turns a sample's share of the arriving gradient into its individual gradient, shape ``[N]``.

        Raises:
            Unavailable: As :meth:`individual`.
        """
        individual = self.individual()
        if self._factors is None or self._factors[0] is not individual:
            weights = individual.weights
            self._factors = (individual, torch.where(weights > 0, 1 / (weights * self.scale()), 0.0))
        return self._factors[1]

    def _combined(self, shares: list[tuple[Tensor, Tensor]], scale: float) -> IndividualLosses:
        """Several losses are one: they add per sample, weighted with the gradients that arrived."""
        if len({len(counts) for _, counts in shares}) > 1:
            raise Unavailable("several losses with different batch sizes share one backward pass")
        N = len(shares[0][1])
        total = torch.zeros_like(shares[0][0])
        for call, (numerators, counts) in zip(self.losses, shares, strict=True):
            total += self._scale_of(call) / scale * numerators / counts.sum()
        return IndividualLosses(total * N, torch.full_like(total, 1 / N))

    def _scale_of(self, call: LossCall) -> float:
        assert call.arrived is not None
        if call.reduced:
            return float(call.arrived.double()) * call.total
        return float(call.arrived.double().sum())

    def _share(self, call: LossCall) -> tuple[Tensor, Tensor]:
        """Each sample's part of the numerator and of the denominator of the mean, both float64 of shape ``[N]``."""
        if call.problem is not None:
            raise Unavailable(call.problem)
        if self.arrangement is None:
            raise Unavailable("the batch size could not be found: no module was called with a tensor")
        entries, counts = call.entries.detach(), call.counts
        if not call.reduced:
            assert call.arrived is not None
            self._check_linear(call, call.arrived)
            entries, counts = call.arrived * entries, call.arrived
        deal = self.arrangement.deal
        return (
            deal(entries.double(), call.sample_axis).sum(1),
            deal(counts.double(), call.sample_axis).sum(1),
        )

    def _check_linear(self, call: LossCall, arrived: Tensor) -> None:
        """The user's own reduction has to be a weighted sum: only then are the entries the losses."""
        if bool((arrived < 0).any()):
            raise Unavailable(
                f"the entries of '{call.name}' are weighted with negative numbers, so their mean is not the loss; "
                "register individual losses with step.losses"
            )
        if self.root is None or len(self.losses) > 1:
            return
        explained = float((arrived.double() * call.entries.detach().double()).sum())
        root = float(self.root)
        if abs(explained - root) > 1e-2 * max(abs(root), abs(explained)):
            raise Unavailable(
                f"what is done with the entries of '{call.name}' is not a weighted mean; "
                "register individual losses with step.losses"
            )
