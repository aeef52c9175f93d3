import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import Backend
from patience import until

from cockpit.panel import Panel
from cockpit.reading import Histogram, Histogram2d, Reading
from cockpit.screens import CLASSIC
from cockpit.store import Header, Reader, Writer
from cockpit.store.batch import Batch
from cockpit.store.drain import Drain

EVERY_DATABASE = True

Start = Callable[..., Writer]
EDGES = np.linspace(-1, 1, 4)


def names_of(reader: Reader) -> list[tuple[str, str, str]]:
    return [(series.key, series.kind, series.origin) for series in reader.series()]


def test_a_reading_becomes_its_value_its_layers_and_its_parts(start: Start) -> None:
    writer = start()
    histogram = Histogram(np.array([1, 2, 3]), EDGES)
    reading = Reading(1.0, {"a": 2.0}, {"theta": 0.5, "band": {"a": 1.0}})
    writer.put(3, 0.1, {"norm_test": reading, "grad_hist_1d": Reading(histogram, {"a": histogram})})
    writer.scalars(3, 0.1, {"valid/accuracy": 0.5})
    assert writer.flush()
    assert sorted(names_of(Reader(writer.path))) == [
        ("grad_hist_1d", "histogram", "instrument"),
        ("grad_hist_1d", "layer_histograms", "instrument"),
        ("norm_test", "layers", "instrument"),
        ("norm_test", "scalar", "instrument"),
        ("norm_test.band", "layers", "instrument"),
        ("norm_test.theta", "scalar", "instrument"),
        ("valid/accuracy", "scalar", "user"),
    ]


def test_the_header_comes_back(start: Start) -> None:
    panel = Panel("Loss", "lines", "Lower is better.", ("loss",), references=((2.3, "ln C"),))
    header = Header(
        name="run",
        created=1.7e9,
        config={"lr": 0.1, "betas": [0.9, 0.99], "path": Path("a"), "rate": np.float32(0.5)},
        tags=("one", "two"),
        panels={"loss": panel},
        screens=(CLASSIC,),
        instruments={"loss": {"interval": "every step"}},
        model={"class": "Net"},
        optimizer=[{"class": "SGD"}],
        environment={"seed": 1},
    )
    read = Reader(start(header=header).path).header
    assert read.config == {"lr": 0.1, "betas": [0.9, 0.99], "path": "a", "rate": 0.5}
    assert (read.name, read.created, read.tags) == (header.name, header.created, header.tags)
    assert (read.panels, read.screens) == (header.panels, header.screens)
    assert (read.instruments, read.model, read.optimizer) == (header.instruments, header.model, header.optimizer)
    assert read.environment == header.environment


def test_flush_returns_when_everything_can_be_read(start: Start) -> None:
    writer = start(flush_interval=60.0)
    for step in range(100):
        writer.put(step, float(step), {"loss": Reading(float(step))})
    assert writer.flush()
    assert len(Reader(writer.path).column("loss")) == 100


def test_nothing_handed_over_raises_and_the_rest_is_logged(start: Start) -> None:
    writer = start()
    cyclic: dict[str, Any] = {}
    cyclic["self"] = cyclic
    odd: Any = object()
    writer.put(odd, 0.0, {"loss": Reading(1.0)})
    writer.put(2**70, 0.0, {"loss": Reading(1.0)})
    writer.put(1, 0.0, odd)
    writer.put(1, 0.0, {"broken": odd, "loss": Reading(1.0)})
    writer.put(1, 0.0, {"mixed": Reading(None, {"a": 1.0, "b": Histogram(np.array([1]), np.array([0.0, 1.0]))})})
    pairs, numbers = Histogram2d(np.array([[1]]), *[np.array([0.0, 1.0])] * 2), Histogram(np.array([1]), np.arange(2.0))
    writer.put(1, 0.0, {"two sorts": Reading(None, {"a": numbers, "b": pairs})})
    writer.put(1, 0.0, {"share": Reading(Histogram(np.array([0.5]), np.array([0.0, 1.0])))})
    writer.scalars(1, 0.0, {"good": 1.0, "bad": odd})
    writer.scalars(1, 0.0, odd)
    writer.event(odd, 0.0, "info", "at no step")
    writer.document("cyclic", cyclic)
    writer.put(2, 0.0, {"loss": Reading(0.5)})
    assert writer.flush()
    reader = Reader(writer.path)
    assert list(reader.column("loss").steps) == [1, 2]
    assert list(reader.column("good").values) == [1.0]
    subjects = {event.subject for event in reader.events() if event.kind == "error"}
    assert {"broken", "mixed", "two sorts", "share", "bad", "cyclic"} <= subjects


def test_the_users_dictionary_may_change_after_the_call(start: Start) -> None:
    writer = start(flush_interval=60.0)
    metrics = {"accuracy": 0.1}
    for step in range(3):
        metrics["accuracy"] = float(step)
        writer.scalars(step, 0.0, metrics)
    assert writer.flush()
    assert list(Reader(writer.path).column("accuracy").values) == [0.0, 1.0, 2.0]


def test_a_metric_named_like_an_instrument_is_kept_apart_and_said_once(start: Start) -> None:
    writer = start(header=Header("run", 0.0, instruments={"loss": {}}))
    for step in range(3):
        writer.scalars(step, 0.0, {"loss": 5.0})
        writer.put(step, 0.0, {"loss": Reading(1.0)})
    assert writer.flush()
    reader = Reader(writer.path)
    assert list(reader.column("loss").values) == [1.0] * 3
    assert list(reader.column("user/loss").values) == [5.0] * 3
    assert [event.subject for event in reader.events()] == ["loss"]


def test_a_reason_is_said_once_per_key_whatever_its_numbers(start: Start) -> None:
    writer = start()
    for step in range(5):
        writer.put(step, 0.0, {"alpha": Reading(None, reason=f"no second reading at step {step}")})
    writer.put(5, 0.0, {"alpha": Reading(None, reason="one sample")})
    assert writer.flush()
    events = Reader(writer.path).events()
    assert [(event.kind, event.subject, event.text) for event in events] == [
        ("info", "alpha", "no second reading at step 0"),
        ("info", "alpha", "one sample"),
    ]


def test_the_latest_document_counts(start: Start) -> None:
    writer = start()
    writer.document("coverage", {"share": 0.5})
    writer.document("coverage", {"share": float("inf"), "left out": ["a"]})
    assert writer.flush()
    reader = Reader(writer.path)
    assert reader.document("coverage") == {"share": float("inf"), "left out": ["a"]}
    assert reader.document("track") is None


def test_what_a_full_queue_does_not_take_is_counted_and_said(
    start: Start, backend: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = start(capacity=10)
    with backend.locked(writer):
        for step in range(25):
            writer.put(step, 0.0, {"loss": Reading(1.0)})
        assert writer.dropped == 15
    assert writer.flush()
    reader = Reader(writer.path)
    assert list(reader.column("loss").steps) == list(range(10))
    writer.event(None, 0.0, "info", "later")
    assert writer.flush()
    assert reader.dropped() == 15
    assert any("dropped" in event.text for event in reader.events())
    assert "dropped" in capsys.readouterr().err


def test_histograms_waiting_are_bounded_by_their_memory(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cockpit.store.inbox._MEMORY", 10_000)
    writer = start(flush_interval=60.0)
    for step in range(10):
        writer.put(step, 0.0, {"hist": Reading(Histogram(np.zeros(250, np.int64), np.arange(251.0)))})
    assert writer.dropped == 5
    assert writer.flush()
    writer.put(11, 0.0, {"hist": Reading(Histogram(np.zeros(250, np.int64), np.arange(251.0)))})
    assert writer.dropped == 5


@pytest.mark.files
def test_a_closed_run_is_one_file_without_a_journal(start: Start) -> None:
    writer = start()
    writer.put(1, 0.0, {"loss": Reading(1.0)})
    writer.close()
    writer.close("crashed")
    assert [file.name for file in writer.path.parent.iterdir()] == ["rank0.db"]
    assert writer.path.read_bytes()[18:20] == b"\x01\x01"  # SQLite's mark of a file that is not write-ahead logged
    assert Reader(writer.path).state() == "finished"


@pytest.mark.files
def test_a_reader_in_the_middle_of_reading_does_not_keep_a_run_from_closing(start: Start) -> None:
    writer = start()
    writer.put(1, 0.0, {"loss": Reading(1.0)})
    assert writer.flush()
    with closing(sqlite3.connect(writer.path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("SELECT * FROM point").fetchall()
        threading.Timer(0.3, other.close).start()
        writer.close()
    assert [file.name for file in writer.path.parent.iterdir()] == ["rank0.db"]


def test_a_run_says_how_it_ended(start: Start) -> None:
    for state in ("finished", "interrupted", "crashed"):
        writer = start(state)
        assert Reader(writer.path).state() == "running"
        writer.close(state)
        assert Reader(writer.path).state() == state


def test_what_comes_after_the_end_is_ignored(start: Start) -> None:
    writer = start()
    writer.close()
    writer.put(1, 0.0, {"loss": Reading(1.0)})
    assert writer.flush()
    assert Reader(writer.path).series() == ()


def test_an_idle_writer_is_alive_and_has_nothing_new(start: Start, backend: Backend) -> None:
    writer = start()
    writer.put(1, 0.0, {"loss": Reading(1.0)})
    assert writer.flush()
    reader = Reader(writer.path)
    cursor = reader.cursor()

    def heartbeat() -> float:
        ((moment,),) = backend.tamper(writer, "SELECT heartbeat FROM run")
        return float(moment)

    first = heartbeat()
    until(lambda: heartbeat() > first)
    assert reader.cursor() == cursor


def test_slow_writes_begin_as_often_as_quick_ones(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = start(flush_interval=0.8)
    encoded, wait, pauses = Drain._encoded, threading.Event.wait, []

    def slow(self: Drain) -> Batch:
        time.sleep(0.5)
        return encoded(self)

    def timed(self: threading.Event, timeout: float | None = None) -> bool:
        if threading.current_thread().name == "cockpit-writer" and timeout is not None:
            pauses.append(timeout)
        return wait(self, timeout)

    monkeypatch.setattr(Drain, "_encoded", slow)
    monkeypatch.setattr(threading.Event, "wait", timed)
    writer.put(0, 0.0, {"loss": Reading(0.0)})
    assert writer.flush()
    writer.put(1, 0.0, {"loss": Reading(1.0)})
    assert writer.flush()
    assert 0.1 <= min(pauses) <= 0.3


def test_series_as_many_as_a_large_model_brings_are_written_at_once(start: Start) -> None:
    writer = start()
    writer.scalars(1, 0.0, {f"key{number}": float(number) for number in range(40_000)})
    writer.scalars(2, 0.0, {f"key{number}": float(number) for number in range(40_000)})
    assert writer.flush()
    assert len(Reader(writer.path).series()) == 40_000
