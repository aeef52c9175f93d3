"""Configurations as lists of quantities, by the names that f-dangel/cockpit gives them."""

from __future__ import annotations

from collections.abc import Callable

from cockpit import quantities
from cockpit.quantities import Quantity
from cockpit.utils.schedules import linear

_ECONOMY = ("Alpha", "Distance", "GradHist1d", "GradNorm", "InnerTest", "Loss", "NormTest", "OrthoTest", "UpdateSize")
_BUSINESS = (*_ECONOMY, "TICDiag", "HessTrace")
_CONFIGURATIONS = {"economy": _ECONOMY, "business": _BUSINESS, "full": (*_BUSINESS, "HessMaxEV", "GradHist2d")}


def quantities_cls_for_configuration(label: str) -> list[type[Quantity]]:
    """The quantities of a configuration, as that package has it (the source's Table 7.1).

    Args:
        label: ``"economy"``, ``"business"`` or ``"full"``.

    Raises:
        ValueError: For another label.
    """
    if label not in _CONFIGURATIONS:
        raise ValueError(f"a configuration is one of {', '.join(_CONFIGURATIONS)}, not {label!r}")
    return [getattr(quantities, name) for name in _CONFIGURATIONS[label]]


def configuration(
    label: str, track_schedule: Callable[[int], bool] | None = None, verbose: bool = False
) -> list[Quantity]:
    """A configuration's quantities, ready for ``Cockpit(params, quantities=…)``.

    Args:
        label: ``"economy"``, ``"business"`` or ``"full"``.
        track_schedule: When they are tracked; at every step if not given.
        verbose: Has no effect.

    Raises:
        ValueError: For another label.
    """
    schedule = linear(1) if track_schedule is None else track_schedule
    return [cls(schedule, verbose) for cls in quantities_cls_for_configuration(label)]
