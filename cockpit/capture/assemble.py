"""From the calls that a backward pass walked through to one parameter's individual gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from cockpit.capture.calls import ModuleCall
from cockpit.capture.forms import form_of, working
from cockpit.capture.generic import VectorisedGradients
from cockpit.capture.gradients import OuterProducts, SampleGradients, Sum, Zeros
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import Parameter


def sample_gradients(parameter: Parameter, walked: Sequence[ModuleCall], samples: int) -> SampleGradients:
    """Individual gradients of a parameter, from all calls of all modules that hold it.

    Args:
        parameter: The parameter.
        walked: Calls whose output gradient arrived in this backward pass.
        samples: Batch size ``N``.

    Raises:
        Unavailable: If one of the calls has no form, or its batch axis is unknown.
    """
    if parameter.tensor.is_complex():
        raise Unavailable("complex parameters have no individual gradients here")
    parts: list[SampleGradients] = []
    seen = False
    for module, attribute in parameter.owners:
        for call in walked:
            if call.module is module:
                seen = True
                if (part := _from_call(call, module, attribute, samples)) is not None:
                    parts.append(part)
    if not seen:
        raise Unavailable("it reaches the loss without a call of the module that owns it")
    if not parts:
        return Zeros(samples, working(parameter.tensor.detach()))
    return _added(parts)


def _from_call(call: ModuleCall, module: nn.Module, attribute: str, samples: int) -> SampleGradients | None:
    """One call's contribution; ``None`` if no gradient came back to it."""
    assert call.delta is not None
    if call.axis is None:
        if not bool(call.delta.any()):
            return None
        raise Unavailable(f"'{call.name}' ({type(module).__name__}): {call.problem or 'its batch axis is unknown'}")
    if call.several_outputs:
        raise Unavailable(f"'{call.name}' returns several tensors")
    form = form_of(module, attribute)
    if form is None:
        return VectorisedGradients(call, call.delta, attribute, samples)
    return form(call, working(call.delta), attribute, samples)


def _added(parts: list[SampleGradients]) -> SampleGradients:
    """Contributions of several calls add before anything is squared."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, OuterProducts) for part in parts):
        outer = [part for part in parts if isinstance(part, OuterProducts)]
        return OuterProducts(torch.cat([p.inputs for p in outer], 1), torch.cat([p.deltas for p in outer], 1))
    return Sum(parts)
