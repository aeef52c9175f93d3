"""Whether all samples keep apart, seen in a handful of backward passes however many samples there are.

Each sample's loss is multiplied with a factor of its own. Where samples keep apart, their rows come back multiplied
with just that; wherever another sample's loss arrives, another factor does.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from cockpit.capture.batch_axis import BatchAxis, Finding
from cockpit.capture.samples.single_samples import BOOST, Arrived, Hidden


class Take(Protocol):
    """Factors of the samples' losses, shape ``[N]`` -> what arrives everywhere."""

    def __call__(self, *, factors: Tensor) -> Arrived:
        """Takes them."""
        ...


class TakeSome(Protocol):
    """Samples and factors of their losses -> what arrives everywhere."""

    def __call__(self, members: Sequence[int], *, factors: Tensor) -> Arrived:
        """Takes them."""
        ...


def reached_by_strangers(take: Take, samples: int, findings: Mapping[int | Hidden, Finding]) -> set[int | Hidden]:
    """Which tensors' batch axes are not where the samples are.

    Factors are powers of two, one for each digit of a sample's number: any two samples differ in one of them.

    Args:
        take: Takes gradients.
        samples: Batch size ``N``.
        findings: What is to be held against them; those that coupled samples have are passed over.
    """
    known = {key: f.axis for key, f in findings.items() if f.axis is not None and not f.axis.coupled}
    if not known or samples < 2:
        return set()
    plain = {key: delta for key, delta in take(factors=torch.ones(samples)).everywhere() if delta is not None}
    # Half precision runs out of small numbers.
    base = 16 if all(torch.finfo(delta.dtype).tiny < 1e-30 for delta in plain.values()) else 4
    strangers: set[int | Hidden] = set()
    for digit in range(math.ceil(math.log(samples, base) - 1e-9)):
        factors = 0.5 ** ((torch.arange(samples) // base**digit) % base).double()
        for key, delta in take(factors=factors).everywhere():
            if key not in known or key not in plain or delta is None:
                continue
            if not _multiplied(known[key], plain[key], delta, factors.to(delta.device)):
                strangers.add(key)
    return _heard_in_silence(take, samples, {key: known[key] for key in strangers}) if strangers else strangers


def changed_by_company(
    take: TakeSome, n: int, entries: float, samples: int, among: Collection[int | Hidden]
) -> set[int | Hidden]:
    """Tensors where a sample's gradients are others than in company, as hooks make them that look at all samples.

    Args:
        take: Takes gradients.
        n: The sample.
        entries: How many loss entries a mean would be of: hooks may do something else where gradients are larger.
        samples: Batch size ``N``.
        among: Tensors in which samples lie apart, as far as is known.
    """
    factors = torch.full((samples,), 1 / (BOOST * max(1.0, entries)), dtype=torch.float64)
    alone, together = (dict(take(who, factors=factors[who]).everywhere()) for who in ([n], list(range(samples))))
    changed: set[int | Hidden] = set()
    for key in among:
        own, all_of_them = alone.get(key), together.get(key)
        if own is None or all_of_them is None:
            continue
        there = own != 0
        gap = (own - all_of_them)[there].double().abs()
        if bool((gap > max(1e-4, 8 * torch.finfo(own.dtype).eps) * own.double().abs().max()).any()):
            changed.add(key)
    return changed


def _heard_in_silence(take: Take, samples: int, known: Mapping[int | Hidden, BatchAxis]) -> set[int | Hidden]:
    """The same in more passes, for those in doubt: checkpoints may draw other random numbers in every pass, but rows of
    samples that are left out are zero."""
    strangers: set[int | Hidden] = set()
    for bit in range((samples - 1).bit_length()):
        for side in (0, 1):
            factors = ((torch.arange(samples) >> bit) % 2 == side).double()
            for key, delta in take(factors=factors).everywhere():
                if key in known and delta is not None:
                    rows = known[key].samples_first(delta, samples)
                    if bool(rows[(factors == 0).to(rows.device)].any()):
                        strangers.add(key)
    return strangers


def _multiplied(axis: BatchAxis, plain: Tensor, delta: Tensor, factors: Tensor) -> bool:
    samples = len(factors)
    rows, expected = (axis.samples_first(t, samples).reshape(samples, -1).double() for t in (delta, plain))
    finite = rows.isfinite().all(1) & expected.isfinite().all(1)
    expected = expected * factors[:, None]
    size = torch.maximum(rows.abs(), expected.abs()).amax(1)
    eps = torch.finfo(delta.dtype).eps
    # A row that is zero but for rounding has none of its own.
    rounding = 64 * eps * expected[finite].abs().amax() if bool(finite.any()) else 0.0
    return bool(((rows - expected).abs().amax(1) <= max(1e-3, 8 * eps) * size + rounding)[finite].all())
