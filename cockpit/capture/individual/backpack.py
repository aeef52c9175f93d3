"""Individual gradients by BackPACK's ``BatchGrad``, from the same calls of modules that the closed forms read.

``BatchGrad`` needs a layer's input and the gradient at its output, and both are there. It is given them on a copy of
the layer, so that the user's own is neither extended nor written to.

Dangel et al., *BackPACK: packing more into backprop* (2020).
"""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cockpit.capture.hooks.calls import UNCALLED, ModuleCall, calls_of
from cockpit.capture.individual.gradients import Rows, SampleGradients, Zeros
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import Parameter, working

if TYPE_CHECKING:
    from backpack.extensions import BatchGrad

SUPPORTED = (
    *(nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
)
"""Layers that ``BatchGrad`` knows. It knows RNN and LSTM too, from outputs of theirs that are not kept here."""


def batch_gradients(parameter: Parameter, walked: Sequence[ModuleCall], samples: int) -> SampleGradients:
    """Individual gradients of a parameter, all ``N`` of them materialised.

    Args:
        parameter: The parameter.
        walked: Calls whose output gradient arrived in this backward pass.
        samples: Batch size ``N``.

    Raises:
        Unavailable: If BackPACK does not support one of the calls.
    """
    calls = calls_of(parameter, walked)
    if not calls:
        raise Unavailable(UNCALLED)
    parts = [_rows(call, attribute, samples) for call, attribute in calls if call.axis is not None or _reached(call)]
    if not parts:
        return Zeros(samples, working(parameter.tensor.detach()))
    return Rows(functools.reduce(torch.add, parts))


def _reached(call: ModuleCall) -> bool:
    assert call.delta is not None
    return bool(call.delta.any())


def _rows(call: ModuleCall, attribute: str, samples: int) -> Tensor:
    """Shape ``[N, *parameter]``."""
    kind = type(call.module).__name__
    if type(call.module) not in SUPPORTED or getattr(call.module, "padding_mode", "zeros") != "zeros":
        raise Unavailable(f"'{call.name}': BackPACK has no individual gradients for {kind}")
    if call.axis is None:
        raise Unavailable(f"'{call.name}' ({kind}): {call.problem or 'its batch axis is unknown'}")
    if call.input is None or call.changed():
        raise Unavailable(f"'{call.name}': its input was overwritten after the call, or not its first argument")
    if call.axis.dim != 0:
        raise Unavailable(f"'{call.name}' was called without a leading batch axis, which BackPACK needs")
    return call.axis.samples_first(_entries(call, call.input, attribute), samples).sum(1)


def _entries(call: ModuleCall, inputs: Tensor, attribute: str) -> Tensor:
    """What ``BatchGrad`` computes, for each entry along the leading axis."""
    assert call.delta is not None
    delta = working(call.delta)
    layer = copy.copy(call.module)
    layer._parameters = {
        name: None if p is None else nn.Parameter(p.detach(), requires_grad=name == attribute)
        for name, p in call.module._parameters.items()
    }
    layer.input0 = inputs.to(delta.dtype) if inputs.is_floating_point() else inputs
    layer.output = delta  # of the output only the shape is asked for
    try:
        with _quiet() if isinstance(layer, _BatchNorm) else nullcontext():
            _batch_grad()(layer, (None,), (delta,))
        entries: Tensor = layer._parameters[attribute].grad_batch  # type: ignore[union-attr]
    except Exception as error:
        raise Unavailable(f"'{call.name}': BackPACK failed: {type(error).__name__}: {error}") from error
    return entries


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that a train-mode BatchNorm couples samples; coverage says so too.

    Not for every layer: Python forgets what it has shown once when filters change, and shows it again.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@functools.cache
def _batch_grad() -> BatchGrad:
    from backpack.extensions import BatchGrad

    return BatchGrad()
