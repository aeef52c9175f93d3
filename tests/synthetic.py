"""Logs that look like training, written by the real writer: a CNN on digits as its instruments would see it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from patience import LONG

from cockpit.panel import Panel
from cockpit.reading import Histogram, Reading
from cockpit.screens import PANELS, SCREENS
from cockpit.store import Header, Writer

SAMPLES, PARAMETERS = 128, 10_000
LAYERS = tuple(f"{module}.{part}" for module in ("conv1", "conv2", "fc1", "fc2") for part in ("weight", "bias"))
POWERS = np.arange(-40.0, 41.0)
EDGES = np.linspace(-1, 1, 61)
INTERVAL = "every 10th step and the next"


def lines(title: str, **settings: Any) -> Panel:
    return Panel(title=title, kind="lines", how_to_read=f"How to read {title.lower()}.", **settings)


INSTRUMENTS: dict[str, Panel] = {
    "loss": lines("Loss"),
    "time": lines("Time", ylabel="seconds"),
    "distance": lines("Distance", yscale="log"),
    "update_size": lines("Update size", yscale="log"),
    "grad_norm": Panel(
        title="Gradient norm",
        kind="lines",
        yscale="log",
        how_to_read="A plateau has a small gradient, a wall a large one; a jump often comes before a bad step.",
    ),
    "norm_test": lines("Norm test", yscale="log", references=((0.7, "noise = signal"),)),
    "inner_test": lines("Inner product test"),
    "ortho_test": lines("Orthogonality test"),
    "grad_hist_1d": Panel(
        title="Gradient elements",
        kind="histogram",
        yscale="log",
        how_to_read="One narrow peak at 0 is healthy; mass in the end bins means badly scaled data.",
    ),
    "update_weight_ratio": lines("Update over weight", yscale="log"),
    "grad_log_hist": Panel(
        title="Gradient magnitudes", kind="histogram", how_to_read="Left is vanishing.", xlabel="log₂ |element|"
    ),
    "noise_scale": lines("Noise scale", yscale="log"),
    "sample_grad_norm": lines("Gradient norm by sample", yscale="log"),
    "clip": lines("Clipping", optional=True),
    "alpha": Panel(
        title="Alpha",
        kind="parabola",
        how_to_read="Left of 0 steps stop short of the valley floor, right of it they overshoot.",
    ),
}


def header(name: str, instruments: dict[str, Panel] = INSTRUMENTS, created: float | None = None) -> Header:
    return Header(
        name=name,
        created=time.time() if created is None else created,
        config={"lr": 0.1},
        panels={**instruments, **PANELS},
        screens=SCREENS,
        instruments={instrument: {"interval": INTERVAL} for instrument in instruments},
    )


@dataclass
class Training:
    """What training looks like at each step; ``fault`` makes it diverge from step 200 on."""

    seed: int = 0
    fault: bool = False
    distance: float = 0.0
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def readings(self, step: int) -> dict[str, Reading]:
        noise = float(self.random.lognormal(0, 0.25))
        loss = 2.3 * np.exp(-step / 120) * noise + 0.05 * noise
        if self.fault and step > 200:
            loss = float("nan") if step > 260 else loss + 0.02 * (step - 200) ** 1.5
        update = 0.3 * float(np.exp(-step / 300)) * noise
        self.distance = float(np.hypot(self.distance, update) + 0.2 * update)
        along, across = 0.25 + 0.0006 * step * noise, 0.55 + 0.0004 * step * noise
        ortho = None if step % 130 == 0 else across
        return {
            "loss": Reading(loss, parts={"chance": float(np.log(10))}),
            "time": Reading(0.03 * step),
            "distance": Reading(self.distance),
            "update_size": Reading(update),
            "grad_norm": Reading(1.4 * loss**0.6 * noise if np.isfinite(loss) else loss),
            "norm_test": Reading(None if ortho is None else float(np.hypot(along, across))),
            "inner_test": Reading(along),
            "ortho_test": Reading(ortho, reason=None if ortho is not None else "a batch of one sample"),
            "grad_hist_1d": Reading(self.histogram(step)),
            "alpha": self.alpha(step),
            **self.layered(step),
            **self.noise(step, noise),
            "learning_rate": Reading(0.1 if step < 150 else 0.01),
            "batch_size": Reading(SAMPLES),
            "cockpit": Reading(None, parts={"overhead": 0.07 + 0.01 * noise}),
        }

    def histogram(self, step: int) -> Histogram:
        width = 0.35 if self.fault else 0.05 * np.exp(-step / 400) + 0.004
        counts, _ = np.histogram(np.clip(self.random.standard_t(3, 4000) * width, -1, 1), EDGES)
        return Histogram(counts.astype(np.int64) * (SAMPLES * PARAMETERS // 4000), EDGES)

    def layered(self, step: int) -> dict[str, Reading]:
        """What is read layer by layer; biases are zero before the first step."""
        ratios: dict[str, float | None] = {
            name: float(10 ** (-3.4 + 0.35 * place + self.random.normal(0, 0.15))) for place, name in enumerate(LAYERS)
        }
        if step == 0:
            ratios |= dict.fromkeys((name for name in LAYERS if name.endswith("bias")), None)
        drift = -12 - step / 100
        logs = {name: self.logs(drift - 1.5 * place) for place, name in enumerate(LAYERS)}
        zeros = {name: 0.5 if "conv" in name else 0.1 for name in LAYERS}
        whole = Histogram(sum((h.counts for h in logs.values()), np.zeros(80, np.int64)), POWERS)
        return {
            "update_weight_ratio": Reading(1e-3, ratios),
            "grad_log_hist": Reading(whole, logs, parts={"zeros": 0.3, "layer_zeros": zeros}),
        }

    def logs(self, centre: float) -> Histogram:
        counts, _ = np.histogram(np.clip(self.random.normal(centre, 2.5, 2000), -40, 39), POWERS)
        return Histogram(counts.astype(np.int64), POWERS)

    def noise(self, step: int, noise: float) -> dict[str, Reading]:
        scale, norm = 40 * float(np.exp(step / 150)) * noise, 1.4 * float(np.exp(-step / 200)) * noise
        known: dict[str, float | None] = {} if step < 20 else {"low": 0.6 * scale, "high": 1.7 * scale}
        quantiles: dict[str, float | None] = {"q05": 2 * norm, "q95": 6 * norm}
        clipped: dict[str, float | None] = {"norm": min(norm, 1.0), "threshold": 1.0}
        return {
            "noise_scale": Reading(scale, parts=known),
            "sample_grad_norm": Reading(3 * norm, parts=quantiles),
            "clip": Reading(float(norm > 1), parts=clipped),
        }

    def alpha(self, step: int) -> Reading:
        fate = self.random.random()
        value: float | None = float(self.random.normal(-0.15 + 0.0009 * step, 0.35))
        if fate < 0.2:
            return Reading(-1.0, parts={"concave": 1.0, "uphill": 0.0})
        if fate < 0.24:
            return Reading(99.0, parts={"concave": 0.0, "uphill": 1.0})
        if fate < 0.27:
            return Reading(None, parts={"concave": None, "uphill": None}, reason="no movement")
        return Reading(value, parts={"concave": 0.0, "uphill": 0.0})

    def metrics(self, step: int) -> dict[str, float]:
        learned = 1 - float(np.exp(-step / 90))
        return {
            "valid/accuracy": 0.1 + 0.86 * learned,
            "train/accuracy": 0.1 + 0.89 * learned,
            "valid/loss": 2.4 * (1 - 0.9 * learned),
        }


def tracked(steps: int) -> Iterator[int]:
    """Every tenth step and the next."""
    yield from (step for step in range(steps) if step % 10 in (0, 1))


def write_run(
    directory: Path, steps: int = 400, *, fault: bool = False, pace: float = 0.0, seed: int = 0,
    name: str | None = None, created: float | None = None, close: bool = True, flush_interval: float = 0.1,
) -> None:  # fmt: skip
    """Writes a run of ``steps`` steps; ``pace`` seconds pass at each tracked one."""
    training = Training(seed, fault)
    writer = Writer(directory, header(name or directory.name, created=created), flush_interval=flush_interval)
    writer.document(
        "coverage", {"share": 0.987, "left_out": {"head.weight": "no optimizer holds it"}, "coupled": False}
    )
    for step in tracked(steps):
        writer.put(step, 0.03 * step, training.readings(step))
        if step % 20 == 0:
            writer.scalars(step, 0.03 * step, training.metrics(step))
            writer.event(step, 0.03 * step, "evaluation", "logged valid/accuracy, train/accuracy")
        if step == 150:
            writer.event(step, 0.03 * step, "learning_rate", "learning rate 0.1 → 0.01")
        if step % 130 == 0:
            writer.event(step, 0.03 * step, "warning", "a batch of one sample has no test", "ortho_test")
        if pace:
            time.sleep(pace)
    if close:
        writer.close()
    else:
        assert writer.flush(LONG)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--pace", type=float, default=0.0)
    parser.add_argument("--fault", action="store_true")
    arguments = parser.parse_args()
    write_run(arguments.directory, arguments.steps, pace=arguments.pace, fault=arguments.fault)
