"""Tags and notes that a run is given afterwards, and runs that are deleted."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cockpit.reading import Reading
from cockpit.run import load_run
from cockpit.store import Header, RunIsLive, Store, Writer, remarks

Start = Callable[..., Writer]


def finished(start: Start, name: str = "run", **options: object) -> Writer:
    writer = start(name, header=Header(name, 1.7e9, tags=("begun with",)), **options)
    writer.put(0, 0.0, {"loss": Reading(1.0)})
    writer.close()
    return writer


def said(store: Store) -> tuple[tuple[str, ...], str]:
    (summary,) = store.runs()
    return summary.tags, summary.notes


def test_tags_and_notes_change_without_the_log(start: Start, tmp_path: Path) -> None:
    writer, store = finished(start), Store(tmp_path)
    before = writer.path.read_bytes(), writer.path.stat().st_mtime_ns
    assert said(store) == (("begun with",), "")
    store.annotate("run", notes="diverges <b>late</b> 🙂\nsee step 112")
    assert said(store) == (("begun with",), "diverges <b>late</b> 🙂\nsee step 112")
    store.annotate("run", tags=["good", "keep", "good"])
    assert said(Store(tmp_path)) == (("good", "keep"), "diverges <b>late</b> 🙂\nsee step 112")
    store.annotate("run", tags=(), notes="")
    assert said(store) == ((), "")
    assert (writer.path.read_bytes(), writer.path.stat().st_mtime_ns) == before
    assert sorted(file.name for file in writer.path.parent.iterdir()) == ["annotations.json", "rank0.db"]


def test_tags_and_notes_that_are_given_at_once_are_both_kept(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(start)
    read = remarks.read

    def slowly(directory: Path) -> remarks.Annotations:
        found = read(directory)
        time.sleep(0.1)
        return found

    monkeypatch.setattr(remarks, "read", slowly)
    store, changes = Store(tmp_path), ({"tags": ["good"]}, {"notes": "fine"})
    threads = [threading.Thread(target=store.annotate, args=("run",), kwargs=change) for change in changes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said(store) == (("good",), "fine")


def test_a_run_that_is_read_has_its_tags_and_notes(start: Start, tmp_path: Path) -> None:
    finished(start)
    run = load_run(tmp_path / "run")
    assert (run.tags, run.notes) == (("begun with",), "")
    Store(tmp_path).annotate("run", tags=["later"], notes="fine")
    assert (run.tags, run.notes) == (("later",), "fine")


def test_a_live_run_is_annotated_too(start: Start, tmp_path: Path) -> None:
    writer, store = start(), Store(tmp_path)
    store.annotate("run", tags=["watch"], notes="so far so good")
    assert said(store) == (("watch",), "so far so good")
    writer.close()
    assert said(store) == (("watch",), "so far so good")


def test_what_is_no_tag_is_refused(start: Start, tmp_path: Path) -> None:
    finished(start)
    with pytest.raises(TypeError, match="tags are texts, got 3"):
        Store(tmp_path).annotate("run", tags=["a", 3])  # type: ignore[list-item]
    Store(tmp_path).annotate("run", tags="one")
    assert said(Store(tmp_path)) == (("one",), "")


@pytest.mark.parametrize("text", ["", "no json", "[1]", '{"tags": 3, "notes": []}', "\xff"])
def test_another_file_of_that_name_says_nothing(start: Start, tmp_path: Path, text: str) -> None:
    writer = finished(start)
    (writer.path.parent / "annotations.json").write_bytes(text.encode("latin-1"))
    assert said(Store(tmp_path)) == (("begun with",), "")


@pytest.mark.parametrize("name", ["..", "../run", "/etc", "", "run\0", "nowhere"])
def test_runs_elsewhere_are_neither_annotated_nor_deleted(start: Start, tmp_path: Path, name: str) -> None:
    writer = finished(start)
    (tmp_path / "logs").mkdir()
    store = Store(tmp_path / "logs")
    with pytest.raises(KeyError):
        store.annotate(name, notes="x")
    with pytest.raises(KeyError):
        store.delete(name)
    assert [file.name for file in writer.path.parent.iterdir()] == ["rank0.db"]


def test_a_deleted_run_is_gone_and_others_stay(start: Start, tmp_path: Path) -> None:
    for rank in (0, 1):
        finished(start, "a", rank=rank)
    finished(start, "a/below")
    finished(start, "b")
    store = Store(tmp_path)
    store.annotate("a", notes="bad")
    store.delete("a")
    assert {summary.name for summary in store.runs()} == {"a/below", "b"}
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["below"]
    store.delete("b")
    assert not (tmp_path / "b").exists()


def test_other_files_in_a_deleted_runs_directory_stay(start: Start, tmp_path: Path) -> None:
    directory = finished(start).path.parent
    for name in ("rank0.db.txt", "ranking.db", "figure.png"):
        (directory / name).write_text("mine")
    Store(tmp_path).delete("run")
    assert {file.name for file in directory.iterdir()} == {"rank0.db.txt", "ranking.db", "figure.png"}


@pytest.mark.parametrize("rank", [0, 1])
def test_a_live_run_is_not_deleted(start: Start, tmp_path: Path, rank: int) -> None:
    finished(start, rank=1 - rank)
    writer = start(rank=rank)
    with pytest.raises(RunIsLive, match="'run' is being written: it can be deleted when it is over"):
        Store(tmp_path).delete("run")
    assert writer.path.exists()
    writer.close()
    Store(tmp_path).delete("run")
    assert not writer.path.exists()


def test_a_file_that_nobody_can_read_is_deleted_once_it_is_left_alone(start: Start, tmp_path: Path) -> None:
    path = finished(start).path
    path.write_text("not a database at all " * 50)
    with pytest.raises(RunIsLive):
        Store(tmp_path).delete("run")
    long_ago = time.time() - 60
    os.utime(path, (long_ago, long_ago))
    Store(tmp_path).delete("run")
    assert not path.parent.exists()


def test_nothing_is_deleted_through_a_link_that_leads_out(start: Start, tmp_path: Path) -> None:
    path = finished(start, "elsewhere/run").path
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "linked").symlink_to(path.parent)
    with pytest.raises(PermissionError, match="leads out of"):
        Store(logs).delete("linked")
    assert path.exists()


def test_annotations_are_plain_json(start: Start, tmp_path: Path) -> None:
    finished(start)
    Store(tmp_path).annotate("run", tags=["a"], notes="b")
    assert json.loads((tmp_path / "run" / "annotations.json").read_text()) == {"tags": ["a"], "notes": "b"}
