"""Three gradient tests as areas around the mean gradient, in units of its length: its arrow points from 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

EXTENTS = (1.25, 2.5, 5.0, 10.0, 100.0)  # half-widths of the plot: few, so that it seldom jumps

Test: TypeAlias = Literal["norm", "inner", "ortho"]


@dataclass(frozen=True)
class Area:
    """Where one test says that samples scatter.

    Args:
        test: Which: a circle around the arrow's tip, a band along the arrow, a band across.
        name: The same in words.
        x: Corners across the mean gradient. Shape ``[n]``.
        y: Corners along it. Shape ``[n]``.
    """

    test: Test
    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]


def extent_of(values: Sequence[float | None]) -> float:
    """Half-width of a plot that holds the areas of these tests, as far as there is one."""
    reach = max([value for value in values if value is not None], default=0.0)
    return next((extent for extent in EXTENTS if reach <= extent), EXTENTS[-1])


def areas_of(norm: float | None, inner: float | None, ortho: float | None) -> list[Area]:
    """From the back to the front; a missing test has no area. The bands reach beyond every plot."""
    far = 2 * EXTENTS[-1]
    areas = []
    if ortho is not None:
        x, y = [-ortho, ortho, ortho, -ortho, -ortho], [-far, -far, far, far, -far]
        areas.append(Area("ortho", "orthogonality test, across", np.array(x), np.array(y)))
    if inner is not None:
        x, y = [-far, far, far, -far, -far], [1 - inner, 1 - inner, 1 + inner, 1 + inner, 1 - inner]
        areas.append(Area("inner", "inner test, along", np.array(x), np.array(y)))
    if norm is not None:
        angle = np.linspace(0, 2 * np.pi, 73)
        areas.append(Area("norm", "norm test, radius", norm * np.cos(angle), 1 + norm * np.sin(angle)))
    return areas
