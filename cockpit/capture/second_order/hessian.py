"""Products with the Hessian of a loss whose graph is whole.

The gradient is differentiated again for each product. It is had once, whoever asks: on 3c3d it costs 0.4 of a plain
training step, and each product 1.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from cockpit.capture.second_order.first_convolution import FirstConvolution
from cockpit.capture.unavailable import Unavailable

Pull = Callable[..., "list[Tensor | None]"]


class Hessian:
    """``H = ∇²L`` of the unscaled mean loss with respect to some parameters, known by its products.

    Args:
        tensors: The parameters.
        gradient: Their gradient at the scale of the pass, to be differentiated again; ``None`` where there is none.
        scale: Of the pass.
        pull: Vector-Jacobian products on the side, as :meth:`LossGraph.pull`.
        deltas: Gradients at the outputs of first layers, to be differentiated in place of their parameters'.

    Raises:
        Unavailable: If the scale is zero.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        gradient: Sequence[Tensor | None],
        scale: float,
        pull: Pull,
        deltas: Mapping[FirstConvolution, Tensor | None],
    ) -> None:
        if scale == 0:
            raise Unavailable("the gradient that arrives at the loss is zero, so its curvature cannot be told")
        self.tensors, self.scale, self._pull = tensors, scale, pull
        # What does not depend on the parameters has no second derivative.
        self._gradient = [None if g is None or not g.requires_grad else g for g in gradient]
        self._deltas = {first: d for first, d in deltas.items() if d is not None and d.requires_grad}
        self._elsewhere = {i for first in self._deltas for i in first.covered}
        self._trained = [i for i, t in enumerate(tensors) if t.requires_grad]
        self.gradient = [
            torch.zeros_like(t) if g is None else g.detach() if scale == 1 else g.detach() / scale
            for t, g in zip(tensors, gradient, strict=True)
        ]
        """``g`` of the unscaled mean loss."""

    def times(self, vectors: Sequence[Tensor]) -> list[Tensor]:
        """``H v``.

        Args:
            vectors: ``v``, one tensor per parameter, of its shape; cast to the gradient's dtype.

        Returns:
            One tensor per parameter, of its shape.

        Raises:
            Unavailable: If the loss cannot be differentiated a second time.
        """
        pairs = [
            (g, vectors[i].to(g)) for i, g in enumerate(self._gradient) if g is not None and i not in self._elsewhere
        ]
        pairs += [(delta, first.along(vectors).to(delta)) for first, delta in self._deltas.items()]
        products = [torch.zeros_like(t) for t in self.tensors]
        if pairs:
            outputs, given = zip(*pairs, strict=True)
            pulled = self._pull(outputs, given, [self.tensors[i] for i in self._trained])
            for i, product in zip(self._trained, pulled, strict=True):
                if product is not None:
                    products[i] = product if self.scale == 1 else product / self.scale
        return products

    def block_times(self, index: int, vectors: Tensor) -> Tensor:
        """``H_pp v`` for several vectors at once, with the block of one parameter.

        Args:
            index: The parameter.
            vectors: Shape ``[B, *parameter]``.

        Returns:
            Shape ``[B, *parameter]``.

        Raises:
            Unavailable: As :meth:`times`; or, for more than one vector, if a function of the model cannot be batched.
        """
        gradient, tensor = self._gradient[index], self.tensors[index]
        if gradient is None or not tensor.requires_grad:
            return torch.zeros_like(vectors)
        if len(vectors) == 1:
            (product,) = self._pull([gradient], [vectors[0].to(gradient)], [tensor])
            product = None if product is None else product.unsqueeze(0)
        else:
            (product,) = self._pull([gradient], [vectors.to(gradient)], [tensor], batched=True)
        return torch.zeros_like(vectors) if product is None else product / self.scale
