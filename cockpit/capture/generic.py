"""Last resort: individual gradients by vectorising a module's own vector-Jacobian product."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from cockpit.capture.calls import ModuleCall, tensors_in
from cockpit.capture.gradients import SampleGradients
from cockpit.capture.unavailable import Unavailable
from cockpit.capture.workspace import Workspace


class VectorisedGradients(SampleGradients):
    """``G_n = (∂ f(x_n) / ∂ p)ᵀ δ_n`` for any module that treats samples alike and draws no random numbers.

    Args:
        call: The call, whose batch axis is known.
        delta: Output gradient, in the output's layout.
        attribute: The parameter's name in the module.
        samples: Batch size ``N``.

    Raises:
        Unavailable: Where vectorising would give something else than what the call did, or cannot be done at all.
    """

    def __init__(self, call: ModuleCall, delta: Tensor, attribute: str, samples: int) -> None:
        parameter = getattr(call.module, attribute)
        super().__init__(samples, parameter.shape)
        axis = call.axis
        assert axis is not None
        kind = type(call.module).__name__
        if call.drew_random_numbers:
            raise Unavailable(f"'{call.name}' ({kind}) drew random numbers, so its forward pass cannot be repeated")
        if axis.coupled or delta.shape[axis.dim] != samples:
            raise Unavailable(f"'{call.name}' ({kind}) mixes samples and has no closed form")
        self._call, self._parameter, self._attribute, self._dim = call, parameter.detach(), attribute, axis.dim
        self._delta = delta.movedim(axis.dim, 0)
        self._args = [a.movedim(self._dim, 0) if self._batched(a) else a for a in call.args]
        # One sample in rehearsal: what cannot be vectorised says so here, where a reason can still be recorded.
        try:
            self._pull(0, 1)
        except (RuntimeError, ValueError, NotImplementedError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise Unavailable(f"'{call.name}' ({kind}) has no closed form; vectorising failed: {reason}") from error

    def _form_rows(self, workspace: Workspace) -> Iterator[tuple[int, Tensor]]:
        """A chunk of samples at a time."""
        step = workspace.chunk(self.samples, 4 * self.numel * self._delta.element_size())
        for start in range(0, self.samples, step):
            yield start, self._pull(start, min(start + step, self.samples)).flatten(1).contiguous()

    def nbytes(self) -> int:
        """Bytes of inputs and output gradients."""
        held = [self._delta, *(a for a in self._args if isinstance(a, Tensor))]
        return sum(t.numel() * t.element_size() for t in held)

    def _batched(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.dim() > self._dim and value.shape[self._dim] == self.samples

    def _pull(self, start: int, stop: int) -> Tensor:
        batched = [index for index, original in enumerate(self._call.args) if self._batched(original)]
        inputs = [self._args[index][start:stop] for index in batched]
        with torch.enable_grad(), without_hooks(self._call.module):
            pulled: Tensor = vmap(self._one_sample(batched), randomness="error")(self._delta[start:stop], *inputs)
        return pulled.detach()

    def _one_sample(self, batched: list[int]) -> Callable[..., Tensor]:
        def pull(delta: Tensor, *inputs: Tensor) -> Tensor:
            args = list(self._args)
            for index, tensor in zip(batched, inputs, strict=True):
                args[index] = tensor.unsqueeze(self._dim)

            def forward(parameter: Tensor) -> Tensor:
                output = functional_call(
                    self._call.module, {self._attribute: parameter}, tuple(args), dict(self._call.kwargs)
                )
                return next(tensors_in(output))

            pullback = vjp(forward, self._parameter)[1]
            (gradient,) = pullback(delta.unsqueeze(self._dim).to(self._call.output_dtype))
            return gradient  # type: ignore[no-any-return]

        return pull


class without_hooks:  # noqa: N801 - a context manager
    """Calls inside the block run no forward hook of the module or of anything in it.

    Args:
        module: The module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._modules = list(module.modules())
        self._saved: list[tuple[Any, Any]] = []

    def __enter__(self) -> None:
        self._saved = [(m._forward_hooks, m._forward_pre_hooks) for m in self._modules]
        for m in self._modules:
            m._forward_hooks, m._forward_pre_hooks = type(m._forward_hooks)(), type(m._forward_pre_hooks)()

    def __exit__(self, *_: object) -> None:
        for m, (hooks, pre_hooks) in zip(self._modules, self._saved, strict=True):
            m._forward_hooks, m._forward_pre_hooks = hooks, pre_hooks
