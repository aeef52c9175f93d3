"""A training step, as the user sees it."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from torch import Tensor

from cockpit.tracking.open_step import OpenStep


class StepContext:
    """One optimizer update: what ``with cockpit.step() as step:`` gives.

    Args:
        enter: Called on entering; returns the open step, or ``None`` if nothing looks at it. Not given by a cockpit
            that is turned off.
        leave: Called on leaving with the open step and whether the block raised.
    """

    def __init__(
        self,
        enter: Callable[[], OpenStep | None] | None = None,
        leave: Callable[[OpenStep | None, bool], None] | None = None,
    ) -> None:
        self._enter, self._leave = enter, leave
        self._step: OpenStep | None = None

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

    def __enter__(self) -> StepContext:
        if self._enter is not None:
            self._step = self._enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        step, self._step = self._step, None
        if self._leave is not None:
            self._leave(step, kind is not None)
