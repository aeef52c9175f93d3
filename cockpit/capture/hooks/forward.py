"""What goes into the model and comes out of its modules while a tracked step is open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.hooks import RemovableHandle

from cockpit.capture.batch_size import handed_over
from cockpit.capture.hooks.calls import tensors_in
from cockpit.capture.hooks.module_hook import ModuleHook

_CHANNELS_SECOND = (_ConvNd, _NormBase, nn.GroupNorm)
_NOT_LOOKED_AT = (_DropoutNd, nn.Identity, nn.Flatten, nn.Unflatten)


@dataclass(frozen=True, eq=False)
class ModuleOutput:
    """What a module returned, as it was at that moment.

    Args:
        name: The module's dotted name; the model itself has none.
        value: The output, the first if there are several; detached.
        axis: The axis of its units: channels, features.
        weighted: Whether the module owns watched parameters.
    """

    name: str
    value: Tensor
    axis: int
    weighted: bool


class ForwardWatch:
    """Hooks on the model and on modules that transform activations: those with parameters, and activation functions.

    Modules without parameters count if they have no children and return as many numbers as they are given; dropout
    and what only rearranges do not. Calls without gradient are evaluations and let pass, unless a checkpoint repeats
    them in the backward pass; of what is computed twice, the first time counts.

    Args:
        model: The model.
        weighted: Modules that own watched parameters, by dotted name.
        on_batch: Called with the first tensor that the model is called with; ``None`` where nobody asks.
        on_output: Called with every module's output; ``None`` where nobody asks.
        muted: Asked at each call whether to let it pass.
        again: Asked at each call whether it is made in a backward pass.
    """

    def __init__(
        self,
        model: nn.Module,
        weighted: Mapping[str, nn.Module],
        on_batch: Callable[[Tensor], None] | None,
        on_output: Callable[[ModuleOutput], None] | None,
        muted: Callable[[], bool],
        again: Callable[[], bool],
    ) -> None:
        self._model, self._weighted = model, weighted
        self._on_batch, self._on_output = on_batch, on_output
        self._muted, self._again = muted, again
        self._training = model.training
        self._handles: list[RemovableHandle] = []
        self._called: set[str] = set()  # in the forward pass, since the last backward pass
        self._axis: int | None = None  # of the last module that has parameters

    def attach(self) -> None:
        """Installs the hooks."""
        if self._on_batch is not None:
            hook = ModuleHook(self._model_called)
            self._handles.append(self._model.register_forward_pre_hook(hook, with_kwargs=True, prepend=True))
        if self._on_output is not None:
            for name, module in self._model.named_modules():
                if name in self._weighted or _transforms(module):
                    output_hook = ModuleHook(self._output_hook(name))
                    self._handles.append(module.register_forward_hook(output_hook, prepend=True))

    def detach(self) -> None:
        """Removes every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def end_pass(self) -> None:
        """A backward pass is over; what is called from now on belongs to the next."""
        self._called.clear()

    def _passes(self, name: str) -> bool:
        """Whether a call is none that is looked at."""
        if not torch.is_grad_enabled() or self._muted() or self._model.training != self._training:
            return True
        if self._again():
            return name in self._called
        self._called.add(name)
        return False

    def _model_called(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        assert self._on_batch is not None
        batch = next(handed_over((args, kwargs)), None)
        if batch is not None and not is_functorch_wrapped_tensor(batch) and not self._passes("the model is called"):
            self._on_batch(batch.detach())

    def _output_hook(self, name: str) -> Callable[..., None]:
        weighted = name in self._weighted

        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            assert self._on_output is not None
            value = next(tensors_in(output), None)
            if value is None or is_functorch_wrapped_tensor(value) or self._passes(name):
                return
            if not weighted and not (args and isinstance(args[0], Tensor) and args[0].shape == value.shape):
                return
            if weighted:
                self._axis = 1 if isinstance(module, _CHANNELS_SECOND) else -1
            axis = self._axis or (1 if value.dim() > 3 else -1)
            self._on_output(ModuleOutput(name, value.detach(), axis if value.dim() > 1 else -1, weighted))

        return hook


def _transforms(module: nn.Module) -> bool:
    """Whether a module may be an activation function."""
    return (
        next(module.children(), None) is None
        and next(module.parameters(), None) is None
        and not isinstance(module, _NOT_LOOKED_AT)
    )
