"""One tracked step: from the forward pass to every parameter's individual gradients.

Order of events: modules are called and recorded; the loss call is seen and, the first time, shows where the batch axis
is; the backward pass brings output gradients and, last for each parameter, its gradient. At that moment the parameter's
individual gradients are handed to the collectors and forgotten.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.autograd.variable import Variable
from torch.utils.hooks import RemovableHandle

from cockpit.capture.accumulation import Accumulation
from cockpit.capture.afterwards import SeenLoss
from cockpit.capture.assemble import TWICE, Source, individual_gradients, sample_gradients
from cockpit.capture.backward import BackwardPass
from cockpit.capture.batch_size import Axes, batch_sizes
from cockpit.capture.calls import CallRecorder, ModuleCall, on_gradient
from cockpit.capture.forms import may_be_repeated
from cockpit.capture.forward import ForwardWatch
from cockpit.capture.graph_walk import GraphWalk
from cockpit.capture.layout import Layouts
from cockpit.capture.loss_graph import LossGraph
from cockpit.capture.losses import LossCall, beside, registered, take_apart
from cockpit.capture.module_hook import ModuleHook
from cockpit.capture.receiver import Receiver
from cockpit.capture.unavailable import Unavailable
from cockpit.capture.undisturbed import aside, undisturbed
from cockpit.capture.watch import LossWatch, Root, root_of
from cockpit.parameters import Parameter, ParameterTable

Hook = TypeVar("Hook", bound=Callable[..., Any])

_APART = (
    "the backward passes of this step reach different parameters, so they are no parts of one batch; "
    "give each a step of its own, or add the losses"
)
_BROKEN = "a backward pass of this step did not come to its end"


class Capture:
    """Hooks and function mode of one tracked step; ``open`` installs them and ``close`` leaves no trace.

    Args:
        model: The model.
        table: Its watched parameters.
        layouts: What earlier steps found out about batch axes.
        receiver: Told of everything that arrives.
        individual: Whether anybody needs individual gradients.
        on_failure: Told of an error in the cockpit's own hooks, which must not reach the user's backward pass.
        second_order: Whether anybody wants the graph of the loss before it is walked.
        source: Makes individual gradients of a parameter's module calls.
        inputs: Whether anybody looks at what the model is called with.
        outputs: Whether anybody looks at what its modules return.
    """

    def __init__(
        self,
        model: nn.Module,
        table: ParameterTable,
        layouts: Layouts,
        receiver: Receiver,
        individual: bool,
        on_failure: Callable[[Exception], None],
        second_order: bool = False,
        source: Source = sample_gradients,
        inputs: bool = False,
        outputs: bool = False,
    ) -> None:
        self._model, self._table, self._layouts, self._receiver = model, table, layouts, receiver
        self._individual, self._second_order, self._on_failure = individual, second_order, on_failure
        self._source = source
        self._recorder = CallRecorder(
            table.modules(model),
            self._guard(self._delta_arrived),
            muted=lambda: self._muted,
            again=lambda: self._current is not None,
            on_failure=on_failure,
        )
        self._watch = LossWatch(
            self._guard(self._loss_seen),
            self._guard(self._backward_called),
            self._stand_aside,
            self._backward_broke_off,
        )
        self._forward = ForwardWatch(
            model,
            table.modules(model),
            self._guard(receiver.model_called) if inputs else None,
            self._guard(receiver.module_called) if outputs else None,
            muted=lambda: self._muted,
            again=lambda: self._current is not None,
        )
        self._walk = GraphWalk(table, lambda: self._current is None or self._muted, self._guard)
        self._walks = individual and source is sample_gradients
        self.accumulation = Accumulation(p.tensor for p in table)
        self._indices = table.indices()
        self._watching = False
        self._handles: list[RemovableHandle] = []
        self._inputs: list[Axes] = []
        self._registered = False
        self._inside_optimizer = self._evaluated = False
        self._aside = False
        self._broken: str | None = None
        self._root: Root | None = None
        self._waiting: list[LossCall] = []
        self._current: BackwardPass | None = None
        self._taking: Callable[[ModuleCall, Tensor], None] | None = None
        self.passes: list[BackwardPass] = []

    def open(self) -> None:
        """Installs the hooks; the function mode is entered last."""
        if self._individual or self._second_order:
            self._recorder.attach(may_be_repeated)
        self._forward.attach()
        model_hook = ModuleHook(self._guard(self._model_called))
        self._handles.append(self._model.register_forward_pre_hook(model_hook, with_kwargs=True, prepend=True))
        for index, parameter in enumerate(self._table):
            if parameter.tensor.requires_grad:
                hook = self._guard(functools.partial(self._leaf_arrived, index, parameter))
                self._handles.append(parameter.tensor.register_hook(hook))
        self._watch.__enter__()  # type: ignore[no-untyped-call]
        self._watching = True

    def close(self) -> None:
        """Removes everything that :meth:`open` installed; a second call does nothing."""
        if self._watching:
            self._watching = False
            self._watch.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._recorder.detach()
        self._forward.detach()
        self._walk.close()
        self._waiting.clear()
        self._root = None

    def register(self, per_sample: Tensor) -> Tensor:
        """The user's own individual losses take the place of every loss call seen so far.

        Args:
            per_sample: Attached to the graph, shape ``[N]``.

        Returns:
            Their mean.
        """
        mean, call = registered(per_sample)
        if not self._registered:
            for other in self._waiting:
                other.superseded = True
            self._waiting.clear()
        self._registered = True
        if mean.requires_grad:
            self._guard(self._watch_loss)(mean, call)
        return mean

    def adopt(self, losses: Sequence[SeenLoss]) -> None:
        """Takes a forward pass that was over when this was opened, from what BackPACK has kept of it.

        Args:
            losses: Loss calls that it ended in.
        """
        self._guard(self._recorder.adopt)()
        for loss in losses:
            self._guard(self._loss_seen)(*loss)

    def adopt_individual(self, loss: Tensor, per_sample: Tensor) -> None:
        """Takes individual losses that were computed beside the loss.

        Args:
            loss: What ``backward`` will be called on, or a part of it.
            per_sample: Shape ``[N, …]``; the loss is their mean or their sum.
        """
        self._guard(self._watch_loss)(loss, beside(loss, per_sample))

    def _guard(self, hook: Hook) -> Hook:
        """Wraps a hook: an error of ours is reported, and training goes on."""

        def guarded(*args: Any, **kwargs: Any) -> None:
            try:
                with aside():
                    hook(*args, **kwargs)
            except Exception as error:
                self._on_failure(error)

        return guarded  # type: ignore[return-value]

    def _model_called(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._muted and (axes := batch_sizes(args, kwargs)) not in self._inputs:
            self._inputs.insert(0, axes)

    @property
    def _muted(self) -> bool:
        """Whether what happens now is not the reading: our own passes, gradients that the user takes aside, or an
        optimizer's further evaluations."""
        return self._layouts.measuring or self._taking is not None or self._aside or self._evaluated_again()

    def _evaluated_again(self) -> bool:
        """Whether an optimizer calls its closure once more: that clears the gradients first, micro-batches do not."""
        if not self._inside_optimizer or self._current is not None:
            return False
        self._evaluated = self._evaluated or self.accumulation.disturbed()
        return self._evaluated

    def _stand_aside(self, aside: bool) -> None:
        self._aside = aside

    def optimizer_steps(self, inside: bool) -> None:
        """Told when an optimizer begins and ends its step: of the evaluations of a closure only the first is read."""
        self._inside_optimizer, self._evaluated = inside, False

    def _loss_seen(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
    ) -> None:
        if self._registered or self._current is not None or self._muted:
            return
        if not is_functorch_wrapped_tensor(output):
            with torch.enable_grad():
                call = take_apart(function, args, kwargs, output)
            self._watch_loss(output, call)

    def _watch_loss(self, output: Tensor, call: LossCall) -> None:
        self._waiting.append(call)
        on_gradient(output, self._guard(functools.partial(self._loss_arrived, call)))
        if self._individual or self._second_order:
            calls = [c for c in self._recorder.calls if not c.walked]
            inputs = self._inputs or [batch_sizes(c.args, {}) for c in calls[:1]]
            layout = self._layouts.resolve(call, calls, inputs, self._model)
            if self._walks:
                find = functools.partial(self._layouts.find, call, self._model)
                self._walk.prepare(call, layout, calls, find)
        # Its own copy, if the user may go on with the original in place.
        call.entries = call.entries.detach() if call.reduced else call.entries.detach().clone()
        if not self._second_order:
            call.origin = None

    def _backward_called(self, *args: Any, **kwargs: Any) -> None:
        self._root = root_of(*args, **kwargs)
        if self._root is None:
            return
        if self._second_order and self._current is None and not self._muted:
            modules = [call for call in self._recorder.calls if not call.walked]
            graph = LossGraph(self._root, self._waiting, modules, self._on_the_side)
            try:
                self._receiver.before_backward(graph)
            finally:
                graph.release()
        self._root.parts.clear()

    @contextlib.contextmanager
    def _on_the_side(self, taking: Callable[[ModuleCall, Tensor], None]) -> Iterator[None]:
        self._taking = taking
        try:
            with undisturbed(self._model):
                yield
        finally:
            self._taking = None

    def _backward_broke_off(self) -> None:
        """It raised. If the user goes on, what it left cannot be told from what comes then."""
        if self._current is not None:
            self._broken, self._current = _BROKEN, None

    def _begin(self, deferred: bool) -> BackwardPass:
        self._current = BackwardPass(self._root, deferred, self.accumulation.begin() or self._broken)
        self.passes.append(self._current)
        Variable._execution_engine.queue_callback(self._guard(self._end_pass))
        return self._current

    def _loss_arrived(self, call: LossCall, gradient: Tensor) -> None:
        if self._muted or call.superseded:
            return
        current = self._current or self._begin(deferred=len(self._waiting) > 1)
        if call.arrived is not None:
            call = dataclasses.replace(call)
            current.problem = TWICE
        self._waiting = [waiting for waiting in self._waiting if waiting is not call]
        call.arrive(gradient)
        current.losses.append(call)

    def _delta_arrived(self, call: ModuleCall, delta: Tensor) -> None:
        if self._layouts.measuring:
            self._layouts.cotangent(call, delta)
        elif self._taking is not None:
            self._taking(call, delta)
        elif self._current is not None and not self._muted:
            if call.walked:
                self._current.problem = TWICE
            call.walked, call.delta = True, delta
            self._current.walked.append(call)

    def _leaf_arrived(self, index: int, parameter: Parameter, gradient: Tensor) -> None:
        if self._muted:
            return
        # A parameter may be reached before the loss is: through a penalty, or where no loss was recognised.
        current = self._current or self._begin(deferred=bool(self._waiting))
        current.reached.add(index)
        if current.deferred:
            current.gradients.append((index, gradient.detach()))
        else:
            self._hand_over(index, gradient.detach(), current)

    def _end_pass(self) -> None:
        backward, self._current = self._current, None
        assert backward is not None
        self.accumulation.end()
        earlier = self.passes[:-1]
        if earlier and backward.reached.isdisjoint(set().union(*(other.reached for other in earlier))):
            backward.severed = backward.severed or _APART
        for index, gradient in backward.gradients:
            self._hand_over(index, gradient, backward)
        backward.gradients.clear()
        self._receiver.end_pass(backward)
        self._forward.end_pass()
        for call in backward.walked:
            call.release()
        self._walk.end_pass()
        self._root = None
        self._inputs.clear()

    def _hand_over(self, index: int, gradient: Tensor, backward: BackwardPass) -> None:
        if gradient.layout != torch.strided:
            gradient = gradient.to_dense()
        self._receiver.gradient(index, gradient, backward)
        if not self._individual:
            return
        with torch.autocast(gradient.device.type, enabled=False):
            try:
                gradients = individual_gradients(index, self._table[index], backward, self._walk, self._source)
            except Unavailable as reason:
                self._receiver.left_out(index, str(reason))
            else:
                self._receiver.individual(index, gradients, gradient, backward)
        self._release(index, backward)

    def _release(self, index: int, backward: BackwardPass) -> None:
        """Lets go of the tensors of calls all of whose parameters have been handed over: the training frees them here,
        too."""
        backward.handed_over.add(index)
        for module, _ in self._table[index].owners:
            if backward.handed_over.issuperset(self._indices[module]):
                for call in backward.walked:
                    if call.module is module:
                        call.release()
