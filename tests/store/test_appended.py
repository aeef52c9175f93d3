"""Logs on network file systems: what is appended is read once, whatever was cut short, also while it is written."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import backends
import numpy as np
import pytest
from appending import assert_steps, names, put, readings
from patience import LONG, until

from cockpit.reading import Reading
from cockpit.store import Reader, Store, UnreadableLog, Writer, appended, appender
from cockpit.store.index import Index
from cockpit.store.records import decode, encode
from cockpit.store.segments import segments_of
from cockpit.store.sqlite import File

Start = Callable[..., Writer]

DATABASE = "segments"


def test_a_live_log_is_segments_and_a_finished_one_a_single_file(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = start()
    assert f"{writer.path.parent} is on a network file system (nfs4)" in capsys.readouterr().err
    put(writer, range(3))
    assert names(writer) == ["rank0.1-1.seg"]
    reader = Reader(writer.path.parent)
    assert_steps(reader, [0, 1, 2])
    writer.close()
    assert names(writer) == ["rank0.db"]
    assert_steps(reader, [0, 1, 2])
    assert reader.state() == "finished"
    assert File(writer.path).path == writer.path
    with File(writer.path).reading() as (connection, _):
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def test_importing_again_and_again_changes_nothing(start: Start) -> None:
    writer = start()
    put(writer, range(3))
    readers = [Reader(writer.path) for _ in range(2)]
    for _ in range(3):
        for reader in readers:
            assert_steps(reader, [0, 1, 2])
    put(writer, range(3, 5))
    for reader in readers:
        assert_steps(reader, [0, 1, 2, 3, 4])


def test_what_was_imported_is_deleted_with_its_reader(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "here"))
    (tmp_path / "here").mkdir()
    writer = start()
    put(writer, range(1))
    assert list((tmp_path / "here").iterdir()) == []
    reader = Reader(writer.path)
    assert len(list((tmp_path / "here").iterdir())) == 1
    del reader
    assert list((tmp_path / "here").iterdir()) == []


def test_a_log_cut_at_any_byte_of_its_last_record_keeps_all_others(start: Start, tmp_path: Path) -> None:
    writer = start()
    for step in range(3):
        put(writer, range(step, step + 1))
    (segment,) = [path for _, path in segments_of(writer.path)]
    data = segment.read_bytes()
    ends = [0]
    while (end := _record_end(data, ends[-1])) is not None:
        ends.append(end)
    told, _ = decode(data)
    last = max(i for i, record in enumerate(told) if record["kind"] == "batch" and record["batch"]["points"])
    begin, end = ends[last], ends[last + 1]
    for cut in range(begin, end):
        assert decode(data[:cut]) == (told[:last], begin)
    for cut in (begin, begin + 1, begin + 7, begin + 8, begin + 40, end - 1, end):
        copy = tmp_path / f"cut-{cut}"
        copy.mkdir()
        (copy / segment.name).write_bytes(data[:cut])
        assert_steps(Reader(copy), [0, 1, 2] if cut == end else [0, 1])


def _record_end(data: bytes, at: int) -> int | None:
    if at >= len(data):
        return None
    return at + 8 + int.from_bytes(data[at : at + 4], "little")


def test_what_failed_half_way_is_written_again_in_another_segment(
    start: Start, backend: backends.Segments, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = start()
    put(writer, range(2))
    reader = Reader(writer.path)
    with backend.locked(writer):
        writer.put(2, 0.2, readings(2))
        until(lambda: writer._drain._failing_since is not None)
        assert reader.column("loss").steps.tolist() == [0, 1]
    assert writer.flush()
    assert "cannot be written ([Errno 5] the server does not answer)" in capsys.readouterr().err
    assert names(writer) == ["rank0.1-1.seg", "rank0.1-2.seg"]
    for each in (reader, Reader(writer.path)):
        assert_steps(each, [0, 1, 2])
    writer.close()
    assert_steps(reader, [0, 1, 2])


def test_a_record_that_was_seen_and_then_taken_back_is_seen_once(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = start()
    put(writer, range(2))
    reader = Reader(writer.path)
    assert_steps(reader, [0, 1])
    failing, written = threading.Event(), threading.Event()
    failing.set()

    def unsure(file: int, data: bytes) -> None:
        if not written.is_set() or not failing.is_set():
            os.write(file, data)
        if failing.is_set():
            written.set()
            raise OSError("nobody knows whether it arrived")

    monkeypatch.setattr(appender, "append", unsure)
    writer.put(2, 0.2, readings(2))
    assert written.wait(LONG)
    assert_steps(reader, [0, 1, 2])
    failing.clear()
    put(writer, range(3, 4))
    assert_steps(reader, [0, 1, 2, 3])
    assert next(series.points for series in reader.series() if series.key == "loss") == 4


def test_a_large_log_is_several_segments(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appender, "_LARGEST", 150_000)
    writer = start()
    reader = Reader(writer.path)
    for step in range(5):
        # 100 kB: a segment holds two, whatever the machine and the folder are called that its first records tell of.
        array = np.random.default_rng(step).random(12_500)
        writer.put(step, 0.1 * step, {"noise": Reading(None, arrays={"": array})})
        assert writer.flush()
    assert names(writer) == ["rank0.1-1.seg", "rank0.1-2.seg", "rank0.1-3.seg"]
    for each in (reader, Reader(writer.path)):
        assert each.column("noise", "arrays").steps.tolist() == list(range(5))
    writer.close()
    assert names(writer) == ["rank0.db"]
    assert reader.column("noise", "arrays").steps.tolist() == list(range(5))


def test_a_very_large_log_stays_segments(start: Start, backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appended, "_LARGEST", 100)
    writer = start()
    put(writer, range(2))
    writer.close()
    assert names(writer) == ["rank0.1-1.seg"]
    assert Reader(writer.path).state() == "finished"
    second = start(resume=True)
    put(second, range(2, 3))
    second.close()
    assert names(writer) == ["rank0.1-1.seg", "rank0.2-1.seg"]
    assert_steps(Reader(writer.path), [0, 1, 2])
    Store(backend.logs).delete("run")
    assert not writer.path.parent.exists()


def test_a_log_that_becomes_one_file_while_a_reader_opens_it_is_read(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = start()
    put(writer, range(3))

    def closing_first(*arguments: Any) -> Index:
        monkeypatch.setattr(appended, "Index", Index)  # for the writer, which makes one, too
        index = Index(*arguments)
        writer.close()
        return index

    monkeypatch.setattr(appended, "Index", closing_first)
    reader = Reader(writer.path)
    assert names(writer) == ["rank0.db"]
    assert_steps(reader, [0, 1, 2])
    assert reader.state() == "finished"


def test_where_no_file_can_be_made_the_segments_stay_and_it_is_said(
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = start()
    put(writer, range(2))

    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("shutil.copyfile", full)
    writer.close()
    assert "stays in segments, which can be read" in capsys.readouterr().err
    assert names(writer) == ["rank0.1-1.seg"]
    assert Reader(writer.path).state() == "finished"


def test_damage_in_the_middle_is_told(start: Start, tmp_path: Path) -> None:
    writer = start()
    for step in range(3):
        put(writer, range(step, step + 1))
    writer.path.parent.rename(tmp_path / "moved")
    segment = tmp_path / "moved" / "rank0.1-1.seg"
    data = bytearray(segment.read_bytes())
    begin = _record_end(bytes(data), 0) or 0
    data[begin + 14] ^= 255  # in the body of the second record: where its length is, it would look cut short
    segment.write_bytes(data)
    with pytest.raises(UnreadableLog, match="is damaged: the record at byte"):
        Reader(tmp_path / "moved").state()
    (broken,) = [run for run in Store(tmp_path).runs() if run.name == "moved"]
    assert broken.state == "unreadable"
    (tmp_path / "moved").rename(writer.path.parent)


def test_a_newer_versions_segments_are_refused_in_words(tmp_path: Path, backend: Any) -> None:
    (tmp_path / "run").mkdir()
    newer = encode({"kind": "segment", "version": 99, "before": [1, 1, 0]})
    (tmp_path / "run" / "rank0.1-1.seg").write_bytes(newer)
    with pytest.raises(UnreadableLog, match="was written by a newer Cockpit"):
        Reader(tmp_path / "run")


def test_a_log_is_read_while_it_is_written(start: Start) -> None:
    writer = start(flush_interval=0.005)
    stop, wrong = threading.Event(), []

    def follow(seen: list[int]) -> None:
        reader = Reader(writer.path)
        while not stop.is_set():
            try:
                steps = reader.column("loss").steps.tolist() if reader.series() else []
            except Exception as error:
                wrong.append(repr(error))
                return
            if steps != list(range(len(steps))):
                wrong.append(steps)
            seen.append(len(steps))

    both: tuple[list[int], list[int]] = ([0], [0])
    threads = [threading.Thread(target=follow, args=(seen,)) for seen in both]
    for thread in threads:
        thread.start()
    steps, deadline = 0, time.monotonic() + LONG
    while (steps < 150 or min(len(set(seen)) for seen in both) < 6) and not wrong and time.monotonic() < deadline:
        writer.put(steps, 0.1 * steps, readings(steps))
        steps += 1
        time.sleep(0.003)
    writer.close()
    until(lambda: wrong or all(seen[-1] == steps for seen in both))
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert min(len(set(seen)) for seen in both) >= 6
