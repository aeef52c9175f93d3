"""Vector-Jacobian products taken node by node, through a part of the graph alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cockpit.capture.graph.nodes import Node, require_plain_memory
from cockpit.capture.unavailable import Unavailable


def pull(region: Sequence[Node], arriving: Mapping[tuple[Node, int], Tensor], only: int | None = None) -> Tensor | None:
    """A vector-Jacobian product that calls every node of a region once, without the engine, and so without any hook.

    Args:
        region: As :func:`between` returns them; the product is taken down to the last.
        arriving: Gradients by node and output.
        only: Which of the first node's gradients to follow; all if ``None``.

    Returns:
        The gradient that arrives at the last node's first output, ``None`` if none does.

    Raises:
        Unavailable: If a node can be called by the engine alone.
    """
    inside, end = set(region), region[-1]
    pending: dict[Node, list[Tensor | None]] = {}
    for (node, output), given in arriving.items():
        pending.setdefault(node, [None] * len(node._input_metadata))[output] = given
    for node in region[:-1]:
        gradients = pending.pop(node, None)
        if gradients is None:
            continue
        for place, gradient in enumerate(_called(node, gradients)):
            following, output = node.next_functions[place]
            elsewhere = only is not None and node is region[0] and place != only
            if gradient is None or following not in inside or elsewhere:
                continue
            metadata = following._input_metadata
            slots = pending.setdefault(following, [None] * len(metadata))
            # The engine undoes broadcasting on the way from node to node.
            whole = gradient.sum_to_size(metadata[output].shape)
            held = slots[output]
            slots[output] = whole if held is None else held + whole
    return pending.get(end, [None])[0]


def _called(node: Node, gradients: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    if not callable(node) or hasattr(node, "saved_tensors"):
        raise Unavailable(
            f"'{node.name()}' is a function of the model's own, which cannot be differentiated on the side"
        )
    result = node(*gradients)
    return result if isinstance(result, tuple) else (result,)


class Pullback:
    """``u ↦ Jᵀu`` through a part of the graph, usable after the graph has been walked and its memory given back.

    ``Jᵀv`` is differentiated with respect to ``v``, which gives ``Jw``, and that with respect to ``w``: the graph that
    makes is ours, and holds what it needs of the first.

    Args:
        region: As :func:`between` returns them.
        entries: Outputs of its first node at which gradients arrive.
        only: Which of the first node's gradients to follow; all if ``None``.

    Raises:
        Unavailable: If the part cannot be differentiated twice.
    """

    def __init__(self, region: Sequence[Node], entries: Sequence[int], only: int | None = None) -> None:
        require_plain_memory(region)
        start, leaf = region[0], region[-1]
        with torch.enable_grad():
            self._ins = [_probe(start, entry) for entry in entries]
            self._w = torch.zeros_like(leaf.variable).requires_grad_()
            try:
                arriving = {(start, e): v for e, v in zip(entries, self._ins, strict=True)}
                self._y = pull(region, arriving, only)
                self._images = self._forward(self._w, create_graph=True)
            except (RuntimeError, NotImplementedError, TypeError) as error:
                reason = str(error).splitlines()[0]
                raise Unavailable(f"'{start.name()}' cannot be differentiated on the side: {reason}") from error
        self._vectorised = True

    def _forward(self, w: Tensor, create_graph: bool) -> list[Tensor | None]:
        if self._y is None or not self._y.requires_grad:
            return [None for _ in self._ins]
        return list(
            torch.autograd.grad(
                self._y, self._ins, w.to(self._y.dtype), create_graph=create_graph, retain_graph=True, allow_unused=True
            )
        )

    def image(self, direction: Tensor) -> list[Tensor]:
        """``J V`` at each entry.

        Args:
            direction: ``V``, of the parameter's shape.
        """
        with torch.enable_grad():
            images = self._forward(direction, create_graph=False)
        return [
            torch.zeros_like(v) if image is None else image.detach() for v, image in zip(self._ins, images, strict=True)
        ]

    def __call__(self, gradients: Sequence[Tensor]) -> Tensor:
        """``Jᵀ u_n`` for many ``u_n``.

        Args:
            gradients: One for each entry, shape ``[n, *output]``.

        Returns:
            Shape ``[n, *parameter]``.
        """
        known = [(z, u) for z, u in zip(self._images, gradients, strict=True) if z is not None and z.requires_grad]
        n = len(gradients[0])
        if not known:
            return self._w.detach().new_zeros(n, *self._w.shape)
        images = [z for z, _ in known]
        cotangents = [u.to(z.dtype) for z, u in known]
        if self._vectorised:
            try:
                return self._pulled(images, cotangents, batched=True)
            except (RuntimeError, NotImplementedError):  # an operation that cannot be vectorised: one at a time
                self._vectorised = False
        return torch.stack([self._pulled(images, [u[i] for u in cotangents], batched=False) for i in range(n)])

    def _pulled(self, images: list[Tensor], cotangents: list[Tensor], batched: bool) -> Tensor:
        (gradient,) = torch.autograd.grad(images, self._w, cotangents, retain_graph=True, is_grads_batched=batched)
        return gradient.detach()


def _probe(node: Node, output: int) -> Tensor:
    metadata = node._input_metadata[output]
    return torch.zeros(tuple(metadata.shape), dtype=metadata.dtype, device=metadata.device, requires_grad=True)
