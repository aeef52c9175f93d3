"""Logs of a small network with repeated blocks, layer by layer, written by the real writer."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from patience import LONG

from cockpit.panel import LayerColumn, Panel
from cockpit.reading import Histogram, Reading
from cockpit.screens import SCREENS
from cockpit.store import Header, Writer

BLOCKS = 3
MODULES = {"embed": "Embedding"} | {
    f"blocks.{block}.{name}": kind
    for block in range(BLOCKS)
    for name, kind in (("norm", "LayerNorm"), ("attend", "Linear"), ("widen", "Linear"))
}
MODULES |= {"head": "Linear"}
PARAMETERS = [f"{module}.{name}" for module in MODULES for name in ("weight", "bias")]
EDGES = np.arange(-24.0, 1.0)
SUMS = ("", "noise", "signal")  # parts that add up over parameters
FROZEN = "blocks.1.widen"  # stops moving halfway
PANELS = {
    "update": Panel(
        "Update over weight", "lines", "About 0.001 is often healthy.", ("update",), yscale="log",
        formula=r"\frac{\lVert s \rVert}{\lVert \theta \rVert}", good="Level.", bad="Zero.", source="Counted.",
        layers=(LayerColumn("Update / weight", "update", scale="log", how_to_read="About 0.001."),),
    ),
    "magnitude": Panel(
        "Gradient magnitudes", "histogram", "Left is small.", ("magnitude",), xlabel="log₂ |element|",
        layers=(LayerColumn("Median log₂ |g|", "magnitude"),),
    ),
    "trace": Panel(
        "Trace", "lines", "High is curved.", ("trace",), layers=(LayerColumn("Curvature share", "trace", share=True),)
    ),
    "moments": Panel(
        "Moments", "lines", "Noise over signal.", ("moments",),
        layers=(LayerColumn("Noise", "moments.noise", over="moments.signal", scale="log"),),
    ),
}  # fmt: skip


def header(name: str) -> Header:
    return Header(
        name=name,
        created=time.time(),
        panels=PANELS,
        screens=SCREENS,
        instruments={
            key: {"interval": "every 5th step", "settings": {"bins": 24}, "combine": dict.fromkeys(SUMS, "sum")}
            for key in PANELS
        },
        model={
            "class": "Network",
            "parameters": [
                {"name": name, "shape": [4, 4], "numel": 16, "module": name.rpartition(".")[0],
                 "type": MODULES[name.rpartition(".")[0]]}
                for name in PARAMETERS
            ],
        },
    )  # fmt: skip


def readings(step: int, steps: int, random: np.random.Generator) -> dict[str, Reading]:
    """What is logged at a step: updates add up over a module's parameters, traces too."""
    updates = {name: 5e-4 * float(random.lognormal(0, 0.1)) for name in PARAMETERS}
    if step >= steps // 2:
        updates |= {name: 0.0 for name in PARAMETERS if name.startswith(FROZEN)}
    histograms = {}
    for depth, name in enumerate(PARAMETERS):
        counts, _ = np.histogram(np.clip(random.normal(-6 - depth / 2, 2, 200), -24, -0.01), EDGES)
        histograms[name] = Histogram(counts.astype(np.int64), EDGES)
    everything = Histogram(np.sum([each.counts for each in histograms.values()], axis=0), EDGES)
    traces = {name: 1.0 + depth for depth, name in enumerate(PARAMETERS)}
    return {
        "update": Reading(1e-3, updates),
        "magnitude": Reading(everything, histograms, {"layer_zeros": dict.fromkeys(PARAMETERS, 0.25)}),
        "trace": Reading(sum(traces.values()), traces),
        "moments": Reading(1.0, parts={
            "noise": dict.fromkeys(PARAMETERS, 3.0), "signal": dict.fromkeys(PARAMETERS, 2.0),
        }),
        "cockpit": Reading(None, parts={"interval": dict.fromkeys(PANELS, 5.0)}),
    }  # fmt: skip


def write_layered(directory: Path, steps: int = 100, *, pace: float = 0.0, close: bool = True) -> None:
    """Writes a run of ``steps`` steps, of which every fifth is read; ``pace`` seconds pass at each of these."""
    random = np.random.default_rng(0)
    writer = Writer(directory, header(directory.name), flush_interval=0.1)
    for step in range(0, steps, 5):
        writer.put(step, 0.1 * step, readings(step, steps, random))
        time.sleep(pace)
    writer.event(5, 0.5, "warning", "a warning about updates", "update")
    if close:
        writer.close()
    else:
        assert writer.flush(LONG)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--pace", type=float, default=0.0)
    arguments = parser.parse_args()
    write_layered(arguments.directory, arguments.steps, pace=arguments.pace)
