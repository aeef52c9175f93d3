"""Loss calls: seen wherever they happen, and taken apart into individual losses.

A loss that a function of :mod:`torch.nn.functional` reduces to one number is computed a second time with
``reduction="none"``; the modules of :mod:`torch.nn` call the same functions, so they are seen as well.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import _reduction
from torch.overrides import TorchFunctionMode

from cockpit.capture.unavailable import Unavailable

LOSS_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(
    function
    for function in vars(F).values()
    if inspect.isfunction(function) and "reduction" in inspect.signature(function).parameters
)


@dataclass(frozen=True)
class IndividualLosses:
    """One loss per sample: ``L = Σ_n w_n l_n``.

    Args:
        values: ``l_n``, the mean over the sample's own loss entries that count; 0 where none does. Shape ``[N]``.
        weights: ``w_n``, non-negative, adding up to 1; all equal to ``1/N`` for a plain mean. Shape ``[N]``.
    """

    values: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Arrangement:
    """How loss entries are dealt out to samples.

    Args:
        samples: Batch size ``N``.
        order: Where entries of all positions share one axis, whether a sample's stand together (``block``) or a
            position's (``stride``).
    """

    samples: int
    order: str = "block"

    def deal(self, entries: Tensor, axis: int | None = None) -> Tensor:
        """Entries by sample, shape ``[N, k]``.

        Args:
            entries: Loss entries of any shape.
            axis: The batch axis of ``entries``, if known.

        Raises:
            Unavailable: If the entries cannot be shared out evenly.
        """
        N = self.samples
        if axis is None and N in entries.shape:
            axis = entries.shape.index(N)
        if axis is not None and entries.shape[axis] == N:
            return entries.movedim(axis, 0).reshape(N, -1)
        if entries.dim() == 0 or entries.numel() % N:
            raise Unavailable(f"{entries.numel()} loss entries cannot be shared out among {N} samples")
        if self.order == "block":
            return entries.reshape(N, -1)
        return entries.reshape(-1, N).T


@dataclass(eq=False)
class LossCall:
    """One loss computed during a tracked step.

    Args:
        name: How it was computed, ``cross_entropy``.
        output: The tensor that the user got back, detached.
        entries: Loss entries, still attached to the graph; any shape. For a reduced loss they are weighted as in it.
        counts: Each entry's weight in the mean (class weights, 0 for ignored targets), shape of ``entries``.
        total: What the user's own reduction is of the mean: 1 for a mean, ``Σ counts`` for a sum.
        reduced: Whether ``output`` is a single number; otherwise the gradient that arrives decides the weights.
        sample_axis: Axis of ``entries`` that is the batch, where that is known (losses that the user registered).
    """

    name: str
    output: Tensor
    entries: Tensor
    counts: Tensor
    total: float
    reduced: bool
    sample_axis: int | None = None
    problem: str | None = None
    arrived: Tensor | None = field(default=None, repr=False)


class LossWatch(TorchFunctionMode):
    """Reports every loss call inside the ``with`` block that a backward pass could start from.

    Args:
        on_loss: Called after the call with function, arguments, keyword arguments and output.
        on_backward: Called with the tensor whose ``backward`` is about to run.
    """

    def __init__(self, on_loss: Callable[..., None], on_backward: Callable[[Tensor], None]) -> None:
        super().__init__()
        self._on_loss, self._on_backward = on_loss, on_backward

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Lets everything pass; losses are reported once they are computed."""
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.backward:
            self._on_backward(args[0])
        result = func(*args, **kwargs)
        if func in LOSS_FUNCTIONS and isinstance(result, Tensor) and result.requires_grad:
            self._on_loss(func, args, kwargs, result)
        return result


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
    call = LossCall(name, output.detach(), entries, counts, 1.0, reduction != "none")
    if reduction == "none":
        return call
    weight = counts.double().sum()
    sums = entries.detach().double().sum()
    mean = sums / weight
    if reduction == "batchmean":  # a mean over the batch alone: a sample's loss is the total of its entries
        call.counts = counts * (entries.shape[0] / entries.numel())
        mean = sums / entries.shape[0]
    call.total = float(call.counts.double().sum()) if reduction == "sum" else 1.0
    expected = sums if reduction == "sum" else mean
    # CTC divides by the target lengths and margin losses may drop entries: a mean that is none of ours is not guessed.
    tolerance = 1e-3 if output.dtype in (torch.float32, torch.float64) else 5e-2
    if bool(torch.isfinite(expected)) and not torch.allclose(
        expected, output.detach().double(), rtol=tolerance, atol=tolerance * float(entries.detach().abs().max())
    ):
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
    counts = torch.ones_like(per_sample, requires_grad=False)
    return mean, LossCall("step.losses", mean.detach(), per_sample, counts, 1.0, True, sample_axis=0)


@cache
def _signature(func: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(func)


def _reduction_of(arguments: Mapping[str, Any]) -> str:
    if arguments.get("size_average") is not None or arguments.get("reduce") is not None:
        return _reduction.legacy_get_string(arguments.get("size_average"), arguments.get("reduce"), emit_warning=False)
    return str(arguments.get("reduction", "mean"))


def _counts(name: str, arguments: Mapping[str, Any], entries: Tensor) -> Tensor:
    """Weight of each entry in the mean: class weights and ignored targets, as PyTorch defines the mean."""
    counts = torch.ones_like(entries, requires_grad=False)
    target: Tensor | None = arguments.get("target")
    weight: Tensor | None = arguments.get("weight")
    if name in ("mse_loss", "l1_loss", "huber_loss") and weight is not None:
        return weight.detach().to(counts.dtype).expand_as(counts)
    if "ignore_index" not in arguments or target is None:
        return counts
    if target.is_floating_point():  # class probabilities: the mean divides by the number of entries, weights or not
        return counts
    kept: Tensor = target != arguments["ignore_index"]
    if weight is None:
        return kept.to(counts.dtype)
    labels = torch.where(kept, target, torch.zeros_like(target))
    by_label: Tensor = weight.detach().to(counts.dtype)[labels]
    return by_label * kept
