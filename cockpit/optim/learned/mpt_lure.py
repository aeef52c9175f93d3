"""MPT_LURE: LURE for mixed precision, which learns to undo the loss scale, too."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from cockpit.optim.learned.optimizer import LearnedOptimizer
from cockpit.optim.learned.recipe import Recipe
from cockpit.optim.learned.rule import NetworkRule, Signals, State, Tensors
from cockpit.optim.learned.sines import TEST, TRAIN
from cockpit.optim.learned.tasks import Task
from cockpit.optim.learned.unroll import Unrolled
from cockpit.optim.takes_scaled_loss import TakesScaledLoss

_PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class MPTLURERule(NetworkRule):
    """Layer-wise update rule for mixed-precision training: ``θ ← θ − tanh(b·a·ĝ)``, with ``ĝ`` the gradient of a scaled
    loss in half precision, and one ``a``, to scale back, and one ``b``, to learn with, for each tensor.

    Only the product of the two matters for what is learned; how fast it is learned depends on both. Where a gradient
    overflows, no tensor is changed.

    Alosily, *Loss Scaling and Step Size in Deep Learning Optimization* (2023), section 6.3.4 and code block C.2.

    Args:
        shapes: Of the network whose parameters it is for.
        scale: ``S``, which the loss is multiplied with.
        gain: ``b`` is uniform between 0 and this before anything is learned, ``a`` between 0 and ``1/S``.
        precision: Of forward and backward passes in meta-training, by PyTorch's name for it.

    Raises:
        ValueError: If the scale is not positive, or there is no such precision.
    """

    name = "MPT_LURE"

    scale: float = 1024.0
    gain: float = 1e-3
    precision: str = "float16"

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"a loss scale is positive; got scale={self.scale}")
        if self.precision not in _PRECISIONS:
            raise ValueError(f"precision is one of {', '.join(_PRECISIONS)}; got {self.precision!r}")

    def meta_parameters(self, generator: torch.Generator) -> Tensors:
        """``a`` and ``b`` of each tensor. Shape ``[]``."""
        drawn = {name: torch.rand(2, generator=generator) for name in self.tensors}
        return {
            **{f"a.{name}": pair[0] / self.scale for name, pair in drawn.items()},
            **{f"b.{name}": pair[1] * self.gain for name, pair in drawn.items()},
        }

    def gradients(self, meta: Tensors, task: Task, params: Tensors, batch: Tensors) -> tuple[Tensor, Tensors]:
        """The loss, and its gradients times ``S``: forward and backward in half precision, parameters in full."""
        precision = _PRECISIONS[self.precision]

        def scaled(params: Tensors) -> tuple[Tensor, Tensor]:
            loss = task.loss(_cast(params, precision), _cast(batch, precision)).to(next(iter(params.values())).dtype)
            return self.scale * loss, loss

        gradients, loss = torch.func.grad(scaled, has_aux=True)(params)
        return loss, gradients

    def update(
        self, meta: Tensors, gradients: Tensors, params: Tensors, state: State, signals: Signals
    ) -> tuple[Tensors, State]:
        """Steps of at most 1 in each coordinate."""
        finite = torch.stack([gradient.isfinite().all() for gradient in gradients.values()]).all()
        new = {}
        for name, p in params.items():
            step = torch.tanh(meta[f"b.{name}"] * meta[f"a.{name}"] * gradients[name])
            new[name] = p - torch.where(finite, step, torch.zeros_like(step))
        return new, state


class MPT_LURE(TakesScaledLoss, LearnedOptimizer):  # noqa: N801, as in the source
    """The layer-wise update rule of :class:`MPTLURERule`, with weights that were learned.

    ``optimizer.scale(loss).backward(); optimizer.step()``, with the forward pass under ``torch.autocast`` or not: the
    loss is multiplied with the scale that the weights were learned for, and nothing is unscaled. Gradients of another
    scale (a plain ``loss.backward()``, or a ``torch.amp.GradScaler``'s) are brought to that one first. A step whose
    gradients overflowed is skipped.

    Args:
        params: Those of a network like the one it was learned for, in its order.
        weights: See :class:`~cockpit.optim.learned.LearnedOptimizer`; so are the other arguments.
        lr: Multiplies the learned step.
        horizon: Not used.
    """

    rule_type = MPTLURERule

    def scales(self) -> dict[Tensor, float]:
        """The scale that the weights were learned for, of each parameter."""
        scale = cast(MPTLURERule, self.rule).scale
        return {parameter: scale for group in self.param_groups for parameter in group["params"]}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update; see :class:`~cockpit.optim.learned.LearnedOptimizer`."""
        found_inf = getattr(self, "found_inf", None)
        self.skipped = found_inf is not None and bool(found_inf)
        loss = super().step(closure)
        self._spend([p for group in self.param_groups for p in group["params"] if p.grad is not None])
        return loss

    def _update(self, found: dict[str, Tensor]) -> None:
        norms = torch._foreach_norm([p.grad for p in found.values() if p.grad is not None], float("inf"))
        self.skipped = self.skipped or not all(bool(norm.isfinite()) for norm in norms)
        if not self.skipped:
            super()._update(found)

    def _gradients(self, found: dict[str, Tensor]) -> Tensors:
        wanted, present = self.scales(), self.present_scales()
        gradients = super()._gradients(found)
        factors = {name: wanted[p] / present[p] for name, p in found.items()}
        return {name: g if factors[name] == 1 else g * factors[name] for name, g in gradients.items()}


def _cast(tensors: Tensors, precision: torch.dtype) -> Tensors:
    return {name: tensor.to(precision) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def recipe() -> Recipe:
    """The source's sine waves in half precision, Adagrad at 1e-3, 6,000 updates."""
    return Recipe(
        name="mpt_lure",
        rule=MPTLURERule(TRAIN.shapes),
        tasks=(TRAIN,),
        # What is told of half-precision gradients is not differentiated: second derivatives would underflow.
        estimator=Unrolled(length=5, through_gradients=False),
        copies=8,
        horizon=110,
        iterations=6000,
        optimizer=functools.partial(torch.optim.Adagrad, lr=1e-3),
        test=TEST,
    )
