"""Logs on network file systems: what is appended is read once, whatever was cut short, also while it is written."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import backends
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cockpit.reading import Histogram, Reading
from cockpit.run import load_run
from cockpit.store import Reader, RunIsLive, Store, UnreadableLog, Writer, appended, appender, place
from cockpit.store.appended import Appended
from cockpit.store.attempts import Attempt
from cockpit.store.batch import Batch, SeriesRow
from cockpit.store.databases import file_at
from cockpit.store.records import Damaged, decode, encode, from_batch, to_batch
from cockpit.store.segments import Place, begins_after, segments_of
from cockpit.store.sqlite import File

Start = Callable[..., Writer]
Child = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> backends.Segments:
    monkeypatch.setattr(place, "mounts_text", lambda: backends.ON_A_NETWORK)
    return backends.Segments(tmp_path)


def names(writer: Writer) -> list[str]:
    return sorted(file.name for file in writer.path.parent.iterdir())


def readings(step: int) -> dict[str, Reading]:
    histogram = Histogram(np.arange(3) + step, np.arange(4.0))
    return {"loss": Reading(float(step), {"a": 1.0}), "hist": Reading(histogram)}


def put(writer: Writer, steps: range) -> None:
    for step in steps:
        writer.put(step, 0.1 * step, readings(step))
    assert writer.flush()


def assert_steps(reader: Reader, steps: list[int]) -> None:
    for key, kind in (("loss", "scalar"), ("loss", "layers"), ("hist", "histogram")):
        assert reader.column(key, kind).steps.tolist() == steps
    assert reader.column("hist").values[-1].tolist() == [steps[-1], steps[-1] + 1, steps[-1] + 2]


# Records

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=50),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)
records = st.lists(
    st.dictionaries(st.text(max_size=5).filter(lambda name: name != "bytes"), plain, max_size=4), max_size=5
)


@given(records, st.binary(max_size=30))
def test_records_come_back_as_they_were(told: list[dict[str, Any]], before: bytes) -> None:
    data = b"".join(map(encode, told))
    assert decode(data) == (told, len(data))


@given(records.filter(len), st.data())
def test_a_record_that_is_cut_short_does_not_count_and_those_before_it_do(told: Any, data: Any) -> None:
    *earlier, last = map(encode, told)
    cut = data.draw(st.integers(0, len(last) - 1))
    garbage = data.draw(st.sampled_from([b"", b"\0" * 20]))
    assert decode(b"".join(earlier) + last[:cut] + garbage) == (told[:-1], len(b"".join(earlier)))


def test_damage_before_whole_records_is_no_cut() -> None:
    first, second = encode({"kind": "a", "text": "x" * 50}), encode({"kind": "b"})
    damaged = bytearray(first + second)
    damaged[20] ^= 1
    with pytest.raises(Damaged, match="the record at byte 0 is not what was written"):
        decode(bytes(damaged))


def test_what_a_log_does_not_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="a log holds numbers, text and bytes, not complex"):
        encode({"kind": 1j})


def test_a_batch_comes_back_as_it_was() -> None:
    row = SeriesRow(1, "loss", "instrument", False, 0, 5, -3, 2**62, -0.0, 1, 7, 5)
    batch = Batch(
        {1: tuple(vars(row).values())},
        [(1, b"digest", None, 3, b"edges")],
        [(4, 1, -3, 0.5, float("inf"), 2, None)],
        [(4, b"payload")],
        [(5, None, 1.0, "info", "said ünïcødé \N{ROCKET}", "")],
        {"name": ("name", 6, "{}")},
        [("start", 0, b"piece")],
        [(row, 1024)],
        Attempt(2, 3, 4, 5.0, "host", 6, "train.py"),
        7,
        None,
        8.5,
    )
    (record,), _ = decode(encode({"batch": from_batch(batch)}))
    assert to_batch(record["batch"]) == batch


# Files


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
        assert not writer.flush(timeout=0.3)
        assert reader.column("loss").steps.tolist() == [0, 1]
    assert "cannot be written ([Errno 5] the server does not answer)" in capsys.readouterr().err
    assert writer.flush()
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
    failing = [True]

    def unsure(file: int, data: bytes) -> None:
        os.write(file, data)
        if failing:
            raise OSError("nobody knows whether it arrived")

    monkeypatch.setattr(appender, "append", unsure)
    writer.put(2, 0.2, readings(2))
    deadline = time.monotonic() + 5
    while len(reader.column("loss")) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert reader.column("loss").steps.tolist() == [0, 1, 2]
    failing.clear()
    put(writer, range(3, 4))
    assert_steps(reader, [0, 1, 2, 3])
    assert next(series.points for series in reader.series() if series.key == "loss") == 4


def test_a_large_log_is_several_segments(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appender, "_LARGEST", 1_000)
    writer = start()
    reader = Reader(writer.path)
    for step in range(6):
        put(writer, range(step, step + 1))
    assert len(names(writer)) > 1
    for each in (reader, Reader(writer.path)):
        assert_steps(each, list(range(6)))
    writer.close()
    assert names(writer) == ["rank0.db"]
    assert_steps(reader, list(range(6)))


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
    assert not writer.flush(timeout=1.0)
    writer.close()
    assert "another process writes" in capsys.readouterr().err
    assert {path: path.read_bytes() for _, path in segments_of(writer.path)} == before


def test_damage_in_the_middle_is_told(start: Start, tmp_path: Path) -> None:
    writer = start()
    for step in range(3):
        put(writer, range(step, step + 1))
    writer.path.parent.rename(tmp_path / "moved")
    segment = tmp_path / "moved" / "rank0.1-1.seg"
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 255
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
    stop, seen, wrong = threading.Event(), [0], []

    def follow() -> None:
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

    threads = [threading.Thread(target=follow) for _ in range(2)]
    for thread in threads:
        thread.start()
    for step in range(150):
        writer.put(step, 0.1 * step, readings(step))
        time.sleep(0.003)
    writer.close()
    time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert seen[-1] == 150
    assert len(set(seen)) > 5


TRAIN = """
import sys, time
from cockpit.reading import Reading
from cockpit.store import Header, Writer

writer = Writer(sys.argv[1], Header("run", time.time()))
for step in range(10**9):
    writer.put(step, 0.01 * step, {"loss": Reading(float(step))})
    print(step, time.time(), flush=True)
    time.sleep(0.004)
"""


def test_a_killed_process_loses_at_most_a_second_and_its_run_goes_on(
    child: Child, backend: backends.Segments, start: Start
) -> None:
    process = child(backend.setup + TRAIN, backend.place("run"))
    assert process.stdout is not None
    handed = [process.stdout.readline().split() for _ in range(450)]
    process.send_signal(signal.SIGKILL)
    killed = time.time()
    process.wait()
    reader = Store(backend.logs).open("run")
    assert reader.state() == "crashed"
    steps = reader.column("loss").steps.tolist()
    assert steps == list(range(len(steps)))
    assert len(steps) > max(int(step) for step, moment in handed if float(moment) < killed - 1.0)
    writer = start(resume=True)
    assert writer.last_step == steps[-1]
    writer.put(steps[-1] + 1, 99.0, {"loss": Reading(0.0)})
    writer.close()
    assert names(writer) == ["rank0.db"]
    assert reader.column("loss").steps.tolist() == [*steps, steps[-1] + 1]
    assert reader.state() == "finished"
