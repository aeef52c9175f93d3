"""Closed forms: from a layer's input and output gradient to the individual gradients of its parameters.

A form is found by the ``forward`` that a module really runs, so that a subclass which overrides it is not mistaken
for its parent.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cockpit.capture.batch_axis import BatchAxis
from cockpit.capture.hooks.calls import ModuleCall
from cockpit.capture.individual.combined import Blocks
from cockpit.capture.individual.convolution import ConvolutionGradients, Folded, Geometry, padding_of
from cockpit.capture.individual.embedding import EmbeddingGradients
from cockpit.capture.individual.generic import VectorisedGradients
from cockpit.capture.individual.gradients import Rows, SampleGradients
from cockpit.capture.individual.outer_products import OuterProducts
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import working

Form: TypeAlias = Callable[[ModuleCall, Tensor, str, int], SampleGradients]
"""Call, output gradient, attribute name of the parameter, batch size -> individual gradients."""


def _axis(call: ModuleCall) -> BatchAxis:
    assert call.axis is not None
    return call.axis


def _positions(call: ModuleCall, tensor: Tensor, samples: int) -> Tensor:
    """Brings ``[…batch…, features]`` to ``[N, T, features]``."""
    if _axis(call).dim >= tensor.dim() - 1 and samples > 1:
        raise Unavailable(f"'{call.name}' mixes samples: its batch axis is the one that it transforms")
    first = _axis(call).samples_first(tensor, samples)
    return first.reshape(samples, -1, tensor.shape[-1])


def _channels(call: ModuleCall, tensor: Tensor, samples: int) -> Tensor:
    """Brings ``[batch, channels, …]`` to ``[N, T, channels]``."""
    _needs_leading_batch(call)
    return _positions(call, tensor.movedim(1, -1), samples)


def _needs_leading_batch(call: ModuleCall) -> None:
    kernel = getattr(call.module, "kernel_size", None)
    unbatched = kernel is not None and len(call.output_shape) != len(kernel) + 2
    if _axis(call).dim != 0 or unbatched:
        raise Unavailable(f"'{call.name}' was called without a leading batch axis")


def _unchanged(call: ModuleCall) -> Tensor:
    if call.input is None:
        raise Unavailable(f"'{call.name}' was called without a tensor as its first argument")
    if call.changed():
        raise Unavailable(f"the input of '{call.name}' was overwritten after the call")
    return call.input


def _input(call: ModuleCall) -> Tensor:
    inputs = _unchanged(call)
    if inputs.is_floating_point() and inputs.dtype != call.output_dtype:
        inputs = inputs.to(call.output_dtype)  # as autocast did inside the layer
    return working(inputs)


def _summed(positions: Tensor) -> Rows:
    """A bias sees the sum over positions."""
    return Rows(positions[:, 0]) if positions.shape[1] == 1 else Rows(positions.sum(1), [positions])


def linear(call: ModuleCall, delta: Tensor, attribute: str, samples: int) -> SampleGradients:
    """``y = x Wᵀ + b``."""
    deltas = _positions(call, delta, samples)
    if attribute == "bias":
        return _summed(deltas)
    return OuterProducts(_positions(call, _input(call), samples), deltas)


def convolution(call: ModuleCall, delta: Tensor, attribute: str, samples: int) -> SampleGradients:
    """Cross-correlation in one to three dimensions, with groups, stride, padding and dilation."""
    if attribute == "bias":
        return _summed(_channels(call, delta, samples))
    _needs_leading_batch(call)
    module = cast("nn.Conv1d | nn.Conv2d | nn.Conv3d", call.module)
    inputs = _axis(call).samples_first(_input(call), samples)
    deltas = _axis(call).samples_first(delta, samples)
    per_sample = inputs.shape[1]
    entries, outputs = inputs.flatten(0, 1), deltas.flatten(0, 1)
    gradients = ConvolutionGradients(entries, outputs, Geometry.of(module), padding_of(module))
    return gradients if per_sample == 1 else Folded(gradients, per_sample)


def _channelwise(
    call: ModuleCall, delta: Tensor, attribute: str, samples: int, normalise: Callable[[Tensor], Tensor]
) -> SampleGradients:
    """Affine part ``y = γ x̂ + β`` of what normalises inputs and scales channels."""
    deltas = _channels(call, delta, samples)
    if attribute == "bias":
        return _summed(deltas)
    return _summed(deltas * _channels(call, normalise(_input(call)), samples))


def batch_norm(call: ModuleCall, delta: Tensor, attribute: str, samples: int) -> SampleGradients:
    """Affine part of batch normalisation; batch statistics in training, running ones in evaluation."""
    module = cast(nn.BatchNorm2d, call.module)
    batch_statistics = module.training or module.running_mean is None
    mean, var = (None, None) if batch_statistics else (module.running_mean, module.running_var)
    normalise = functools.partial(
        F.batch_norm, running_mean=mean, running_var=var, training=batch_statistics, eps=module.eps
    )
    return _channelwise(call, delta, attribute, samples, normalise)


def instance_norm(call: ModuleCall, delta: Tensor, attribute: str, samples: int) -> SampleGradients:
    """Affine part of instance normalisation."""
    module = cast(nn.InstanceNorm2d, call.module)
    own_statistics = module.training or not module.track_running_stats
    mean, var = (None, None) if own_statistics else (module.running_mean, module.running_var)
    normalise = functools.partial(
        F.instance_norm, running_mean=mean, running_var=var, use_input_stats=own_statistics, eps=module.eps
    )
    return _channelwise(call, delta, attribute, samples, normalise)


def group_norm(call: ModuleCall, delta: Tensor, attribute: str, samples: int) -> SampleGradients:
    """Affine part of group normalisation."""
    module = cast(nn.GroupNorm, call.module)
    normalise = functools.partial(F.group_norm, num_groups=module.num_groups, eps=module.eps)
    return _channelwise(call, delta, attribute, samples, normalise)


def _over_leading(call: ModuleCall, values: Tensor, shape: tuple[int, ...], samples: int) -> Rows:
    """Sums over everything between the batch axis and the normalised axes."""
    if _axis(call).dim >= values.dim() - len(shape):
        raise Unavailable(f"'{call.name}' normalises over the batch axis")
    first = _axis(call).samples_first(values, samples)
    terms = first.reshape(samples, -1, *shape)
    return Rows(terms.sum(1), [terms])


def layer_norm(call: ModuleCall, delta: Tensor, attribute: str, samples: int) -> SampleGradients:
    """Affine part of layer normalisation."""
    module = cast(nn.LayerNorm, call.module)
    shape = tuple(module.normalized_shape)
    if attribute == "bias":
        return _over_leading(call, delta, shape, samples)
    return _over_leading(call, delta * F.layer_norm(_input(call), shape, eps=module.eps), shape, samples)


def rms_norm(call: ModuleCall, delta: Tensor, attribute: str, samples: int) -> SampleGradients:
    """Scale of root-mean-square normalisation."""
    module = cast(nn.RMSNorm, call.module)
    shape = tuple(module.normalized_shape)
    return _over_leading(call, delta * F.rms_norm(_input(call), shape, eps=module.eps), shape, samples)


def embedding(call: ModuleCall, delta: Tensor, attribute: str, samples: int) -> SampleGradients:
    """Rows of a table looked up by index."""
    module = cast(nn.Embedding, call.module)
    deltas = _positions(call, delta, samples)
    indices = _axis(call).samples_first(_unchanged(call), samples).reshape(samples, -1)
    if module.scale_grad_by_freq:
        frequency = torch.bincount(indices.flatten(), minlength=module.num_embeddings)
        deltas = deltas / frequency[indices].unsqueeze(-1)
    if module.padding_idx is not None:
        deltas = deltas * (indices != module.padding_idx).unsqueeze(-1)
    return EmbeddingGradients(indices, deltas, module.num_embeddings)


def embedding_bag(call: ModuleCall, delta: Tensor, attribute: str, samples: int) -> SampleGradients:
    """Sums or means of rows of a table; bags of any length."""
    module = cast(nn.EmbeddingBag, call.module)
    given = dict(zip(("input", "offsets", "per_sample_weights"), call.args, strict=False)) | dict(call.kwargs)
    if module.mode == "max":
        return VectorisedGradients(call, delta, attribute, samples)
    if module.scale_grad_by_freq:
        raise Unavailable(f"'{call.name}' divides by how often the whole batch looks a row up")
    _needs_leading_batch(call)
    rows, offsets = _unchanged(call), given.get("offsets")
    bags = torch.arange(len(delta), device=delta.device)
    owners = _owners(call, bags, samples)
    if offsets is None:
        bag = bags.repeat_interleave(rows.shape[1])
    else:
        places = torch.arange(len(rows), device=rows.device)
        bag = torch.searchsorted(offsets[: len(delta)].contiguous(), places, right=True) - 1
    rows = rows.flatten()
    kept = torch.ones_like(rows, dtype=torch.bool) if module.padding_idx is None else rows != module.padding_idx
    factors = kept.to(delta.dtype)
    if module.mode == "mean":
        factors = factors / torch.bincount(bag[kept], minlength=len(delta)).clamp_min(1)[bag]
    if (weights := given.get("per_sample_weights")) is not None:
        factors = factors * working(weights).flatten()
    deltas = delta[bag] * factors.unsqueeze(1)
    return EmbeddingGradients.one_by_one(samples, owners[bag], rows, deltas, module.num_embeddings)


def _owners(call: ModuleCall, entries: Tensor, samples: int) -> Tensor:
    """Whose each of the numbered entries along the batch axis is."""
    return entries // (len(entries) // samples) if _axis(call).order == "block" else entries % samples


def bilinear(call: ModuleCall, delta: Tensor, attribute: str, samples: int) -> SampleGradients:
    """``y = x₁ᵀ A x₂ + b``: linear in the products of both inputs' elements."""
    deltas = _positions(call, delta, samples)
    if attribute == "bias":
        return _summed(deltas)
    first, second = _positions(call, _input(call), samples), _positions(call, working(call.args[1]), samples)
    products = (first.unsqueeze(-1) * second.unsqueeze(-2)).flatten(2)
    return Blocks([(0, OuterProducts(products, deltas))], cast(nn.Bilinear, call.module).weight.shape)


FORMS: dict[object, Form] = {
    nn.Bilinear.forward: bilinear,
    nn.Linear.forward: linear,
    nn.Conv1d.forward: convolution,
    nn.Conv2d.forward: convolution,
    nn.Conv3d.forward: convolution,
    nn.BatchNorm1d.forward: batch_norm,
    nn.InstanceNorm1d.forward: instance_norm,
    nn.GroupNorm.forward: group_norm,
    nn.LayerNorm.forward: layer_norm,
    nn.RMSNorm.forward: rms_norm,
    nn.Embedding.forward: embedding,
    nn.EmbeddingBag.forward: embedding_bag,
}


def form_of(module: nn.Module, attribute: str) -> Form | None:
    """The closed form for a module's parameter, or ``None``."""
    if attribute not in ("weight", "bias"):
        return None
    return FORMS.get(type(module).forward)


def may_be_repeated(module: nn.Module) -> bool:
    """Whether a parameter of a module has no closed form, so that the module may have to be called again."""
    return any(form_of(module, attribute) is None for attribute, p in module._parameters.items() if p is not None)
