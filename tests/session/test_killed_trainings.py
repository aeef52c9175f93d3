"""``kill -9`` of real trainings: what their logs have lost is counted."""

import random
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import doomed_trainings
import pytest
from nursery import Nursery, lost, starved, writing
from patience import until

from cockpit import list_runs, load_run

pytestmark = [pytest.mark.alone, pytest.mark.skipif(sys.platform == "win32", reason="signals and fork are POSIX")]

KILLS = 5  # ninety-five more, of processes without torch, are in test_kills.py
SHORTEST, LONGEST = 1.2, 3.0  # seconds of a life from its first step on
MADE = 12  # steps of it at least, however slow they are
ALLOWED = 1.0  # of a process that may run
STEP = 0.02  # seconds that a step takes at most


@pytest.mark.slow
def test_killed_trainings_lose_at_most_a_second(tmp_path):
    draw, deaths = random.Random(0), []
    with Nursery(Path(doomed_trainings.__file__)) as nursery:
        due = [(nursery.begin(tmp_path / f"run{number}", number), number) for number in range(KILLS)]
        while due:
            pid, number = due.pop(0)
            first, *_ = nursery.handed_over(pid, MADE)
            moment = first.moment + draw.uniform(SHORTEST, LONGEST)
            time.sleep(max(0.0, moment - time.monotonic()))
            deaths.append((pid, number, nursery.kill(pid)))
    until(lambda: {summary.state for summary in list_runs(tmp_path)} == {"crashed"})  # the last one has ended
    losses = []
    for pid, number, killed in deaths:
        run = load_run(tmp_path / f"run{number}")
        there = [key for key in doomed_trainings.KEYS if key in run]
        for key in there:
            assert list(run[key].steps) == list(range(len(run[key].steps)))
            assert not run[key].missing.any()
        readable = min(len(run[key].steps) if key in there else 0 for key in doomed_trainings.KEYS)
        made = nursery.records[pid]
        losses.append(lost(made, killed, readable))
        assert losses[-1] <= ALLOWED + starved(made, killed, STEP) + writing(nursery.writes[pid], killed)
        with closing(sqlite3.connect(tmp_path / f"run{number}" / "rank0.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    print(f"{sum(losses) / len(losses):.2f} s lost on average, {max(losses):.2f} s at most")
