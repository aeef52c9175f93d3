"""Sinks beside training: what goes wrong with them is told, and is no matter of the training's."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from patience import LONG, until
from sink_logs import header, put, read_events
from torch import nn

import cockpit.sinks.event_file  # noqa: F401 - tensorboard takes seconds to import, which feeds would have to wait for
from cockpit import Cockpit, load_run
from cockpit.run import Run
from cockpit.sinks import Sink, TensorBoard, feed
from cockpit.sinks.feed import Feeds
from cockpit.sinks.passing import pass_on
from cockpit.store import Portion, Writer

HELPERS = [str(folder) for folder in Path(__file__).parents[:2]]


class Listed(Sink):
    """Keeps steps of the loss in a list; fails as it is told to."""

    package, title = "pytest", "the list"

    def __init__(self, fails: Callable[["Listed"], object] = lambda sink: None) -> None:
        self.steps: list[int] = []
        self.calls: list[str] = []
        self.fails = fails

    def begin(self, run: Run, live: bool) -> int:
        assert live
        self.calls.append("begin")
        return 0

    def write(self, portion: Portion) -> int:
        self.calls.append("write")
        self.fails(self)
        self.steps += [step for column in portion.columns if column.kind == "scalar" for step in column.steps.tolist()]
        return portion.cursor

    def end(self, state: str) -> None:
        self.calls.append(f"end {state}")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_PACE", 0.05)
    monkeypatch.setattr(feed, "_LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(feed, "_PATIENCE", LONG)
    monkeypatch.setattr(feed, "_FAILING_PATIENCE", 0.2)
    monkeypatch.setattr(feed, "_GRACE", 0.2)


def train(place: Path, sinks: Any, steps: int = 12, **options: Any) -> nn.Module:
    """Trains a small network, of which numbers, layers and histograms are read at each step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    optimizer, loss_fn = torch.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss()
    read = ["loss", "grad_norm", "alpha", "grad_hist_1d"]
    with Cockpit(model, optimizer, instruments=read, run=place, track=1, sinks=sinks, **options) as cockpit:
        for step in range(steps):
            with cockpit.step():
                optimizer.zero_grad()
                loss_fn(model(torch.randn(8, 3)), torch.randint(2, (8,))).backward()
                optimizer.step()
            cockpit.log({"valid/accuracy": step / steps})
    return model


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What was warned of, by whichever thread; not what the interpreter says of objects of other tests."""
    words: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", RuntimeWarning)
        warnings.showwarning = lambda message, *_: words.append(str(message))
        yield words


@pytest.fixture
def fed(tmp_path: Path) -> Iterator[Callable[..., tuple[Writer, Feeds]]]:
    """``fed(sink)`` begins a run that is passed on; the test closes both."""

    def begin(sink: Sink) -> tuple[Writer, Feeds]:
        writer, feeds = Writer(tmp_path / "run", header(), flush_interval=0.02), Feeds([sink])
        feeds._sinks = [sink]  # itself, to look at, not a copy
        feeds.start(writer, time.monotonic(), lambda: None)
        return writer, feeds

    yield begin
    assert not [thread for thread in threading.enumerate() if thread.name == "cockpit-pytest"]


def test_what_training_logs_is_in_tensorboard_when_it_is_over(tmp_path: Path) -> None:
    train(tmp_path / "run", [TensorBoard(tmp_path / "logs")])
    run, found = load_run(tmp_path / "run"), read_events(tmp_path / "logs" / "run")
    for key in ("loss", "valid/accuracy", "grad_norm", "alpha"):
        quantity = run[key]
        there = quantity.steps[~quantity.missing].tolist()
        assert [step for step, _, _ in found.numbers[key]] == there, key
        written = [value for _, _, value in found.numbers[key]]
        assert written == quantity.values[~quantity.missing].astype("float32").tolist()
    layers = run["grad_norm"].layers
    assert layers is not None
    for name, values in zip(layers.names, layers.values.T, strict=True):
        assert [value for _, _, value in found.numbers[f"grad_norm/{name}"]] == values.astype("float32").tolist()
    counts = [[count for _, _, count in bins] for _, _, bins in found.histograms["grad_hist_1d"]]
    assert counts == [np.trim_zeros(row).tolist() for row in run["grad_hist_1d"].values]


def test_training_is_the_same_with_a_sink_to_the_last_bit(tmp_path: Path) -> None:
    plain = train(tmp_path / "plain", ())
    passed = train(tmp_path / "passed", TensorBoard(tmp_path / "logs"))
    for a, b in zip(plain.parameters(), passed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_sink_follows_while_the_run_goes_on(fed: Callable[..., tuple[Writer, Feeds]]) -> None:
    sink = Listed()
    writer, feeds = fed(sink)
    put(writer, range(3))
    until(lambda: sink.steps == [0, 1, 2])
    put(writer, range(3, 5))
    until(lambda: sink.steps == [0, 1, 2, 3, 4])
    until(lambda: feeds.seconds > 0)  # counted once it has been written
    writer.close()
    feeds.close()
    assert sink.calls[-1] == "end finished"


def test_the_end_waits_for_what_is_left(fed: Callable[..., tuple[Writer, Feeds]], monkeypatch: Any) -> None:
    monkeypatch.setattr(feed, "_PACE", 60.0)
    sink = Listed()
    writer, feeds = fed(sink)
    until(lambda: bool(sink.calls))
    put(writer, range(3000))
    writer.close("crashed")
    feeds.close()
    assert sink.steps == list(range(3000))
    assert sink.calls[-1] == "end crashed"


def test_trouble_is_told_once_counted_and_nothing_is_lost(
    fed: Callable[..., tuple[Writer, Feeds]], said: list[str], tmp_path: Path
) -> None:
    broken = True

    def fails(sink: Listed) -> None:
        if broken:
            raise OSError("no such luck")

    sink = Listed(fails)
    writer, feeds = fed(sink)
    put(writer, range(3))
    until(lambda: len(sink.calls) > 4)
    broken = False
    until(lambda: sink.steps == [0, 1, 2])
    until(lambda: feeds._feeds[0]._failing_since is None)
    assert writer.flush()
    writer.close()
    feeds.close()
    (words,) = said
    assert words == "the list cannot be given the run (OSError: no such luck). Training goes on; it is tried again."
    told = [event.text for event in load_run(tmp_path / "run").reader.events()]
    assert told[0] == "the list cannot be given the run (OSError: no such luck)"
    assert told[1].startswith("the list is given the run again, after ")
    assert int(told[1].split()[-1]) >= 3


def test_a_sink_that_never_works_is_given_up_at_the_end(
    fed: Callable[..., tuple[Writer, Feeds]], said: list[str]
) -> None:
    def fails(sink: Listed) -> None:
        raise ValueError("never")

    writer, feeds = fed(Listed(fails))
    put(writer, range(3))
    writer.close()
    began = time.monotonic()
    feeds.close()
    assert time.monotonic() - began < LONG / 5  # else it waited as long as for one that works
    assert "cannot be given the run (ValueError: never)" in said[0]
    assert "the list lacks the last" in said[1]
    assert "cockpit export" in said[1]


def test_a_sink_that_hangs_holds_nothing_up(fed: Callable[..., tuple[Writer, Feeds]], monkeypatch: Any) -> None:
    monkeypatch.setattr(feed, "_PATIENCE", 0.1)
    goes_on = threading.Event()
    sink = Listed(lambda sink: goes_on.wait(2 * LONG))
    writer, feeds = fed(sink)
    began = time.monotonic()
    put(writer, range(100))
    writer.close()
    with pytest.warns(RuntimeWarning, match="the list does not answer: not waiting"):
        feeds.close()
    assert time.monotonic() - began < LONG / 5
    goes_on.set()
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "cockpit-pytest"])


def test_a_package_that_cannot_be_imported_is_no_matter_of_the_trainings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    for module in [name for name in sys.modules if name.startswith("cockpit.sinks.event_file")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.record_writer", None)
    train(tmp_path / "run", TensorBoard(tmp_path / "logs"))
    assert "record_writer" in said[0]
    assert "lacks the last" in said[1]
    assert len(load_run(tmp_path / "run")["loss"].steps) == 12


def test_a_place_that_cannot_be_written_is_no_matter_of_the_trainings(tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "logs").write_text("a file")
    train(tmp_path / "run", TensorBoard(tmp_path / "logs"))
    assert "NotADirectoryError" in said[0]
    assert len(load_run(tmp_path / "run")["loss"].steps) == 12


def test_a_resumed_run_goes_on_in_its_directory(tmp_path: Path) -> None:
    train(tmp_path / "run", TensorBoard(tmp_path / "logs"))
    train(tmp_path / "run", TensorBoard(tmp_path / "logs"), resume=8)
    run, found = load_run(tmp_path / "run"), read_events(tmp_path / "logs" / "run").numbers["loss"]
    assert [step for step, _, _ in found] == run["loss"].steps.tolist() == list(range(20))
    assert [value for _, _, value in found] == run["loss"].values.astype("float32").tolist()


def test_something_else_than_a_sink_is_refused(tmp_path: Path) -> None:
    for wrong in ("tensorboard", [TensorBoard], TensorBoard):
        with pytest.raises(TypeError, match=r"sinks are objects of .*, such as TensorBoard"):
            train(tmp_path / "run", wrong)
    assert not (tmp_path / "run").exists()


def _close(feeds: Feeds) -> None:
    feeds.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_passes_nothing_on_and_does_not_hang(tmp_path: Path) -> None:
    writer, feeds = Writer(tmp_path / "run", header(), flush_interval=0.02), Feeds([TensorBoard(tmp_path / "logs")])
    feeds.start(writer, time.monotonic(), lambda: None)
    put(writer, range(50))
    until(lambda: (tmp_path / "logs" / "run" / "cockpit.json").exists())
    child = multiprocessing.get_context("fork").Process(target=_close, args=(feeds,))
    child.start()
    child.join(LONG)
    assert child.exitcode == 0
    put(writer, range(50, 60))
    writer.close()
    feeds.close()
    assert [step for step, _, _ in read_events(tmp_path / "logs" / "run").numbers["loss"]] == list(range(60))


TRAIN = f"""
import itertools, sys, time
sys.path[:0] = {HELPERS!r}
from sink_logs import header, put
from cockpit.sinks import TensorBoard, feed
from cockpit.sinks.feed import Feeds
from cockpit.store import Writer

feed._PACE = 0.02
writer, feeds = Writer(sys.argv[1], header(), flush_interval=0.02), Feeds([TensorBoard(sys.argv[2])])
feeds.start(writer, time.monotonic(), lambda: None)
for step in itertools.count():
    put(writer, range(step, step + 1))
    time.sleep(0.002)
"""


def test_what_another_process_passes_on_is_left_to_it_and_after_kill_9_the_rest_can_be_added(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", TRAIN, str(tmp_path / "run"), str(tmp_path / "logs")])
    progress = tmp_path / "logs" / "run" / "cockpit.json"
    try:
        until(progress.exists)
        before = progress.read_text()
        until(lambda: progress.read_text() != before)
        with pytest.raises(FileExistsError, match=f"process {process.pid} is passing this run on"):
            pass_on(load_run(tmp_path / "run"), TensorBoard(tmp_path / "logs"))
    finally:
        process.kill()
        process.wait(LONG)
    found = [step for step, _, _ in read_events(tmp_path / "logs" / "run").numbers["loss"]]
    assert found == list(range(len(found)))
    run = load_run(tmp_path / "run")
    pass_on(run, TensorBoard(tmp_path / "logs"))
    found = [step for step, _, _ in read_events(tmp_path / "logs" / "run").numbers["loss"]]
    assert found == run["loss"].steps.tolist()


UNCLOSED = """
import sys
import torch
from cockpit import Cockpit
from cockpit.sinks import TensorBoard, feed
feed._PATIENCE = float(sys.argv[3])
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
cockpit = Cockpit(model, optimizer, run=sys.argv[1], instruments=["loss"], track=1, sinks=TensorBoard(sys.argv[2]))
for _ in range(20):
    with cockpit.step():
        torch.nn.functional.cross_entropy(model(torch.randn(4, 3)), torch.randint(2, (4,))).backward()
        optimizer.step()
"""


def test_a_script_that_ends_without_closing_has_passed_everything_on(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", UNCLOSED, str(tmp_path / "run"), str(tmp_path / "logs"), str(LONG)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * LONG)
    assert done.returncode == 0, done.stderr
    assert [step for step, _, _ in read_events(tmp_path / "logs" / "run").numbers["loss"]] == list(range(20))


def test_two_cockpits_may_share_a_sink(tmp_path: Path) -> None:
    sink = TensorBoard(tmp_path / "logs")
    for name in ("one", "two"):
        train(tmp_path / name, sink, 3)
    for name in ("one", "two"):
        assert [step for step, _, _ in read_events(tmp_path / "logs" / name).numbers["loss"]] == [0, 1, 2]
