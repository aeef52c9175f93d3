"""What becomes of the log when the training process is killed, forks, ends without a word, or has no room to write.

What killed processes lose is counted in test_kills.py; a disk that is full for a while is in test_full_disk.py.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from children import SETUP, check_integrity, output
from patience import LONG, until

from cockpit.reading import Reading
from cockpit.store import Reader, RunIsLive, Store, Writer, drain

Start = Callable[..., Writer]
Child = Callable[..., "subprocess.Popen[str]"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, fork and limits are POSIX")

TRAIN = """
step = 0
while True:
    writer.put(step, 0.01 * step, readings(step))
    print(step, time.time(), flush=True)
    step += 1
    time.sleep(0.005)
"""


def follow(process: "subprocess.Popen[str]", count: int) -> list[tuple[int, float]]:
    """Steps that the child has handed over, and when."""
    assert process.stdout is not None
    steps = []
    for line in process.stdout:
        step, moment = line.split()
        steps.append((int(step), float(moment)))
        if len(steps) == count:
            break
    return steps


def test_a_killed_process_is_seen_as_crashed_also_while_nobody_has_asked_for_its_end(
    child: Child, tmp_path: Path
) -> None:
    process = child(SETUP + TRAIN, tmp_path / "run")
    follow(process, 1)
    process.send_signal(signal.SIGKILL)
    reader = Store(tmp_path).open("run")
    until(lambda: reader.state() != "running")
    assert reader.state() == "crashed"
    assert process.wait(LONG) == -signal.SIGKILL  # its last thread may take longer than the first


def test_a_killed_run_can_be_resumed(child: Child, start: Start, tmp_path: Path) -> None:
    process = child(SETUP + TRAIN, tmp_path / "run")
    follow(process, 200)
    with pytest.raises(RunIsLive, match=f"process {process.pid}"):
        start(resume=True)
    until(lambda: "loss" in Reader(tmp_path / "run").latest())
    process.send_signal(signal.SIGKILL)
    process.wait()
    writer = start(resume=True)
    assert writer.last_step is not None
    writer.put(writer.last_step + 1, writer.elapsed, {"loss": Reading(-1.0)})
    writer.close()
    column = Reader(writer.path).column("loss")
    assert list(column.steps) == list(range(writer.last_step + 2))
    assert column.values[-1] == -1.0


def test_a_reader_beside_a_writing_process_sees_every_step_once_and_in_order(child: Child, tmp_path: Path) -> None:
    process = child(SETUP + TRAIN, tmp_path / "run")
    follow(process, 1)
    reader = Store(tmp_path).open("run")
    seen: list[int] = []
    cursor, looks, deadline = 0, 0, time.monotonic() + LONG
    while (len(seen) < 300 or looks < 3) and time.monotonic() < deadline:
        now = reader.cursor()
        assert now >= cursor
        if now > cursor and any(series.key == "loss" for series in reader.series()):
            new = [step for step in reader.column("loss", since=cursor).steps if step > (seen[-1] if seen else -1)]
            seen += new
            looks += bool(new)
            cursor = now
        time.sleep(0.02)
    assert seen == list(range(len(seen)))
    assert len(seen) >= 300
    assert looks >= 3
    assert reader.state() == "running"


@pytest.mark.parametrize("ending", ["", "sys.exit(0)", "import threading; threading.Thread(target=print).start()"])
def test_a_process_that_ends_without_closing_writes_everything(child: Child, tmp_path: Path, ending: str) -> None:
    output(child(SETUP + "for step in range(500): writer.put(step, 0.0, readings(step))\n" + ending, tmp_path / "run"))
    reader = Reader(tmp_path / "run")
    assert len(reader.column("loss")) == 500
    assert reader.state() == "interrupted"
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["rank0.db"]


def test_a_process_that_ends_in_an_exception_writes_everything(child: Child, tmp_path: Path) -> None:
    code = SETUP + "for step in range(500): writer.put(step, 0.0, readings(step))\nraise KeyboardInterrupt"
    child(code, tmp_path / "run").communicate(timeout=LONG)
    assert len(Reader(tmp_path / "run").column("loss")) == 500


FORK = """
import gc, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # forking beside a thread is what is tried here
for step in range(200):
    writer.put(step, 0.0, readings(step))
    if step == 100:
        pid = os.fork()
        if pid == 0:
            for step in range(1000, 1100):
                writer.put(step, 0.0, readings(step))
            writer.flush()
            writer.close()
            del writer
            gc.collect()
            sys.exit(0)  # through atexit and finalisation, unlike a data loader's worker
        assert os.waitpid(pid, 0)[1] == 0
    time.sleep(0.002)
assert writer.flush(LONG)
print(writer.dropped)
writer.close()
"""


def test_a_forked_child_writes_nothing_and_breaks_nothing(child: Child, tmp_path: Path) -> None:
    out, _ = output(child(SETUP + FORK, tmp_path / "run"))
    assert out.split() == ["0"]
    reader = Reader(tmp_path / "run")
    assert list(reader.column("loss").steps) == list(range(200))
    assert reader.state() == "finished"
    check_integrity(reader.path)


def test_a_disk_that_is_full_from_the_start_is_refused_in_words(child: Child, tmp_path: Path) -> None:
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n" + SETUP
    _, err = child(code, tmp_path / "run").communicate(timeout=LONG)
    last = err.strip().splitlines()[-1]
    assert last.startswith("OSError: the log ")
    assert "cannot be written" in last
    assert "Choose another place" in last


def test_a_directory_that_comes_back_is_written_again(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = start()
    writer.put(0, 0.0, {"loss": Reading(0.0)})
    assert writer.flush()
    (tmp_path / "run").rename(tmp_path / "away")
    writer.put(1, 0.0, {"loss": Reading(1.0)})
    told = ""

    def is_told() -> bool:
        nonlocal told
        told += capsys.readouterr().err
        return "cannot be written" in told

    until(is_told)
    assert not writer.flush(timeout=0.3)  # tried again
    (tmp_path / "away").rename(tmp_path / "run")
    assert writer.flush()
    assert (told + capsys.readouterr().err).count("cannot be written") == 1
    assert list(Reader(writer.path).column("loss").steps) == [0, 1]


def test_a_directory_that_stays_away_ends_in_words_and_a_count(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "_FINAL_PATIENCE", 0.2)
    writer = start(flush_interval=60.0)
    (tmp_path / "run").rename(tmp_path / "away")
    for step in range(7):
        writer.put(step, 0.0, {"loss": Reading(1.0)})
    writer.close()
    assert "7 items were lost" in capsys.readouterr().err


HALF = """
import sqlite3
writer.put(1, 0.0, readings(1))
writer.close()
connection = sqlite3.connect(writer.path, isolation_level=None)
connection.execute("PRAGMA cache_size=1")  # pages of the open transaction spill into the file
connection.execute("PRAGMA journal_mode=TRUNCATE")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE run SET cursor = 12345")
connection.executemany("INSERT INTO payload VALUES (1, ?, ?)", [(1000 + n, bytes(3000)) for n in range(500)])
os._exit(9)
"""


def test_half_a_transaction_without_write_ahead_log_is_undone_by_whoever_reads(child: Child, tmp_path: Path) -> None:
    child(SETUP + HALF, tmp_path / "run").communicate(timeout=LONG)
    journal = tmp_path / "run" / "rank0.db-journal"
    assert journal.stat().st_size > 0
    reader = Reader(tmp_path / "run")
    assert reader.cursor() < 12345
    assert list(reader.column("loss").steps) == [1]
    check_integrity(reader.path)


def test_a_silent_writer_on_another_machine_counts_as_crashed_after_a_while(start: Start) -> None:
    writer = start()
    writer.close()
    for age, state in ((2.0, "running"), (30.0, "crashed")):
        with closing(sqlite3.connect(writer.path)) as connection, connection:
            now = (time.time() - age,)
            connection.execute("UPDATE run SET host = 'elsewhere', state = 'running', heartbeat = ?", now)
        assert Reader(writer.path).state() == state


def test_the_store_is_imported_without_torch(child: Child) -> None:
    code = "import sys, json, cockpit.store, cockpit.run; print(json.dumps('torch' in sys.modules))"
    out, _ = output(child(code))
    assert json.loads(out) is False


def test_a_writer_lives_in_a_process_whose_id_was_used_before(start: Start) -> None:
    writer = start()
    writer.close()
    with closing(sqlite3.connect(writer.path)) as connection, connection:
        row = ("running", os.getpid(), "1")  # this process's id, but another one's beginning
        connection.execute("UPDATE run SET state = ?, pid = ?, process = ?", row)
    assert Reader(writer.path).state() == "crashed"


RACE = f"""
import os, sys, time
from cockpit.store import Header, RunIsLive, Writer, sqlite

sqlite._BUSY = {LONG}
print("ready", flush=True)
while not os.path.exists(sys.argv[2]):
    time.sleep(0.001)
try:
    Writer(sys.argv[1], Header("run", time.time()))
except RunIsLive:
    print("refused", flush=True)
else:
    print("writes", flush=True)
    sys.stdin.read()
"""


def test_of_processes_that_begin_one_run_together_one_writes(child: Child, tmp_path: Path) -> None:
    processes = [child(RACE, tmp_path / "run", tmp_path / "go") for _ in range(3)]

    def lines() -> list[str]:
        return [process.stdout.readline().strip() for process in processes if process.stdout is not None]

    assert lines() == ["ready"] * 3
    (tmp_path / "go").touch()
    assert sorted(lines()) == ["refused", "refused", "writes"]
