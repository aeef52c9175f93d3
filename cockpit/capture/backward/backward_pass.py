"""One backward pass: which losses it started from, at what scale, and with what weight for each sample."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cockpit.capture.backward.accumulation import accumulated
from cockpit.capture.hooks.calls import ModuleCall
from cockpit.capture.losses.loss_call import Arrangement, IndividualLosses, LossCall
from cockpit.capture.losses.watch import Root
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import sq_norms

REGISTER = "register individual losses with `loss = step.losses(per_sample)`, shape [N]"


@dataclass(eq=False)
class BackwardPass:
    """What one backward pass tells.

    Args:
        root: What it started from; ``None`` where that could not be seen.
        deferred: Whether the scale is known only at the end, because several losses are involved.
        severed: Why it cannot be put together with the passes before it, if it cannot.
        dtypes: What operations computed in that no module stands for.
        gradients: By parameter, those that are handed over at the end.
        task: The engine's number of it; backward passes that run inside it have others.
        unaltered: By parameter, what the passes of the step so far add up to, for those whose gradient a hook of the
            user's alters on its way to ``.grad``. Shared by the passes.
        averaged: Whether the processes of a job average its gradients on their way into ``.grad``.
    """

    root: Root | None
    deferred: bool = False
    severed: str | None = None
    losses: list[LossCall] = field(default_factory=list)
    gradients: dict[int, Tensor] = field(default_factory=dict)
    walked: list[ModuleCall] = field(default_factory=list)
    reached: set[int] = field(default_factory=set)
    handed_over: set[int] = field(default_factory=set)
    dtypes: set[torch.dtype] = field(default_factory=set)
    problem: str | None = None
    task: int = -1
    unaltered: dict[int, Tensor] = field(default_factory=dict, repr=False)
    averaged: bool = False
    _squares: dict[int, Tensor] = field(default_factory=dict, repr=False)
    # Both asked for by every parameter; only another loss can change the answers.
    _shares: tuple[int, IndividualLosses, Tensor] | None = field(default=None, repr=False)
    _explanation: tuple[int, bool] | None = field(default=None, repr=False)

    @property
    def arrangement(self) -> Arrangement | None:
        """How loss entries belong to samples; ``None`` where no batch was found."""
        return self.losses[0].arrangement if self.losses else None

    def scale(self) -> float:
        """What this pass is divided by: loss scale, accumulation, task weight, or their product.

        Raises:
            Unavailable: If no gradient of a size that could be undone arrived, or the pass does not belong to the step.
        """
        if self.severed is not None:
            raise Unavailable(self.severed)
        if not self.losses or not self._linear:
            return self._factor
        largest = max((call.scale() for call in self.losses), key=abs)
        if largest == 0:
            problems = [call.problem for call in self.losses if call.problem is not None]
            raise Unavailable(next(iter(problems), "the gradient that arrives at the loss is zero"))
        return largest

    @property
    def _linear(self) -> bool:
        return self.root is None or self.root.linear

    def sq_norm(self, index: int, gradient: Tensor) -> Tensor:
        """Squared norm of the gradient that this pass brought a parameter, raw, float64 of shape ``[1]``.

        Args:
            index: Which parameter; asked for again, the answer is remembered.
            gradient: Its gradient.
        """
        if index not in self._squares:
            self._squares[index] = sq_norms([gradient])
        return self._squares[index]

    def accumulated(self, index: int, parameter: Tensor, gradient: Tensor) -> Tensor:
        """A parameter's gradient over all backward passes of the step so far.

        Args:
            index: Which parameter.
            parameter: It.
            gradient: Its gradient in this pass.
        """
        if index in self.unaltered:
            return self.unaltered[index]
        return accumulated(parameter, gradient, included=index in self.gradients)

    def unit(self, passes: int = 1) -> float:
        """What the user's number was multiplied with on its way: as :meth:`scale`, but a sum keeps its own size, and
        what it was divided by.

        Args:
            passes: How many backward passes make the mini-batch.
        """
        known = self.losses and self._linear
        return max((self._unit_of(call, passes) for call in self.losses), key=abs) if known else self.scale()

    def _unit_of(self, call: LossCall, passes: int) -> float:
        if not self._is_sum(call, passes):
            return call.scale()
        unit, factor = call.unit(), self._factor
        # Divided by what, only its user knows: by a fixed batch size, say; by the number of passes, to accumulate.
        own = abs(unit) < abs(factor) and not math.isclose(factor, unit * passes, rel_tol=1e-5)
        return factor if own else unit

    def _is_sum(self, call: LossCall, passes: int) -> bool:
        """Whether a loss was a plain sum, and was not divided by what makes it a mean."""
        if not call.summed:
            return False
        return not any(math.isclose(k * call.scale(), self._factor, rel_tol=1e-5) for k in (1, passes))

    @property
    def _factor(self) -> float:
        return 1.0 if self.root is None or self.root.factor is None else float(self.root.factor)

    def summed(self, passes: int = 1) -> bool:
        """Whether a loss that counts here is a sum to its user.

        Args:
            passes: How many backward passes make the mini-batch.
        """
        return any(self._is_sum(call, passes) for call in self.losses)

    def loss(self, passes: int = 1) -> float:
        """The user's number: a sum where the loss was a sum; several losses add as they are weighted.

        Args:
            passes: How many backward passes make the mini-batch.

        Raises:
            Unavailable: As :meth:`scale`; or if nothing was seen that the pass could have started from.
        """
        self.scale()
        if self.losses and self.explained():
            return sum(call.amount() for call in self.losses) / self.unit(passes)
        if self.root is None:
            raise Unavailable(f"neither the loss nor the call of backward was seen; {REGISTER}")
        if not self.losses or not self._linear or not all(call.reduced for call in self.losses):
            return self.root.unscaled()
        # What stands beside the losses that are known was multiplied as they were, if that was to scale the gradients.
        unit = self.unit(passes)
        return float(self.root.value) / unit if math.frexp(abs(unit))[0] == 0.5 else self.root.unscaled()

    def individual(self) -> IndividualLosses:
        """Individual losses and weights.

        Raises:
            Unavailable: If the loss was not recognised, holds more than the losses that were, or cannot be shared out
                among the samples.
        """
        losses, _ = self._shared_out()
        if not self.explained():
            names = " and ".join(dict.fromkeys(f"'{call.name}'" for call in self.losses))
            raise Unavailable(f"the loss is not {names} alone, so the individual losses are unknown; {REGISTER}")
        return losses

    def weights(self) -> Tensor:
        """Weight of each sample in the mean, adding up to 1, shape ``[N]``; known even where its loss is not.

        Raises:
            Unavailable: If the loss was not recognised, or cannot be shared out among the samples.
        """
        return self._shared_out()[0].weights

    def factors(self) -> Tensor:
        """What turns a sample's share of the arriving gradient into its individual gradient, shape ``[N]``.

        Raises:
            Unavailable: As :meth:`weights`.
        """
        return self._shared_out()[1]

    def _shared_out(self) -> tuple[IndividualLosses, Tensor]:
        problem = self.severed or self.problem
        if problem is not None:
            raise Unavailable(problem)
        if not self.losses:
            raise Unavailable(f"no loss of torch.nn or torch.nn.functional was seen; {REGISTER}")
        if self._shares is None or self._shares[0] != len(self.losses):
            losses = self._taken_apart()
            factors = torch.where(losses.weights > 0, 1 / (losses.weights * self.scale()), 0.0)
            self._shares = (len(self.losses), losses, factors)
        return self._shares[1:]

    def _taken_apart(self) -> IndividualLosses:
        scale = self.scale()
        shares = [_share(call) for call in self.losses]
        self._require_linear()
        if len(shares) == 1:
            ((numerators, counts),) = shares
            values = torch.where(counts > 0, numerators / counts, 0.0)
            return IndividualLosses(values, counts / counts.sum())
        return self._combined(shares, scale)

    def _combined(self, shares: list[tuple[Tensor, Tensor]], scale: float) -> IndividualLosses:
        """Several losses are one: they add per sample, weighted with the gradients that arrived."""
        if len({len(counts) for _, counts in shares}) > 1:
            raise Unavailable("several losses with different batch sizes share one backward pass")
        N = len(shares[0][1])
        total = torch.zeros_like(shares[0][0])
        for call, (numerators, counts) in zip(self.losses, shares, strict=True):
            total += call.scale() / scale * numerators / counts.sum()
        return IndividualLosses(total * N, torch.full_like(total, 1 / N))

    def _require_linear(self) -> None:
        """The user's own reduction has to be a weighted sum: only then are the entries the losses."""
        own = [call for call in self.losses if not call.reduced]
        for call in own:
            assert call.arrived is not None
            if bool((call.arrived < 0).any()):
                raise Unavailable(
                    f"the entries of '{call.name}' are weighted with negative numbers, so their mean is not the loss; "
                    f"{REGISTER}"
                )
        if own and self.root is None:
            raise Unavailable(f"what became of the entries of '{own[0].name}' could not be seen; {REGISTER}")
        if not self._linear:
            names = " and ".join(dict.fromkeys(f"'{call.name}'" for call in self.losses))
            raise Unavailable(f"the loss is a function of {names} that is not linear; {REGISTER}")
        if own and not self.explained():
            raise Unavailable(
                f"what is done with the entries of '{own[0].name}' is not a weighted mean of them alone; {REGISTER}"
            )

    def explained(self) -> bool:
        """Whether the losses that were seen add up to what was differentiated, as far as rounding lets one tell."""
        if self.root is None:
            return True
        if self._explanation is None or self._explanation[0] != len(self.losses):
            amounts = [call.amount() for call in self.losses]
            gap = abs(sum(amounts) - float(self.root.value))
            eps = max(torch.finfo(call.output.dtype).eps for call in self.losses)
            # NaN explains itself: it is for the readings to show.
            self._explanation = (len(self.losses), not gap > max(1e-4, 4 * eps) * sum(map(abs, amounts)))
        return self._explanation[1]


def _share(call: LossCall) -> tuple[Tensor, Tensor]:
    """Each sample's part of the numerator and of the denominator of the mean, both float64 of shape ``[N]``."""
    if call.problem is not None:
        raise Unavailable(call.problem)
    if call.arrangement is None:
        raise Unavailable("the batch size could not be found in what the model and its modules were called with")
    entries, counts = call.entries, call.counts
    if not call.reduced:
        assert call.arrived is not None
        entries, counts = call.arrived.double() * entries, call.arrived
    deal = call.arrangement.deal
    return deal(entries.double()).sum(1), deal(counts.double()).sum(1)
