"""Calls of modules that own parameters: what went in, and the gradient that comes back to what came out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils.hooks import RemovableHandle

from cockpit.capture.batch_axis import BatchAxis
from cockpit.capture.hooks.extended import last_call
from cockpit.capture.hooks.module_hook import ModuleHook
from cockpit.capture.hooks.tensor_hooks import hooked_tensor, move, on_gradient
from cockpit.capture.hooks.undisturbed import aside
from cockpit.parameters import Parameter

UNCALLED = "it reaches the loss without a call of the module that owns it"


@dataclass(eq=False)
class ModuleCall:
    """One call of one module in a tracked step.

    Args:
        module: The module.
        name: Its dotted name in the model.
        args: Positional arguments, detached where they are tensors.
        kwargs: Keyword arguments, likewise.
        output_shape: Shape of the output tensor; of the first, if there are several.
        output_dtype: Its dtype: lower than the input's under autocast.
        unrepeatable: Why calling the module again would not do the same; ``None`` if it would.
        several_outputs: Whether more than one output takes part in the graph.
        edge: Where the output hangs in the graph, until the backward pass has walked it.
        reached: Whether the gradient of a single sample's loss came by when the batch axis was looked for.
        together: Whether a hook changes the gradients of several samples together.
        hook: On the output.
    """

    module: nn.Module
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output_shape: torch.Size
    output_dtype: torch.dtype
    unrepeatable: str | None = None
    several_outputs: bool = False
    edge: GradientEdge | None = field(default=None, repr=False)
    axis: BatchAxis | None = None
    problem: str | None = None
    reached: bool = False
    together: bool = False
    walked: bool = False
    delta: Tensor | None = field(default=None, repr=False)
    hook: RemovableHandle | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._versions = versions(self.args)

    @property
    def input(self) -> Tensor | None:
        """The first positional argument, if it is a tensor."""
        return self.args[0] if self.args and isinstance(self.args[0], Tensor) else None

    def changed(self) -> bool:
        """Whether an argument was overwritten since the call."""
        return versions(self.args) != self._versions

    def signature(self) -> tuple[Any, ...]:
        """What has to stay the same for the batch axis to stay where it was found."""
        shape = None if self.input is None else tuple(self.input.shape)
        return (self.name, shape, tuple(self.output_shape), self.module.training)

    def stand_last(self) -> bool:
        """Moves the hook on the output behind those of the user's, which may change the gradient that goes on.

        Returns:
            Whether there are any.
        """
        hooks = None if self.hook is None else self.hook.hooks_dict_ref()
        if self.hook is None or hooks is None or len(hooks) == 1 or self.hook.id not in hooks:
            return False
        move(hooks, self.hook.id, first=False)
        return any(getattr(hook, "__module__", None) != on_gradient.__module__ for hook in hooks.values())

    def release(self) -> None:
        """Lets go of all tensors: nobody asks for them after the backward pass."""
        self.args, self.kwargs, self.delta, self.edge = (), {}, None, None


def calls_of(parameter: Parameter, calls: Iterable[ModuleCall]) -> list[tuple[ModuleCall, str]]:
    """Which calls are of modules that own a parameter, and what the parameter is called there.

    Args:
        parameter: The parameter.
        calls: The calls to choose from; their order stays.
    """
    calls = list(calls)
    return [(call, attribute) for module, attribute in parameter.owners for call in calls if call.module is module]


class CallRecorder:
    """Hooks on modules that own tracked parameters, alive only while a tracked step is open.

    Args:
        modules: Modules by dotted name.
        on_delta: Called with a call and the gradient at its output, in the output's own layout.
        muted: Asked at each call whether to let it pass unrecorded.
        again: Asked at each call whether it is made in a backward pass, where activations are computed again.
        on_again: Given such a call. No gradient returns to it, unless a backward pass runs inside the backward pass, as
            under a reentrant checkpoint: there it is the only one that gradients return to.
        on_failure: Told of an error, which must not reach the user's forward pass.

    Attributes:
        calls: Those that no backward pass has come to yet.
        order: Names of all modules that were called, in the order in which their first calls returned.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        on_delta: Callable[[ModuleCall, Tensor], None],
        muted: Callable[[], bool],
        again: Callable[[], bool],
        on_again: Callable[[ModuleCall], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._modules, self._on_delta, self._muted = modules, on_delta, muted
        self._again, self._on_again, self._on_failure = again, on_again, on_failure
        self._apart: list[ModuleCall] | None = None
        self._handles: list[RemovableHandle] = []
        self._before: dict[nn.Module, tuple[Tensor, list[int]]] = {}
        self.calls: list[ModuleCall] = []
        self.order: dict[str, None] = {}

    def attach(self, may_be_repeated: Callable[[nn.Module], bool]) -> None:
        """Installs the hooks.

        Args:
            may_be_repeated: Which modules may be called again, so that one has to know whether that does the same.
        """
        foreign = {module for module in self._modules.values() if any(map(_hooked, module.modules()))}
        for name, module in self._modules.items():
            if may_be_repeated(module):
                self._handles.append(module.register_forward_pre_hook(ModuleHook(self._remember)))
            hook = self._forward_hook(name, module in foreign)
            # First in line: a hook of the user's may replace the output, and the closed forms know only the raw one.
            self._handles.append(module.register_forward_hook(ModuleHook(hook), with_kwargs=True, prepend=True))

    def detach(self) -> None:
        """Removes every hook and forgets the calls."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._before.clear()
        for call in self.calls:  # those that no backward pass came to; the user may keep their graph
            call.release()
        self.calls = []

    def _remember(self, module: nn.Module, args: Any) -> None:
        self._before[module] = (torch.get_rng_state(), versions(args))

    def _forward_hook(self, name: str, foreign: bool) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            before = self._before.pop(module, None)
            if not torch.is_grad_enabled() or (self._apart is None and self._muted()):
                return
            with aside():
                self._record(module, name, args, kwargs, output, _unrepeatable(args, before, foreign))

        return hook

    @property
    def open(self) -> list[ModuleCall]:
        """Calls that no gradient has come back to yet."""
        return [call for call in self.calls if not call.walked]

    def stand_last(self) -> None:
        """Moves the hooks on all outputs behind those that the user has placed since."""
        for call in self.calls:
            call.stand_last()

    @contextlib.contextmanager
    def apart(self) -> Iterator[list[ModuleCall]]:
        """Inside the block calls are recorded in a list of their own, muted or not."""
        around, self._apart = self._apart, []
        try:
            yield self._apart
        finally:
            self._apart = around

    def adopt(self) -> None:
        """Takes calls that were made before the hooks were there, as BackPACK has kept them: each module's last."""
        for name, module in self._modules.items():
            if (kept := last_call(module)) is not None:
                args, output = kept
                self._record(module, name, args, {}, output, _may_draw(module))

    def _record(
        self,
        module: nn.Module,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
        unrepeatable: str | None,
    ) -> None:
        outputs = [t for t in tensors_in(output) if t.requires_grad]
        if not outputs or is_functorch_wrapped_tensor(outputs[0]):
            return
        call = ModuleCall(
            module,
            name,
            tuple(_detached(a) for a in args),
            {key: _detached(value) for key, value in kwargs.items()},
            outputs[0].shape,
            outputs[0].dtype,
            unrepeatable=unrepeatable,
            several_outputs=len(outputs) > 1,
        )
        if self._apart is None and self._again():
            self._on_again(call)
        else:
            (self.calls if self._apart is None else self._apart).append(call)
            self.order.setdefault(name)
            call.edge = get_gradient_edge(hooked_tensor(outputs[0]))
        try:
            call.hook = on_gradient(outputs[0], lambda gradient: self._on_delta(call, gradient))
        except Exception as error:
            self._on_failure(error)


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _unrepeatable(args: tuple[Any, ...], before: tuple[Tensor, list[int]] | None, foreign: bool) -> str | None:
    """Why a call that has just been made could not be made again."""
    if before is None:
        return None
    if foreign:
        return "has hooks of its own"
    if not torch.equal(before[0], torch.get_rng_state()):
        return "drew random numbers"
    return "changes its input in place" if versions(args) != before[1] else None


def _may_draw(module: nn.Module) -> str | None:
    """Why a call that was not watched could not be made again."""
    own = type(module).__module__.startswith("torch.nn.")
    draws = any(getattr(m, "dropout", 0) for m in module.modules()) and module.training
    return None if own and not draws else "may have drawn random numbers"


def versions(args: tuple[Any, ...]) -> list[int]:
    """How often each tensor among the arguments has been overwritten; inference tensors cannot tell."""
    return [a._version for a in args if isinstance(a, Tensor) and not a.is_inference()]


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and mappings, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value
