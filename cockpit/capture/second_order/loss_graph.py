"""A loss just before its backward pass: its graph is whole, and second derivatives can be taken.

What is done with it is done on the side: nothing of it is taken for the user's own backward pass, random generators and
buffers stay as they are, and the graph is kept.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from cockpit.capture.graph.nodes import CHECKPOINT, Graph, Node, reachable
from cockpit.capture.hooks.calls import ModuleCall
from cockpit.capture.losses.loss_call import EMPTY, LossCall
from cockpit.capture.losses.watch import Root
from cockpit.capture.second_order.first_convolution import first_convolutions
from cockpit.capture.second_order.hessian import Hessian
from cockpit.capture.unavailable import Unavailable

OnTheSide: TypeAlias = Callable[[Callable[[ModuleCall, Tensor], None]], AbstractContextManager[None]]
"""Opens a context in which output gradients of module calls go to the function that is given, and nowhere else."""


@dataclass(frozen=True, eq=False)
class OpenLoss:
    """One loss that the backward pass is about to start from: its part of the objective is ``Σ_i c_i e_i``.

    Args:
        name: How it was computed, ``cross_entropy``.
        arguments: What the function was called with, by name, with ``reduction="none"``, attached to the graph; empty
            for losses that the user registered.
        entries: Loss entries ``e_i``, attached; class weights are in them.
        coefficients: ``c_i``, float64, shape of ``entries``.
        call: The call that it was.
    """

    name: str
    arguments: Mapping[str, Any]
    entries: Tensor
    coefficients: Tensor
    call: LossCall


class LossGraph:
    """What one backward pass is about to differentiate.

    Args:
        root: What ``backward`` is called on.
        losses: Loss calls that no backward pass has come to yet.
        modules: Calls of modules that own parameters.
        on_the_side: Keeps what is done here apart from the user's training.
    """

    def __init__(
        self, root: Root, losses: Sequence[LossCall], modules: Sequence[ModuleCall], on_the_side: OnTheSide
    ) -> None:
        self.modules = [call for call in modules if call.edge is not None]
        self._root, self._on_the_side = root, on_the_side
        self._hessians: dict[tuple[int, ...], Hessian] = {}
        arrived = self._arriving(losses)
        scales = [call.scale_of(gradient) for call, gradient in arrived]
        factor = 1.0 if root.factor is None else float(root.factor)
        self.scale = max(scales, key=abs) if scales and root.linear else factor
        """What the gradients below are divided by: loss scale, accumulation, task weight, or their product."""
        self.losses = [
            self._opened(call, gradient, scale) for (call, gradient), scale in zip(arrived, scales, strict=True)
        ]
        """Losses that take part; none where no loss was recognised."""

    def _arriving(self, losses: Sequence[LossCall]) -> list[tuple[LossCall, Tensor]]:
        known = [call for call in losses if call.origin is not None]
        if not known:
            return []
        edges = [call.origin.output for call in known if call.origin is not None]
        gradients = self.differentiate(edges)
        return [(call, gradient) for call, gradient in zip(known, gradients, strict=True) if gradient is not None]

    def _opened(self, call: LossCall, arrived: Tensor, scale: float) -> OpenLoss:
        assert call.origin is not None
        entries = call.origin.entries
        weights = arrived.double() if not call.reduced else arrived.double() * call.total / call.counts.double().sum()
        coefficients = (weights / self.scale).expand(entries.shape)
        return OpenLoss(call.name, call.origin.arguments, entries, coefficients, call)

    @functools.cached_property
    def nodes(self) -> Graph:
        """All of it, by node; walked once, however many ask."""
        return Graph(*filter(None, self.roots))

    @property
    def roots(self) -> list[Node]:
        """Nodes that the backward pass starts from."""
        return [root.grad_fn for root, _ in self._root.parts]

    def require_whole(self) -> None:
        """Refuses a graph that keeps layers to itself: what is differentiated on the side would be without them.

        Raises:
            Unavailable: If there is a reentrant checkpoint.
        """
        if any(node.name() == CHECKPOINT for node in reachable(root for root in self.roots if root is not None)):
            raise Unavailable(
                "the loss cannot be differentiated on the side through a checkpoint with use_reentrant=True; with "
                "use_reentrant=False it can"
            )

    def require_samples(self) -> None:
        """Refuses a loss of nothing.

        Raises:
            Unavailable: If a loss has no entries.
        """
        if any(not loss.entries.numel() for loss in self.losses):
            raise Unavailable(EMPTY)

    def _require_symmetric(self) -> None:
        if any(node.name().startswith("WeightNormInterface") for node in reachable(filter(None, self.roots))):
            raise Unavailable("PyTorch's second derivative of weight_norm is wrong: it is not symmetric")

    def differentiate(self, inputs: Sequence[Any], *, create_graph: bool = False) -> list[Tensor | None]:
        """Gradients of what ``backward`` is called on, at the scale of the pass.

        Args:
            inputs: Tensors or gradient edges.
            create_graph: Whether they are to be differentiated again.

        Returns:
            One for each input, ``None`` where it does not take part.

        Raises:
            Unavailable: If the graph cannot be differentiated on the side.
        """
        roots, given = zip(*self._root.parts, strict=True)
        return self.pull(roots, given, inputs, create_graph=create_graph)

    def hessian(self, tensors: Sequence[Tensor]) -> Hessian:
        """The Hessian of the unscaled mean loss; made once, however many probes ask.

        What else the user differentiates along with the loss, such as a penalty, is in it.

        Args:
            tensors: Parameters.

        Raises:
            Unavailable: As :meth:`pull` and :meth:`require_whole`; or if the pass has scale zero.
        """
        key = tuple(id(t) for t in tensors)
        if key not in self._hessians:
            self.require_whole()
            self._require_symmetric()
            wanted = [t for t in tensors if t.requires_grad]
            firsts = first_convolutions(self.modules, tensors, [root for root, _ in self._root.parts])
            edges = [first.call.edge for first in firsts]
            found = self.differentiate([*wanted, *edges], create_graph=True)
            gradients = dict(zip(map(id, wanted), found, strict=False))
            deltas = dict(zip(firsts, found[len(wanted) :], strict=True))
            self._hessians[key] = Hessian(tensors, [gradients.get(i) for i in key], self.scale, self.pull, deltas)
        return self._hessians[key]

    def release(self) -> None:
        """Lets go of what was differentiated: the backward pass is to find the graph's memory as it left it."""
        self._hessians.clear()

    def pull(
        self,
        outputs: Sequence[Tensor],
        vectors: Sequence[Tensor | None],
        inputs: Sequence[Any],
        *,
        create_graph: bool = False,
        batched: bool = False,
        taking: Callable[[ModuleCall, Tensor], None] | None = None,
    ) -> list[Tensor | None]:
        """Vector-Jacobian products.

        Args:
            outputs: Tensors of the graph, or of a graph made by an earlier call with ``create_graph``.
            vectors: One for each output, of its shape.
            inputs: Tensors or gradient edges.
            create_graph: Whether the products are to be differentiated again.
            batched: Whether the vectors, and with them the products, have one more axis in front.
            taking: Given the gradients that come by at the outputs of module calls.

        Raises:
            Unavailable: If the graph cannot be differentiated on the side.
        """
        with self._on_the_side(taking or _nothing), torch.enable_grad():
            try:
                products = torch.autograd.grad(
                    list(outputs),
                    list(inputs),
                    list(vectors),
                    True,
                    create_graph,
                    allow_unused=True,
                    is_grads_batched=batched,
                )
            except (RuntimeError, NotImplementedError) as error:
                raise Unavailable(f"the loss cannot be differentiated on the side: {_explained(error)}") from error
        if create_graph and _breaks_off(products):
            raise Unavailable(
                "the loss cannot be differentiated a second time: an autograd function of the model is marked as "
                "differentiable once"
            )
        sparse = [p is not None and p.layout != torch.strided for p in products]
        if create_graph and any(sparse):
            raise Unavailable("the loss cannot be differentiated a second time: an embedding has sparse=True")
        return [p.to_dense() if p is not None and s else p for p, s in zip(products, sparse, strict=True)]

    def to_outputs(
        self, outputs: Sequence[Tensor], vectors: Sequence[Tensor], parameters: Sequence[Tensor] = ()
    ) -> tuple[list[tuple[ModuleCall, Tensor]], list[Tensor | None]]:
        """Pulls vectors back to the outputs of all module calls, and no further but for the parameters named.

        Args:
            outputs: Tensors of the graph, such as the model's output.
            vectors: One for each of them.
            parameters: Parameters whose vector-Jacobian products are wanted as well.

        Returns:
            Module calls that were reached, each with the gradient in its output's own layout; and the products.

        Raises:
            Unavailable: As :meth:`pull`.
        """
        reached: list[tuple[ModuleCall, Tensor]] = []
        inputs = [*(call.edge for call in self.modules), *parameters]
        if not inputs:
            return [], []
        products = self.pull(outputs, vectors, inputs, taking=lambda call, delta: reached.append((call, delta)))
        return reached, products[len(self.modules) :]


def _breaks_off(gradients: Sequence[Tensor | None]) -> bool:
    """Whether second derivatives would silently leave something out.

    A function that is marked as differentiable once hangs a node into the graph that raises when it is walked; but no
    path leads over it to the parameters, so that nobody who asks for theirs alone walks it.
    """
    roots = [g.grad_fn for g in gradients if g is not None and g.grad_fn is not None]
    return any(node.name() == "torch::autograd::Error" for node in reachable(roots))


_WAYS_OUT = (
    (
        "scaled_dot_product",
        "; PyTorch's fused attention has no second derivative: run the model inside "
        "`with torch.nn.attention.sdpa_kernel(SDPBackend.MATH):`",
    ),
    ("double backward", "; give the cockpit's steps the model that is not compiled, or leave second derivatives out"),
)


def _explained(error: Exception) -> str:
    """What autograd said, and what can be done about it."""
    words = str(error).strip().splitlines()[0]
    return words + next((way_out for name, way_out in _WAYS_OUT if name in str(error)), "")


def _nothing(call: ModuleCall, delta: Tensor) -> None:
    """Output gradients that nobody asked for."""
