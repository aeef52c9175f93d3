"""A loss at the scale of an optimizer."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor


class ScaledLoss:
    """A loss that is differentiated ``S`` times as large; the loss itself is not touched.

    Args:
        loss: A scalar.
        scales: ``S`` for each parameter.

    Raises:
        ValueError: If the loss is no scalar, or its precision cannot hold the scale.
    """

    def __init__(self, loss: Tensor, scales: dict[Tensor, float]) -> None:
        if loss.numel() != 1:
            raise ValueError(f"a loss that is to be scaled has one element; got shape {tuple(loss.shape)}")
        self._loss, self._scales = loss, scales
        self._scale = max(scales.values())
        if self._scale > torch.finfo(loss.dtype).max:
            raise ValueError(f"the loss scale {self._scale:g} does not fit into the loss's {loss.dtype}")

    def backward(self, retain_graph: bool | None = None, create_graph: bool = False) -> None:
        """As ``loss.backward``, with gradients ``S`` times as large.

        Where parameters differ in their scales, the loss is scaled by the largest, and the gradients of the others are
        brought to theirs as they arrive.
        """
        with ExitStack() as stack:
            for parameter, scale in self._scales.items():
                if scale != self._scale and parameter.requires_grad:
                    handle = parameter.register_hook(lambda g, factor=scale / self._scale: g * factor)
                    stack.callback(handle.remove)
            self._loss.backward(torch.full_like(self._loss, self._scale), retain_graph, create_graph)
