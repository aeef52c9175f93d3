import io
import os
import pty
import select
import signal
import subprocess
import sys
from math import nan

import pytest
from patience import LONG, until
from synthetic import __file__ as SYNTHETIC

from cockpit.cli import main
from cockpit.commands.tail import Tail
from cockpit.reading import Reading
from cockpit.run import load_run
from cockpit.store import Header, Reader, UnreadableLog, Writer


@pytest.fixture
def finished(tmp_path):
    writer = Writer(tmp_path / "run", Header("run", 0.0))
    for step in range(30):
        loss = None if step == 28 else nan if step == 29 else 1 / (1 + step)
        writer.put(step, 100.0 * step, {"loss": Reading(loss), "grad_norm": Reading(2.0 + step)})
    writer.put(29, 2900.0, {"learning_rate": Reading(0.1)})
    writer.scalars(27, 2700.0, {"valid/accuracy": 0.75})
    writer.event(28, 2800.5, "warning", "one\x1b[2Jsample", "alpha")
    writer.close()
    return tmp_path / "run"


def rows(text):
    return [line.split() for line in text.splitlines()]


def test_tail_shows_the_last_readings_events_and_the_state(finished, capsys):
    assert main(["tail", str(finished), "--lines", "3"]) == 0
    assert rows(capsys.readouterr().out) == [
        ["STEP", "TIME", "loss", "learning_rate", "grad_norm", "valid/accuracy"],
        ["27", "45:00.0", "0.035714", "29", "0.75"],
        ["28", "46:40.0", "missing", "30"],
        ["28", "46:40.5", "warning:", "alpha:", "one", "[2Jsample"],
        ["29", "48:20.0", "nan", "0.1", "31"],
        ["finished", "at", "step", "29"],
    ]


def test_tail_shows_the_keys_that_are_asked_for(finished, capsys):
    assert main(["tail", str(finished), "--keys", "valid/accuracy, grad_norm", "--lines", "2"]) == 0
    out = rows(capsys.readouterr().out)
    assert out[0] == ["STEP", "TIME", "valid/accuracy", "grad_norm"]
    assert out[1] == ["28", "46:40.0", "30"]


def test_tail_says_at_the_end_what_was_never_logged(finished, capsys):
    assert main(["tail", str(finished), "--keys", "loss,los"]) == 0
    assert capsys.readouterr().out.endswith("finished at step 29; nothing was logged as los\n")


def test_no_lines_leave_the_state_and_the_last_event(finished, capsys):
    assert main(["tail", str(finished), "--lines", "0"]) == 0
    assert len(rows(capsys.readouterr().out)) == 2


@pytest.mark.parametrize("room", [24, 40, 60])
def test_lines_fit_the_terminal_and_what_has_no_room_is_named(finished, room):
    file = io.StringIO()
    Tail(load_run(finished), None, file, room).follow(5)
    assert max(map(len, file.getvalue().splitlines())) <= room
    assert "(no room for" in file.getvalue()


def test_a_run_that_is_not_there_is_named(tmp_path, capsys):
    assert main(["tail", str(tmp_path / "run")]) == 2
    assert "holds no run" in capsys.readouterr().err


@pytest.fixture
def job(tmp_path):
    """The logs of two processes that train together."""
    headers = [Header("job", 0.0, job={"rank": rank, "size": 2, "id": "job"}) for rank in (0, 1)]
    writers = [Writer(tmp_path / "job", header, rank=rank) for rank, header in enumerate(headers)]
    for rank, writer in enumerate(writers):
        writer.put(3, 1.0 + rank, {"loss": Reading(0.5 + rank)})
        writer.event(3, 1.5 + rank, "warning", f"said by {rank}", "alpha")
        assert writer.flush()
    yield tmp_path / "job", writers
    for writer in writers:
        writer.close()


def test_of_several_processes_the_first_ones_readings_and_everybodys_events_are_told(job, capsys):
    place, writers = job
    for writer in writers:
        writer.close()
    assert main(["tail", str(place)]) == 0
    assert rows(capsys.readouterr().out) == [
        ["STEP", "TIME", "loss"],
        ["3", "0:01.0", "0.5"],
        ["3", "0:01.5", "warning:", "alpha:", "said", "by", "0"],
        ["3", "0:02.5", "warning:", "rank", "1:", "alpha:", "said", "by", "1"],
        ["finished", "at", "step", "3"],
    ]
    assert main(["tail", str(place / "rank1")]) == 0
    assert rows(capsys.readouterr().out)[1:] == [
        ["3", "0:02.0", "1.5"],
        ["3", "0:02.5", "warning:", "alpha:", "said", "by", "1"],
        ["finished", "at", "step", "3"],
    ]


def test_another_process_is_heard_while_the_first_one_is_silent_and_the_end_tells_who_went(job):
    place, writers = job
    file = io.StringIO()
    tail = Tail(load_run(place), None, file, None)
    tail._tell(10)
    writers[1].event(4, 3.0, "error", "out of memory")
    assert writers[1].flush()
    tail._tell(None)
    writers[1].close("crashed")
    tail.follow(0)
    told = rows(file.getvalue())
    assert told[-2:] == [
        ["4", "0:03.0", "error:", "rank", "1:", "out", "of", "memory"],
        ["crashed", "at", "step", "3,", "rank", "0", "running,", "rank", "1", "crashed"],
    ]
    assert len([line for line in told if "said" in line]) == 2


def begun(place):
    try:
        Reader(place)
    except UnreadableLog:
        return False
    return True


@pytest.fixture
def live(tmp_path, request):
    """A process that writes a run of two seconds, or as many steps as asked, and what starts ``cockpit tail`` on it."""
    started = []

    def launch(*command, **settings):
        started.append(subprocess.Popen([sys.executable, *command], **settings))
        return started[-1]

    place = tmp_path / "live"
    code = "import sys; from cockpit.cli import main; sys.exit(main(sys.argv[1:]))"
    try:
        writer = launch(SYNTHETIC, str(place), "--steps", str(getattr(request, "param", 200)), "--pace", "0.05")
        until(lambda: begun(place))
        yield writer, lambda *options, **settings: launch("-c", code, "tail", str(place), *options, **settings)
    finally:
        for process in started:
            process.kill()
            process.wait()


goes_on = pytest.mark.parametrize("live", [10**7], indirect=True, ids=["without end"])


def test_a_live_run_is_followed_to_its_end_with_every_reading_once(live):
    writer, tail = live
    follower = tail("--lines", "1000000", "--keys", "loss", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, errors = follower.communicate(timeout=LONG)
    assert (follower.returncode, errors) == (0, "")
    assert writer.wait(LONG) == 0
    lines = rows(out)
    assert lines[-1] == ["finished", "at", "step", "191"]
    steps = [int(line[0]) for line in lines if line[0].isdecimal() and len(line) == 3]
    assert steps == [step for step in range(200) if step % 10 in (0, 1)]


@goes_on
def test_ctrl_c_is_quiet(live):
    _, tail = live
    follower = tail(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    _, errors = follower.communicate(timeout=LONG)
    assert (follower.returncode, errors) == (130, "")


@goes_on
def test_a_pipe_that_closes_ends_it_quietly(live):
    _, tail = live
    follower = tail(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with follower:
        follower.stdout.readline()
        follower.stdout.close()
        assert follower.stderr.read() == ""
    assert follower.returncode == 1


def test_in_a_terminal_lines_are_as_long_as_it_is_wide(live):
    _, tail = live
    ours, theirs = pty.openpty()
    follower = tail("--lines", "5", stdout=theirs, stderr=theirs, env={**os.environ, "COLUMNS": "44"})
    os.close(theirs)
    text = b""
    while b"finished" not in text:
        assert select.select([ours], [], [], LONG)[0], "it said nothing for too long"
        text += os.read(ours, 4096)
    assert follower.wait(LONG) == 0
    os.close(ours)  # not before: it may have had more to say
    assert max(len(line) for line in text.decode().splitlines()) <= 44
