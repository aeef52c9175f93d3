"""A training step, as the user sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType

import torch
from torch import Tensor
from torch.optim import Optimizer

from cockpit.capture.unavailable import Unavailable
from cockpit.tracking.open_step import OpenStep


class StepContext:
    """One optimizer update: what ``with cockpit.step() as step:`` gives.

    Args:
        enter: Called on entering; returns the open step, or ``None`` if nothing looks at it. Not given by a cockpit
            that is turned off.
        leave: Called on leaving with the open step and whether the block raised.
        hands_over: Whether an instrument hands the diagonal of a curvature matrix over.
    """

    def __init__(
        self,
        enter: Callable[[], OpenStep | None] | None = None,
        leave: Callable[[OpenStep | None, bool], None] | None = None,
        hands_over: bool = False,
    ) -> None:
        self._enter, self._leave, self._hands_over = enter, leave, hands_over
        self._step: OpenStep | None = None
        self._inside = False

    def losses(self, per_sample: Tensor) -> Tensor:
        """Registers the individual losses of a loss function of the user's own.

        Args:
            per_sample: Attached to the graph, shape ``[N]``.

        Returns:
            Their mean, to call ``backward`` on.

        Raises:
            TypeError: For anything but a tensor.
            ValueError: For another shape.
        """
        if not isinstance(per_sample, Tensor):
            raise TypeError(f"step.losses needs a tensor with one loss per sample, got {type(per_sample).__name__}")
        if per_sample.dim() != 1:
            raise ValueError(
                f"step.losses needs one loss per sample, shape [N], got shape {list(per_sample.shape)}: "
                "leave out the reduction, and average over what is not the batch"
            )
        return per_sample.mean() if self._step is None else self._step.capture.register(per_sample)

    def diagonal(self, optimizer: Optimizer) -> list[Tensor] | None:
        """The diagonal of the Hessian, or of what stands for it, after ``backward`` and before the optimizer steps.

        Of what the optimizer minimises: of the mean loss, a sum where that is summed, several micro-batches added up as
        their gradients are. A gradient scaler's scale is not in it.

        Args:
            optimizer: That the diagonal is for.

        Returns:
            One tensor for each parameter, of its shape, in the order of the optimizer's groups; zero for those that are
            not trained. ``None`` in steps that :class:`~cockpit.instruments.HessTrace` leaves out.

        Raises:
            RuntimeError: If no instrument hands it over, it could not be computed, the optimizer holds parameters that
                are not watched, or the step is over.
        """
        if self._enter is None:
            raise RuntimeError("the cockpit is turned off, so there is no diagonal of the Hessian to train with")
        if not self._hands_over:
            raise RuntimeError(
                "no instrument hands the diagonal of the Hessian over: list HessTrace(diagonal=True, track=1), of "
                "cockpit.instruments, among the cockpit's instruments"
            )
        if not self._inside:
            raise RuntimeError("the step is over, and its diagonal is gone: ask within 'with cockpit.step() as step:'")
        try:
            found = None if self._step is None else self._step.diagonal(optimizer)
        except Unavailable as reason:
            raise RuntimeError(f"the diagonal of the Hessian is missing in this step: {reason}") from reason
        return None if found is None else _in_order(found, optimizer)

    def __enter__(self) -> StepContext:
        if self._enter is not None:
            self._step = self._enter()
        self._inside = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        step, self._step, self._inside = self._step, None, False
        if self._leave is not None:
            self._leave(step, kind is not None)


def _in_order(diagonal: Mapping[Tensor, Tensor], optimizer: Optimizer) -> list[Tensor]:
    """As an optimizer's groups have their parameters."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    strange = [list(p.shape) for p in parameters if p.requires_grad and p not in diagonal]
    if strange:
        raise RuntimeError(
            f"the diagonal of the Hessian is not known for parameters of shapes {strange}: the cockpit was made with "
            "another model or optimizer, or before they joined"
        )
    return [diagonal[p] if p in diagonal else torch.zeros_like(p) for p in parameters]
