"""The same training under Cockpit and under f-dangel/cockpit 1.0.2: where do their numbers agree, and if not, why?

    python benchmarks/side_by_side.py --peer peer/bin/python

Same network, data, seed and steps, in float64, tracking every step, histogram ranges alike. Prints a table of
differences and an explanation of each; ends with 1 if a difference is left without one.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from loops import Job
from numpy.typing import NDArray
from overhead import store_batches
from problems import PROBLEMS
from processes import environment_of
from results import aligned

HERE = Path(__file__).parent
TOLERANCE = 1e-6
"""Largest relative difference of two numbers that are the same."""

Numbers: TypeAlias = "NDArray[np.float64]"
Told: TypeAlias = "dict[str, list[Any]]"


@dataclass(frozen=True)
class Comparison:
    """How a quantity of ours is laid beside the peer's.

    Args:
        name: Class of the quantity.
        ours: Gives our numbers by step.
        theirs: Gives the peer's.
        tolerance: Largest relative difference that counts as agreement.
        known: Why it may differ; the difference is expected to go away in the comparison called ``proof``.
        proof: A comparison in which the known difference is undone.
    """

    name: str
    ours: Callable[[Told], Numbers]
    theirs: Callable[[Told], Numbers]
    tolerance: float = TOLERANCE
    known: str = ""
    proof: Comparison | None = None


def _of(name: str) -> Callable[[Told], Numbers]:
    def read(told: Told) -> Numbers:
        return np.array([np.nan if value is None else value for value in told[name]], dtype=float)

    return read


def _flattened(name: str, transposed: bool = False) -> Callable[[Told], Numbers]:
    def read(told: Told) -> Numbers:
        counts = np.array(told[name], dtype=float)
        return (counts.transpose(0, 2, 1) if transposed else counts).reshape(len(counts), -1)

    return read


def _plain(name: str, tolerance: float = TOLERANCE) -> Comparison:
    return Comparison(name, _of(name), _of(name), tolerance)


def _signal_to_noise(told: Told) -> Numbers:
    """As the peer means it: coordinates without variance count as zeros."""
    return _of("MeanGSNR")(told) * (1 - _of("mean_gsnr.left_out")(told))


def _evidence(told: Told) -> Numbers:
    return 1 - (1 - _of("EarlyStopping")(told)) * (1 - _of("early_stopping.left_out")(told))


def _largest_magnitude(told: Told) -> Numbers:
    """As power iteration finds it: the eigenvalue furthest from zero, whatever its sign."""
    largest, smallest = _of("HessMaxEV")(told), _of("hess_max_ev.smallest")(told)
    return np.where(np.abs(largest) >= np.abs(smallest), largest, smallest)


_EPSILON = "the peer adds 1e-5 to variances that are often smaller than that, and counts coordinates without variance"

COMPARISONS = (
    *(_plain(name) for name in ("Loss", "Distance", "UpdateSize", "GradNorm")),
    *(_plain(name) for name in ("NormTest", "InnerTest", "OrthoTest", "Alpha", "CABS")),
    Comparison("GradHist1d", _flattened("GradHist1d"), _flattened("GradHist1d")),
    Comparison("GradHist2d", _flattened("GradHist2d"), _flattened("GradHist2d")),
    Comparison(
        "EarlyStopping",
        *(_of("EarlyStopping"), _of("EarlyStopping")),
        known=_EPSILON,
        proof=Comparison("EarlyStopping, ε → 0", _evidence, _of("EarlyStopping, ε → 0")),
    ),
    Comparison(
        "MeanGSNR",
        *(_of("MeanGSNR"), _of("MeanGSNR")),
        known=_EPSILON,
        proof=Comparison("MeanGSNR, ε → 0", _signal_to_noise, _of("MeanGSNR, ε → 0")),
    ),
    _plain("HessTrace"),
    Comparison(
        "TICTrace",
        *(_of("TICTrace"), _of("TICTrace")),
        known="the peer adds 1e-7 to the trace",
        proof=Comparison("TICTrace, ε → 0", _of("TICTrace"), _of("TICTrace, ε → 0")),
    ),
    Comparison(
        "TICDiag",
        *(_of("TICDiag"), _of("TICDiag")),
        known="the peer adds 1e-7 to the curvature, which is smaller than that in many coordinates",
        proof=Comparison("TICDiag, ε → 0", _of("TICDiag"), _of("TICDiag, ε → 0"), 1e-3),
    ),
    Comparison(
        "HessMaxEV",
        *(_of("HessMaxEV"), _of("HessMaxEV")),
        known="the peer's power iteration finds the largest magnitude, and stops after 100 products or at 1e-3",
        proof=Comparison("HessMaxEV, magnitude", _largest_magnitude, _of("HessMaxEV"), 2e-2),
    ),
)


def difference(comparison: Comparison, ours: Told, theirs: Told) -> tuple[float, float, int]:
    """How far the two sides are apart.

    Returns:
        Median and largest difference over the steps, relative to the larger of the two numbers (histograms: the share
        of elements that are counted elsewhere); and the number of steps at which only one of them has a number.
    """
    a, b = comparison.ours(ours), comparison.theirs(theirs)
    one_sided = int((np.isnan(a).reshape(len(a), -1).any(1) != np.isnan(b).reshape(len(b), -1).any(1)).sum())
    if a.ndim > 1:
        apart = np.abs(a - b).sum(1) / (2 * b.sum(1))
    else:
        scale = np.maximum(np.abs(a), np.abs(b))
        apart = np.divide(np.abs(a - b), scale, out=np.zeros_like(a), where=scale > 0)
        apart = apart[~np.isnan(apart)]
    return float(np.median(apart)), float(apart.max()), one_sided


def verdict(comparison: Comparison, ours: Told, theirs: Told) -> tuple[list[list[str]], bool]:
    """Table rows of one comparison, and whether it agrees or is explained."""
    median, largest, one_sided = difference(comparison, ours, theirs)
    agrees = largest <= comparison.tolerance and one_sided == 0
    row = [comparison.name, f"{median:.1e}", f"{largest:.1e}", str(one_sided)]
    if agrees:
        return [[*row, "agrees"]], True
    if comparison.proof is None:
        return [[*row, "DIFFERS, unexplained"]], False
    rows, explained = verdict(comparison.proof, ours, theirs)
    return [[*row, comparison.known], *([["  " + r[0], *r[1:]] for r in rows])], explained


def told_by(kind: str, python: str, job: Job, steps: int) -> Told:
    """Runs one side in its own environment.

    Raises:
        RuntimeError: If it fails, with what it said.
    """
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "told.json"
        job = dataclasses.replace(job, log=f"{directory}/run")
        command = [python, HERE / "watched.py", kind, json.dumps(dataclasses.asdict(job)), out, str(steps)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment_of(kind))
        if done.returncode != 0:
            raise RuntimeError(f"the side of {kind} failed:\n{done.stderr[-3000:]}")
        told: Told = json.loads(out.read_text())
        return told


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, metavar="PYTHON", help="interpreter with f-dangel/cockpit 1.0.2")
    parser.add_argument(
        "--problems", nargs="+", choices=PROBLEMS, default=["mnist_logreg", "mnist_mlp", "cifar10_3c3d"]
    )
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--data", type=Path, help="folder with cifar10_subset.npz and mnist/; random data otherwise")
    options = parser.parse_args(argv)
    complete = True
    for name in options.problems:
        with tempfile.TemporaryDirectory() as directory:
            batches = Path(directory) / "batches.pt"
            source = store_batches(PROBLEMS[name], options, batches)
            job = Job(name, "", str(batches), PROBLEMS[name].learning_rate, "cpu", "")
            ours = told_by("cockpit", sys.executable, job, options.steps)
            theirs = told_by("peer", options.peer, job, options.steps)
        print(f"\n{name} on {source}, batch {options.batch_size}, {options.steps} steps, float64")
        rows = [["quantity", "median", "largest", "one-sided", ""]]
        for comparison in COMPARISONS:
            own, explained = verdict(comparison, ours, theirs)
            rows += own
            complete &= explained
        print(aligned(rows, "<"))
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
