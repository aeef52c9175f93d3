"""Loops compiled with numba, for CPU tensors; present where the ``fast`` extra is installed.

numba's threads are not safe everywhere: one lock keeps kernels apart, a forked child never enters a parallel one, and
without a thread-safe threading layer the same loops run on one core.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

try:
    import numba
except ImportError:  # the extra is not installed: the torch twins do the work
    numba = None  # type: ignore[assignment]

_LOCK = threading.Lock()
_announced = False
_PROCESS = os.getpid()
_BISECTION = 50
"""A bisection costs as much as looking at about so many elements."""
_EXPONENTS = 20
"""So many exponents occur among the inputs of a layer."""
_INTEGERS: dict[int, type[np.signedinteger[Any]]] = {4: np.int32, 8: np.int64}
"""As large as a number of so many bytes."""
_WORTH_THREADS = 2_000_000
"""Elements, about a millisecond. numba's threads and torch's are two pools that wait for work by spinning, each on the
cores the other wants, so that handing over small pieces of work costs more than doing them."""


def usable(tensor: Tensor) -> bool:
    """Whether the compiled loops can run on a tensor."""
    return numba is not None and tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)


def count_rows(rows: Tensor, factors: Tensor, edges: Tensor) -> Tensor:
    """Counts of ``factors[n] · rows[n, j]`` between open-ended edges."""
    return _total(_run("count_rows", rows.numel(), *_arrays(rows, factors, edges)))


def count_outer(inputs: Tensor, deltas: Tensor, edges: Tensor) -> Tensor:
    """Counts of ``deltas[n, o] · inputs[n, i]`` between open-ended edges."""
    # NumPy sorts a hundred times faster than torch: it has vector instructions for it.
    ordered = np.sort(inputs.numpy(), axis=1)
    return _total(_run("count_sorted", _BISECTION * deltas.numel(), ordered, *_arrays(deltas, edges)))


def count_exponents(rows: Tensor, factors: Tensor, lowest: int, highest: int) -> Tensor:
    """Zeros, and counts of ``factors[n] · rows[n, j]`` by exponent."""
    lines = rows.contiguous().numpy()
    integers = lines[:0].view(_INTEGERS[lines.itemsize])
    factors = factors.contiguous()
    return _total(_run("exponents_of_rows", rows.numel(), lines, factors.numpy(), integers, lowest, highest))


def count_outer_exponents(inputs: Tensor, deltas: Tensor, lowest: int, highest: int) -> Tensor:
    """Zeros, and counts of ``deltas[n, o] · inputs[n, i]`` by exponent."""
    lines = inputs.contiguous().numpy()
    keys = _by_mantissa(lines), _by_mantissa(deltas.contiguous().numpy())
    return _total(_run("exponents_of_products", _EXPONENTS * deltas.numel(), lines, *keys, lowest, highest))


def _by_mantissa(lines: NDArray[Any]) -> NDArray[Any]:
    """The bits of the numbers without their signs, the exponent behind the mantissa, in ascending order."""
    width = np.finfo(lines.dtype).nmant
    behind = 8 * lines.itemsize - 1 - width
    bits = np.abs(lines).view(_INTEGERS[lines.itemsize])
    keys: NDArray[Any] = (bits & ((1 << width) - 1)) << behind | bits >> width
    keys.sort(axis=1)
    return keys


def activity(lines: Tensor, by_line: bool, alive: Tensor) -> NDArray[np.float64]:
    """Sum, sum of squares, zeros and what is not finite; marks the units that are alive."""
    totals: NDArray[np.float64] = _run("activity", 0, lines.numpy(), by_line, alive.numpy()).sum(0)
    return totals.astype(np.float64, copy=False)


def places(values: Tensor, edges: Tensor) -> Tensor:
    """The bin of every value between open-ended edges, that after the last for a NaN. Shape ``[m]``."""
    found = np.empty(len(values), np.uint8 if len(edges) <= 256 else np.uint16)
    return torch.from_numpy(_run("places", values.numel(), *_arrays(values, edges), found))


def pair_rows(rows: Tensor, factors: Tensor, edges: Tensor, partners: Tensor, bins: int) -> Tensor:
    """Counts of ``factors[n] · rows[n, j]`` beside ``partners[j]``, which are less than ``bins``."""
    return _total(_run("pair_rows", rows.numel(), *_arrays(rows, factors, edges, partners), bins))


def pair_lookups(rows: Tensor, factors: Tensor, owners: Tensor, edges: Tensor, partners: Tensor, bins: int) -> Tensor:
    """Counts of ``factors[r] · rows[r, j]`` beside ``partners[owners[r], j]``."""
    return _total(_run("pair_lookups", rows.numel(), *_arrays(rows, factors, owners, edges, partners), bins))


def pair_outer(inputs: Tensor, deltas: Tensor, edges: Tensor, partners: Tensor, bins: int) -> Tensor:
    """Counts of ``deltas[n, o] · inputs[n, i]`` beside ``partners[o, i]``."""
    order = np.argsort(inputs.numpy(), axis=1)
    lines = np.take_along_axis(inputs.numpy(), order, 1)
    work = _BISECTION * deltas.numel() + inputs.shape[1] * deltas.numel() // 10
    return _total(_run("pair_sorted", work, lines, order.astype(np.int32), *_arrays(deltas, edges, partners), bins))


def row_sums(rows: Tensor, first: Tensor, second: Tensor, coefficients: Tensor, squares: Tensor) -> Tensor:
    """Squared norms of rows and inner products with two directions, shape ``[3, n]``; adds to sums by column."""
    arrays = _arrays(rows, first, second, coefficients, squares)
    return torch.from_numpy(_run("row_sums", rows.numel(), *arrays).sum(0))


def _arrays(*tensors: Tensor) -> Iterator[NDArray[Any]]:
    return (tensor.contiguous().numpy() for tensor in tensors)


def _total(counts: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(counts.sum(0))


def _announce_compilation(loop: Any, cached: Callable[[Any], bool]) -> None:
    """Says once, where it is so, why a tracked step takes seconds."""
    global _announced
    if not _announced and not loop.signatures and not cached(loop):
        _announced = True
        print("cockpit: compiling its loops, once on this machine (about ten seconds)", file=sys.stderr)


@cache
def _kernel(name: str) -> Any:
    from cockpit.kernels import activity_loops, exponent_loops, loops, pair_loops, row_sum_loops

    modules = (loops, exponent_loops, pair_loops, activity_loops, row_sum_loops)
    return next(getattr(module, name) for module in modules if hasattr(module, name))


def _run(name: str, work: int, *arguments: NDArray[Any] | int) -> NDArray[Any]:
    """Runs a loop, on several cores where that pays.

    Args:
        name: Of the loop.
        work: About how many elements it looks at.
        arguments: Its arguments.
    """
    with _LOCK:
        threads = torch.get_num_threads()
        try:
            return _looped(name, work, threads, arguments)
        finally:
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)  # OpenMP, which both may share, forgets it when numba starts its threads


def _looped(name: str, work: int, threads: int, arguments: tuple[NDArray[Any] | int, ...]) -> NDArray[Any]:
    from cockpit.kernels import loops

    parallel = work > _WORTH_THREADS and os.getpid() == _PROCESS and loops.THREADS_ARE_SAFE
    if parallel:
        loops.set_threads(threads)  # this starts them, the first time
    kernel = _kernel(name + ("_parallel" if parallel else "_serial"))
    _announce_compilation(kernel, loops.cached)
    found: NDArray[Any] = kernel(*arguments)
    return found
