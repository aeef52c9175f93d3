"""Clocks that are set while a run is written, or that differ between machines."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from backends import Files
from patience import until

from cockpit.store import Reader, Store, Writer

Start = Callable[..., Writer]
HOUR = 3600.0


class Clocks:
    """What this process's clocks are off by: that of the day can be set, the other only goes on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.day = self.own = 0.0
        day, own = time.time, time.monotonic
        monkeypatch.setattr(time, "time", lambda: day() + self.day)
        monkeypatch.setattr(time, "monotonic", lambda: own() + self.own)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


@pytest.fixture
def elsewhere(start: Start, backend: Files) -> Writer:
    """Writes a run, as it looks from another machine: nobody can see there whether the process lives."""
    writer = start()
    backend.tamper(writer, "UPDATE run SET host = 'elsewhere'")
    return writer


def heartbeat(writer: Writer, backend: Files) -> float:
    ((moment,),) = backend.tamper(writer, "SELECT heartbeat FROM run")
    return float(moment)


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_living_writer_is_never_taken_for_dead_when_the_clock_is_set(
    elsewhere: Writer, backend: Files, clocks: Clocks, tmp_path: Path, jump: float
) -> None:
    reader, store = Reader(elsewhere.path), Store(tmp_path)
    assert [reader.state(), store.runs()[0].state] == ["running"] * 2
    clocks.day += jump
    assert [reader.state(), store.runs()[0].state] == ["running"] * 2  # before the writer has said anything
    until(lambda: abs(heartbeat(elsewhere, backend) - time.time()) < HOUR / 2)  # by the clock as it is set
    assert [reader.state(), store.runs()[0].state] == ["running"] * 2
    assert Reader(elsewhere.path).state() == "running"  # for who comes new, too


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_dead_writer_does_not_come_back_when_the_clock_is_set(
    elsewhere: Writer, backend: Files, clocks: Clocks, tmp_path: Path, jump: float
) -> None:
    reader, store = Reader(elsewhere.path), Store(tmp_path)
    assert [reader.state(), store.runs()[0].state] == ["running"] * 2
    elsewhere.close()
    backend.tamper(elsewhere, "UPDATE run SET state = 'running'")  # as it was left by who was killed
    clocks.day += jump
    reader.state(), store.runs()  # its last heartbeat is seen
    clocks.own += 11.0
    assert [reader.state(), store.runs()[0].state] == ["crashed"] * 2
    assert Reader(elsewhere.path).state() == "crashed"


def test_a_machine_whose_clock_is_an_hour_ahead_or_behind_is_seen_alive_by_its_next_heartbeat(
    start: Start, backend: Files
) -> None:
    writer = start(flush_interval=60.0)  # says nothing of its own accord meanwhile
    for skew in (HOUR, -HOUR):
        reader = Reader(writer.path)
        backend.tamper(writer, "UPDATE run SET host = 'elsewhere', heartbeat = ?", time.time() + skew)
        assert reader.state() == "crashed"  # nobody can tell from one look
        backend.tamper(writer, "UPDATE run SET heartbeat = ?", time.time() + skew + 1.0)
        assert reader.state() == "running"
