"""Checks of optimizers' options."""

from __future__ import annotations


def at_least(least: float, **options: float) -> None:
    """Refuses smaller values, and NaN.

    Raises:
        ValueError: With the option's name and value.
    """
    for name, value in options.items():
        if not value >= least:
            raise ValueError(f"{name} is at least {least}; got {value}")


def below_one(**options: tuple[float, ...]) -> None:
    """Refuses values outside ``[0, 1)``.

    Raises:
        ValueError: With the option's name and values.
    """
    for name, values in options.items():
        if not all(0 <= value < 1 for value in values):
            raise ValueError(f"{name} are at least 0 and below 1; got {values}")
