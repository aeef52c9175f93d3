"""A run that is appended to: a few readings a step, and whether all of them are there."""

import numpy as np

from cockpit.reading import Histogram, Reading
from cockpit.store import Reader, Writer


def names(writer: Writer) -> list[str]:
    return sorted(file.name for file in writer.path.parent.iterdir())


def readings(step: int) -> dict[str, Reading]:
    histogram = Histogram(np.arange(3) + step, np.arange(4.0))
    return {"loss": Reading(float(step), {"a": 1.0}), "hist": Reading(histogram)}


def put(writer: Writer, steps: range) -> None:
    for step in steps:
        writer.put(step, 0.1 * step, readings(step))
    assert writer.flush()


def assert_steps(reader: Reader, steps: list[int]) -> None:
    for key, kind in (("loss", "scalar"), ("loss", "layers"), ("hist", "histogram")):
        assert reader.column(key, kind).steps.tolist() == steps
    assert reader.column("hist").values[-1].tolist() == [steps[-1], steps[-1] + 1, steps[-1] + 2]
