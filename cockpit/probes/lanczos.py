"""Both ends of the spectrum of a symmetric matrix that is known only by its products."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Ritz:
    """An approximate eigenpair.

    Args:
        value: ``λ = vᵀHv``: never outside the spectrum.
        vector: Unit vector ``v``, shape ``[D]``.
        residual: ``‖Hv − λv‖``: so near to ``λ`` there is an eigenvalue.
    """

    value: float
    vector: Tensor
    residual: float


@dataclass(frozen=True)
class Extremes:
    """Both ends of a spectrum.

    Args:
        largest: Of the largest *algebraic* eigenvalue.
        smallest: Of the smallest.
        products: How many matrix-vector products it took.
    """

    largest: Ritz
    smallest: Ritz
    products: int


def lanczos(product: Callable[[Tensor, Tensor], None], basis: Tensor, tol: float) -> Extremes:
    r"""Lanczos' method with full re-orthogonalisation.

    Stops as soon as :math:`\lVert H v - \lambda v \rVert \le \text{tol} \cdot |\lambda|` for the largest eigenvalue.
    Unlike power iteration it finds the largest algebraic eigenvalue, however large the most negative one is. Besides
    the products it costs two passes over the vectors so far for each or four, and waits for the device once or twice.

    Golub and Van Loan, *Matrix computations* (2013), section 10.1; that orthogonalising twice is enough, and when it is
    needed: Daniel et al., *Reorthogonalization and stable algorithms for updating the Gram-Schmidt QR factorization*
    (1976).

    Args:
        product: Given ``v`` and ``out``, both of shape ``[D]``, writes ``H v`` to ``out``.
        basis: The starting vector in the first row, of any length but zero; the others are overwritten. Their number
            bounds that of the products, one each. Shape ``[m + 1, D]``.
        tol: Relative residual to stop at.

    Returns:
        The extremes; where the starting vector lies in an invariant subspace, those within it, with residual 0. NaN if
        the starting vector or a product is not finite.

    Raises:
        ValueError: For a starting vector that is zero, or a basis of one row.

    Example:
        >>> H, basis = torch.tensor([1.0, -5.0, 3.0]), torch.ones(4, 3)
        >>> found = lanczos(lambda v, out: out.copy_(H * v), basis, tol=1e-6)
        >>> round(found.largest.value, 4), round(found.smallest.value, 4), found.products
        (3.0, -5.0, 3)
    """
    rows, D = basis.shape
    if rows < 2:
        raise ValueError("Lanczos needs room for the starting vector and one product at least")
    norm = float(torch.linalg.vector_norm(basis[0]))
    if norm == 0:
        raise ValueError("Lanczos needs a starting vector that is not zero")
    if not math.isfinite(norm):
        return _nothing(basis, products=0)
    basis[0] /= norm
    diagonal: list[float] = []
    beside: list[float] = []
    for k in range(min(rows - 1, D)):
        product(basis[k], basis[k + 1])
        alpha, beta = _orthogonalised(basis[: k + 1], basis[k + 1])
        diagonal.append(alpha)
        if not (math.isfinite(alpha) and math.isfinite(beta)):
            return _nothing(basis, k + 1)
        values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
        exhausted = beta <= torch.finfo(basis.dtype).eps * np.abs(values).max() or k + 1 == D
        rest = 0.0 if exhausted else beta
        if exhausted or rest * abs(vectors[-1, -1]) <= tol * abs(values[-1]):
            break
        basis[k + 1] /= beta
        beside.append(beta)
    used = basis[: len(diagonal)]
    largest, smallest = (_ritz(used, values[end], vectors[:, end], rest) for end in (-1, 0))
    return Extremes(largest, smallest, len(used))


def _nothing(basis: Tensor, products: int) -> Extremes:
    nan = Ritz(math.nan, torch.full_like(basis[0], math.nan), math.nan)
    return Extremes(nan, nan, products)


def _orthogonalised(earlier: Tensor, image: Tensor) -> tuple[float, float]:
    """Takes from a new image what lies along the earlier vectors; the part along the last of them, and what is left."""
    size = torch.linalg.vector_norm(image)
    along = earlier @ image
    image.addmv_(earlier.T, along, alpha=-1)
    alpha, beta, before = torch.stack([along[-1], torch.linalg.vector_norm(image), size]).tolist()
    if beta < 0.5 * before:  # the rounding of what was taken shows beside what is left: once more
        along = earlier @ image
        image.addmv_(earlier.T, along, alpha=-1)
        more, beta = torch.stack([along[-1], torch.linalg.vector_norm(image)]).tolist()
        alpha += more
    return alpha, beta


def _ritz(basis: Tensor, value: float, coefficients: NDArray[np.float64], rest: float) -> Ritz:
    vector = torch.as_tensor(coefficients).to(basis) @ basis
    return Ritz(float(value), vector, rest * abs(float(coefficients[-1])))
