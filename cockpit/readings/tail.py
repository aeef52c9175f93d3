"""Tail index of the noise in samples of a vector, as a reading: what gradients and updates have in common."""

from __future__ import annotations

import torch

from cockpit.probes.sampled_elements import Elements
from cockpit.reading import Reading
from cockpit.readings.tail_index import gaussian_twin, symmetrised, tail_sums


def tail_reading(samples: Elements, seed: int, what: str) -> Reading:
    """Tail index of the noise in some samples of a vector, over all coordinates and by parameter.

    Args:
        samples: The samples, independent of each other.
        seed: Of the Gaussian noise that is laid beside it.
        what: What they are, for the reason why there is none.
    """
    noise = symmetrised(samples.rows)
    if len(noise) < 2:
        return Reading(None, reason=f"{len(samples.rows)} {what} are too few: it takes 4")
    sums = tail_sums(noise)
    if not bool(noise.isfinite().all()):
        return Reading(float("nan"))
    varies = (sums.blocks > 0).double()
    if not bool(varies.any()):
        return Reading(None, reason=f"the {what} do not differ")
    if sums.lattice():
        return Reading(
            None, reason=f"the {what} differ by multiples of one number, as those of signs do: they have no tail"
        )
    twin = tail_sums(gaussian_twin(noise, torch.Generator().manual_seed(seed)))
    layers = {name: sums.index(columns) for name, columns in samples.columns.items()}
    parts = {"gaussian": twin.index(), "varying": float(varies.mean()), "zeros": float((noise == 0).double().mean())}
    return Reading(sums.index(), layers, parts)
