"""Deviations from a symmetry as a reading: what the instruments of symmetries have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from cockpit.probes.unit_symmetry import Deviations, Symmetry
from cockpit.reading import Reading, Scalar

_QUANTILES = {"q05": 0.05, "q25": 0.25, "q75": 0.75, "q95": 0.95}
_NAMED = 3


def reading(found: Symmetry, nothing: str) -> Reading:
    """The median over the units of ``|cos|`` between update and direction of the symmetry, also by layer.

    Parts: its quantiles; ``sum``, which is ``Σ |⟨u, v⟩|`` over the units, and ``layer_sum`` by layer; ``gradient``, the
    same median for the gradient; ``decay`` by layer where weight decay was subtracted.

    Args:
        found: What the probe found.
        nothing: Why there is no value where no layer has the symmetry.
    """
    note = _left_out(found.left_out) if found.left_out else None
    if not found.update:
        return Reading(None, reason=nothing if note is None else f"{nothing}; {note}")
    cosines = _sizes(found.update.values())
    if not len(cosines):
        return Reading(None, reason="the parameters did not move", note=note)
    parts: dict[str, Scalar | Mapping[str, Scalar]] = {
        name: _quantile(cosines, share) for name, share in _QUANTILES.items()
    }
    sums = {name: float(each.along.abs().sum()) for name, each in found.update.items()}
    parts |= {"sum": sum(sums.values()), "layer_sum": sums}
    if found.gradient:
        parts["gradient"] = _quantile(_sizes(found.gradient.values()), 0.5)
    if found.decay:
        parts["decay"] = found.decay
    layers = {name: _quantile(_sizes([each]), 0.5) for name, each in found.update.items()}
    return Reading(_quantile(cosines, 0.5), layers, parts, note=note)


def _sizes(deviations: Iterable[Deviations]) -> Tensor:
    return torch.cat([each.cosines for each in deviations]).abs()


def _quantile(values: Tensor, share: float) -> float | None:
    """With linear interpolation between neighbours; NaN where a value is not finite, ``None`` without any."""
    if not bool(values.isfinite().all()):
        return float("nan")
    return float(np.quantile(values.numpy(), share)) if len(values) else None


def _left_out(reasons: Mapping[str, str]) -> str:
    """The layers, those with the same reason together."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    return "left out: " + "; ".join(f"{_listed(names)} ({reason})" for reason, names in by_reason.items())


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
