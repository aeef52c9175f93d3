"""A minute in the life of one run: a training that writes it, two dashboards that read it, all as real processes."""

import itertools
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from asking import Asker
from patience import LONG

from cockpit.run import load_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TRAIN = Path(__file__).with_name("train.py")
MINUTE = 60.0
VIEWS = ("Now", "Classic", "Layers", "Panel", "Compare", "Runs")
COCKPIT = "import sys; from cockpit.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def launch(tmp_path):
    """``launch(name, *command)`` starts a Python process that says what it says to a file of that name."""
    with ExitStack() as stack:

        def begin(name, *command, **settings):
            said = stack.enter_context((tmp_path / name).open("w"))
            process = subprocess.Popen([sys.executable, *map(str, command)], stderr=said, text=True, **settings)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield begin


def dashboard(launch, name, runs):
    process = launch(name, "-c", COCKPIT, "dashboard", runs, "--port", 0, stdout=subprocess.PIPE)
    return process, process.stdout.readline().split()[-1]


def end_of(process):
    process.send_signal(signal.SIGINT)
    process.wait(LONG)


def test_two_dashboards_and_a_training_share_a_run_for_a_minute_without_an_error(launch, runs, page, tmp_path):
    training = launch("training", TRAIN, runs / "run", "--pace", 0.1)
    dashboards, addresses = zip(*(dashboard(launch, name, runs) for name in ("first", "second")), strict=True)
    page.until(lambda: (runs / "run" / "rank0.db").exists())
    page.open(f"{addresses[0]}/?run=run")
    asker, steps = Asker(addresses[1]), []

    def begun() -> bool:
        asker.ask(run="run", view="Now")
        return bool(asker.shown.get("last", 0) > 0)

    page.until(begun)
    end = time.monotonic() + MINUTE
    for view in itertools.cycle(VIEWS):
        if time.monotonic() > end:
            break
        page.page.locator(f'#view-tabs label:has-text("{view}")').first.click()
        page.until(lambda: f"view={view}" in page.page.url)  # noqa: B023
        asker.ask(run="run", view=view)
        steps.append(asker.shown.get("last", steps[-1] if steps else 0))
        page.page.wait_for_timeout(1000)
    assert training.poll() is None
    assert steps == sorted(steps)
    assert len(set(steps)) > len(steps) / 3  # it was seen to grow; two of six views show no single run
    end_of(training)
    page.page.locator('#view-tabs label:has-text("Now")').first.click()
    page.until(lambda: "INTERRUPTED" in page.page.locator("#status").inner_text())
    page.settled().page.goto("about:blank")  # before its dashboard ends
    for process in dashboards:
        end_of(process)
    run = load_run(runs / "run")
    assert run.state == "interrupted"
    assert run.reader.dropped() == 0
    assert [event.text for event in run.reader.events() if event.kind == "error"] == []
    tracked = run["loss"].steps
    assert set(range(0, int(tracked[-1]), 5)) <= set(tracked.tolist())
    with closing(sqlite3.connect(runs / "run" / "rank0.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert [(tmp_path / name).read_text() for name in ("first", "second")] == ["", ""]
    said = (tmp_path / "training").read_text()
    assert said.strip().endswith("KeyboardInterrupt")
    assert "Warning" not in said
