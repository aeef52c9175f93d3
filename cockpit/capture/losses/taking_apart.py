"""Loss calls taken apart into individual losses.

A loss that a function of :mod:`torch.nn.functional` reduces to one number is computed a second time with
``reduction="none"``; the modules of :mod:`torch.nn` call the same functions, so they are seen as well.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import get_gradient_edge
from torch.nn import _reduction

from cockpit.capture.losses.loss_call import EMPTY, Arrangement, LossCall, Origin

LOSS_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(
    function
    for function in vars(F).values()
    if inspect.isfunction(function) and "reduction" in inspect.signature(function).parameters
)


def take_apart(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> LossCall:
    """The loss entries behind a reduced loss.

    Args:
        func: A function of :mod:`torch.nn.functional` with a ``reduction`` argument.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        output: What it returned.
    """
    name = getattr(func, "__name__", str(func))
    bound = _signature(func).bind(*args, **kwargs)
    bound.apply_defaults()
    arguments = bound.arguments
    reduction = _reduction_of(arguments)
    arguments["reduction"] = "none"
    for legacy in ("size_average", "reduce"):
        if legacy in arguments:
            arguments[legacy] = None
    entries = output if reduction == "none" else func(*bound.args, **bound.kwargs)
    counts = _counts(name, arguments, entries)
    call = LossCall(name, output.detach().clone(), entries, counts, 1.0, reduction != "none")
    call.origin = Origin(arguments, get_gradient_edge(output), entries)
    call.guessing = _guessing(name, arguments)
    call.problem = None if entries.numel() else EMPTY
    if reduction == "none":
        return call
    values = entries.detach()
    most = values.abs().max() if values.numel() else values.sum()
    numbers = (counts.sum(), values.double().sum(), call.output.double(), most.double())
    weight, total, value, largest = torch.stack(numbers).tolist()  # one wait for the device
    if reduction == "batchmean":  # a mean over the batch alone: a sample's loss is the total of its entries
        call.counts = counts * (entries.shape[0] / entries.numel())
        weight = entries.shape[0]
    call.total = weight if reduction == "sum" else 1.0
    expected = total if reduction == "sum" else total / weight if weight else math.nan
    # CTC divides by the target lengths and margin losses may drop entries: a mean that is none of ours is not guessed.
    tolerance = 1e-3 if output.dtype in (torch.float32, torch.float64) else 5e-2
    if math.isfinite(expected) and not abs(expected - value) <= tolerance * (abs(value) + largest):
        call.problem = f"the {reduction} of '{name}' is not the plain or weighted mean of its entries"
    return call


def registered(per_sample: Tensor) -> tuple[Tensor, LossCall]:
    """Individual losses that the user hands over, and the mean that training goes on with.

    Args:
        per_sample: Individual losses, shape ``[N]``, attached to the graph.

    Raises:
        ValueError: For another shape.
    """
    if per_sample.dim() != 1:
        raise ValueError(f"step.losses needs one loss per sample, shape [N], got shape {list(per_sample.shape)}")
    mean = per_sample.mean()
    counts = torch.ones_like(per_sample, requires_grad=False, dtype=torch.float64)
    call = LossCall("step.losses", mean.detach().clone(), per_sample, counts, 1.0, True)
    call.arrangement = Arrangement(len(per_sample), axis=0)
    if mean.requires_grad:
        call.origin = Origin({}, get_gradient_edge(mean), per_sample)
    return mean, call


def beside(loss: Tensor, per_sample: Tensor) -> LossCall:
    """Individual losses that the user has computed beside the loss.

    Args:
        loss: Attached to the graph, shape ``[]``.
        per_sample: Shape ``[N, …]``; the loss is their mean or their sum.

    Returns:
        The call; with a problem if the loss is neither.
    """
    counts = torch.ones_like(per_sample, requires_grad=False, dtype=torch.float64)
    call = LossCall("individual_losses", loss.detach().clone(), per_sample, counts, 1.0, True)
    call.arrangement = Arrangement(len(per_sample), axis=0)
    call.origin = Origin({}, get_gradient_edge(loss), per_sample)
    value, values = loss.detach().double(), per_sample.detach().double()
    if torch.isclose(values.sum(), value, rtol=1e-3) and not torch.isclose(values.mean(), value, rtol=1e-3):
        call.total = float(values.numel())
    elif torch.isfinite(value) and not torch.isclose(values.mean(), value, rtol=1e-3):
        call.problem = "the loss is neither the mean nor the sum of the individual losses that were given beside it"
    return call


def _guessing(name: str, arguments: Mapping[str, Any]) -> float | None:
    """``ln C`` of a loss over ``C`` classes; ``None`` for other losses, and where weights make it another number."""
    weight, target = arguments.get("weight"), arguments.get("target")
    if name in ("binary_cross_entropy", "binary_cross_entropy_with_logits"):
        return math.log(2) if weight is None and arguments.get("pos_weight") is None else None
    if name not in ("cross_entropy", "nll_loss"):
        return None
    blurred = arguments.get("label_smoothing") or (isinstance(target, Tensor) and target.is_floating_point())
    if weight is not None and blurred:
        return None
    scores: Tensor = arguments["input"]
    return math.log(scores.shape[1] if scores.dim() > 1 else scores.shape[0])


@cache
def _signature(func: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(func)


def _reduction_of(arguments: Mapping[str, Any]) -> str:
    if arguments.get("size_average") is not None or arguments.get("reduce") is not None:
        return _reduction.legacy_get_string(arguments.get("size_average"), arguments.get("reduce"), emit_warning=False)
    return str(arguments.get("reduction", "mean"))


def _counts(name: str, arguments: Mapping[str, Any], entries: Tensor) -> Tensor:
    """Weight of each entry in the mean: class weights and ignored targets, as PyTorch defines the mean."""
    target: Tensor | None = arguments.get("target")
    weight: Tensor | None = arguments.get("weight")
    if name in ("mse_loss", "l1_loss", "huber_loss") and weight is not None:
        return weight.detach().double().expand(entries.shape)
    # Of class probabilities the mean divides by the number of entries, weights or not.
    if "ignore_index" not in arguments or target is None or target.is_floating_point():
        return torch.ones_like(entries, requires_grad=False, dtype=torch.float64)
    ignored: int | None = arguments["ignore_index"]
    kept = torch.ones_like(target, dtype=torch.bool) if ignored is None else target != ignored
    if weight is None:
        return kept.double()
    labels = torch.where(kept, target, torch.zeros_like(target))
    by_label: Tensor = weight.detach().double()[labels]
    return by_label * kept
