"""The compiled loops themselves. Each fills one row of counts per thread-sized block of samples.

Compiled at first use and cached on disk; a serial and a parallel build of the same source.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import njit, prange


def _bin(x, inner, low, inverse_width):  # type: ignore[no-untyped-def]
    """Number of boundaries not above ``x``: guessed from the width, settled by comparison."""
    top = len(inner)
    guess = (x - low) * inverse_width
    # Compared before it becomes an integer: of an infinity there is none.
    b = 0 if guess < 0 else top if guess > top else int(guess)
    while b < top and inner[b] <= x:
        b += 1
    while b > 0 and inner[b - 1] > x:
        b -= 1
    return b


def _grid(inner):  # type: ignore[no-untyped-def]
    """Where a uniform grid with these boundaries begins, and how many bins there are to a unit."""
    top = len(inner)
    width = (inner[top - 1] - inner[0]) / max(1, top - 1)
    return inner[0] - width, (1 / width if width > 0 else 0.0)


def _count_line(factor, line, inner, counts):  # type: ignore[no-untyped-def]
    """Counts of ``factor · line[j]``.

    Almost everything lies in the bin of zero or in the one below it: count those without branching, 512 at a time, and
    look one by one only at the others.
    """
    low, inverse_width = grid(inner)
    top, real = len(inner), line.dtype.type
    zero = bin_of(real(0), inner, low, inverse_width)
    middle = inner[zero - 1] if zero > 0 else real(-np.inf)
    below = inner[zero - 2] if zero > 1 else real(-np.inf)
    above = inner[zero] if zero < top else real(np.inf)
    for start in range(0, len(line), 512):
        stop = min(start + 512, len(line))
        left = np.int32(0)
        right = np.int32(0)
        for j in range(start, stop):
            x = factor * line[j]
            left += np.int32((x >= below) & (x < middle))
            right += np.int32((x >= middle) & (x < above))
        counts[zero] += right
        if zero > 0:
            counts[zero - 1] += left
        if left + right < stop - start:
            for j in range(start, stop):
                x = factor * line[j]
                if (x < below or x >= above) and x == x:
                    counts[bin_of(x, inner, low, inverse_width)] += 1


def _count_rows(rows, factors, inner):  # type: ignore[no-untyped-def]
    counts = np.zeros((len(rows), len(inner) + 1), np.int64)
    for n in prange(len(rows)):
        count_line(factors[n], rows[n], inner, counts[n])
    return counts


def _count_products(inputs, deltas, inner):  # type: ignore[no-untyped-def]
    counts = np.zeros((len(inputs), len(inner) + 1), np.int64)
    for n in prange(len(inputs)):
        for o in range(deltas.shape[1]):
            count_line(deltas[n, o], inputs[n], inner, counts[n])
    return counts


def _count_sorted(inputs, deltas, inner):  # type: ignore[no-untyped-def]
    """For one ``δ`` the bin is monotone in the input: bisect the boundaries among the sorted inputs."""
    N, m = inputs.shape
    counts = np.zeros((N, len(inner) + 1), np.int64)
    low, inverse_width = grid(inner)
    for n in prange(N):
        smallest, largest = inputs[n, 0], inputs[n, m - 1]
        for o in range(deltas.shape[1]):
            d = deltas[n, o]
            if not np.isfinite(d):
                count_line(d, inputs[n], inner, counts[n])
                continue
            rising = d >= 0
            first = bin_of(d * (smallest if rising else largest), inner, low, inverse_width)
            last = bin_of(d * (largest if rising else smallest), inner, low, inverse_width)
            done = 0
            for b in range(first, last):
                # How many products lie below the upper boundary of bin b.
                i, j = done, m
                while i < j:
                    half = (i + j) // 2
                    x = d * (inputs[n, half] if rising else inputs[n, m - 1 - half])
                    if x < inner[b]:
                        i = half + 1
                    else:
                        j = half
                counts[n, b] += i - done
                done = i
            counts[n, last] += m - done
    return counts


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    try:
        return njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written: compile every time
        return njit(nogil=True, **options)(function)


bin_of = _compile(_bin)
grid = _compile(_grid)
count_line = _compile(_count_line)


def _build(function: Callable[..., Any]) -> tuple[Any, Any]:
    return _compile(function), _compile(function, parallel=True)


count_rows_serial, count_rows_parallel = _build(_count_rows)
count_products_serial, count_products_parallel = _build(_count_products)
count_sorted_serial, count_sorted_parallel = _build(_count_sorted)


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


def cached() -> bool:
    """Whether an earlier process has left compiled loops on disk."""
    place = getattr(getattr(count_line, "_cache", None), "cache_path", None)
    return place is not None and any(Path(place).glob("loops.*.nbc"))


def set_threads(threads: int) -> None:
    """As many threads as torch uses, as far as numba started that many."""
    numba.set_num_threads(max(1, min(threads, int(numba.config.NUMBA_NUM_THREADS))))  # type: ignore[attr-defined]
