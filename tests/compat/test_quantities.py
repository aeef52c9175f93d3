"""Quantities and schedules by the names that f-dangel/cockpit gives them."""

from __future__ import annotations

import inspect

from cockpit import quantities
from cockpit.quantities import Quantity
from cockpit.utils.schedules import linear, logarithmic


def test_schedules() -> None:
    assert [step for step in range(12) if linear(4, offset=2)(step)] == [2, 6, 10]
    assert [step for step in range(1001) if logarithmic(0, 3, steps=4)(step)] == [0, 1, 10, 100, 1000]
    assert not logarithmic(0, 1, init=False)(0)


def test_every_quantity_says_what_it_is_and_is_an_instrument_of_its_name() -> None:
    named = [c for c in vars(quantities).values() if isinstance(c, type) and hasattr(c, "key")]
    assert all(issubclass(cls, Quantity) for cls in named)
    for cls in named:
        assert inspect.getdoc(cls)
        instrument = cls(linear(3)).instrument()
        assert type(instrument).__name__ == cls.__name__
        assert [step for step in range(7) if instrument.schedule(step)] == [0, 3, 6]
