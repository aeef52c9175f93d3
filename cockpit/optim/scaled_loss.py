"""A loss at the scale of an optimizer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor


class ScaledLoss:
    """A loss that is differentiated ``S`` times as large; the loss itself is not touched.

    Args:
        loss: A scalar.
        scales: ``S`` for each parameter.
        begins: Called when it is about to be differentiated.

    Raises:
        TypeError: If the loss is no tensor of real floating-point numbers.
        ValueError: If it is no scalar, or its precision cannot hold the scale.
    """

    def __init__(
        self, loss: Tensor, scales: dict[Tensor, float], begins: Callable[[dict[Tensor, float]], None]
    ) -> None:
        if not isinstance(loss, Tensor) or not loss.is_floating_point():
            kind = loss.dtype if isinstance(loss, Tensor) else type(loss).__name__
            raise TypeError(f"a loss that is to be scaled is a tensor with a real floating-point number; got {kind}")
        if loss.numel() != 1:
            raise ValueError(f"a loss that is to be scaled has one element; got shape {tuple(loss.shape)}")
        self._loss, self._scales, self._begins = loss, scales, begins
        self._scale = max(scales.values())
        held = torch.finfo(loss.dtype)
        if not held.tiny <= self._scale <= held.max:
            raise ValueError(
                f"the loss scale {self._scale:g} does not fit into the loss's {loss.dtype}, which holds numbers from "
                f"{held.tiny:.2g} to {held.max:.2g}: choose another scale, or convert the loss"
            )

    def backward(self, retain_graph: bool | None = None, create_graph: bool = False) -> None:
        """As ``loss.backward``, with gradients ``S`` times as large.

        Where parameters differ in their scales, the loss is scaled by the largest, and the gradients of the others are
        brought to theirs as they arrive.

        Raises:
            RuntimeError: If gradients of another scale are there already.
        """
        self._begins(self._scales)
        with ExitStack() as stack:
            for parameter, scale in self._scales.items():
                if scale != self._scale and parameter.requires_grad:
                    handle = parameter.register_hook(lambda g, factor=scale / self._scale: g * factor)
                    stack.callback(handle.remove)
            self._loss.backward(torch.full_like(self._loss, self._scale), retain_graph, create_graph)
