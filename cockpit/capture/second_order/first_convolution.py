"""Convolutions of the model's input in Hessian products.

Differentiating a convolution's weight gradient, PyTorch always works out the derivative with respect to the input as
well; for a first layer nobody wants it, and on 3c3d it is a seventh of the product. The same number is had from the
output gradient: ``⟨g_W, V⟩ = ⟨δ, x * V⟩``, which is linear in ``δ``, and ``x`` is constant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cockpit.capture.graph.nodes import reachable
from cockpit.capture.hooks.calls import ModuleCall

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, eq=False)
class FirstConvolution:
    """A convolution whose input is constant, and whose parameters nothing else uses.

    Args:
        call: The one call of it.
        weight: Place of its weight among the parameters.
        bias: Place of its bias, if it has one.
    """

    call: ModuleCall
    weight: int
    bias: int | None

    @property
    def covered(self) -> set[int]:
        """Places of its parameters."""
        return {self.weight} if self.bias is None else {self.weight, self.bias}

    def along(self, vectors: Sequence[Tensor]) -> Tensor:
        """``x * V``: by how much the output moves where the parameters move by ``V``; in the output's shape."""
        x, module = self.call.input, self.call.module
        assert x is not None
        assert isinstance(module, _CONVOLUTIONS)
        weight = vectors[self.weight].to(x)
        moved: Tensor = module._conv_forward(x, weight, None if self.bias is None else vectors[self.bias].to(x))
        return moved


def first_convolutions(
    calls: Iterable[ModuleCall], tensors: Sequence[Tensor], roots: Iterable[Tensor]
) -> list[FirstConvolution]:
    """Those convolutions that can be had from their output gradients.

    Args:
        calls: Calls of modules, with their places in the graph.
        tensors: The parameters.
        roots: What the backward pass starts from.
    """
    candidates = [call for call in calls if type(call.module) in _CONVOLUTIONS and _of_constant_input(call)]
    if not candidates:
        return []
    places = {id(t): i for i, t in enumerate(tensors)}
    uses = Counter(_uses(roots))
    return [first for call in candidates if (first := _first(call, places, uses)) is not None]


def _of_constant_input(call: ModuleCall) -> bool:
    node = None if call.edge is None else call.edge.node
    if node is None or node.name() != "ConvolutionBackward0" or call.input is None or call.changed():
        return False
    return call.output_dtype == call.input.dtype and node.next_functions[0][0] is None


def _first(call: ModuleCall, places: dict[int, int], uses: Counter[Any]) -> FirstConvolution | None:
    assert call.edge is not None
    own: list[int | None] = []
    for attribute, (node, _) in zip(("weight", "bias"), call.edge.node.next_functions[1:], strict=False):
        tensor = getattr(call.module, attribute)
        if tensor is None:
            own.append(None)
        elif (
            id(tensor) in places and node is not None and getattr(node, "variable", None) is tensor and uses[node] == 1
        ):
            own.append(places[id(tensor)])
        else:
            return None
    weight, bias = own
    return None if weight is None else FirstConvolution(call, weight, bias)


def _uses(roots: Iterable[Tensor]) -> Iterator[Any]:
    """Every node of the graph, as often as it is used."""
    for node in reachable(root.grad_fn for root in roots if root.grad_fn is not None):
        yield from (following for following, _ in node.next_functions if following is not None)
