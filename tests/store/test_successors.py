"""Logs on network file systems that another writer goes on with, or would if it were not refused."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from appending import assert_steps, names, put, readings
from patience import LONG

from cockpit.run import load_run
from cockpit.store import Reader, RunIsLive, Store, Writer, place
from cockpit.store.appended import Appended
from cockpit.store.databases import file_at
from cockpit.store.records import encode
from cockpit.store.segments import Place, begins_after, segments_of
from cockpit.store.sqlite import File

Start = Callable[..., Writer]
Child = Callable[..., "subprocess.Popen[str]"]

DATABASE = "segments"


def test_a_finished_run_goes_on_beside_its_file_and_becomes_one_again(start: Start) -> None:
    put(writer := start(), range(3))
    writer.close()
    reader = Reader(writer.path)
    second = start(resume=1)
    put(second, range(1, 2))
    assert names(writer) == ["rank0.2-1.seg", "rank0.db"]
    assert_steps(reader, [0, 1])
    assert (reader.state(), len(reader.attempts())) == ("running", 2)
    assert reader.column("loss", attempt=1).steps.tolist() == [0, 1, 2]
    second.close()
    assert names(writer) == ["rank0.db"]
    assert_steps(reader, [0, 1])


def test_a_run_that_began_on_a_local_disk_goes_on(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as local:
        local.setattr(place, "mounts_text", lambda: "")
        put(writer := start(), range(2))
        writer.close()
    put(second := start(resume=True), range(2, 3))
    second.close()
    assert_steps(Reader(writer.path), [0, 1, 2])


def test_a_live_log_that_was_copied_to_a_local_disk_is_read_and_resumed(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(writer := start(), range(2))
    (copy := tmp_path / "copy").mkdir()
    for _, path in segments_of(writer.path):
        (copy / path.name).write_bytes(path.read_bytes())
    writer.close()
    monkeypatch.setattr(place, "mounts_text", lambda: "")
    assert type(file_at(copy / "rank0.db")) is Appended
    assert type(file_at(writer.path)) is File
    assert_steps(Reader(copy), [0, 1])
    assert_steps(load_run(copy).reader, [0, 1])
    assert {run.name for run in Store(tmp_path).runs()} == {"run", "copy"}


def test_of_two_that_begin_at_once_one_is_refused(start: Start, tmp_path: Path) -> None:
    late = Appended(tmp_path / "run" / "rank0.db")
    late.prepare()
    with late.writing_engine().connect() as connection, connection.begin():
        writer = start()
        row = "INSERT INTO run SELECT 1, 'run', 0, 4, '', '', 0, '', 'running', 0, 0, 0, NULL, 0, 0, '[]', '{}'"
        connection.exec_driver_sql(row)
        connection.exec_driver_sql("INSERT INTO attempt VALUES (1, 1, NULL, 0, 0, '', 0, '')")
    with pytest.raises(RunIsLive, match="another process, which began at the same moment"):
        late.hold()
    put(writer, range(1))


def test_a_claim_that_was_never_completed_is_passed_over_and_cleared_away(start: Start, backend: Any) -> None:
    put(writer := start(), range(2))
    writer.close()
    left = writer.path.with_name("rank0.2-1.seg")
    left.write_bytes(encode({"kind": "segment", "version": 4, "before": [2, 1, 0]}))
    assert begins_after(writer.path, Place(2, 1)) is None
    assert Reader(writer.path).state() == "finished"
    with pytest.raises(RunIsLive):
        start(resume=True)
    os.utime(left, (time.time() - 60,) * 2)
    put(start(resume=True), range(2, 3))
    assert_steps(Reader(writer.path), [0, 1, 2])


def test_a_writer_that_was_overtaken_stops(start: Start, backend: Any, capsys: pytest.CaptureFixture[str]) -> None:
    put(writer := start(), range(2))
    backend.tamper(writer, "UPDATE run SET owner = 'somebody else'")
    before = {path: path.read_bytes() for _, path in segments_of(writer.path)}
    writer.put(2, 0.2, readings(2))
    writer._drain.join(LONG)
    assert not writer.flush()
    writer.close()
    assert "another process writes" in capsys.readouterr().err
    assert {path: path.read_bytes() for _, path in segments_of(writer.path)} == before
