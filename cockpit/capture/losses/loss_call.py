"""Loss calls: seen wherever they happen, and taken apart into individual losses.

A loss that a function of :mod:`torch.nn.functional` reduces to one number is computed a second time with
``reduction="none"``; the modules of :mod:`torch.nn` call the same functions, so they are seen as well.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import _reduction

from cockpit.capture.graph.nodes import Graph, Node

LOSS_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(
    function
    for function in vars(F).values()
    if inspect.isfunction(function) and "reduction" in inspect.signature(function).parameters
)

EMPTY = "the batch is empty"


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
        axis: Axis of the entries that is the batch; ``None`` where samples and positions share one.
        order: Where they share one, whether a sample's entries stand together (``block``) or a position's (``stride``).
    """

    samples: int
    axis: int | None = None
    order: Literal["block", "stride"] = "block"

    def fits(self, shape: torch.Size) -> bool:
        """Whether entries of this shape can be dealt out so."""
        if self.axis is not None:
            return self.axis < len(shape) and shape[self.axis] == self.samples > 0
        return len(shape) > 0 and shape.numel() > 0 and self.samples > 0 and shape.numel() % self.samples == 0

    def deal(self, entries: Tensor) -> Tensor:
        """Entries by sample, shape ``[N, k]``.

        Args:
            entries: Loss entries of a shape that fits.
        """
        if self.axis is not None:
            return entries.movedim(self.axis, 0).reshape(self.samples, -1)
        if self.order == "block":
            return entries.reshape(self.samples, -1)
        return entries.reshape(-1, self.samples).T


@dataclass(frozen=True, eq=False)
class Origin:
    """Where a loss call hangs in the graph.

    Args:
        arguments: What the function was called with, by name, with ``reduction="none"``; empty for registered losses.
        output: The edge that the gradient of what came out will arrive at.
        entries: Loss entries, attached.
    """

    arguments: Mapping[str, Any]
    output: GradientEdge
    entries: Tensor


@dataclass(eq=False)
class LossCall:
    """One loss computed during a tracked step.

    Args:
        name: How it was computed, ``cross_entropy``.
        output: What the user got back, detached from it: what is done to it in place does not show here.
        entries: Loss entries, attached to the graph until the batch axis is known; any shape. For a reduced loss they
            are weighted as in it.
        counts: Each entry's weight in the mean (class weights, 0 for ignored targets), shape of ``entries``.
        total: What the user's own reduction is of the mean: 1 for a mean, ``Σ counts`` for a sum.
        reduced: Whether ``output`` is a single number; otherwise the gradient that arrives decides the weights.
        arrangement: How the entries belong to samples; ``None`` where no batch was found.
        superseded: Whether individual losses of the user's own took its place.
        origin: Where it hangs in the graph, as long as somebody may want second derivatives.
        node: What it came out of, until the backward pass has come there.
        graph: What its entries came out of, until it is known where its samples are.
        way: Stays the same as long as the entries come about in the same way.
        guessing: What an entry is, and so their mean, where all classes are held for equally likely; ``None`` where
            there are no classes.
    """

    name: str
    output: Tensor
    entries: Tensor
    counts: Tensor
    total: float
    reduced: bool
    arrangement: Arrangement | None = None
    superseded: bool = False
    problem: str | None = None
    arrived: Tensor | None = field(default=None, repr=False)
    origin: Origin | None = field(default=None, repr=False)
    guessing: float | None = None
    node: Node | None = field(default=None, repr=False)
    graph: Graph | None = field(default=None, repr=False)
    way: int = 0
    # Asked for again and again, by every parameter and every instrument.
    _amount: float | None = field(default=None, init=False, repr=False)
    _scale: float | None = field(default=None, init=False, repr=False)

    @property
    def summed(self) -> bool:
        """Whether the user's own reduction was a plain sum."""
        if self.reduced:
            return self.total != 1.0
        assert self.arrived is not None
        counted = self.arrived[self.arrived != 0]
        return counted.numel() > 1 and bool((counted == 1).all())

    def look_behind(self) -> None:
        """Walks through the graph behind its entries: once, for all who ask."""
        if self.entries.grad_fn is not None:
            self.graph = Graph(self.entries.grad_fn)
            self.way = self.graph.fingerprint

    def arrive(self, gradient: Tensor) -> None:
        """The backward pass has come to the loss; from here on nobody needs its place in the graph."""
        self.arrived, self.origin, self.node = gradient, None, None

    def amount(self) -> float:
        """What this loss adds to the number that ``backward`` was called on."""
        if self._amount is None:
            assert self.arrived is not None
            values = self.output if self.reduced else self.entries
            self._amount = float((self.arrived.double() * values.double()).sum())
        return self._amount

    def scale(self) -> float:
        """The gradient that arrived, for the mean: what the loss was multiplied with, times ``total``."""
        if self._scale is None:
            assert self.arrived is not None
            self._scale = self.scale_of(self.arrived)
        return self._scale

    def scale_of(self, arriving: Tensor) -> float:
        """As :meth:`scale`, for a gradient that is about to arrive."""
        return float(arriving.double().sum()) * (self.total if self.reduced else 1.0)

    def unit(self) -> float:
        """The gradient that arrived, for the number that the user would name: a sum where it was a sum."""
        if self.reduced:
            return self.scale() / self.total if self.total else 0.0
        return 1.0 if self.summed else self.scale()


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
