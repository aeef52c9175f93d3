"""Batch axes of all tensors of a step: measured once, remembered as long as no shape changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cockpit.capture.batch_axis import BatchAxis, find_batch_axis
from cockpit.capture.calls import ModuleCall
from cockpit.capture.losses import Arrangement, LossCall
from cockpit.capture.unavailable import Unavailable

Finding = tuple["BatchAxis | None", "str | None"]


class Layouts:
    """Where the samples are, by the shapes of a step."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], tuple[Arrangement, list[Finding]]] = {}
        self._cotangents: dict[int, Tensor] | None = None

    @property
    def measuring(self) -> bool:
        """Whether the backward pass that is running is ours, not the user's."""
        return self._cotangents is not None

    def cotangent(self, call: ModuleCall, delta: Tensor) -> None:
        """Takes an output gradient of a measuring pass."""
        assert self._cotangents is not None
        self._cotangents[id(call)] = delta

    def resolve(
        self, loss: LossCall, calls: Sequence[ModuleCall], sizes: tuple[int, ...], parameters: Sequence[Tensor]
    ) -> Arrangement | None:
        """Gives every call recorded so far its batch axis, or the reason why it has none.

        Args:
            loss: A loss call, its entries attached to the graph.
            calls: Module calls of this step.
            sizes: Candidates for the batch size.
            parameters: Parameters to differentiate for, so that the gradient passes through every call.

        Returns:
            How loss entries belong to samples; ``None`` without a candidate that fits.
        """
        open_calls = [call for call in calls if call.axis is None]
        key = (sizes, tuple(loss.entries.shape), *(call.signature() for call in open_calls))
        if key not in self._known:
            found = self._measure(loss, open_calls, sizes, parameters)
            if found is None:
                return None
            self._known[key] = found
        arrangement, findings = self._known[key]
        for call, (axis, problem) in zip(open_calls, findings, strict=True):
            call.axis, call.problem = axis, problem
        return arrangement

    def _measure(
        self, loss: LossCall, calls: Sequence[ModuleCall], sizes: tuple[int, ...], parameters: Sequence[Tensor]
    ) -> tuple[Arrangement, list[Finding]] | None:
        """Tries the ways to deal out the loss entries; the first under which samples keep apart is taken."""
        best: tuple[int, Arrangement, list[Finding]] | None = None
        for arrangement in _candidates(sizes, loss):
            findings = self._try(loss, arrangement, calls, parameters)
            mixed = sum(axis is None or axis.coupled for axis, _ in findings)
            if best is None or mixed < best[0]:
                best = (mixed, arrangement, findings)
            if mixed == 0:
                break
        return None if best is None else best[1:]

    def _try(
        self, loss: LossCall, arrangement: Arrangement, calls: Sequence[ModuleCall], parameters: Sequence[Tensor]
    ) -> list[Finding]:
        N = arrangement.samples
        cotangents: dict[int, list[tuple[int, Tensor]]] = {id(call): [] for call in calls}
        for n in dict.fromkeys((N - 1, N // 2, N // 4)):
            for identity, delta in self._single_sample(loss, arrangement, n, parameters).items():
                if identity in cotangents:
                    cotangents[identity].append((n, delta))
        return [_finding(cotangents[id(call)], N) for call in calls]

    def _single_sample(
        self, loss: LossCall, arrangement: Arrangement, n: int, parameters: Sequence[Tensor]
    ) -> dict[int, Tensor]:
        """Output gradients of sample ``n``'s loss alone, by call."""
        self._cotangents = {}
        try:
            with torch.enable_grad():
                own = arrangement.deal(loss.entries, loss.sample_axis)[n].sum()
                if own.requires_grad and parameters:
                    # The factor keeps float16 cotangents from underflowing; only where they are not zero matters.
                    scale = torch.full_like(own, 256.0)
                    torch.autograd.grad(own, parameters, scale, retain_graph=True, allow_unused=True)
            return self._cotangents
        finally:
            self._cotangents = None


def _candidates(sizes: tuple[int, ...], loss: LossCall) -> list[Arrangement]:
    """Batch first, then sequence first; where positions are flattened, in either order."""
    ways = [Arrangement(size, order) for size in sizes for order in ("block", "stride")]
    fitting: list[Arrangement] = []
    for way in ways:
        try:
            way.deal(loss.entries.detach(), loss.sample_axis)
        except Unavailable:
            continue
        fitting.append(way)
    if fitting and loss.entries.numel() == fitting[0].samples:
        return fitting[:1]
    return fitting


def _finding(cotangents: list[tuple[int, Tensor]], samples: int) -> Finding:
    if not cotangents:
        return None, "no gradient of a single sample's loss reaches it"
    try:
        return find_batch_axis(cotangents, samples), None
    except Unavailable as reason:
        return None, str(reason)
