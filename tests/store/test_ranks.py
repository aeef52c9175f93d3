"""Several processes of one training job write one run, and it reads as one."""

import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from backends import Backend
from patience import LONG, until

from cockpit.reading import Reading
from cockpit.run import load_run
from cockpit.store import Header, Reader, RunIsLive, Store, Writer

EVERY_DATABASE = True

Start = Callable[..., Writer]
Child = Callable[..., "subprocess.Popen[str]"]


def header(rank: int, size: int, name: str = "run") -> Header:
    return Header(name, 1.7e9, job={"rank": rank, "size": size, "id": "job"})


@pytest.fixture
def job(start: Start) -> Callable[..., list[Writer]]:
    """``job(size)`` begins the logs of so many processes, each with a loss of its own."""

    def begin(size: int, name: str = "run", **options: Any) -> list[Writer]:
        writers = [start(name, header=header(rank, size, name), rank=rank, **options) for rank in range(size)]
        for rank, writer in enumerate(writers):
            writer.put(0, 0.5, {"loss": Reading(float(rank))})
            writer.event(0, 1.0 - 0.1 * rank, "info", f"said by {rank}")
            assert writer.flush()
        return writers

    return begin


def test_a_run_is_its_first_process_and_the_others_are_asked_by_number(job: Any, backend: Backend) -> None:
    job(3)
    run = load_run(backend.place("run"))
    assert run.ranks == (0, 1, 2)
    assert list(run["loss"].values) == [0.0]
    assert [list(run.rank(rank)["loss"].values) for rank in run.ranks] == [[0.0], [1.0], [2.0]]
    assert [run.rank(rank).header.job["rank"] for rank in run.ranks] == [0, 1, 2]
    assert run.rank(2).ranks == (2,)
    assert run.rank(2).rank(2)["loss"].values == [2.0]


def test_an_unknown_process_is_refused_by_name(job: Any, backend: Backend) -> None:
    job(2)
    with pytest.raises(KeyError, match="'run' has no log of rank 2; there are: 0, 1"):
        load_run(backend.place("run")).rank(2)


def test_what_happened_is_told_for_all_with_who_said_so(job: Any, backend: Backend) -> None:
    job(3)
    told = load_run(backend.place("run")).events()
    assert [(event.rank, event.text) for event in told] == [(2, "said by 2"), (1, "said by 1"), (0, "said by 0")]
    assert [event.rank for event in Reader(backend.place("run")).events()] == [0]


@pytest.mark.parametrize(
    ("ends", "state"),
    [
        (("finished", "finished"), "finished"),
        (("finished", None), "running"),
        ((None, "finished"), "running"),
        (("finished", "interrupted"), "interrupted"),
        (("interrupted", None), "running"),
        (("finished", "crashed"), "crashed"),
        ((None, "crashed"), "crashed"),
    ],
)
def test_the_state_is_that_of_all_processes(job: Any, backend: Backend, ends: Any, state: str) -> None:
    for writer, end in zip(job(2), ends, strict=True):
        if end is not None:
            writer.close(end)
    run, store = load_run(backend.place("run")), Store(backend.logs)
    assert run.state == state
    assert [run.rank(rank).state for rank in run.ranks] == [end or "running" for end in ends]
    assert run.reader.states() == {rank: end or "running" for rank, end in enumerate(ends)}
    (summary,) = store.runs()
    assert (summary.name, summary.state, summary.processes) == ("run", state, 2)
    assert store.summary("run") == summary


def test_a_list_of_runs_sees_another_process_end(job: Any, backend: Backend) -> None:
    first, second = job(2)
    store = Store(backend.logs)
    first.close()
    assert [summary.state for summary in store.runs()] == ["running"]
    second.close("crashed")
    assert [summary.state for summary in store.runs()] == ["crashed"]


def test_a_run_of_one_process_has_one(start: Start, backend: Backend) -> None:
    start()
    assert load_run(backend.place("run")).ranks == (0,)
    assert [summary.processes for summary in Store(backend.logs).runs()] == [1]


def test_processes_of_an_earlier_larger_job_do_not_count(job: Any, start: Start, backend: Backend) -> None:
    first, second, third = job(3)
    for writer, state in ((first, "finished"), (second, "finished"), (third, "crashed")):
        writer.close(state)
    assert load_run(backend.place("run")).state == "crashed"
    for rank in (0, 1):
        start(header=header(rank, 2), rank=rank, resume=True).close()
    run = load_run(backend.place("run"))
    assert (run.ranks, run.state) == ((0, 1), "finished")
    assert [(summary.state, summary.processes) for summary in Store(backend.logs).runs()] == [("finished", 2)]


def test_one_process_is_opened_by_its_name_below_the_runs(job: Any, backend: Backend) -> None:
    job(2, "deep/run")
    store = Store(backend.logs)
    reader = store.open("deep/run/rank1")
    assert (reader.name, list(reader.column("loss").values)) == ("deep/run/rank1", [1.0])
    for name in ("deep/run/rank2", "deep/run/rank01", "deep/rank0", "rank1"):
        with pytest.raises(KeyError):
            store.open(name)


def test_a_run_that_is_called_like_a_process_is_itself(job: Any, start: Start, backend: Backend) -> None:
    job(2)
    writer = start("run/rank1", header=Header("run/rank1", 1.0))
    writer.put(0, 0.0, {"loss": Reading(99.0)})
    assert writer.flush()
    assert list(Store(backend.logs).open("run/rank1").column("loss").values) == [99.0]


def test_deleting_takes_all_processes_or_none(job: Any, backend: Backend) -> None:
    first, second = job(2)
    store = Store(backend.logs)
    first.close()
    with pytest.raises(RunIsLive):
        store.delete("run")
    assert load_run(backend.place("run")).ranks == (0, 1)
    second.close()
    store.annotate("run", notes="of both")
    store.delete("run")
    assert store.runs() == []
    for rank in (0, 1):
        with pytest.raises(RuntimeError):
            Reader(backend.place("run"), rank=rank)


def test_notes_are_the_runs(job: Any, backend: Backend) -> None:
    job(2)
    Store(backend.logs).annotate("run", tags=["good"], notes="both")
    run = load_run(backend.place("run"))
    assert (run.tags, run.notes) == (("good",), "both")


PROCESS = f"""
import sys, time
from cockpit.reading import Reading
from cockpit.store import Header, Writer

rank = int(sys.argv[2])
job = {{"rank": rank, "size": 2, "id": "job"}}
writer = Writer(sys.argv[1], Header("run", time.time(), job=job), rank=rank, flush_interval=0.05)
for step in range(10**9):
    writer.put(step, 0.01 * step, {{"loss": Reading(float(rank))}})
    if step == 20:
        assert writer.flush({LONG})
        print("going", flush=True)
    time.sleep(0.01)
"""


def test_a_killed_process_is_seen_though_the_others_live(start: Start, child: Child, backend: Backend) -> None:
    start(header=header(0, 2))
    other = child(backend.setup + PROCESS, backend.place("run"), 1)
    assert other.stdout is not None
    assert other.stdout.readline() == "going\n"
    run = load_run(backend.place("run"))
    assert run.state == "running"
    other.send_signal(signal.SIGKILL)
    other.wait()
    until(lambda: run.state != "running")
    assert (run.state, run.reader.states()) == ("crashed", {0: "running", 1: "crashed"})
    steps = run.rank(1)["loss"].steps
    assert list(steps) == list(range(len(steps)))
    assert len(steps) > 20
    assert [summary.state for summary in Store(backend.logs).runs()] == ["crashed"]
