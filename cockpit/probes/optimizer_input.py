"""What reaches the optimizer: gradients that were clipped or unscaled on their way, or nothing at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from cockpit.capture.backward.accumulation import Accumulation
from cockpit.capture.backward.averaging import several_processes
from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.backward.pooled import pooled_shares
from cockpit.capture.unavailable import Unavailable
from cockpit.optim.takes_scaled_loss import TakesScaledLoss
from cockpit.parameters import sq_norms
from cockpit.probes.probe import Collector, Probe, Surroundings


@dataclass(frozen=True)
class GivenGradients:
    """The gradients that the optimizer finds in ``.grad``.

    Args:
        norm: Their norm, without a loss scale that the optimizer accounts for itself; ``None`` where nothing was done
            to them since the backward pass.
        scale: The backward passes left ``scale · g`` there.
        loss_scale: Factor that a gradient scaler or the optimizer is to take back; 1 without one.
        eps: Rounding of their precision.
        left: Norm of what the backward passes left there; ``None`` where that is what they brought. Else the processes
            of a job averaged it.
    """

    norm: float | None
    scale: float
    loss_scale: float
    eps: float
    left: float | None = None


@dataclass(frozen=True)
class OptimizerInput(Probe[GivenGradients | None]):
    """``.grad`` where the first optimizer begins to step, of the parameters that gradients reached; ``None`` if none
    steps. Measured only where something was done to it."""

    def collector(self, surroundings: Surroundings) -> Collector[GivenGradients | None]:
        """Begins a step."""
        return _GivenCollector(surroundings)


class _GivenCollector(Collector[GivenGradients | None]):
    def __init__(self, surroundings: Surroundings) -> None:
        self._table = surroundings.table
        self._reached: set[int] = set()
        self._passes: list[BackwardPass] = []
        self._stepped = False
        self._given: Tensor | None = None
        self._left: Tensor | None = None
        self._disturbed = False
        self._accounted_for: float | None = None

    def gradient(self, index: int, gradient: Tensor, backward: BackwardPass) -> None:
        self._reached.add(index)

    def end_pass(self, backward: BackwardPass) -> None:
        self._passes.append(backward)
        if backward.averaged:
            self._left = self._norm({})

    def before_optimizer(self, optimizer: Optimizer, accumulation: Accumulation) -> None:
        if self._stepped:
            return
        self._stepped = True
        if not self._passes:
            raise Unavailable("the optimizer evaluates the loss itself, and what it does with the gradients is its own")
        scales = _scales_accounted_for(optimizer)
        self._accounted_for = max(scales.values(), default=None)
        altered = bool(self._passes[-1].unaltered) and len(set(scales.values())) < 2
        if accumulation.disturbed() or altered:
            if accumulation.left_over():
                raise Unavailable("the step began with gradients of an earlier one, and these were added to them")
            if self._left is None and several_processes():
                raise Unavailable(
                    "what was done to the gradients may be that the processes averaged them, and cannot be told from "
                    "clipping; DistributedDataParallel's averaging can"
                )
            self._disturbed, self._given = True, self._norm(scales)

    def _norm(self, scales: Mapping[Tensor, float]) -> Tensor | None:
        """Of what lies in ``.grad``, each parameter's divided by its scale."""
        reached = [self._table[i].tensor for i in sorted(self._reached)]
        found = [(_dense(t.grad), scales.get(t, 1.0)) for t in reached if t.grad is not None]
        if not found:
            return None
        squares = sq_norms([gradient for gradient, _ in found])
        return (squares / squares.new_tensor([scale**2 for _, scale in found])).sum().sqrt()

    def result(self) -> GivenGradients | None:
        if not self._passes:
            raise Unavailable("no backward pass was seen")
        if not self._stepped:
            return None
        whole, _ = pooled_shares(self._passes)
        norm = 0.0 if self._disturbed else None
        if self._given is not None:
            norm = float(self._given)
        eps = max(torch.finfo(self._table[i].tensor.dtype).eps for i in self._reached)
        left = None if self._left is None else float(self._left)
        loss_scale = self._accounted_for or _loss_scale(self._passes[-1]) or 1.0
        return GivenGradients(norm, whole, loss_scale, eps, left)


@dataclass(frozen=True)
class ScaledLoss:
    """What a gradient scaler does in a step, or an optimizer that needs none.

    Args:
        scale: What it multiplied the loss with.
        skipped: Whether it kept the optimizer from stepping.
    """

    scale: float
    skipped: bool


@dataclass(frozen=True)
class LossScale(Probe[ScaledLoss | None]):
    """The constant tensor that the loss was multiplied with last, or the scale that the optimizer accounts for, the
    largest if it has several; and whether it stepped. ``None`` without one."""

    def collector(self, surroundings: Surroundings) -> Collector[ScaledLoss | None]:
        """Begins a step."""
        return _LossScaleCollector()


class _LossScaleCollector(Collector[ScaledLoss | None]):
    def __init__(self) -> None:
        self._passes: list[BackwardPass] = []
        self._stepped = False
        self._found_inf: Tensor | None = None
        self._accounted_for: float | None = None
        self._optimizer: TakesScaledLoss | None = None

    def end_pass(self, backward: BackwardPass) -> None:
        self._passes.append(backward)

    def before_optimizer(self, optimizer: Optimizer, accumulation: Accumulation) -> None:
        self._stepped = True
        if isinstance(optimizer, TakesScaledLoss):
            self._optimizer = optimizer
            self._accounted_for = max(_scales_accounted_for(optimizer).values(), default=None)
        # Fused optimizers are called in any case, and told.
        self._found_inf = getattr(optimizer, "found_inf", None)

    def result(self) -> ScaledLoss | None:
        scale = self._accounted_for or (_loss_scale(self._passes[-1]) if self._passes else None)
        if scale is None:
            return None
        if self._optimizer is not None:
            return ScaledLoss(scale, self._optimizer.skipped)
        return ScaledLoss(scale, not self._stepped or (self._found_inf is not None and bool(self._found_inf)))


def scale_taken_back(optimizer: Optimizer, passes: Sequence[BackwardPass]) -> float:
    """The loss scale that is gone from the step that an optimizer is about to make: a gradient scaler's, or the
    optimizer's own, the largest if it has several; 1 without one."""
    own = max(_scales_accounted_for(optimizer).values(), default=None)
    return own or (_loss_scale(passes[-1]) if passes else None) or 1.0


def _scales_accounted_for(optimizer: Optimizer) -> dict[Tensor, float]:
    """What the gradients of each parameter were multiplied with, as far as the optimizer itself makes up for it."""
    if not isinstance(optimizer, TakesScaledLoss) or not optimizer.finds_scaled_gradients():
        return {}
    return optimizer.present_scales()


def _loss_scale(backward: BackwardPass) -> float | None:
    factor = None if backward.root is None else backward.root.factor
    return None if factor is None else float(factor)


def _dense(gradient: Tensor) -> Tensor:
    gradient = gradient.detach()
    return gradient if gradient.layout == torch.strided else gradient.to_dense()
