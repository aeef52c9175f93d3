"""Contract suite for instruments: what holds for every one of them, those that you write included.

In a test of your own::

    from cockpit.testing import check_instrument

    def test_my_instrument_keeps_the_contract():
        check_instrument(MyInstrument())
"""

from __future__ import annotations

import contextlib
import functools
import math
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cockpit.instrument import Instrument, resolve
from cockpit.logged import Quantity
from cockpit.reading import Histogram, Histogram2d, Reading
from cockpit.run import Run, load_run
from cockpit.step import Step
from cockpit.testing.trajectory import TRAININGS as TRAININGS
from cockpit.testing.trajectory import Training as Training
from cockpit.testing.trajectory import trajectory, untouched
from cockpit.tracking.notices import CockpitWarning


def check_instrument(
    instrument: Instrument | type[Instrument] | str,
    *,
    trainings: Sequence[Training] = TRAININGS,
    device: str | torch.device = "cpu",
) -> None:
    """Everything that holds for every instrument; takes a few seconds.

    Args:
        instrument: The instrument.
        trainings: What to try it on.
        device: Where to train.

    Raises:
        AssertionError: If training does not stay the same to the last bit, the instrument raises or never gives a
            reading, a reading does not survive the log, or its panel cannot be drawn.
    """
    (watched,) = resolve(instrument)
    gave_a_reading = False
    for training in trainings:
        with tempfile.TemporaryDirectory() as folder:
            readings = check_training_untouched(training, watched, Path(folder) / "run", device=device)
            check_log(load_run(Path(folder) / "run"), watched.name, readings)
            if any(_is_defined(reading) for reading in readings.values()):
                gave_a_reading = True
                check_panel(Path(folder) / "run", watched.name)
    _require(gave_a_reading, f"{watched.name} never gave a reading; tried were: {', '.join(map(str, trainings))}")


def check_training_untouched(
    training: Training, instruments: Any, run: Path, *, device: str | torch.device = "cpu"
) -> dict[int, Reading]:
    """Trains with and without a cockpit, and compares everything after every step, bit for bit.

    Compared are parameters, gradients, buffers, the optimizer's state, the state of all random generators, the losses
    and their graphs, hooks, and what ``torch.save`` and ``copy.deepcopy`` make of the model.

    Args:
        training: The training.
        instruments: As the cockpit takes them; of the first one the readings are returned.
        run: Directory for the log.
        device: Where to train.

    Returns:
        What the first instrument returned, by step.

    Raises:
        AssertionError: If anything differs, or an instrument raises.
    """
    watched = resolve(instruments)
    with _recorded(watched[0]) as readings, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", CockpitWarning)
        touched = trajectory(training, device, instruments=watched, run=run, track=training.track)
    errors = [str(warning.message) for warning in said if " failed at step " in str(warning.message)]
    _require(not errors, f"{training}: {'; '.join(errors)}")
    for step, (mine, theirs) in enumerate(zip(touched, untouched(training, device), strict=True)):
        differing = [name for name in theirs if mine.get(name) != theirs[name]]
        _require(not differing and len(mine) == len(theirs), f"{training}: step {step} changed {', '.join(differing)}")
    return readings


def check_log(run: Run, name: str, readings: Mapping[int, Reading]) -> None:
    """Compares what an instrument returned with what its log holds.

    Args:
        run: The log.
        name: The instrument's name.
        readings: What it returned, by step.

    Raises:
        AssertionError: If a value, a layer, a part or an array differs.
    """
    found = functools.cache(run.__getitem__)
    for step, reading in readings.items():
        _require(_same(_logged(found(name), step), reading.value), f"step {step}: {name} does not survive the log")
        parts = {f"{name}.{part}": value for part, value in reading.parts.items()}
        for key, value in {name: reading.layers, **parts}.items():
            if isinstance(value, Mapping):
                for layer, number in value.items():
                    survives = _same(_logged(found(key), step, layer), number)
                    _require(survives, f"step {step}: {key} of {layer} does not survive the log")
            else:
                _require(_same(_logged(found(key), step), value), f"step {step}: {key} does not survive the log")
        _require(_same_arrays(found(name), step, reading), f"step {step}: arrays of {name} do not survive the log")


def check_panel(run: Path, name: str) -> None:
    """Draws every panel of a run that shows an instrument.

    Args:
        run: Directory of the log.
        name: The instrument's name.

    Raises:
        AssertionError: If no panel shows it, or one that does cannot be drawn.
    """
    from cockpit.dashboard.panels import draw
    from cockpit.dashboard.source import Source
    from cockpit.dashboard.theme import LIGHT
    from cockpit.store import Reader

    source = Source(Reader(run))
    panels = {key: panel for key, panel in source.header.panels.items() if name in (panel.keys or (key,))}
    _require(bool(panels), f"no panel shows {name}")
    for key, panel in panels.items():
        drawing = draw(key, panel, source, step=None, colours=LIGHT, log=False)
        _require(not drawing.empty, f"the panel {key!r} is not drawn: {drawing.empty}")
    source.close()


@contextlib.contextmanager
def _recorded(instrument: Instrument) -> Iterator[dict[int, Reading]]:
    """Collects what the instrument returns, by step."""
    readings: dict[int, Reading] = {}
    compute = instrument.compute

    def recording(steps: Sequence[Step]) -> Any:
        value = compute(steps)
        readings[steps[0].index] = value if isinstance(value, Reading) else Reading(value)
        return value

    instrument.compute = recording  # type: ignore[method-assign]
    try:
        yield readings
    finally:
        del instrument.compute


def _logged(logged: Quantity, step: int, layer: str | None = None) -> object:
    """What the log holds at a step; ``None`` where that is missing."""
    quantity: Any = logged if layer is None else logged.layers
    rows = np.flatnonzero(quantity.steps == step)
    _require(len(rows) == 1, f"{logged.key} is logged {len(rows)} times at step {step}")
    index: Any = rows[0] if layer is None else (rows[0], quantity.names.index(layer))
    if quantity.missing[index]:
        return None
    if quantity.edges is None:
        return float(quantity.values[index])
    axes = [edges for edges in (quantity.edges, quantity.y_edges) if edges is not None]
    own = [edges if edges.ndim == 1 else edges[index] for edges in axes]
    counts = quantity.values[index]
    return Histogram(counts, *own) if len(own) == 1 else Histogram2d(counts, *own)


def _same(logged: object, returned: object) -> bool:
    if isinstance(returned, (Histogram, Histogram2d)):
        return type(logged) is type(returned) and all(
            np.array_equal(theirs, getattr(logged, name)) for name, theirs in vars(returned).items()
        )
    if returned is None or logged is None or isinstance(logged, (Histogram, Histogram2d)):
        return logged is returned
    ours, theirs = float(logged), float(returned)  # type: ignore[arg-type]
    return ours == theirs or (math.isnan(ours) and math.isnan(theirs))


def _same_arrays(logged: Quantity, step: int, reading: Reading) -> bool:
    """Bit for bit; nothing where there is nothing."""
    there = logged.arrays is not None and step in logged.arrays.steps
    found = logged.at(step) if there else {}
    return found.keys() == reading.arrays.keys() and all(
        (array.dtype, array.shape, array.tobytes()) == (found[name].dtype, found[name].shape, found[name].tobytes())
        for name, array in reading.arrays.items()
    )


def _is_defined(reading: Reading) -> bool:
    return reading.value is not None or bool(reading.layers)


def _require(condition: bool, words: str) -> None:
    if not condition:
        raise AssertionError(words)
