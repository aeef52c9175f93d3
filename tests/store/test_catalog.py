import os
import random
import string
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from backends import Backend

from cockpit.reading import Reading
from cockpit.store import Header, Store, Writer

EVERY_DATABASE = True

Start = Callable[..., Writer]
NAMES = (
    "plain",
    "<b>bold</b> & \N{ROCKET}",
    "with blank",
    'it\'s "quoted"',
    "ünïcødé-日本",
    "deep/er/run",
    "50% off?#&;",
    "-rf",
    "...",
    "a\nb",
    "back\\slash",
    "a|b",
    "x" * 200,
    "con",
    "rank0.db",
    "annotations.json",
    " ~ ",
    "%2e%2e",
    "' OR ''='",
    "\x1b[2J\u202egnp",
)


def finished(start: Start, name: str, created: float = 1.7e9, loss: float | None = 1.0) -> Path:
    writer = start(name, header=Header(name, created, tags=("tag",)))
    writer.put(3, 0.0, {"loss": Reading(loss, {"a": 5.0})})
    writer.close()
    return writer.path


@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_any_name_is_listed_and_opened(start: Start, backend: Backend, name: str) -> None:
    finished(start, name)
    store = Store(backend.logs)
    (summary,) = store.runs()
    assert (summary.name, summary.state, summary.tags) == (name, "finished", ("tag",))
    assert (summary.last_step, summary.last_loss, summary.reason) == (3, 1.0, "")
    reader = store.open(name)
    assert reader.name == name
    assert len(reader.column("loss")) == 1


@pytest.mark.files
@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../run",
        "a/../../run",
        "/etc",
        "{logdir}/run",
        "",
        "run\0",
        "a/./../../run",
        "C:\\run",  # these lead out on Windows, and elsewhere to nothing
        "..\\run",
        "\\\\server\\x",
    ],
)
def test_a_name_that_leads_out_is_refused(start: Start, tmp_path: Path, name: str) -> None:
    finished(start, "run")
    (tmp_path / "logs" / "a").mkdir(parents=True)
    for ask in (Store.open, Store.summary, Store.delete, lambda store, name: store.annotate(name, notes="mine")):
        with pytest.raises(KeyError, match=r"a name is a path below it|there is no run .*\\\\"):
            ask(Store(tmp_path / "logs"), name.format(logdir=tmp_path))
    assert [(run.name, run.notes) for run in Store(tmp_path).runs()] == [("run", "")]


@pytest.mark.parametrize("name", ["x" * 5000, "x/" * 2000, "\ud800", "a" * 255 + "/b"])
def test_a_name_that_no_run_can_have_is_none(start: Start, backend: Backend, name: str) -> None:
    finished(start, "run")
    with pytest.raises(KeyError, match="there is no run"):
        Store(backend.logs).open(name)


def test_a_name_that_is_too_long_is_refused_in_words(start: Start) -> None:
    with pytest.raises(OSError, match="Choose another place"):
        start("".join(random.Random(0).choices(string.ascii_letters, k=20_000)))  # so that it cannot be compressed


@pytest.mark.files
@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names of files are text there")
def test_a_name_that_is_no_text_is_spelled(start: Start, tmp_path: Path) -> None:
    directory = os.path.join(os.fsencode(tmp_path), b"caf\xe9")  # in Latin-1, as from an older machine
    os.rename(finished(start, "cafe").parent, directory)
    store = Store(tmp_path)
    (summary,) = store.runs()
    assert (summary.name, summary.state) == ("caf\\xe9", "finished")
    assert len(store.open(summary.name).column("loss")) == 1
    store.annotate(summary.name, notes="mine")
    assert [run.notes for run in store.runs()] == ["mine"]
    store.delete(summary.name)
    assert not os.path.exists(directory)


def test_an_unknown_name_names_the_nearest(start: Start, backend: Backend) -> None:
    finished(start, "mnist-sgd")
    with pytest.raises(KeyError, match=r"there is no run 'mnist-sdg' in .*; did you mean 'mnist-sgd'\?"):
        Store(backend.logs).open("mnist-sdg")


def test_runs_are_listed_newest_first(start: Start, backend: Backend) -> None:
    for name, created in (("old", 1.0), ("new", 3.0), ("middle", 2.0)):
        finished(start, name, created)
    assert [summary.name for summary in Store(backend.logs).runs()] == ["new", "middle", "old"]


@pytest.mark.files
def test_a_directory_that_is_not_there_yet_has_no_runs(tmp_path: Path) -> None:
    assert Store(tmp_path / "later").runs() == []


def test_the_last_loss_keeps_what_it_was(start: Start, backend: Backend) -> None:
    for loss in (float("nan"), float("inf"), float("-inf"), None):
        finished(start, str(loss), loss=loss)
    assert {summary.name: repr(summary.last_loss) for summary in Store(backend.logs).runs()} == {
        name: name for name in ("nan", "inf", "-inf", "None")
    }


def test_a_live_run_is_seen_moving_and_ending(start: Start, backend: Backend) -> None:
    store, writer = Store(backend.logs), start()
    assert [(summary.state, summary.last_step) for summary in store.runs()] == [("running", None)]
    for step in (1, 2):
        writer.put(step, 0.0, {"loss": Reading(0.5)})
        assert writer.flush()
        assert [(summary.state, summary.last_step) for summary in store.runs()] == [("running", step)]
    writer.close("interrupted")
    assert [summary.state for summary in store.runs()] == ["interrupted"]
    assert [summary.state for summary in store.runs()] == ["interrupted"]


def test_one_run_is_summed_up_as_it_is_now_as_the_list_does(start: Start, backend: Backend) -> None:
    finished(start, "over", loss=0.25)
    store, writer = Store(backend.logs), start("live")
    for step in (1, 2):
        writer.put(step, 2.0 * step, {"loss": Reading(0.5 / step)})
        assert writer.flush()
        summary = store.summary("live")
        assert (summary.state, summary.last_step, summary.last_loss) == ("running", step, 0.5 / step)
        assert summary == next(run for run in store.runs() if run.name == "live")
    store.annotate("live", tags=("good",), notes="look at it")
    assert (store.summary("live").tags, store.summary("live").notes) == (("good",), "look at it")
    assert (store.summary("over").state, store.summary("over").tags) == ("finished", ("tag",))
    with pytest.raises(KeyError, match="there is no run 'gone'"):
        store.summary("gone")
    writer.close()
    assert store.summary("live").state == "finished"
    store.delete("over")
    with pytest.raises(KeyError, match="there is no run 'over'"):
        store.summary("over")


def test_a_finished_run_that_is_resumed_is_seen_running(start: Start, backend: Backend) -> None:
    finished(start, "run")
    store = Store(backend.logs)
    assert [summary.state for summary in store.runs()] == ["finished"]
    writer = start("run", resume=True)
    assert [summary.state for summary in store.runs()] == ["running"]
    writer.put(9, 0.0, {"loss": Reading(0.5)})
    assert writer.flush()
    assert [summary.last_step for summary in store.runs()] == [9]


@pytest.mark.files
def test_broken_files_are_listed_with_the_reason_beside_the_others(start: Start, tmp_path: Path) -> None:
    finished(start, "good")
    cut = finished(start, "cut")
    cut.write_bytes(cut.read_bytes()[:5000])
    emptied(finished(start, "empty"), seconds_ago=60)
    finished(start, "text").write_text("not a database at all " * 50)
    (tmp_path / "directory" / "rank0.db").mkdir(parents=True)
    (tmp_path / "dangling").mkdir()
    (tmp_path / "dangling" / "rank0.db").symlink_to(tmp_path / "nowhere")
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "rank0.db")  # to open it is to wait for somebody who writes
    summaries = {summary.name: summary for summary in Store(tmp_path).runs()}
    assert {name: summary.state for name, summary in summaries.items()} == {
        "good": "finished",
        "cut": "unreadable",
        "empty": "unreadable",
        "text": "unreadable",
        "dangling": "unreadable",
        "pipe": "unreadable",
    }
    assert "cut short" in summaries["cut"].reason
    assert "empty" in summaries["empty"].reason
    assert "not a log of Cockpit" in summaries["text"].reason
    assert "no such file" in summaries["dangling"].reason
    assert "it is no file" in summaries["pipe"].reason


@pytest.mark.files
def test_a_run_is_listed_from_its_first_transaction_on(start: Start, tmp_path: Path) -> None:
    log = finished(start, "new")
    written = log.read_bytes()
    store = Store(tmp_path)
    emptied(log, seconds_ago=0)
    assert store.runs() == []
    assert store.summary("new").state == "unreadable"  # who asks for it by name is told what is there
    log.write_bytes(written)
    assert [summary.state for summary in store.runs()] == ["finished"]


def emptied(log: Path, seconds_ago: float) -> None:
    log.write_bytes(b"")
    then = time.time() - seconds_ago
    os.utime(log, (then, then))


NONSENSE = {
    "no moment": "UPDATE run SET created = 'yesterday'",
    "infinite": "UPDATE run SET created = 9e999",
    "no header": "UPDATE run SET header = '[1, 2]'",
    "deep": f"UPDATE run SET header = '{'[' * 100_000}'",
    "no list": "UPDATE run SET tags = '7'",
    "no number": "UPDATE series SET last_value = 'much'",
    "no heartbeat": "UPDATE run SET state = 'running', host = 'elsewhere', heartbeat = 'thud'",
}


@pytest.mark.files
@pytest.mark.parametrize("how", NONSENSE)
def test_a_log_that_says_nonsense_is_listed_with_the_reason_beside_the_others(
    start: Start, backend: Backend, how: str
) -> None:
    finished(start, "good")
    writer = start("odd")
    writer.put(3, 0.0, {"loss": Reading(1.0)})
    writer.close()
    backend.tamper(writer, NONSENSE[how])
    summaries = {summary.name: summary for summary in Store(backend.logs).runs()}
    assert (summaries["good"].state, summaries["odd"].state) == ("finished", "unreadable")
    assert summaries["odd"].reason


@pytest.mark.files
def test_half_characters_and_odd_files_beside_a_log_are_left_out(start: Start, backend: Backend) -> None:
    writer = start("run", header=Header("run", 1.0, {"note": "x"}, ("tag",)))
    writer.document("coverage", {"a": "x"})
    writer.close()
    backend.tamper(
        writer, r"""UPDATE run SET header = replace(header, '"x"', '"\ud83d\ude80\udfff"'), tags = '["\ud800", 7]'"""
    )
    backend.tamper(writer, r"""UPDATE document SET value = '{"a": "\udcff"}'""")
    store = Store(backend.logs)
    (summary,) = store.runs()
    assert (summary.config, summary.tags) == ({"note": "\N{ROCKET}?"}, ("?", "7"))
    assert store.open("run").document("coverage") == {"a": "?"}
    remark = writer.path.with_name("annotations.json")
    for make in (os.mkfifo, os.mkdir):
        make(remark)
        assert [run.notes for run in store.runs()] == [""]
        os.unlink(remark) if remark.is_fifo() else os.rmdir(remark)


@pytest.mark.files
def test_no_damage_keeps_a_directory_from_being_listed(start: Start, tmp_path: Path) -> None:
    whole = finished(start, "run").read_bytes()
    store, draw = Store(tmp_path), random.Random(0)
    states = set()
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(draw.randrange(1, 200)):
            damaged[draw.randrange(len(whole))] = draw.randrange(256)
        (tmp_path / "run" / "rank0.db").write_bytes(damaged[: draw.choice([len(whole), draw.randrange(len(whole))])])
        (summary,) = store.runs()
        states.add(summary.state)
        assert (summary.reason != "") == (summary.state == "unreadable")
    assert "unreadable" in states


@pytest.mark.files
def test_links_are_followed_once(start: Start, tmp_path: Path) -> None:
    finished(start, "elsewhere/run")
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "linked").symlink_to(tmp_path / "elsewhere")
    (logs / "circle").symlink_to(logs)
    assert [summary.name for summary in Store(logs).runs()] == ["linked/run"]
    assert Store(logs).open("linked/run").state() == "finished"


@pytest.mark.files
def test_a_runs_own_directory_lists_the_run(start: Start, tmp_path: Path) -> None:
    finished(start, "run")
    store = Store(tmp_path / "run")
    assert [summary.name for summary in store.runs()] == ["."]
    assert store.open(".").header.name == "run"
