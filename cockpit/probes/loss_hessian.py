"""Second derivatives of a loss with respect to what it was computed from, with the network left out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cockpit.capture.second_order.loss_graph import OpenLoss
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import working

INSTEAD = "ask for curvature='hutchinson', which any loss has"


def inputs_of(loss: OpenLoss) -> list[str]:
    """Names of the arguments that are part of the graph."""
    return [name for name, value in loss.arguments.items() if isinstance(value, Tensor) and value.requires_grad]


class LossHessian:
    r"""Products with ``H = Σ_i c_i ∇² e_i``, where derivatives are with respect to :func:`inputs_of` a loss.

    The loss is computed once more, from copies of its arguments in at least float32.

    Args:
        loss: The loss, of ``torch.nn.functional``.

    Attributes:
        inputs: The copies that derivatives are taken with respect to.
        row_sums: ``H 1``, one tensor per input: the diagonal where ``H`` is diagonal.

    Raises:
        Unavailable: If ``H`` is zero, or PyTorch cannot differentiate the loss twice.
    """

    def __init__(self, loss: OpenLoss) -> None:
        self._name = loss.name
        arguments = {
            name: working(value.detach()) if isinstance(value, Tensor) and value.is_floating_point() else value
            for name, value in loss.arguments.items()
        }
        self.inputs: list[Tensor] = [arguments[name].requires_grad_() for name in inputs_of(loss)]
        with torch.enable_grad(), torch.autocast(self.inputs[0].device.type, enabled=False):
            entries = getattr(F, loss.name)(**arguments)
            try:
                total = (entries * loss.coefficients.to(entries.dtype)).sum()
                self._slopes = torch.autograd.grad(total, self.inputs, create_graph=True, materialize_grads=True)
            except (RuntimeError, NotImplementedError) as error:
                raise self._missing() from error
        self.row_sums = self.times([torch.ones_like(x) for x in self.inputs])
        if not any(bool(h.any()) for h in self.row_sums):
            raise self._missing()

    def times(self, vectors: Sequence[Tensor]) -> list[Tensor]:
        """``H v``.

        Args:
            vectors: ``v``, of the inputs' shapes.
        """
        parts = [(s, v) for s, v in zip(self._slopes, vectors, strict=True) if s.requires_grad]
        if not parts:
            raise self._missing()
        try:
            products = torch.autograd.grad(
                [s for s, _ in parts], self.inputs, [v for _, v in parts], retain_graph=True, materialize_grads=True
            )
        except (RuntimeError, NotImplementedError) as error:
            raise self._missing() from error
        return [product.detach() for product in products]

    def _missing(self) -> Unavailable:
        return Unavailable(
            f"the second derivative of '{self._name}' is zero or not to be had, so it has no Gauss-Newton matrix: "
            f"{INSTEAD}"
        )
