"""Which axis of a tensor is the batch?

Guessing from shapes goes wrong as soon as logits are flattened, a layer works sequence-first, or a tensor has no batch
axis at all, and no later check can notice: summing over the wrong axis gives the same total. So it is measured. The
gradient of a single sample's loss is non-zero only where that sample lives, in every tensor of the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cockpit.capture.unavailable import Unavailable


@dataclass(frozen=True)
class BatchAxis:
    """Where the samples of a tensor are.

    Args:
        dim: The axis.
        order: How positions share the axis with samples when it is longer than the batch: ``block`` keeps a sample's
            positions together, index ``n·k + t``; ``stride`` keeps a position's samples together, index ``t·N + n``.
        coupled: Whether other samples' losses reach this sample's entries too, as below a train-mode BatchNorm.
    """

    dim: int
    order: Literal["block", "stride"] = "block"
    coupled: bool = False

    def samples_first(self, tensor: Tensor, samples: int) -> Tensor:
        """Moves the batch axis to the front: shape ``[N, k, …]``, the other axes in their old order."""
        size = tensor.shape[self.dim]
        k = size // samples
        moved = tensor.movedim(self.dim, 0)
        if self.order == "block":
            return moved.reshape(samples, k, *moved.shape[1:])
        return moved.reshape(k, samples, *moved.shape[1:]).transpose(0, 1)


@dataclass
class Finding:
    """What is known of one tensor's gradients: their batch axis, or why there is none.

    Args:
        axis: The batch axis.
        problem: Why there is none.
        reached: Whether the gradient of a single sample's loss came by at all.
        misdealt: Whether single samples keep apart, but elsewhere than they would have to.
        together: Whether samples lie apart, but a hook changes what arrives there for several of them together.
        possible: Where the batch axis may be, if fewer samples came by than it takes to know.
    """

    axis: BatchAxis | None = None
    problem: str = "no gradient of the samples that were asked reached it"
    reached: bool = False
    misdealt: bool = False
    together: bool = False
    possible: tuple[BatchAxis, ...] | None = None

    def may_have(self, axis: BatchAxis) -> bool:
        """Whether nothing that came by speaks against an axis along which samples keep apart."""
        return not axis.coupled and (self.possible is None or axis in self.possible)


def find_batch_axis(cotangents: Sequence[tuple[int, Tensor]], samples: int) -> BatchAxis:
    """Finds the axis along which single samples' gradients keep to themselves.

    Args:
        cotangents: For several samples, the index ``n`` and the gradient of ``l_n`` with respect to one tensor; for at
            least two where there are two, since one could lie where it lies by chance.
        samples: Batch size ``N``.

    Raises:
        Unavailable: If it spreads evenly along every axis.
    """
    shape = cotangents[0][1].shape
    energies = [(n, t.detach().double().square()) for n, t in cotangents]
    for axis in _own(shape, energies, samples):
        return axis
    for axis in candidates(shape, samples):
        # What couples samples, batch normalisation above all, has the batch first; elsewhere chance would play along.
        if axis.dim == 0 and _mostly_own(axis, energies, samples):
            return BatchAxis(0, axis.order, coupled=True)
    raise Unavailable(f"its output's shape {tuple(shape)} has no axis along which the {samples} samples keep apart")


def own_axes(cotangents: Sequence[tuple[int, Tensor]], samples: int) -> Iterator[BatchAxis]:
    """Axes along which all that came by lies in the samples' own places.

    Args:
        cotangents: As for :func:`find_batch_axis`.
        samples: Batch size ``N``.
    """
    energies = [(n, t.detach().double().square()) for n, t in cotangents]
    return _own(cotangents[0][1].shape, energies, samples)


def _own(shape: Sequence[int], energies: Sequence[tuple[int, Tensor]], samples: int) -> Iterator[BatchAxis]:
    for axis in candidates(shape, samples):
        if all(float(_shares(axis, energy, samples)[n]) == 1.0 for n, energy in energies):
            yield axis


def kept_apart_otherwise(cotangents: Sequence[tuple[int, Tensor]], samples: int) -> bool:
    """Whether single samples' gradients keep apart along an axis, but not in the places that would be theirs.

    Then it is the losses that were dealt out wrongly: to groups of positions that are not samples. A tensor without a
    batch axis shows the same places for every sample, and coupled samples reach everywhere.

    Args:
        cotangents: As for :func:`find_batch_axis`.
        samples: Batch size ``N``.
    """
    for axis in candidates(cotangents[0][1].shape, samples):
        places = [axis.samples_first(t.detach() != 0, samples).reshape(samples, -1).any(1) for _, t in cotangents]
        few = all(int(place.sum()) <= max(1, samples // 2) for place in places)
        if few and samples > 2 and any(not torch.equal(place, places[0]) for place in places):
            return True
    return False


def candidates(shape: Sequence[int], samples: int) -> Iterator[BatchAxis]:
    """Every axis of a tensor that is long enough to be the batch's.

    Args:
        shape: Of the tensor.
        samples: Batch size ``N``.
    """
    for dim, size in enumerate(shape):
        if size >= samples and size % samples == 0:
            yield BatchAxis(dim)
            if size > samples > 1:
                yield BatchAxis(dim, "stride")


def _mostly_own(axis: BatchAxis, energies: Sequence[tuple[int, Tensor]], samples: int) -> bool:
    """Whether every sample leaves more energy with itself than anywhere else, and enough to rule out chance.

    Coupled samples leave most of it with their owner; a tensor without a batch axis leaves a share of ``1/N`` anywhere.
    """
    if len(energies) < 3:
        return False
    enough = min(0.5, max(0.1, 2 / samples))
    shares = [(n, _shares(axis, energy, samples)) for n, energy in energies]
    return all(int(share.argmax()) == n and float(share[n]) >= enough for n, share in shares)


def _shares(axis: BatchAxis, energy: Tensor, samples: int) -> Tensor:
    """Share of the energy at each sample's entries, shape ``[N]``; exactly 1 only where nothing is elsewhere."""
    totals = axis.samples_first(energy, samples).reshape(samples, -1).sum(1)
    if int((totals > 0).sum()) == 1:
        return (totals > 0).double()
    return (totals / totals.sum()).clamp_max(1 - 1e-9)
