"""Fifty quantities of a training as it might go, and logs of any length that hold them.

The numbers are made up, in single precision as torch hands them over, and noisy: they compress as badly as real ones.
Beside them stand, at every thousandth step, a ratio and a histogram for each of sixteen layers, so that every panel of
the first view has something to show.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from cockpit.instrument import registered
from cockpit.reading import Histogram, Reading
from cockpit.screens import PANELS, SCREENS
from cockpit.store import Header
from cockpit.store.chunks import LONGEST
from cockpit.store.claim import Claim, claim
from cockpit.store.database import replace
from cockpit.store.databases import log_of
from cockpit.store.encoder import Encoder
from cockpit.store.points import Points
from cockpit.store.schema import FINITE
from cockpit.store.schema import run as run_table
from cockpit.store.schema import series as series_table
from cockpit.store.upkeep import add_chunks, rows_of

PARTS: dict[str, tuple[str, ...]] = {
    "loss": ("chance",), "learning_rate": (), "batch_size": (), "grad_norm": (), "noise_scale": ("low", "high"),
    "sample_grad_norm": ("q05", "q95"), "alpha": ("concave", "uphill"), "distance": (), "update_size": (),
    "norm_test": (), "inner_test": (), "ortho_test": (), "clip": ("norm", "threshold"), "early_stopping": (),
    "mean_gsnr": (), "cabs": (), "tic_diag": (), "hess_trace": (), "update_grad_cosine": (),
}  # fmt: skip
"""Instruments and the further numbers of each."""
KEYS = tuple(f"{key}.{part}" if part else key for key, parts in PARTS.items() for part in ("", *parts))
METRICS = tuple(f"metric/{place:02}" for place in range(50 - len(KEYS)))
SHARES = ("alpha.concave", "alpha.uphill", "clip")  # 0 or 1
CONSTANT = {"loss.chance": 2.3025851, "learning_rate": 0.1, "batch_size": 128.0, "clip.threshold": 1.0}

PACE = 0.01  # seconds between steps
LAYERS = tuple(f"layer{place:02}.weight" for place in range(16))
POWERS = np.arange(-40.0, 41.0)
LAYERED_EVERY = 1000


@dataclass(frozen=True)
class Stretch:
    """Some steps of the training.

    Args:
        steps: Their numbers. Shape ``[n]``.
        times: Seconds since the run began, whole microseconds. Shape ``[n]``.
        values: Shape ``[n, 50]``: of :data:`KEYS`, then of :data:`METRICS`.
    """

    steps: NDArray[np.int64]
    times: NDArray[np.float64]
    values: NDArray[np.float32]

    def readings(self, at: int) -> dict[str, Reading]:
        """The instruments' values at one of the steps."""
        found: dict[str, float] = dict(zip(KEYS, self.values[at].tolist(), strict=False))
        return {
            key: Reading(found[key], parts={part: found[f"{key}.{part}"] for part in parts})
            for key, parts in PARTS.items()
        }

    def metrics(self, at: int) -> dict[str, float]:
        """The training script's own metrics at one of the steps."""
        return dict(zip(METRICS, self.values[at, len(KEYS) :].tolist(), strict=True))


def stretch(first: int, steps: int) -> Stretch:
    """``steps`` steps from ``first`` on; the same whenever they are asked for."""
    draw = np.random.default_rng(first)
    at = np.arange(first, first + steps)
    falling = np.exp(-at / 2e5)[:, None] * 10.0 ** np.linspace(-3, 2, len(KEYS + METRICS))
    values = (falling * np.exp(0.2 * draw.standard_normal((steps, falling.shape[1]), np.float32))).astype(np.float32)
    for key, value in CONSTANT.items():
        values[:, KEYS.index(key)] = value
    for key in SHARES:
        values[:, KEYS.index(key)] = draw.random(steps) < 0.1
    values[:, KEYS.index("alpha")] = draw.normal(0.1, 0.35, steps)
    times = np.rint((at + 0.2 * draw.random(steps)) * PACE * 1e6) / 1e6
    return Stretch(at, times, values)


def header(name: str) -> Header:
    """Of a run with the panels that these instruments have in any run."""
    known = registered()
    panels = {key: panel for key in PARTS if key in known and (panel := known[key].panel) is not None}
    instruments = {key: {"interval": "every step"} for key in panels}
    return Header(name, time.time(), panels={**panels, **PANELS}, screens=SCREENS, instruments=instruments)


def layered(step: int) -> dict[str, Reading]:
    """What is read layer by layer."""
    draw = np.random.default_rng(step)
    ratios = dict(zip(LAYERS, (10 ** draw.normal(-3, 0.4, len(LAYERS))).tolist(), strict=True))
    logs = {
        name: Histogram(np.histogram(draw.normal(-8 - place / 2, 2.5, 2000), POWERS)[0], POWERS)
        for place, name in enumerate(LAYERS)
    }
    whole = Histogram(np.sum([log.counts for log in logs.values()], axis=0), POWERS)
    return {"update_weight_ratio": Reading(1e-3, ratios), "grad_log_hist": Reading(whole, logs)}


def lay_down(directory: Path, steps: int) -> None:
    """Writes a finished run of so many steps, as the writer leaves it, in a fraction of the time.

    The writer's parts do it, one after the other on this thread: its claim begins the log, its encoder and transactions
    write what is layer-wise and the last steps. Older steps, which stand in chunks, do not pass through rows that are
    then packed: they are packed at once, by the function that packs for the writer.
    """
    claimed, encoder = claim(log_of(directory, 0), header(directory.name), resume=False, rank=0)
    log = claimed.log()
    for step in range(0, steps, LAYERED_EVERY):
        encoder.readings(step, PACE * step, layered(step))
    log.commit(encoder.take(), 0)
    chunks = max(0, -(-(steps - 2 * LONGEST) // LONGEST))  # two are left as rows, or one and a part
    if chunks:
        _encode(encoder, stretch(0, 1))
        batch = encoder.take()
        batch.points.clear()  # the series alone: the step is among those that are packed
        log.commit(batch, 0)
        _pack(claimed, chunks, batch.cursor)
        encoder = _continued(claimed, encoder)
    for first in range(chunks * LONGEST, steps, LONGEST):
        _encode(encoder, stretch(first, min(LONGEST, steps - first)))
        log.commit(encoder.take(), 0)
    log.finish("finished", encoder.cursor + 1, 0)


def _encode(encoder: Encoder, some: Stretch) -> None:
    for at, (step, seconds) in enumerate(zip(some.steps.tolist(), some.times.tolist(), strict=True)):
        encoder.readings(step, seconds, some.readings(at))
        encoder.scalars(step, seconds, some.metrics(at))


def _pack(claimed: Claim, chunks: int, cursor: int) -> None:
    """So many chunks of each series, from step 0 on."""
    with claimed.database.writing_engine().connect() as connection:
        claimed.database.tune(connection)
        for some in (stretch(place * LONGEST, LONGEST) for place in range(chunks)):
            with connection.begin():
                _pack_stretch(connection, claimed.number, some, cursor)
            cursor += some.values.size


def _pack_stretch(connection: sa.Connection, number: int, some: Stretch, cursor: int) -> None:
    rows = {row.key: row for row in rows_of(connection, number) if not row.layered and row.histogram == 0}
    ids = cursor + 1 + np.arange(some.values.size).reshape(some.values.shape)
    zeros, flags = np.zeros(LONGEST, np.int64), np.full(LONGEST, FINITE, np.int8)
    chunks = []
    for place, key in enumerate((*KEYS, *METRICS)):
        row, values = rows[key], some.values[:, place].astype(np.float64)
        chunks.append((row, Points(ids[:, place], some.steps, some.times, values, flags, zeros, zeros), None))
        row.points, row.tail = int(some.steps[-1]) + 1, 0
        row.last_step, row.last_value, row.revision = int(some.steps[-1]), float(values[-1]), int(ids[-1, place])
    add_chunks(connection, number, chunks)
    replace(connection, series_table, number, {row.id: tuple(vars(row).values()) for row in rows.values()})
    known = {"cursor": int(ids[-1, -1]), "last_step": int(some.steps[-1]), "elapsed": float(some.times[-1])}
    connection.execute(sa.update(run_table).where(run_table.c.id == number).values(known))


def _continued(claimed: Claim, before: Encoder) -> Encoder:
    """An encoder that goes on where the chunks end, within the same attempt."""
    with claimed.database.reading() as (connection, number):
        row = connection.execute(sa.select(run_table).where(run_table.c.id == number)).one()
        rows = rows_of(connection, number)
    # Layouts are of what is layer-wise, which has been written.
    return Encoder(registered(), rows, {}, row.cursor, row.last_step, row.elapsed, before.attempt)
