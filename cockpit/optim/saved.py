"""States of loss-scaled optimizers as they are saved, and what is asked of one before it is taken up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from cockpit.optim.scales import DynamicScale, Scale, checked, values

SCHEDULE = "schedule"
"""Stands in a state dict for a function, which no file can hold."""


def savable(scale: Scale) -> Any:
    """A scale as a state dict holds it. Functions are left out, as those of schedulers are."""
    if isinstance(scale, DynamicScale):
        return scale.state_dict()
    return SCHEDULE if callable(scale) else scale


def require_fitting(groups: Sequence[Mapping[str, Any]], state_dict: Mapping[str, Any]) -> None:
    """Looks a state through before any of it is taken up.

    Args:
        groups: Those of the optimizer that is to go on from the state. Whether they are as many as the state's, with as
            many parameters, is the base class's to check.
        state_dict: The state.

    Raises:
        ValueError: If it is not a loss-scaled optimizer's, has scales that are none or of another kind than this
            optimizer's, or belongs to parameters of other shapes.
    """
    for group, saved in zip(groups, state_dict["param_groups"], strict=False):
        if "scale" not in saved:
            raise ValueError(
                "the state of a loss-scaled optimizer has a scale for each group; this one has none, as that of "
                "torch.optim's: it can only be loaded into the optimizer that it was saved from"
            )
        _require_scale(group["scale"], saved["scale"], len(saved["params"]))
        for parameter, key in zip(group["params"], saved["params"], strict=False):
            _require_shape(parameter, state_dict["state"].get(key, {}))


def _require_scale(present: Scale | None, saved: Any, parameters: int) -> None:
    schedule, adaptive = isinstance(saved, str) and saved == SCHEDULE, isinstance(saved, Mapping)
    if (schedule and not callable(present)) or (adaptive and not isinstance(present, DynamicScale)):
        raise ValueError(
            "the state was saved with a loss scale that changes by itself: make the optimizer with the same "
            f"scale before loading it (this one's is {present!r})"
        )
    if adaptive:
        checked(saved["value"])
    elif not schedule and saved is not None:
        values(saved, 0, parameters)


def _require_shape(parameter: Tensor, state: Mapping[str, Any]) -> None:
    for name, value in state.items():
        if isinstance(value, Tensor) and value.shape != parameter.shape:
            raise ValueError(
                f"the state's {name} is that of a parameter of shape {list(value.shape)}, and here is one of shape "
                f"{list(parameter.shape)}: load it into an optimizer of the network that it was saved with"
            )
