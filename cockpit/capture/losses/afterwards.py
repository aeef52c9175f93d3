"""What can still be found out about a forward pass when it is over: which modules took part, and which losses."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.nn.modules.loss import _Loss
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from cockpit.capture.hooks.extended import is_extended, last_call
from cockpit.capture.losses.taking_apart import LOSS_FUNCTIONS

SeenLoss: TypeAlias = "tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Tensor]"
"""A function of ``torch.nn.functional``, its arguments, keyword arguments, and what it returned."""


class ModuleFinder:
    """Finds the modules that own given parameters, and extended loss modules, when they are called.

    A hook for all modules of the process, so it should be stopped as soon as possible.

    Args:
        parameters: The parameters.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.missing = {id(p) for p in parameters}
        """Parameters whose module was not called yet."""
        self.roots: list[nn.Module] = []
        """Outermost modules that own some of the parameters."""
        self.losses: list[_Loss] = []
        """Loss modules that BackPACK has extended."""
        watch = weakref.WeakMethod(self._called)

        def hook(module: nn.Module, args: Any) -> None:
            if (called := watch()) is not None:
                called(module)

        self._handle = register_module_forward_pre_hook(hook)
        weakref.finalize(self, self._handle.remove)

    def stop(self) -> None:
        """Removes the hook; a second call does nothing."""
        self._handle.remove()

    def _called(self, module: nn.Module) -> None:
        if isinstance(module, _Loss):
            if is_extended(module) and not any(module is known for known in self.losses):
                self.losses.append(module)
        elif self.missing and (found := self.missing & {id(p) for p in module.parameters()}):
            self.missing -= found
            inside = {id(m) for m in module.modules()}
            self.roots = [*(root for root in self.roots if id(root) not in inside), module]


def seen_loss(module: _Loss) -> SeenLoss | None:
    """The function that an extended loss module called last, from what BackPACK has kept.

    Returns:
        The call; ``None`` if nothing is kept, or the module calls no loss function of PyTorch's.
    """
    kept = last_call(module)
    if kept is None:
        return None
    inputs, output = kept
    intercept = _Intercept(output)
    with intercept:
        module.forward(*inputs)
    return intercept.seen


class _Intercept(TorchFunctionMode):
    """Notes the first call of a loss function, which is not made: its result is there already."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self._output = output
        self.seen: SeenLoss | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Lets everything pass but losses."""
        if func not in LOSS_FUNCTIONS:
            return func(*args, **(kwargs or {}))
        self.seen = self.seen or (func, args, dict(kwargs or {}), self._output)
        return self._output
