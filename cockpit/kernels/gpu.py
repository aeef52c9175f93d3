"""Loops compiled with Triton, for CUDA tensors; present where Triton is, which PyTorch's builds for Linux bring along.

Counts stay on the device, and nothing here waits for it. What these loops are not for is left to the torch twins: then
the answer is ``None``. Where Triton cannot compile them, that is so from then on, and said once.
"""

from __future__ import annotations

import sys
import warnings
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from cockpit.kernels.histogram import Edges
    from cockpit.kernels.pairs import Partners

_AREA = 2048
"""Elements of a tile: sixteen to a thread."""
_NARROWEST, _WIDEST = 16, 256
"""Columns of a tile."""
_PROGRAMS = 1024
"""At most so many programs run at a time: a few for each of a large device's processors."""
_KEPT = 1024
"""Counts that fit into a program's registers, that of what is not to be counted included."""
_given_up = False
_announced = False


def count_rows(rows: Tensor, factors: Tensor, edges: Edges) -> Tensor | None:
    """As :func:`cockpit.kernels.histogram.count_rows`."""
    return _count_bins(factors.to(rows.dtype), rows, edges)


def count_outer(inputs: Tensor, deltas: Tensor, edges: Edges) -> Tensor | None:
    """As :func:`cockpit.kernels.histogram.count_outer`."""
    return _count_bins(deltas, inputs, edges)


def count_exponents(rows: Tensor, factors: Tensor, lowest: int, highest: int) -> Tensor | None:
    """As :func:`cockpit.kernels.exponents.count_rows`, for exponents from ``lowest`` to below ``highest``."""
    return _count_exponents(factors.to(rows.dtype), rows, lowest, highest)


def count_outer_exponents(inputs: Tensor, deltas: Tensor, lowest: int, highest: int) -> Tensor | None:
    """As :func:`cockpit.kernels.exponents.count_outer`, for exponents from ``lowest`` to below ``highest``."""
    return _count_exponents(deltas, inputs, lowest, highest)


def pair_rows(rows: Tensor, factors: Tensor, edges: Edges, partners: Partners) -> Tensor | None:
    """As :func:`cockpit.kernels.pairs.pair_rows`."""
    return _count_pairs(factors.to(rows.dtype), rows, torch.zeros_like(factors, dtype=torch.int64), edges, partners)


def pair_lookups(rows: Tensor, factors: Tensor, owners: Tensor, edges: Edges, partners: Partners) -> Tensor | None:
    """As :func:`cockpit.kernels.pairs.pair_lookups`."""
    return _count_pairs(factors.to(rows.dtype), rows, owners, edges, partners)


def pair_outer(inputs: Tensor, deltas: Tensor, edges: Edges, partners: Partners) -> Tensor | None:
    """As :func:`cockpit.kernels.pairs.pair_outer`."""
    return _count_pairs(deltas, inputs, None, edges, partners)


def _count_bins(first: Tensor, second: Tensor, edges: Edges) -> Tensor | None:
    if not (_usable(first, second, edges.bins) and edges.told_apart(second.dtype)):
        return None
    counts = second.new_zeros(edges.bins, dtype=torch.int64)
    tables, numbers = (edges.open_ended(second),), (edges.bins, edges.around_zero)
    return _launch("bins_of_products", first, second, tables, counts, numbers, edges.bins)


def _count_exponents(first: Tensor, second: Tensor, lowest: int, highest: int) -> Tensor | None:
    bins = highest - lowest
    if not _usable(first, second, 1 + bins):
        return None
    counts = second.new_zeros(1 + bins, dtype=torch.int64)
    return _launch("exponents_of_products", first, second, (), counts, (bins, lowest), 1 + bins)


def _count_pairs(
    first: Tensor, second: Tensor, owners: Tensor | None, edges: Edges, partners: Partners
) -> Tensor | None:
    kept = 2 * partners.bins
    if not (_usable(first, second, kept) and edges.told_apart(second.dtype)):
        return None
    counts = second.new_zeros(edges.bins, partners.bins, dtype=torch.int64)
    places = partners.places
    tables = (places if owners is None else owners, edges.open_ended(second), places)
    return _launch(
        "pairs_of_products", first, second, tables, counts, (edges.bins, edges.around_zero, partners.bins), kept
    )


def _usable(first: Tensor, second: Tensor, kept: int) -> bool:
    """Whether the loops can run on two tensors, each program with so many counts of its own."""
    return (
        _on_gpu(second)
        and first.device == second.device
        and first.dtype == second.dtype
        and second.dtype in (torch.float32, torch.float64)
        and kept < _KEPT
        and not _given_up
        and _installed()
    )


def _on_gpu(tensor: Tensor) -> bool:
    return tensor.is_cuda


@cache
def _installed() -> bool:
    return find_spec("triton") is not None


def _launch(
    name: str,
    first: Tensor,
    second: Tensor,
    tables: tuple[Tensor, ...],
    counts: Tensor,
    numbers: tuple[int, ...],
    kept: int,
) -> Tensor | None:
    """Runs a loop over the tiles of products ``first[n] · second[n, j]`` or ``first[n, o] · second[n, i]``.

    Args:
        name: Of the loop.
        first: Shape ``[N]``, or ``[N, O]`` for outer products.
        second: Shape ``[N, I]``.
        tables: What else the loop reads.
        counts: What it adds to.
        numbers: What else it has to know.
        kept: How many counts a program keeps.

    Returns:
        The counts; ``None`` where Triton failed.
    """
    if first.numel() == 0 or second.numel() == 0:
        return counts
    N, m = second.shape
    outer = first.dim() == 2
    samples, M = (N, first.shape[1]) if outer else (1, N)
    width = min(max(_power(m), _NARROWEST), _WIDEST)
    height = _AREA // width
    tiles = samples * -(-M // height) * -(-m // width)
    tensors = [tensor.contiguous() for tensor in (first, second, *tables)]
    shape = {"OUTER": outer, "BINS": _power(kept + 1), "HEIGHT": height, "WIDTH": width}
    try:
        _run(name, min(tiles, _PROGRAMS), (*tensors, counts, M, m, tiles, *numbers), shape)
    except Exception as error:  # no C compiler, an unknown device: of many kinds, and not the training's
        _give_up(error)
        return None
    return counts


def _run(name: str, programs: int, arguments: tuple[Tensor | int, ...], shape: dict[str, int]) -> None:
    from cockpit.kernels import gpu_loops

    _announce_compilation(name)
    with torch.cuda.device_of(arguments[0]):
        # Not fused: what is compared must be the product as it is rounded.
        getattr(gpu_loops, name)[(programs,)](*arguments, **shape, enable_fp_fusion=False)


@cache
def _announce_compilation(name: str) -> None:
    """Says once, where it is so, why a tracked step takes seconds."""
    from cockpit.kernels import gpu_loops

    global _announced
    if not _announced and not gpu_loops.cached(getattr(gpu_loops, name)):
        _announced = True
        print("cockpit: compiling its loops for this GPU, once on this machine (some seconds)", file=sys.stderr)


def _give_up(error: Exception) -> None:
    """Says that the torch twins do the work from now on; never raises, as this may happen inside a backward pass."""
    global _given_up
    _given_up = True
    words = (
        f"Triton cannot compile the loops for this GPU ({type(error).__name__}: {error}). Histograms of individual "
        "gradients are counted by plain PyTorch instead: the same numbers, more slowly."
    )
    try:
        warnings.warn_explicit(words, RuntimeWarning, "cockpit", 0)  # no line of the user's has to do with it
    except RuntimeWarning:  # where the user has made warnings errors
        print(f"cockpit: {words}", file=sys.stderr)


def _power(size: int) -> int:
    """The smallest power of two that is not smaller."""
    return 1 << (size - 1).bit_length()
