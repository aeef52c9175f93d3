"""Ways in which loss entries may be dealt out to samples, and what speaks against one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cockpit.capture.batch_axis import Finding
from cockpit.capture.batch_size import Axes
from cockpit.capture.graph.moved_rows import RowMoves
from cockpit.capture.hooks.calls import ModuleCall
from cockpit.capture.losses.loss_call import Arrangement


@dataclass(frozen=True)
class Way:
    """One way in which loss entries may be dealt out.

    Args:
        arrangement: How the loss entries are dealt out.
        leading: Whether the batch size is the length of the first axis of the first input.
        likely: Whether it may be true even if some tensor has no batch axis.
        front: If the batch is the second axis of an input, the length of the first.
    """

    arrangement: Arrangement
    leading: bool = False
    likely: bool = False
    front: int | None = None

    def contradicted(self, calls: Sequence[ModuleCall], findings: Sequence[Finding]) -> bool:
        """Whether a length that is the batch size only by chance was taken for it.

        Features are as many as samples by chance; the modules then keep the input's first axis in front, and what this
        way calls samples keep apart nowhere in them, or along features alone.

        Args:
            calls: Module calls.
            findings: Theirs.
        """
        if self.front is None:
            return False
        pairs = [(call.output_shape, finding) for call, finding in zip(calls, findings, strict=True) if finding.reached]
        lost = any(f.axis is None and len(shape) > 1 and shape[0] == self.front for shape, f in pairs)
        features = any(f.axis is not None and 0 < f.axis.dim == len(shape) - 1 for shape, f in pairs)
        return lost or features


def ways(inputs: Sequence[Axes], shape: torch.Size) -> list[Way]:
    """From likely to unlikely: a batch axis of the entries' own; samples and positions on one axis, in the input's
    order; and in the other order.

    Args:
        inputs: Sizes of what each call of the model was given, the latest first.
        shape: Of the loss entries.
    """
    own = [
        Way(
            Arrangement(axes[place], axis),
            leading=place == position == 0,
            likely=True,
            front=axes[0] if place and axes[0] != axes[1] else None,
        )
        for place in (0, 1)
        for tensors in inputs
        for position, axes in enumerate(tensors)
        for axis, length in enumerate(shape)
        if len(axes) > place and length == axes[place]
    ]
    first = [tensors[0] for tensors in inputs if tensors]
    # Positions first: then there are about as many of them as the input has, or another axis is taken for the batch.
    second = [axes for axes in first if len(axes) > 1 and 2 * shape.numel() >= axes[0] * axes[1]]
    flat = [Way(Arrangement(axes[0], order="block"), leading=True, likely=True) for axes in first]
    flat += [Way(Arrangement(axes[1], order="stride"), front=axes[0]) for axes in second]
    flat += [Way(Arrangement(axes[0], order="stride"), leading=True) for axes in first]
    flat += [Way(Arrangement(axes[1], order="block"), front=axes[0]) for axes in second]
    fitting: dict[Arrangement, Way] = {}
    for way in (*own, *flat):
        if way.arrangement.fits(shape):
            fitting.setdefault(way.arrangement, way)
    return list(fitting.values())


def is_doubtful(
    arrangement: Arrangement, moves: RowMoves, calls: Sequence[ModuleCall], findings: Sequence[Finding]
) -> bool:
    """Whether rows that were picked one by one are dealt out as if nothing had been picked.

    What stands above the operation that picks them keeps apart however they are dealt out. Below it the true samples
    do, in tensors that have a row for each.

    Args:
        arrangement: How the loss entries are dealt out.
        moves: What is done with rows behind the loss.
        calls: Module calls.
        findings: Theirs.
    """
    N = arrangement.samples
    pairs = [(call, finding) for call, finding in zip(calls, findings, strict=True) if finding.reached]
    own_rows = any(f.axis is not None and call.output_shape[f.axis.dim] == N for call, f in pairs)
    # Packed sequences lie scattered as they should.
    lost = any(f.axis is None and c.input is not None and any(s % N == 0 for s in c.output_shape[:2]) for c, f in pairs)
    return moves.any and N > 1 and ((lost and not own_rows) or (moves.by_data and (lost or not own_rows)))


def order_is_known(
    arrangement: Arrangement, inputs: Sequence[Axes], calls: Sequence[ModuleCall], findings: Sequence[Finding]
) -> bool:
    """Whether anything tells in which order several rows of each sample lie, where no tensor has one row for each.

    Sums over groups of strangers keep apart as well as sums over a sample's own rows do.

    Args:
        arrangement: How the loss entries are dealt out, several to each sample.
        inputs: Sizes of what each call of the model was given.
        calls: Module calls.
        findings: Theirs.
    """
    N = arrangement.samples
    batched = [c for c, f in zip(calls, findings, strict=True) if f.axis is not None and f.axis.dim == 0]
    given = next((c.input for c in batched if c.input is not None and len(c.input) == c.output_shape[0]), None)
    if given is None or N < 2:
        return True
    if (order := _order_of_copies(given, N)) is not None:
        return order == arrangement.order
    rows, features = len(given) // N, given.shape[-1] if given.dim() > 1 and given.is_floating_point() else None
    pairs = [axes for tensors in inputs for axes in tensors if len(axes) > 1 and N in axes]
    others = [axes[1] if axes[0] == N else axes[0] for axes in pairs]
    return any(rows % other == 0 for other in others if other > 1 and other != features)


def _order_of_copies(rows: Tensor, samples: int) -> str | None:
    """In which order copies of the same samples follow each other; ``None`` if there are none, or nothing else."""
    whole = rows.reshape(-1, samples, *rows.shape[1:])
    if bool((rows == rows[:1]).all()):
        return None
    if bool((whole == whole[:1]).all()):
        return "stride"
    blocks = rows.reshape(samples, -1, *rows.shape[1:])
    return "block" if bool((blocks == blocks[:, :1]).all()) else None
