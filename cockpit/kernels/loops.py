"""The compiled loops themselves. Each fills one row of counts per thread-sized block of samples.

Compiled at first use and cached on disk; a serial and a parallel build of the same source.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
import numpy as np
from numba import njit, prange


def _bin(x, edges, low, inverse_width):  # type: ignore[no-untyped-def]
    """The bin of ``x``: guessed from the width, settled by comparison. Rounding puts the guess off by one at most."""
    guess = (x - low) * inverse_width
    b = np.int32(min(max(guess, edges.dtype.type(0)), edges.dtype.type(len(edges) - 2)))
    return b + np.int32(edges[b + 1] <= x) - np.int32(edges[b] > x)


def _grid(edges):  # type: ignore[no-untyped-def]
    """Where the first bin begins, and how many bins there are to a unit; the outermost edges are open ends."""
    inner = len(edges) - 2
    if inner == 1:  # two bins have no width of their own
        return edges[1], edges.dtype.type(1)
    width = (edges[inner] - edges[1]) / edges.dtype.type(inner - 1)
    return edges[1] - width, 1 / width


def _count_line(factor, line, edges, counts, bins):  # type: ignore[no-untyped-def]
    """Counts of ``factor · line[j]``, a few hundred at a time; ``bins`` is scratch for as many.

    Almost everything lies in the bin of zero or in the one below it, and those are counted without looking up a bin.
    """
    low, inverse_width = grid(edges)
    last, real = np.int32(len(edges) - 2), line.dtype.type
    zero = bin_of(real(0), edges, low, inverse_width)
    below, middle, above = edges[max(zero - 1, 0)], edges[zero], edges[zero + 1]
    for start in range(0, len(line), len(bins)):
        block = line[start : start + len(bins)]
        left = np.int32(0)
        right = np.int32(0)
        for j in range(len(block)):
            x = factor * block[j]
            left += np.int32((x >= below) & (x < middle))
            right += np.int32((x >= middle) & (x < above))
        if left + right == len(block):
            counts[zero] += right
            counts[max(zero - 1, 0)] += left
            continue
        for j in range(len(block)):
            guess = (factor * block[j] - low) * inverse_width
            bins[j] = np.int32(min(max(guess, real(0)), real(last)))
        for j in range(len(block)):
            x = factor * block[j]
            b = bins[j]
            if x == x:  # a NaN is in no bin
                counts[b + np.int32(edges[b + 1] <= x) - np.int32(edges[b] > x)] += 1


def _count_rows(rows, factors, edges):  # type: ignore[no-untyped-def]
    counts = np.zeros((len(rows), len(edges) - 1), np.int64)
    for n in prange(len(rows)):
        count_line(factors[n], rows[n], edges, counts[n], np.empty(512, np.int32))
    return counts


def _count_sorted(inputs, deltas, edges):  # type: ignore[no-untyped-def]
    """For one ``δ`` the bin is monotone in the input: bisect the boundaries among the sorted inputs."""
    N, m = inputs.shape
    counts = np.zeros((N, len(edges) - 1), np.int64)
    low, inverse_width = grid(edges)
    for n in prange(N):
        line = inputs[n]
        bins = np.empty(512, np.int32)
        smallest, largest = line[0], line[m - 1]  # NaNs are sorted to the end
        for o in range(deltas.shape[1]):
            d = deltas[n, o]
            if not (np.isfinite(d) and np.isfinite(smallest) and np.isfinite(largest)):
                count_line(d, line, edges, counts[n], bins)
                continue
            rising = d >= 0
            first = bin_of(d * (smallest if rising else largest), edges, low, inverse_width)
            last = bin_of(d * (largest if rising else smallest), edges, low, inverse_width)
            done = 0
            for b in range(first, last):
                # How many products lie below the upper boundary of bin b.
                i, j = done, m
                while i < j:
                    half = (i + j) // 2
                    x = d * (line[half] if rising else line[m - 1 - half])
                    if x < edges[b + 1]:
                        i = half + 1
                    else:
                        j = half
                counts[n, b] += i - done
                done = i
            counts[n, last] += m - done
    return counts


def compile_loop(function: Callable[..., Any], **options: Any) -> Any:
    """A function for use in loops."""
    try:
        return njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written: compile every time
        return njit(nogil=True, **options)(function)


bin_of = compile_loop(_bin)
grid = compile_loop(_grid)
count_line = compile_loop(_count_line)


def build(function: Callable[..., Any]) -> tuple[Any, Any]:
    """A serial and a parallel version."""
    # numba's cache on disk tells functions apart by name alone: under one name, either would be loaded as the other.
    name = f"{function.__name__}_parallel"
    twin = FunctionType(function.__code__, function.__globals__, name)
    twin.__qualname__ = name
    return compile_loop(function), compile_loop(twin, parallel=True)


count_rows_serial, count_rows_parallel = build(_count_rows)
count_sorted_serial, count_sorted_parallel = build(_count_sorted)


def _threads_are_safe() -> bool:
    """Whether numba has a threading layer that may be entered from several threads of the program."""
    for layer in ("tbbpool", "omppool"):
        try:
            importlib.import_module(f"numba.np.ufunc.{layer}")
        except ImportError:  # built without it, or its shared library is missing
            continue
        return True
    return False


THREADS_ARE_SAFE = _threads_are_safe()


def cached(loop: Any) -> bool:
    """Whether an earlier process has left a compiled loop on disk."""
    place = getattr(getattr(loop, "_cache", None), "cache_path", None)
    function = loop.py_func
    files = f"{function.__module__.rpartition('.')[2]}.{function.__name__}-*.nbc"
    return place is not None and any(Path(place).glob(files))


def set_threads(threads: int) -> None:
    """As many threads as torch uses, as far as numba started that many."""
    numba.set_num_threads(max(1, min(threads, int(numba.config.NUMBA_NUM_THREADS))))  # type: ignore[attr-defined]
