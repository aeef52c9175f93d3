"""Loops compiled with numba, for CPU tensors; present where the ``fast`` extra is installed.

numba's threads are not safe everywhere: one lock keeps kernels apart, a forked child never enters a parallel one, and
without a thread-safe threading layer the same loops run on one core.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
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


def count_rows(rows: Tensor, factors: Tensor, edges: Tensor) -> NDArray[np.int64]:
    """Counts of ``factors[n] · rows[n, j]`` between open-ended edges."""
    return _run("count_rows", rows.numel(), rows.contiguous().numpy(), factors.contiguous().numpy(), edges.numpy())


def count_outer(inputs: Tensor, deltas: Tensor, edges: Tensor) -> NDArray[np.int64]:
    """Counts of ``deltas[n, o] · inputs[n, i]`` between open-ended edges."""
    # NumPy sorts a hundred times faster than torch: it has vector instructions for it.
    ordered = np.sort(inputs.numpy(), axis=1)
    return _run("count_sorted", _BISECTION * deltas.numel(), ordered, deltas.contiguous().numpy(), edges.numpy())


def count_exponents(rows: Tensor, factors: Tensor, lowest: int, highest: int) -> NDArray[np.int64]:
    """Zeros, and counts of ``factors[n] · rows[n, j]`` by exponent."""
    lines = rows.contiguous().numpy()
    integers = lines[:0].view(_INTEGERS[lines.itemsize])
    return _run("exponents_of_rows", rows.numel(), lines, factors.contiguous().numpy(), integers, lowest, highest)


def count_outer_exponents(inputs: Tensor, deltas: Tensor, lowest: int, highest: int) -> NDArray[np.int64]:
    """Zeros, and counts of ``deltas[n, o] · inputs[n, i]`` by exponent."""
    ordered = np.sort(np.abs(inputs.numpy()), axis=1)
    bits = np.abs(deltas.contiguous().numpy()).view(_INTEGERS[ordered.itemsize])
    width = np.finfo(ordered.dtype).nmant
    behind = 8 * ordered.itemsize - 1 - width
    keys = np.sort((bits & ((1 << width) - 1)) << behind | bits >> width, axis=1)
    return _run("exponents_of_products", _EXPONENTS * deltas.numel(), ordered, keys, lowest, highest)


def activity(lines: Tensor, by_line: bool, alive: Tensor) -> NDArray[np.float64]:
    """Sum, sum of squares, zeros and what is not finite; marks the units that are alive."""
    return _run("activity", 0, lines.numpy(), by_line, alive.numpy()).astype(np.float64, copy=False)


def _announce_compilation(cached: Callable[[], bool]) -> None:
    """Says once, where it is so, why the first tracked step takes seconds."""
    global _announced
    if not _announced:
        _announced = True
        if not cached():
            print("cockpit: compiling its loops, once on this machine (about ten seconds)", file=sys.stderr)


def _run(name: str, work: int, *arguments: NDArray[Any] | int) -> NDArray[Any]:
    """Runs a loop, on several cores where that pays.

    Args:
        name: Of the loop.
        work: About how many elements it looks at.
        arguments: Its arguments.
    """
    from cockpit.kernels import activity_loops, exponent_loops, loops

    with _LOCK:
        _announce_compilation(loops.cached)
        parallel = work > _WORTH_THREADS and os.getpid() == _PROCESS and loops.THREADS_ARE_SAFE
        if parallel:
            loops.set_threads(torch.get_num_threads())
        name += "_parallel" if parallel else "_serial"
        kernel = next(getattr(m, name) for m in (loops, exponent_loops, activity_loops) if hasattr(m, name))
        counts: NDArray[Any] = kernel(*arguments).sum(0)
        return counts
