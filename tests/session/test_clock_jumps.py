"""A machine whose clock is set while it trains: what a run tells of time still only goes on."""

import time

import numpy as np
import pytest

from cockpit import list_runs, load_run
from cockpit.cli import main

HOUR = 3600.0


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_time_goes_on_whatever_the_clock_is_set_to(begin, loop, tmp_path, monkeypatch, capsys, jump):
    day = time.time
    first = begin(track=1, instruments="loss+time")
    loop.steps(first, 5)
    monkeypatch.setattr(time, "time", lambda: day() + jump)
    loop.steps(first, 5)
    first.log({"valid/accuracy": 0.5})
    first.close()
    monkeypatch.setattr(time, "time", lambda: day() + 2 * jump)
    second = begin(resume=True, track=1, instruments="loss+time")
    loop.steps(second, 5)
    second.log({"valid/accuracy": 0.6})
    second.close()
    run = load_run(tmp_path / "run")
    for key in ("loss", "time"):
        assert list(run[key].steps) == list(range(15))
        assert (np.diff(run[key].times) > 0).all()
    assert (np.diff(run["time"].values) > 0).all()
    events = run.reader.events()
    assert [event.time for event in events] == sorted(event.time for event in events)
    assert abs(run.header.created - day()) < HOUR / 2  # as it was when it began
    (summary,) = list_runs(tmp_path)
    assert 0 < summary.elapsed < HOUR / 2
    capsys.readouterr()
    assert main(["tail", str(tmp_path / "run"), "--lines", "100"]) == 0
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    steps = [int(words[0]) for words in said if words[0].isdecimal() and not words[2].endswith(":")]
    assert steps == list(range(15))
