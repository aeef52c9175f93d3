"""The Hessian's diagonal and its trace, parameter by parameter: exact, or estimated with random signs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from cockpit.capture.second_order.hessian import Hessian
from cockpit.capture.unavailable import Unavailable
from cockpit.probes.curvature import Curvature, block_sums

EXACT_LIMIT = 10_000
"""Parameters up to which the exact diagonal is had by as many products."""


def hessian_diagonal(
    hessian: Hessian,
    names: Sequence[str],
    generator: torch.Generator,
    draws: int = 2,
    limit: int = EXACT_LIMIT,
    diagonal: bool = False,
) -> Curvature:
    """The Hessian's diagonal as exactly as is feasible; what could not be had exactly is labelled ``"hutchinson"``.

    Args:
        hessian: Of the loss.
        names: Its parameters.
        generator: As for :func:`hutchinson`.
        draws: As for :func:`hutchinson`, where the model is too large.
        limit: Number of parameters up to which it is exact.
        diagonal: Whether the single coordinates are wanted.

    Raises:
        Unavailable: If the loss cannot be differentiated a second time.
    """
    numel = sum(t.numel() for t in hessian.tensors)
    if numel <= limit:
        return exact_diagonal(hessian, names)
    note = (
        f"{numel:,} parameters are too many for the exact diagonal of the Hessian (up to {limit:,}), so it is "
        f"estimated from {draws} random vectors"
    )
    return dataclasses.replace(hutchinson(hessian, names, generator, draws, diagonal), note=note)


def hutchinson(
    hessian: Hessian, names: Sequence[str], generator: torch.Generator, draws: int = 1, diagonal: bool = False
) -> Curvature:
    r"""Unbiased estimates from random signs: :math:`E[z_p^\top (H z)_p] = \operatorname{tr} H_{pp}` for every block.

    Entries of other blocks enter with random signs: they are noise in a block's trace, not in its expectation.
    Hutchinson, *A stochastic estimator of the trace of the influence matrix for Laplacian smoothing splines* (1989);
    for the diagonal Bekas et al., *An estimator for the diagonal of a matrix* (2007).

    Args:
        hessian: Of the loss; one product for each draw.
        names: Its parameters.
        generator: Draws the signs; one that starts anew draws the same, so that parts of a batch can be pooled.
        draws: Number ``K`` of independent estimates.
        diagonal: Whether the single coordinates are wanted, ``z ∘ Hz``.

    Raises:
        ValueError: For less than one draw.
        Unavailable: As :meth:`Hessian.times`.
    """
    if draws < 1:
        raise ValueError(f"Hutchinson's estimate needs at least one draw, got {draws}")
    sums, means = [], [torch.zeros_like(t, dtype=_single(t)) for t in hessian.tensors] if diagonal else []
    for _ in range(draws):
        signs = [_signs(t, generator) for t in hessian.tensors]
        coordinates = [z.to(_single(z)) * Hz for z, Hz in zip(signs, hessian.times(signs), strict=True)]
        sums.append(block_sums(coordinates))
        for mean, values in zip(means, coordinates, strict=False):
            mean.add_(values, alpha=1 / draws)
    return Curvature(tuple(names), torch.stack(sums), "hutchinson", exact=False, diagonal=tuple(means))


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    bits = torch.randint(2, like.shape, generator=generator, device=generator.device, dtype=torch.int8)
    return bits.to(like.device, like.dtype).mul_(2).sub_(1)


def _single(tensor: Tensor) -> torch.dtype:
    """Halves are multiplied in float32."""
    return torch.promote_types(tensor.dtype, torch.float32)


def exact_diagonal(hessian: Hessian, names: Sequence[str], at_once: int = 64) -> Curvature:
    """Every diagonal entry, by one product with a unit vector each: for any model that is small enough.

    Only the block of the vector's own parameter is computed. Costs as many products as there are parameters, which is
    cheaper than it sounds, for they are taken many at once.

    Args:
        hessian: Of the loss.
        names: Its parameters.
        at_once: Products at once; memory grows with them, by some of the layers' outputs for each.

    Raises:
        Unavailable: If the loss cannot be differentiated a second time.
    """
    diagonal = []
    for index, tensor in enumerate(hessian.tensors):
        places = torch.arange(tensor.numel(), device=tensor.device)
        parts = [entries(hessian, index, some) for some in places.split(at_once)]
        diagonal.append(torch.cat(parts).view_as(tensor))
    return Curvature(tuple(names), block_sums(diagonal).unsqueeze(0), "products", exact=True, diagonal=tuple(diagonal))


def entries(hessian: Hessian, index: int, places: Tensor) -> Tensor:
    """Some diagonal entries of one parameter's block.

    Args:
        hessian: Of the loss; one product for each entry, all at once.
        index: The parameter.
        places: Which of its coordinates. Shape ``[B]``.

    Raises:
        Unavailable: If the loss cannot be differentiated a second time.
    """
    tensor = hessian.tensors[index]
    units = torch.zeros(len(places), tensor.numel(), dtype=tensor.dtype, device=tensor.device)
    units.scatter_(1, places.unsqueeze(1), 1)
    units = units.view(len(places), *tensor.shape)
    try:
        products = hessian.block_times(index, units)
    except Unavailable:
        if len(units) == 1:
            raise
        # Not every function can be batched; one at a time is the same, only slower.
        products = torch.cat([hessian.block_times(index, unit) for unit in units.split(1)])
    return products.flatten(1).gather(1, places.unsqueeze(1)).squeeze(1)
