"""Last resort: individual gradients by vectorising a module's own vector-Jacobian product."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from cockpit.capture.batch_axis import BatchAxis
from cockpit.capture.hooks.calls import ModuleCall, tensors_in
from cockpit.capture.hooks.undisturbed import without_hooks
from cockpit.capture.individual.gradients import SampleGradients
from cockpit.capture.individual.workspace import Workspace
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import working


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
        self._call = f"'{call.name}' ({type(call.module).__name__})"
        self._require_repeatable(call, axis)
        if delta.shape[axis.dim] != samples:
            raise Unavailable(f"{self._call} mixes samples and has no closed form")
        # Copies: the optimizer may have stepped by the time that rows are asked for.
        self._values = {name: p.detach().clone() for name, p in call.module.named_parameters()}
        self._module, self._parameter, self._attribute = call.module, parameter.detach().clone(), attribute
        self._dim, self._dtype = axis.dim, call.output_dtype
        self._delta = delta.movedim(axis.dim, 0)
        self._batched = [i for i, a in enumerate(call.args) if self._has_batch(a)]
        self._args = [a.movedim(self._dim, 0) if i in self._batched else a for i, a in enumerate(call.args)]
        self._kwargs = dict(call.kwargs)
        # One sample in rehearsal: what cannot be vectorised says so here, where a reason can still be recorded. The
        # last, because the first may be special, as an offset of 0 is.
        try:
            self._pull(samples - 1, samples)
        except (RuntimeError, ValueError, NotImplementedError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise Unavailable(f"{self._call} has no closed form; vectorising failed: {reason}") from error

    def _require_repeatable(self, call: ModuleCall, axis: BatchAxis) -> None:
        if call.unrepeatable is not None:
            raise Unavailable(f"{self._call} {call.unrepeatable}, so its forward pass cannot be repeated")
        if call.changed():
            raise Unavailable(f"the input of {self._call} was overwritten after the call")
        if axis.coupled or any(map(_uses_batch_statistics, call.module.modules())):
            raise Unavailable(f"{self._call} mixes samples and has no closed form")

    def _form_rows(self, workspace: Workspace) -> Iterator[tuple[int, Tensor]]:
        """A chunk of samples at a time."""
        step = workspace.chunk(self.samples, 4 * self.numel * self._delta.element_size())
        for start in range(0, self.samples, step):
            yield start, self._pull(start, min(start + step, self.samples)).reshape(-1, self.numel).contiguous()

    def nbytes(self) -> int:
        """Bytes of inputs and output gradients."""
        held = [self._delta, *(a for a in self._args if isinstance(a, Tensor))]
        return sum(t.numel() * t.element_size() for t in held)

    def _has_batch(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.dim() > self._dim and value.shape[self._dim] == self.samples

    def _pull(self, start: int, stop: int) -> Tensor:
        inputs = [self._args[index][start:stop] for index in self._batched]
        device = self._delta.device.type
        # Where autocast lowered the output, it has to do so again.
        lowered = self._dtype in (torch.float16, torch.bfloat16) and self._parameter.dtype != self._dtype
        autocast = torch.autocast(device, dtype=self._dtype if lowered else None, enabled=lowered)
        with torch.enable_grad(), autocast, without_hooks(self._module), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop")  # a loop is what is expected here
            pulled: Tensor = vmap(self._one_sample, randomness="error")(self._delta[start:stop], *inputs)
        return working(pulled.detach())

    def _one_sample(self, delta: Tensor, *inputs: Tensor) -> Tensor:
        args = list(self._args)
        for index, tensor in zip(self._batched, inputs, strict=True):
            args[index] = tensor.unsqueeze(self._dim)

        def forward(parameter: Tensor) -> Tensor:
            buffers = {name: buffer.clone() for name, buffer in self._module.named_buffers()}
            swapped = {**self._values, **buffers, self._attribute: parameter}
            output = functional_call(self._module, swapped, tuple(args), self._kwargs, tie_weights=False)
            return next(tensors_in(output))

        pullback = vjp(forward, self._parameter)[1]
        (gradient,) = pullback(delta.unsqueeze(self._dim).to(self._dtype))
        return gradient  # type: ignore[no-any-return]


def _uses_batch_statistics(module: nn.Module) -> bool:
    """One sample alone would be normalised by itself, and nothing would fail."""
    if not isinstance(module, nn.modules.batchnorm._BatchNorm):
        return False
    return module.training or module.running_mean is None
