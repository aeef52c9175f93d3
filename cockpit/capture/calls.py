"""Calls of modules that own parameters: what went in, and the gradient that comes back to what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from cockpit.capture.batch_axis import BatchAxis


@dataclass(eq=False)
class ModuleCall:
    """One call of one module in a tracked step.

    Args:
        module: The module.
        name: Its dotted name in the model.
        args: Positional arguments, detached where they are tensors.
        kwargs: Keyword arguments, likewise.
        output_shape: Shape of the (only) output tensor.
        output_dtype: Its dtype: lower than the input's under autocast.
        drew_random_numbers: Whether the CPU generator moved during the call.
    """

    module: nn.Module
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output_shape: torch.Size
    output_dtype: torch.dtype
    drew_random_numbers: bool = False
    several_outputs: bool = False
    axis: BatchAxis | None = None
    problem: str | None = None
    delta: Tensor | None = field(default=None, repr=False)

    @property
    def input(self) -> Tensor | None:
        """The first positional argument, if it is a tensor."""
        return self.args[0] if self.args and isinstance(self.args[0], Tensor) else None

    def signature(self) -> tuple[Any, ...]:
        """What has to stay the same for the batch axis to stay where it was found."""
        shape = None if self.input is None else tuple(self.input.shape)
        return (self.name, shape, tuple(self.output_shape), self.module.training)


class CallRecorder:
    """Hooks on modules that own tracked parameters, alive only while a tracked step is open.

    Args:
        modules: Modules by dotted name.
        on_delta: Called with a call and the gradient at its output, in the output's own layout.
        muted: Asked at each call whether to let it pass unrecorded.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        on_delta: Callable[[ModuleCall, Tensor], None],
        muted: Callable[[], bool],
    ) -> None:
        self._modules, self._on_delta, self._muted = modules, on_delta, muted
        self._handles: list[RemovableHandle] = []
        self._generator_states: dict[nn.Module, Tensor] = {}
        self.calls: list[ModuleCall] = []

    def attach(self, watch_randomness: Callable[[nn.Module], bool]) -> None:
        """Installs the hooks.

        Args:
            watch_randomness: For which modules to notice whether they draw random numbers.
        """
        for name, module in self._modules.items():
            if watch_randomness(module):
                self._handles.append(module.register_forward_pre_hook(self._remember_generator))
            hook = self._forward_hook(name)
            # First in line: a hook of the user's may replace the output, and the closed forms know only the raw one.
            self._handles.append(module.register_forward_hook(hook, with_kwargs=True, prepend=True))

    def detach(self) -> None:
        """Removes every hook and forgets the calls."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._generator_states.clear()
        self.calls = []

    def _remember_generator(self, module: nn.Module, args: Any) -> None:
        self._generator_states[module] = torch.get_rng_state()

    def _forward_hook(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            outputs = [t for t in tensors_in(output) if t.requires_grad]
            if not outputs or not torch.is_grad_enabled() or self._muted():
                return
            before = self._generator_states.pop(module, None)
            call = ModuleCall(
                module,
                name,
                tuple(_detached(a) for a in args),
                {key: _detached(value) for key, value in kwargs.items()},
                outputs[0].shape,
                outputs[0].dtype,
                drew_random_numbers=before is not None and not torch.equal(before, torch.get_rng_state()),
                several_outputs=len(outputs) > 1,
            )
            self.calls.append(call)
            self._watch_output(call, outputs[0])

        return hook

    def _watch_output(self, call: ModuleCall, output: Tensor) -> None:
        # A hook on a view is orphaned, silently, by an in-place operation that follows; a hook on its base is not.
        base = output._base if output._is_view() else None
        if base is None:
            output.register_hook(lambda gradient: self._on_delta(call, gradient.detach()))
            return
        size, stride, offset = output.size(), output.stride(), output.storage_offset() - base.storage_offset()
        base_size, base_stride = base.size(), base.stride()

        def view_hook(gradient: Tensor) -> None:
            gradient = gradient.detach()
            if gradient.stride() != base_stride:
                gradient = gradient.new_empty_strided(base_size, base_stride).copy_(gradient)
            self._on_delta(call, gradient.as_strided(size, stride, gradient.storage_offset() + offset))

        base.register_hook(view_hook)


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
