"""Which axis of a tensor is the batch?

Guessing from shapes goes wrong as soon as logits are flattened, a layer works sequence-first, or a tensor has no batch
axis at all, and no later check can notice: summing over the wrong axis gives the same total. So it is measured. The
gradient of a single sample's loss is non-zero only where that sample lives, in every tensor of the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

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


def find_batch_axis(cotangents: Sequence[tuple[int, Tensor]], samples: int) -> BatchAxis:
    """Finds the axis along which single samples' gradients keep to themselves.

    Args:
        cotangents: For several samples, the index ``n`` and the gradient of ``l_n`` with respect to one tensor.
        samples: Batch size ``N``.

    Raises:
        Unavailable: If no gradient arrives, or if it spreads evenly along every axis.
    """
    shape = cotangents[0][1].shape
    energies = [(n, t.detach().double().square()) for n, t in cotangents]
    energies = [(n, e) for n, e in energies if bool(e.sum() > 0)]
    if not energies:
        raise Unavailable("no gradient of a single sample's loss reaches it")
    coupled: list[tuple[float, BatchAxis]] = []
    for dim, size in enumerate(shape):
        if size < samples or size % samples:
            continue
        for order in ("block", "stride") if size > samples else ("block",):
            axis = BatchAxis(dim, order)
            shares = [_shares(axis, energy, samples) for _, energy in energies]
            own = min(float(share[n]) for (n, _), share in zip(energies, shares, strict=True))
            if own == 1.0:
                return axis
            if all(int(share.argmax()) == n for (n, _), share in zip(energies, shares, strict=True)):
                coupled.append((own, BatchAxis(dim, axis.order, coupled=True)))
    # Coupled samples leave most of the energy with its owner. With two owners tried, a coincidence would have to
    # happen twice.
    best = max(coupled, key=lambda pair: pair[0], default=None)
    if best is None or len(energies) < 2 or best[0] < min(0.5, max(0.1, 2 / samples)):
        raise Unavailable(f"its shape {tuple(shape)} has no axis along which the {samples} samples keep apart")
    return best[1]


def _shares(axis: BatchAxis, energy: Tensor, samples: int) -> Tensor:
    """Share of the energy at each sample's entries, shape ``[N]``; exactly 1 only where nothing is elsewhere."""
    totals = axis.samples_first(energy, samples).reshape(samples, -1).sum(1)
    if int((totals > 0).sum()) == 1:
        return (totals > 0).double()
    return (totals / totals.sum()).clamp_max(1 - 1e-9)
