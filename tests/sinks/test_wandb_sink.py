"""Runs in Weights & Biases, as they stand in its offline files; nothing is sent anywhere."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf, isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from patience import LONG, until
from sink_logs import (
    BEGAN,
    HISTOGRAMS,
    NUMBERS,
    Logged,
    header,
    put,
    read_history,
    read_wandb,
    rows_of,
    write_everything,
)

from cockpit.cli import main
from cockpit.reading import Histogram, Reading
from cockpit.run import load_run
from cockpit.sinks import WandB, feed
from cockpit.sinks.feed import Feeds
from cockpit.sinks.passing import pass_on
from cockpit.store import Writer

History = Callable[[], Logged]


@pytest.fixture(scope="module", autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where W&B writes: it asks its environment once. Its service process is one for all tests and ends with them."""
    place = tmp_path_factory.mktemp("wandb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        patch.setenv("WANDB__SERVICE_WAIT", str(LONG))
        patch.setenv("WANDB_INIT_TIMEOUT", str(2 * LONG))
        patch.setattr(feed, "_PATIENCE", LONG)
        for name in ("WANDB_DIR", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
            patch.setenv(name, str(place))
        yield place
        import wandb

        wandb.teardown()


@pytest.fixture
def history(offline: Path) -> History:
    """What the test's only W&B run has in its file."""
    before = set(offline.rglob("*.wandb"))

    def read() -> Logged:
        (file,) = set(offline.rglob("*.wandb")) - before
        return read_history(file)

    return read


def numbers(logged: Logged, name: str, axis: str = "cockpit/step") -> list[tuple[int, float, Any]]:
    return [(row[axis], row["_timestamp"] - BEGAN, row[name]) for row in logged.rows if name in row]


def as_number(value: Any) -> float:
    return {"Infinity": inf, "-Infinity": -inf, "NaN": np.nan}.get(value, value)


@pytest.fixture(scope="module")
def everything(offline: Path) -> Logged:
    before = set(offline.rglob("*.wandb"))
    pass_on(load_run(write_everything(offline / "run")), WandB("project"))
    (file,) = set(offline.rglob("*.wandb")) - before
    return read_history(file)


def test_every_number_is_there_with_its_step_and_time(everything: Logged) -> None:
    for name, expected in NUMBERS.items():
        found = [(step, time, as_number(value)) for step, time, value in numbers(everything, name)]
        np.testing.assert_equal(found, expected)


def test_histograms_are_exact(everything: Logged) -> None:
    for name, ((step, seconds, expected),) in HISTOGRAMS.items():
        ((at, when, found),) = numbers(everything, name)
        assert (at, when) == (step, seconds)
        assert (found["_type"], found["values"], found["bins"]) == (
            "histogram", expected.counts.tolist(), expected.edges.tolist()
        )  # fmt: skip


def test_a_missing_value_is_in_no_row(everything: Logged) -> None:
    assert 1 not in [step for step, _, _ in numbers(everything, "loss")]


def test_events_configuration_name_tags_and_state_are_there(everything: Logged) -> None:
    texts = [row["cockpit/events"] for row in everything.rows if "cockpit/events" in row]
    assert texts == ["info: at no step", "warning: alpha: one <b>sample</b>", "info: and another"]
    assert (everything.name, everything.tags, everything.exit_code) == ("run", ["first"], 0)
    assert everything.config["lr"] == 0.1
    assert everything.config["data"] == {"name": "digits", "sizes": [8, 8]}
    assert everything.config["cockpit"]["optimizer"] == [{"class": "SGD"}]


def test_of_very_many_bins_neighbours_are_added_up(tmp_path: Path, history: History) -> None:
    writer = Writer(tmp_path / "run", header())
    writer.put(0, 0.0, {"hist": Reading(Histogram(np.arange(1025), np.arange(1026.0)))})
    writer.close()
    pass_on(load_run(tmp_path / "run"), WandB("project"))
    ((_, _, found),) = numbers(history(), "hist")
    assert len(found["values"]) <= 512
    assert sum(found["values"]) == 1024 * 1025 // 2
    assert found["values"][1] == 3 + 4 + 5
    assert (found["bins"][1], found["bins"][-1]) == (3.0, 1025.0)


def test_a_run_that_crashed_has_failed(tmp_path: Path, history: History) -> None:
    writer = Writer(tmp_path / "run", header())
    put(writer, range(3))
    writer.close("crashed")
    pass_on(load_run(tmp_path / "run"), WandB("project"))
    assert history().exit_code == 1


def test_a_run_is_followed_while_it_is_written(tmp_path: Path, history: History) -> None:
    writer, feeds = Writer(tmp_path / "run", header(), flush_interval=0.02), Feeds([WandB("project")])
    feeds.start(writer, time.monotonic(), lambda: None)
    put(writer, range(20))
    until(lambda: feeds.seconds)
    put(writer, range(20, 40))
    writer.close()
    feeds.close()
    logged = history()
    assert [step for step, _, _ in numbers(logged, "loss")] == list(range(40))
    assert numbers(logged, "loss/fc.bias") == [(step, 0.25 * step, 0.5 * step) for step in range(40)]
    assert logged.exit_code == 0


def test_the_scripts_own_run_is_used_and_goes_on(tmp_path: Path, history: History) -> None:
    import wandb

    with wandb.init(project="theirs", reinit="finish_previous") as theirs:
        theirs.log({"loss": -1.0})
        _follow(tmp_path / "run", Feeds([WandB("ignored")]))
        theirs.log({"loss": -2.0})
    logged = history()
    assert [step for step, _, _ in numbers(logged, "cockpit/loss")] == list(range(5))
    assert [row["loss"] for row in logged.rows if "loss" in row] == [-1.0, -2.0]
    assert logged.config["cockpit"]["config"]["lr"] == 0.1


def test_a_script_that_counts_its_own_steps_loses_nothing_to_a_run_apart(tmp_path: Path, offline: Path) -> None:
    import wandb

    before = set(offline.rglob("*.wandb"))
    with wandb.init(project="theirs", reinit="finish_previous", name="theirs") as theirs:
        theirs.log({"loss": -1.0}, step=0)
        _follow(tmp_path / "run", Feeds([WandB("apart", reinit="create_new")]))
        theirs.log({"loss": -2.0}, step=1)
        assert wandb.run is theirs
    logged = {found.name: found for found in map(read_history, set(offline.rglob("*.wandb")) - before)}
    assert [(row["_step"], row["loss"]) for row in logged["theirs"].rows] == [(0, -1.0), (1, -2.0)]
    assert [step for step, _, _ in numbers(logged["run"], "loss")] == list(range(5))


def test_a_run_of_its_own_leaves_the_scripts_wandb_alone(tmp_path: Path) -> None:
    import wandb

    pass_on(load_run(write_everything(tmp_path / "run")), WandB("project"))
    assert wandb.run is None


def _follow(place: Path, feeds: Feeds) -> None:
    writer = Writer(place, header())
    feeds.start(writer, time.monotonic(), lambda: None)
    put(writer, range(5))
    writer.close()
    feeds.close()


def test_a_run_of_the_scripts_that_has_ended_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    theirs = wandb.init(project="theirs", reinit="finish_previous")
    feeds = Feeds([WandB()])
    theirs.finish()
    monkeypatch.setattr(feed, "_FAILING_PATIENCE", 0.2)
    with pytest.warns(RuntimeWarning) as said:
        _follow(tmp_path / "run", feeds)
    words = [str(warning.message) for warning in said]
    assert "is finished" in words[0]
    assert "lacks the last" in words[1]


def test_the_command_exports_to_wandb(tmp_path: Path, history: History, capsys: pytest.CaptureFixture[str]) -> None:
    write_everything(tmp_path / "run")
    assert main(["export", str(tmp_path / "run"), "--to", "wandb", "--project", "mine"]) == 0
    assert "the arrays of 'theta' are left out" in capsys.readouterr().err
    (value,) = [value for _, _, value in numbers(history(), "odd")]
    assert isnan(as_number(value))


def test_a_run_that_wandb_refuses_is_an_error_in_words(tmp_path: Path) -> None:
    run = load_run(write_everything(tmp_path / "run"))
    with pytest.raises(ConnectionError, match="Weights & Biases begins no run: Run ID"):
        pass_on(run, WandB(id="a/b"))


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r"WandB needs the package wandb: `pip install 'cockpit-debugger\[wandb\]'`"):
        WandB()


def test_without_a_login_the_cockpit_says_so_before_training(tmp_path: Path) -> None:
    code = "from cockpit.sinks import WandB; from cockpit.sinks.feed import Feeds; Feeds([WandB('project')])"
    environment = {**own_service(), "WANDB_MODE": "online", "HOME": str(tmp_path), "NETRC": str(tmp_path / "none")}
    environment.pop("WANDB_API_KEY", None)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONG,
    )
    assert done.returncode == 1
    assert "not logged in to Weights & Biases" in done.stderr


HELPERS = [str(folder) for folder in Path(__file__).parents[:2]]
SCRIPT = f"""
import itertools, sys, time
sys.path[:0] = {HELPERS!r}
from sink_logs import header, put
from cockpit.sinks import WandB, feed
from cockpit.sinks.feed import Feeds
from cockpit.store import Writer

feed._PACE, feed._PATIENCE = 0.05, {LONG}
writer, feeds = Writer(sys.argv[1], header(), flush_interval=0.02), Feeds([WandB("project")])

def close():
    writer.close("interrupted")
    feeds.close()

feeds.start(writer, time.monotonic(), close)
for step in itertools.count():
    put(writer, range(step, step + 1))
    if feeds.seconds:
        print(step, flush=True)
        if len(sys.argv) > 2:
            break
    time.sleep(0.01)
"""


def own_service() -> dict[str, str]:
    """An environment that does not tell of this process's W&B service."""
    return {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}


def test_a_script_that_ends_without_closing_has_passed_everything_on(tmp_path: Path, history: History) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "run"), "end"]
    done = subprocess.run(command, env=own_service(), capture_output=True, text=True, timeout=2 * LONG)
    assert (done.returncode, done.stderr) == (0, "")
    assert [step for step, _, _ in numbers(history(), "loss")] == list(range(int(done.stdout) + 1))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes where Linux shows them")
def test_after_kill_9_nothing_of_wandbs_is_left_running(tmp_path: Path, offline: Path) -> None:
    before = set(offline.rglob("*.wandb"))
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "run")], env=own_service(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            assert services(process.pid)
        finally:
            process.kill()
    until(lambda: not services(process.pid))
    (file,) = set(offline.rglob("*.wandb")) - before
    steps = [int(row["cockpit/step"]) for row in rows_of(read_wandb(file))]
    assert steps == list(range(len(steps)))


def services(parent: int) -> list[str]:
    """Command lines of W&B's services that serve this process."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended in the meantime
            found.append(file.read_text().replace("\0", " "))
    return [line for line in found if "wandb-core" in line and f"--pid {parent} " in line + " "]
