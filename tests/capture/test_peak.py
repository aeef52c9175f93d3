"""The bound that docs/how-it-works.md states, held to by networks with 25 million parameters at batch 128."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from patience import LONG

from cockpit.capture.individual.workspace import DEFAULT_LIMIT

COPIES = 5  # θ(0); θ(t), then s(t); s(t−1); g(t); g(t−1)
HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks of a part of a process: Linux only")
@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_economy_stays_within_layer_outputs_a_workspace_and_copies_of_the_parameters(network: str) -> None:
    told = measured(network)
    extra, parameters = told["ours"] - told["plain"], told["parameters"]
    bound = told["outputs"] + DEFAULT_LIMIT + COPIES * parameters
    assert parameters > 4 * 24e6
    assert extra <= bound
    assert extra < told["samples"] * parameters / 10


def measured(network: str) -> dict[str, int]:
    """What ``peak.py`` tells of a network, in a process of its own."""
    command = [sys.executable, str(HERE / "peak.py"), network]
    # The C library gives every large block back when it is freed: what is measured is what is held.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=4 * LONG, env=environment)
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found
