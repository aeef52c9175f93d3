"""Loss scales: what the gradients that an optimizer finds were multiplied with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

_NO_SCALE = (
    "a loss scale is a positive number, a function of the number of steps so far, a list with a number for each "
    "parameter of its group, or a DynamicScale; got {}"
)


class DynamicScale:
    """A loss scale that is lowered whenever gradients overflow, and raised after many steps without.

    The rule is that of Micikevicius et al., Mixed Precision Training, ICLR 2018, section 3.2. One for each parameter
    group makes the scale of each group adapt by itself.

    Args:
        scale: The first scale.
        growth: What the scale is multiplied with after ``interval`` steps in a row without an overflow.
        backoff: What it is multiplied with after an overflow.
        interval: That many steps.

    Raises:
        ValueError: If the scale is not positive and finite, the growth below 1, the backoff not between 0 and 1, or the
            interval not positive.

    Example:
        >>> scale = DynamicScale(2.0**16)
        >>> scale.update(overflowed=True)
        >>> scale.value
        32768.0
    """

    def __init__(
        self, scale: float = 2.0**16, *, growth: float = 2.0, backoff: float = 0.5, interval: int = 2000
    ) -> None:
        self.value = checked(scale)
        if not (1 <= growth < math.inf and 0 < backoff < 1 and interval >= 1):
            raise ValueError(
                "a dynamic scale grows by a factor of at least 1, backs off by one between 0 and 1, and waits for at "
                f"least one step; got growth={growth}, backoff={backoff}, interval={interval}"
            )
        self.growth, self.backoff, self.interval = growth, backoff, interval
        self._calm = 0

    def update(self, overflowed: bool) -> None:
        """After a step: whether its gradients overflowed. A growth that would overflow itself is left out."""
        if overflowed:
            self.value, self._calm = max(self.value * self.backoff, math.ulp(0.0)), 0
            return
        self._calm += 1
        if self._calm == self.interval:
            self._calm = 0
            if math.isfinite(self.value * self.growth):
                self.value *= self.growth

    def state_dict(self) -> dict[str, float]:
        """The scale and how long there was no overflow."""
        return {"value": self.value, "calm": self._calm}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Goes on from what :meth:`state_dict` returned.

        Raises:
            ValueError: If that is no scale.
        """
        self.value, self._calm = checked(state["value"]), int(state["calm"])


Scale: TypeAlias = float | Tensor | Callable[[int], Any] | Sequence[float] | DynamicScale
"""One for all parameters; one for each step, from the number of steps so far; one for each parameter, at each step if
from a function; or one that adapts."""


def checked(scale: Any) -> float:
    """The scale, if it is one.

    Raises:
        ValueError: If it is zero, negative, or not finite.
        TypeError: If it is no number.
    """
    if isinstance(scale, (str, bytes)):  # which float would read
        raise TypeError(_NO_SCALE.format(repr(scale)))
    try:
        number = float(scale)
    except OverflowError:  # an integer beyond all floating-point numbers
        number = math.inf
    except (TypeError, ValueError):
        raise TypeError(_NO_SCALE.format(repr(scale))) from None
    if not 0 < number < math.inf:
        raise ValueError(f"a loss scale is a positive, finite number; got {number}")
    return number


def values(scale: Scale, step: int, parameters: int) -> list[float]:
    """The scale of each parameter of a group at a step.

    Args:
        scale: Of the group.
        step: Number of steps so far.
        parameters: How many parameters the group has.

    Raises:
        ValueError: If one of them is no scale, or their number is not that of the parameters.
        TypeError: If the scale is nothing that could be one.
    """
    given: Any = scale
    if isinstance(given, DynamicScale):
        given = given.value
    elif callable(given) and not isinstance(given, type):
        given = given(step)
    if isinstance(given, (Tensor, np.ndarray)):
        given = given.tolist()
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes)):
        return [checked(given)] * parameters
    if len(given) != parameters:
        raise ValueError(
            f"a sequence of loss scales has one for each parameter of its group, in their order; got {len(given)} "
            f"for {parameters}"
        )
    return [checked(value) for value in given]
