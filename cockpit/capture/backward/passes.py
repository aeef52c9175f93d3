"""The backward passes of one step, from the gradient at a loss to every parameter's individual gradients.

A pass is the user's own. It brings the gradients at the losses, then those at the outputs of modules, and, last for
each parameter, its gradient. At that moment the parameter's individual gradients are handed to the collectors and
forgotten.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.variable import Variable

from cockpit.capture.backward.accumulation import Accumulation, accumulated
from cockpit.capture.backward.assemble import TWICE, Source, individual_gradients
from cockpit.capture.backward.averaging import BEFORE, WITHIN
from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.graph.linearity import linear_in_losses
from cockpit.capture.graph.nodes import LEAF, reachable
from cockpit.capture.hooks.calls import ModuleCall
from cockpit.capture.hooks.guard import Guard
from cockpit.capture.losses.loss_call import LossCall
from cockpit.capture.losses.watch import Root, root_of
from cockpit.capture.receiver import Receiver
from cockpit.capture.unavailable import Unavailable
from cockpit.capture.walk.graph_walk import GraphWalk
from cockpit.parameters import ParameterTable

_APART = (
    "the backward passes of this step reach different parameters, so they are no parts of one batch; "
    "give each a step of its own, or add the losses"
)
_IN_PARTS = (
    "the gradient of a parameter arrived in parts that were not foreseen, as from a checkpoint with use_reentrant=True "
    "and from elsewhere"
)
_BROKEN = "a backward pass of this step did not come to its end"


class Passes:
    """Puts together what arrives in a backward pass, and passes it on.

    Args:
        table: The watched parameters.
        receiver: Told of everything that arrives.
        walk: What arrives elsewhere in the graph than at the outputs of modules.
        source: Makes individual gradients of a parameter's module calls; ``None`` where nobody needs them.
        guard: Wraps what is called at the end of a pass.
        on_end: Called when a pass is over.

    Attributes:
        accumulation: Whether the passes add up to one gradient.
        current: The pass that is running.
        begun: Every pass of the step, in order.
        waiting: Losses that no pass has come to yet.
        root: What the pass that is running, or about to run, starts from.
        averaged: Whether the processes of a job average the gradients of the model's latest call.
    """

    def __init__(
        self,
        table: ParameterTable,
        receiver: Receiver,
        walk: GraphWalk,
        source: Source | None,
        guard: Guard,
        on_end: Callable[[], None],
    ) -> None:
        self._table, self._receiver, self._walk, self._source = table, receiver, walk, source
        self._guard, self._on_end = guard, on_end
        self._indices = table.indices()
        self._broken: str | None = None
        self._unaltered: dict[int, Tensor] = {}
        self._seen = False
        self._leaves: dict[int, int] = {}
        self.accumulation = Accumulation(p.tensor for p in table)
        self.current: BackwardPass | None = None
        self.begun: list[BackwardPass] = []
        self.waiting: list[LossCall] = []
        self.root: Root | None = None
        self.averaged = False

    def supersede(self) -> None:
        """Every loss that is waiting counts no more: others stand for it."""
        for loss in self.waiting:
            loss.superseded = True
        self.waiting.clear()

    def called(self, *args: Any, **kwargs: Any) -> Root | None:
        """Takes what ``backward`` is about to be called with.

        Returns:
            What it starts from, ``None`` where that is no tensor.
        """
        self._seen, self._leaves = True, {}
        self.root = root_of(*args, **kwargs)
        nodes = {loss.node for loss in self.waiting if loss.node is not None}
        if self.root is not None and nodes:
            roots = [part.grad_fn for part, _ in self.root.parts if part.grad_fn is not None]
            self.root = dataclasses.replace(self.root, linear=linear_in_losses(roots, nodes))
        return self.root

    def expect(self, leaves: Iterable[Mapping[int, int]]) -> None:
        """Tells which parameters are reached in parts.

        Args:
            leaves: For each loss, in how many reentrant checkpoints a tensor is a leaf, by its identity.
        """
        self._leaves = dict(sum(map(Counter, leaves), Counter()))
        if self._leaves and self.root is not None:
            outside = reachable(part.grad_fn for part, _ in self.root.parts if part.grad_fn is not None)
            for leaf in (node.variable for node in outside if node.name() == LEAF):
                self._leaves[id(leaf)] = self._leaves.get(id(leaf), 0) + 1

    def returned(self) -> None:
        """The call of ``backward`` is over."""
        self._seen = False
        if self.current is not None:
            self._end()

    @property
    def running(self) -> bool:
        """Whether ``backward`` has been called, or gradients arrive from a call that was not seen."""
        return self._seen or self.current is not None

    def broke_off(self) -> None:
        """The pass raised. If the user goes on, what it left cannot be told from what comes then."""
        if self.current is not None:
            self._broken, self.current = _BROKEN, None
        self._seen = False

    def loss_arrived(self, call: LossCall, gradient: Tensor) -> None:
        """The gradient at a loss: the pass begins, unless it began elsewhere."""
        current = self.current or self._begin(deferred=len(self.waiting) > 1)
        if call.arrived is not None:
            call = dataclasses.replace(call)
            current.problem = TWICE
        self.waiting = [waiting for waiting in self.waiting if waiting is not call]
        call.arrive(gradient)
        current.losses.append(call)

    def delta_arrived(self, call: ModuleCall, delta: Tensor) -> None:
        """The gradient at a module's output."""
        if self.current is None:
            return
        if call.walked:
            self.current.problem = TWICE
        call.walked, call.delta = True, delta
        self.current.walked.append(call)

    def leaf_arrived(self, index: int, gradient: Tensor) -> None:
        """A parameter's gradient in this pass."""
        # A parameter may be reached before the loss is: through a penalty, or where no loss was recognised.
        current = self.current or self._begin(deferred=bool(self.waiting))
        current.reached.add(index)
        self._keep_unaltered(index, gradient.detach())
        if index in current.handed_over:
            current.severed = current.severed or _IN_PARTS
        elif index in current.gradients:
            current.gradients[index] = current.gradients[index] + gradient.detach()
        elif current.deferred or self._in_parts(index, current):
            current.gradients[index] = gradient.detach()
        else:
            self._hand_over(index, gradient.detach(), current)

    def _keep_unaltered(self, index: int, gradient: Tensor) -> None:
        """Adds up what hooks of the user's keep from ``.grad``: the first of a tensor's hooks is the cockpit's own."""
        tensor = self._table[index].tensor
        if index in self._unaltered:
            self._unaltered[index] = self._unaltered[index] + gradient
        elif len(tensor._backward_hooks or ()) > 1:
            self._unaltered[index] = accumulated(tensor, gradient, included=False).clone()

    def _in_parts(self, index: int, current: BackwardPass) -> bool:
        """Whether more of a parameter's gradient may come: each reentrant checkpoint has a backward pass of its own."""
        uses = self._leaves.get(id(self._table[index].tensor), 0)
        return uses > 1 or (uses == 0 and torch._C._current_graph_task_id() != current.task)

    def _begin(self, deferred: bool) -> BackwardPass:
        severed = self.accumulation.begin() or self._broken
        if any(earlier.averaged for earlier in self.begun):
            severed = severed or BEFORE
        self.current = BackwardPass(self.root, deferred, severed, averaged=self.averaged)
        self.current.unaltered = self._unaltered
        self.current.task = torch._C._current_graph_task_id()
        self.begun.append(self.current)
        if not self._seen:  # else its end is seen, too: that of the engine's task may be the end of a part
            Variable._execution_engine.queue_callback(self._guard(self._end))
        return self.current

    def _end(self) -> None:
        backward, self.current = self.current, None
        assert backward is not None
        self.accumulation.end()
        earlier = self.begun[:-1]
        if earlier and backward.reached.isdisjoint(set().union(*(other.reached for other in earlier))):
            backward.severed = backward.severed or _APART
        if earlier and backward.averaged and backward.gradients:
            backward.severed = backward.severed or WITHIN
        for index, gradient in backward.gradients.items():
            self._hand_over(index, gradient, backward)
        backward.gradients.clear()
        self._receiver.end_pass(backward)
        for call in backward.walked:
            call.release()
        self._walk.end_pass()
        self.root = None
        self._on_end()

    def _hand_over(self, index: int, gradient: Tensor, backward: BackwardPass) -> None:
        if gradient.layout != torch.strided:
            gradient = gradient.to_dense()
        backward.handed_over.add(index)
        self._receiver.gradient(index, gradient, backward)
        if self._source is None:
            return
        with torch.autocast(gradient.device.type, enabled=False):
            try:
                gradients = individual_gradients(index, self._table[index], backward, self._walk, self._source)
            except Unavailable as reason:
                self._receiver.left_out(index, str(reason))
            else:
                self._receiver.individual(index, gradients, gradient, backward)
                gradients.let_go()
        self._release(index, backward)

    def _release(self, index: int, backward: BackwardPass) -> None:
        """Lets go of the tensors of calls all of whose parameters have been handed over: the training frees them here,
        too."""
        for module, _ in self._table[index].owners:
            if backward.handed_over.issuperset(self._indices[module]):
                for call in backward.walked:
                    if call.module is module:
                        call.release()

    def close(self) -> None:
        """Forgets what no pass has come to."""
        self.waiting.clear()
        self.root = None
