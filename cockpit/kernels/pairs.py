"""Counting pairs: an element of an individual gradient, and the parameter that it belongs to.

The parameter's bins are looked up once; the elements' bins are decided as in :mod:`cockpit.kernels.histogram`, with
identical counts in all variants.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from cockpit.kernels import compiled, gpu
from cockpit.kernels.histogram import Edges, outer_pieces, row_pieces, tally


@dataclass(frozen=True)
class Partners:
    """The bin of every element of a parameter.

    Args:
        places: Outputs and all other axes of the parameter. Shape ``[O, I]``; an integer type.
        bins: Number of bins, that of NaN, which comes last, included.
    """

    places: Tensor
    bins: int

    @classmethod
    def of(cls, parameter: Tensor, edges: Edges) -> Partners:
        """Looks up the bins of a parameter's elements."""
        values = parameter.detach().reshape(-1)
        if values.dtype in (torch.float16, torch.bfloat16):
            values = values.float()  # where edges lie apart that half precision would not tell apart
        if compiled.usable(values) and edges.told_apart(values.dtype):
            places = compiled.places(values, edges.open_ended(values))
        else:
            places = edges.places(values)
        return cls(places.view(len(parameter) if parameter.dim() > 1 else 1, -1), edges.bins + 1)

    def totals(self, rows: Tensor | None = None) -> Tensor:
        """How many elements of the parameter, or of some of its rows, each bin holds. Shape ``[bins]``."""
        places = self.places if rows is None else self.places[rows]
        return tally(places.flatten().int(), self.bins)


def pair_rows(rows: Tensor, factors: Tensor, edges: Edges, partners: Partners) -> Tensor:
    """Counts of the elements ``factors[n] · rows[n, j]`` beside the parameter's ``j``-th; a NaN is counted nowhere.

    Args:
        rows: Shape ``[N, m]``.
        factors: Shape ``[N]``.
        edges: Bins of the elements.
        partners: Of a parameter of ``m`` elements.

    Returns:
        Counts, int64, shape ``[edges.bins, partners.bins]``, where the elements are.
    """
    if compiled.usable(rows) and edges.told_apart(rows.dtype):
        places = partners.places.view(-1)
        return compiled.pair_rows(rows, factors.to(rows.dtype), edges.open_ended(rows), places, partners.bins)
    counts = gpu.pair_rows(rows, factors, edges, partners)
    return pair_rows_torch(rows, factors, edges, partners) if counts is None else counts


def pair_lookups(rows: Tensor, factors: Tensor, owners: Tensor, edges: Edges, partners: Partners) -> Tensor:
    """Counts of the elements ``factors[r] · rows[r, j]`` beside the parameter's ``[owners[r], j]``.

    Args:
        rows: Shape ``[R, E]``.
        factors: Shape ``[R]``.
        owners: Which row of the parameter each belongs to. Shape ``[R]``.
        edges: Bins of the elements.
        partners: Of a parameter of shape ``[V, E]``.

    Returns:
        As :func:`pair_rows`.
    """
    if compiled.usable(rows) and edges.told_apart(rows.dtype):
        factors = factors.to(rows.dtype)
        return compiled.pair_lookups(rows, factors, owners, edges.open_ended(rows), partners.places, partners.bins)
    counts = gpu.pair_lookups(rows, factors, owners, edges, partners)
    return pair_lookups_torch(rows, factors, owners, edges, partners) if counts is None else counts


def pair_outer(inputs: Tensor, deltas: Tensor, edges: Edges, partners: Partners) -> Tensor:
    """Counts of the elements ``deltas[n, o] · inputs[n, i]`` beside the parameter's ``[o, i]``, without forming them.

    Args:
        inputs: Shape ``[N, I]``.
        deltas: Shape ``[N, O]``.
        edges: Bins of the elements.
        partners: Of a parameter of shape ``[O, I]``.

    Returns:
        As :func:`pair_rows`.
    """
    if compiled.usable(inputs) and edges.told_apart(inputs.dtype):
        return compiled.pair_outer(inputs, deltas, edges.open_ended(inputs), partners.places, partners.bins)
    counts = gpu.pair_outer(inputs, deltas, edges, partners)
    return pair_outer_torch(inputs, deltas, edges, partners) if counts is None else counts


def pair_rows_torch(rows: Tensor, factors: Tensor, edges: Edges, partners: Partners) -> Tensor:
    """The plain version of :func:`pair_rows`."""
    places = partners.places.reshape(1, -1)
    return _paired(((piece, places) for _, piece in row_pieces(rows, factors)), edges, partners.bins, rows)


def pair_lookups_torch(rows: Tensor, factors: Tensor, owners: Tensor, edges: Edges, partners: Partners) -> Tensor:
    """The plain version of :func:`pair_lookups`."""
    found = ((piece, partners.places[owners[start : start + len(piece)]]) for start, piece in row_pieces(rows, factors))
    return _paired(found, edges, partners.bins, rows)


def pair_outer_torch(inputs: Tensor, deltas: Tensor, edges: Edges, partners: Partners) -> Tensor:
    """The plain version of :func:`pair_outer`."""
    return _paired(((piece, partners.places) for piece in outer_pieces(inputs, deltas)), edges, partners.bins, inputs)


def _paired(pieces: Iterable[tuple[Tensor, Tensor]], edges: Edges, bins: int, like: Tensor) -> Tensor:
    """Counts of elements beside places of a shape that is broadcast to theirs."""
    total = like.new_zeros((edges.bins + 1) * bins, dtype=torch.int64)
    for piece, places in pieces:
        pairs = edges.places(piece).mul_(bins).add_(places.int())
        total += tally(pairs.flatten(), len(total))
    return total.view(-1, bins)[:-1]
