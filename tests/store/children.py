"""Processes that write a log and end: what they begin with, and what is left of them."""

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from patience import LONG

SETUP = (
    f"LONG = {LONG}"
    + """
import os, sys, time
import numpy as np
from cockpit.reading import Histogram, Reading
from cockpit.store import Header, Writer

def readings(step):
    histogram = Histogram(np.arange(50) + step, np.arange(51.0))
    arrays = {"a": np.full((3, 4), float(step))}
    return {
        "loss": Reading(float(step), {"a": float(step)}), "hist": Reading(histogram, {"a": histogram}, arrays=arrays)
    }

writer = Writer(sys.argv[1], Header("run", time.time()))
"""
)


def output(process: "subprocess.Popen[str]") -> tuple[str, str]:
    out, err = process.communicate(timeout=LONG)
    assert process.returncode == 0, err
    return out, err


def check_integrity(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
