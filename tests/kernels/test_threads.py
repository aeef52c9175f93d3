"""Compiled loops beside torch: both have threads."""

from __future__ import annotations

import subprocess
import sys

import pytest
from patience import LONG

FIRST_WORK = """
import torch
torch.set_num_threads(1)
from cockpit.kernels import compiled
from cockpit.kernels.histogram import Edges, count_rows
compiled._WORTH_THREADS = 0
for threads in (1, 2):
    torch.set_num_threads(threads)
    count_rows(torch.ones(7, 100), torch.ones(7), Edges.uniform(-1, 1, 20))
    assert torch.get_num_threads() == threads, torch.get_num_threads()
"""


def test_work_on_several_cores_leaves_the_number_of_torchs_threads() -> None:
    pytest.importorskip("numba", reason="the compiled loops need the extra 'fast'")
    # In a process of its own: it is the first work on several cores that starts numba's threads.
    done = subprocess.run([sys.executable, "-c", FIRST_WORK], stderr=subprocess.PIPE, text=True, timeout=4 * LONG)
    assert done.returncode == 0, done.stderr
