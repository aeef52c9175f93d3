"""Who may write a run, and where."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from backends import Backend
from patience import LONG

from cockpit.reading import Histogram, Reading
from cockpit.store import Header, Reader, RunExists, RunIsLive, UnreadableLog, Writer, drain

EVERY_DATABASE = True

Start = Callable[..., Writer]
EDGES = np.linspace(-1, 1, 4)


def test_a_run_that_is_being_written_is_refused(start: Start) -> None:
    start()
    for resume in (False, True):
        with pytest.raises(RunIsLive, match="being written by this process"):
            start(resume=resume)


def test_a_run_that_is_over_is_refused_unless_resumed(start: Start, backend: Backend) -> None:
    writer = start()
    writer.put(1, 0.0, {"loss": Reading(1.0)})
    writer.close()
    before = backend.tamper(writer, "SELECT * FROM run")
    with pytest.raises(RunExists, match=r"\(finished\).*resume=True"):
        start()
    assert backend.tamper(writer, "SELECT * FROM run") == before


def test_resuming_continues(start: Start) -> None:
    header = Header("run", 1.0, config={"lr": 0.1})
    hist = Reading(Histogram(np.array([1, 2, 3]), EDGES), {"a": 1.0, "b": None})
    first = start(header=header)
    first.put(1, 2.5, {"loss": Reading(1.0), "hist": hist, "rare": Reading(None)})
    first.put(5, 7.5, {"loss": Reading(0.5)})
    first.close("crashed")
    cursor = Reader(first.path).cursor()
    second = start(header=Header("run", 2.0, config={"lr": 0.01}), resume=True)
    assert (second.elapsed, second.last_step) == (7.5, 5)
    reader = Reader(second.path)
    assert reader.cursor() > cursor
    second.put(4, 8.0, {"loss": Reading(0.25), "hist": hist, "rare": Reading(hist.value)})
    second.put(5, 9.0, {"loss": Reading(0.125)})
    second.close()
    assert list(reader.column("loss").values) == [1.0, 0.25, 0.125]
    assert list(reader.column("hist").steps) == [1, 4]
    assert reader.column("hist").edges is not None
    assert [series.kind for series in reader.series() if series.key == "rare"] == ["histogram"]
    assert (reader.header.created, reader.header.config) == (1.0, {"lr": 0.01})
    assert [event.text for event in reader.events()] == ["resumed; before that, the run was crashed"]


def test_resuming_what_never_ran_begins_it(start: Start) -> None:
    writer = start(resume=True)
    assert (writer.elapsed, writer.last_step) == (0.0, None)


@pytest.mark.files
def test_a_file_in_the_directorys_place_is_refused(start: Start, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("notes")
    with pytest.raises(NotADirectoryError, match=r"run is a file; a run needs a directory"):
        start()


def test_a_directory_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(OSError, match=r"the run's directory /proc/run cannot be made: .*Choose another place"):
        Writer("/proc/run", Header("run", 0.0))


@pytest.mark.files
@pytest.mark.parametrize("resume", [False, True])
def test_a_foreign_file_is_not_overwritten(start: Start, tmp_path: Path, resume: bool) -> None:
    (tmp_path / "run").mkdir()
    file = tmp_path / "run" / "rank0.db"
    file.write_bytes(b"my diary, page one. " * 100)
    with pytest.raises(UnreadableLog, match="stands in the way: it is not a log of Cockpit"):
        start(resume=resume)
    assert file.read_bytes() == b"my diary, page one. " * 100


def test_a_newer_log_is_not_continued(start: Start, backend: Backend) -> None:
    writer = start()
    writer.close()
    backend.tamper(writer, "UPDATE run SET schema_version = 99")
    with pytest.raises(UnreadableLog, match="written by a newer Cockpit"):
        start(resume=True)


def test_a_run_taken_by_another_writer_is_left_alone(
    start: Start, backend: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = start()
    backend.tamper(writer, "UPDATE run SET owner = 'somebody else'")
    writer.put(1, 0.0, {"loss": Reading(1.0)})
    writer._drain.join(LONG)
    assert not writer.flush()
    assert "another process writes" in capsys.readouterr().err
    writer.close()
    assert Reader(writer.path).series() == ()


def test_who_closes_a_run_that_another_writer_has_taken_is_told_so_before(
    start: Start, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporting, told = threading.Event(), []

    def slowly(words: str) -> None:
        reporting.set()
        time.sleep(0.2)
        told.append(words)

    monkeypatch.setattr(drain, "report", slowly)
    writer = start()
    backend.tamper(writer, "UPDATE run SET owner = 'somebody else'")
    writer.put(1, 0.0, {"loss": Reading(1.0)})
    assert reporting.wait(LONG)
    writer.close()
    assert len(told) == 1


@pytest.mark.files
def test_ranks_write_files_of_their_own(start: Start) -> None:
    paths = [start(rank=rank).path.name for rank in (0, 1)]
    assert paths == ["rank0.db", "rank1.db"]
