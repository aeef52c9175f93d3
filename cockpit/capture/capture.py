"""One tracked step: hooks on everything that happens in it, and what of that is not the step's own.

Order of events: modules are called and recorded; the loss call is seen and, the first time, shows where the batch axis
is; ``backward`` is called, and second derivatives can still be taken; what the pass itself brings is put together in
``passes.py``.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.utils.hooks import RemovableHandle

from cockpit.capture.backward.accumulation import Accumulation
from cockpit.capture.backward.assemble import Source, sample_gradients
from cockpit.capture.backward.averaging import is_averaged
from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.backward.passes import Passes
from cockpit.capture.batch_size import Axes, batch_sizes
from cockpit.capture.hooks.calls import CallRecorder, ModuleCall
from cockpit.capture.hooks.compiled import AsWritten
from cockpit.capture.hooks.forward import ForwardWatch
from cockpit.capture.hooks.guard import Guard
from cockpit.capture.hooks.module_hook import ModuleHook
from cockpit.capture.hooks.tensor_hooks import move, on_gradient
from cockpit.capture.hooks.undisturbed import undisturbed, without_tensor_hooks
from cockpit.capture.individual.forms import may_be_repeated
from cockpit.capture.losses.afterwards import SeenLoss
from cockpit.capture.losses.loss_call import LossCall
from cockpit.capture.losses.taking_apart import beside, registered, take_apart
from cockpit.capture.losses.watch import LossWatch
from cockpit.capture.receiver import Receiver
from cockpit.capture.samples.known_layout import Layout, place_again
from cockpit.capture.samples.layout import Layouts
from cockpit.capture.second_order.loss_graph import LossGraph
from cockpit.capture.walk.graph_walk import GraphWalk
from cockpit.parameters import ParameterTable


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
        self._individual, self._second_order = individual, second_order
        self._guard = Guard(on_failure)
        self._walk = GraphWalk(table, lambda: not self._in_pass() or self._muted, self._guard)
        self._walks = individual and source is sample_gradients
        self._passes = Passes(table, receiver, self._walk, source if individual else None, self._guard, self._pass_over)
        self._recorder = CallRecorder(
            table.modules(model),
            self._guard(self._delta_arrived),
            muted=lambda: self._muted,
            again=lambda: self._passes.running,
            on_again=self._guard(self._called_again),
            on_failure=on_failure,
        )
        self._watch = LossWatch(
            self._guard(self._loss_seen),
            self._guard(self._backward_called),
            self._stand_aside,
            self._guard(lambda: self._passes.returned()),
            lambda: self._passes.broke_off(),
        )
        self._forward = ForwardWatch(
            model,
            table.modules(model),
            self._guard(receiver.model_called) if inputs else None,
            self._guard(receiver.module_called) if outputs else None,
            muted=lambda: self._muted,
            again=self._in_pass,
        )
        self._watching = False
        self._handles: list[RemovableHandle | AsWritten] = []
        self._inputs: list[Axes] = []
        self._laid_out: dict[LossCall, Layout] = {}
        self._registered = False
        self._inside_optimizer = self._evaluated = False
        self._aside = False
        self._taking: Callable[[ModuleCall, Tensor], None] | None = None

    @property
    def passes(self) -> list[BackwardPass]:
        """The step's backward passes, in order."""
        return self._passes.begun

    @property
    def accumulation(self) -> Accumulation:
        """Whether they add up to one gradient."""
        return self._passes.accumulation

    @property
    def returned(self) -> list[str]:
        """Names of modules with parameters in the order in which they first returned, as far as they were looked at."""
        return list(self._recorder.order)

    def open(self) -> None:
        """Installs the hooks; the function mode is entered last."""
        self._handles.append(AsWritten())
        if self._individual or self._second_order:
            self._recorder.attach(may_be_repeated)
        self._forward.attach()
        model_hook = ModuleHook(self._guard(self._model_called))
        self._handles.append(self._model.register_forward_pre_hook(model_hook, with_kwargs=True, prepend=True))
        for index, parameter in enumerate(self._table):
            if parameter.tensor.requires_grad:
                handle = parameter.tensor.register_hook(self._guard(functools.partial(self._leaf_arrived, index)))
                # First in line: hooks of the user's may alter the gradient, as clipping does.
                move(cast(dict[int, Any], parameter.tensor._backward_hooks), handle.id, first=True)
                self._handles.append(handle)
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
        self._passes.close()
        self._laid_out.clear()

    def register(self, per_sample: Tensor) -> Tensor:
        """The user's own individual losses take the place of every loss call seen so far.

        Args:
            per_sample: Attached to the graph, shape ``[N]``.

        Returns:
            Their mean.
        """
        mean, call = registered(per_sample)
        if not self._registered:
            self._passes.supersede()
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

    def _model_called(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._muted:
            return
        self._passes.averaged = is_averaged(module)
        axes = batch_sizes(args, kwargs)
        if axes and axes not in self._inputs:
            self._inputs.insert(0, axes)

    def _in_pass(self) -> bool:
        """Whether a backward pass of the user's is running."""
        return self._passes.current is not None

    @property
    def _muted(self) -> bool:
        """Whether what happens now is not the reading: our own passes, gradients that the user takes aside, or an
        optimizer's further evaluations."""
        return self._layouts.measuring or self._taking is not None or self._aside or self._evaluated_again()

    def _evaluated_again(self) -> bool:
        """Whether an optimizer calls its closure once more: that clears the gradients first, micro-batches do not."""
        if not self._inside_optimizer or self._in_pass():
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
        if self._registered or self._in_pass() or self._muted:
            return
        if not is_functorch_wrapped_tensor(output):
            with torch.enable_grad():
                call = take_apart(function, args, kwargs, output)
            self._watch_loss(output, call)

    def _watch_loss(self, output: Tensor, call: LossCall) -> None:
        self._passes.waiting.append(call)
        call.node = output.grad_fn
        on_gradient(output, self._guard(functools.partial(self._loss_arrived, call)))
        if self._individual or self._second_order:
            call.look_behind()
            calls = self._recorder.open
            inputs = self._inputs or [batch_sizes(c.args, dict(c.kwargs)) for c in calls[:1]]
            layout = self._layouts.resolve(call, calls, inputs, self._model, self._recorder.apart)
            self._laid_out[call] = layout
            if self._walks:
                find = functools.partial(self._layouts.find, call, self._model, self._recorder.apart)
                self._walk.prepare(call, layout, calls, find)
            call.graph = None
        # Its own copy, if the user may go on with the original in place.
        call.entries = call.entries.detach() if call.reduced else call.entries.detach().clone()
        if not self._second_order:
            call.origin = None

    def _backward_called(self, *args: Any, **kwargs: Any) -> None:
        root = self._passes.called(*args, **kwargs)
        if root is None:
            return
        self._recorder.stand_last()
        self._passes.expect(layout.leaves for layout in self._laid_out.values())
        if self._second_order and not self._in_pass() and not self._muted:
            graph = LossGraph(root, self._passes.waiting, self._recorder.open, self._on_the_side)
            try:
                self._receiver.before_backward(graph)
            finally:
                graph.release()
        root.parts.clear()

    @contextlib.contextmanager
    def _on_the_side(self, taking: Callable[[ModuleCall, Tensor], None]) -> Iterator[None]:
        self._taking = taking
        try:
            with undisturbed(self._model), without_tensor_hooks(parameter.tensor for parameter in self._table):
                yield
        finally:
            self._taking = None

    def _loss_arrived(self, call: LossCall, gradient: Tensor) -> None:
        if not self._muted and not call.superseded:
            self._passes.loss_arrived(call, gradient)

    def _delta_arrived(self, call: ModuleCall, delta: Tensor) -> None:
        if self._layouts.measuring:
            self._layouts.cotangent(call, delta)
        elif self._taking is not None:
            self._taking(call, delta)
        elif not self._muted:
            self._passes.delta_arrived(call, delta)

    def _called_again(self, call: ModuleCall) -> None:
        """A checkpoint computes its layers again; if it is a reentrant one, their output gradients are yet to come."""
        place_again(call, list(self._laid_out.values()))

    def _leaf_arrived(self, index: int, gradient: Tensor) -> None:
        if not self._muted:
            self._passes.leaf_arrived(index, gradient)

    def _pass_over(self) -> None:
        self._forward.end_pass()
        self._inputs.clear()
        self._laid_out = {call: self._laid_out[call] for call in self._passes.waiting if call in self._laid_out}
