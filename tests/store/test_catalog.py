import random
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
        "C:\\run",
        "..\\run",
        "a/./../../run",
        "\\\\server\\x",
    ],
)
def test_a_name_that_leads_out_is_refused(start: Start, tmp_path: Path, name: str) -> None:
    finished(start, "run")
    (tmp_path / "logs" / "a").mkdir(parents=True)
    with pytest.raises(KeyError, match="a name is a path below it"):
        Store(tmp_path / "logs").open(name.format(logdir=tmp_path))


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
        writer.flush()
        assert [(summary.state, summary.last_step) for summary in store.runs()] == [("running", step)]
    writer.close("interrupted")
    assert [summary.state for summary in store.runs()] == ["interrupted"]
    assert [summary.state for summary in store.runs()] == ["interrupted"]


def test_a_finished_run_that_is_resumed_is_seen_running(start: Start, backend: Backend) -> None:
    finished(start, "run")
    store = Store(backend.logs)
    assert [summary.state for summary in store.runs()] == ["finished"]
    writer = start("run", resume=True)
    assert [summary.state for summary in store.runs()] == ["running"]
    writer.put(9, 0.0, {"loss": Reading(0.5)})
    writer.flush()
    assert [summary.last_step for summary in store.runs()] == [9]


@pytest.mark.files
def test_broken_files_are_listed_with_the_reason_beside_the_others(start: Start, tmp_path: Path) -> None:
    finished(start, "good")
    cut = finished(start, "cut")
    cut.write_bytes(cut.read_bytes()[:5000])
    finished(start, "empty").write_bytes(b"")
    finished(start, "text").write_text("not a database at all " * 50)
    (tmp_path / "directory" / "rank0.db").mkdir(parents=True)
    (tmp_path / "dangling").mkdir()
    (tmp_path / "dangling" / "rank0.db").symlink_to(tmp_path / "nowhere")
    summaries = {summary.name: summary for summary in Store(tmp_path).runs()}
    assert {name: summary.state for name, summary in summaries.items()} == {
        "good": "finished",
        "cut": "unreadable",
        "empty": "unreadable",
        "text": "unreadable",
        "dangling": "unreadable",
    }
    assert "cut short" in summaries["cut"].reason
    assert "empty" in summaries["empty"].reason
    assert "not a log of Cockpit" in summaries["text"].reason
    assert "no such file" in summaries["dangling"].reason


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
