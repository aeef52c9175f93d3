"""What is peculiar to runs on a server: it may refuse, and must never see a password stored.

What becomes of them while it is away is in test_server_away.py.
"""

import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import backends
import pytest
from patience import LONG
from private_postgres import PASSWORD, Absent, Server, private_server

from cockpit.reading import Reading
from cockpit.run import list_runs, load_run
from cockpit.store import Header, Reader, RunIsLive, Store, Writer

Start = Callable[..., Writer]
Child = Callable[..., Any]


@pytest.fixture
def backend(postgres: Server) -> backends.Backend:
    return backends.Postgres(postgres)


def test_a_server_that_is_not_there_is_refused_in_words() -> None:
    with pytest.raises(OSError, match=r"cannot be written: .*Connection refused.*Choose another place") as refused:
        Writer(f"postgresql://ada:{quote(PASSWORD, safe='')}@127.0.0.1:9/training/run", Header("run", 0.0))
    assert PASSWORD not in str(refused.value)
    assert quote(PASSWORD, safe="") not in str(refused.value)


def test_a_wrong_password_is_refused_without_being_shown(backend: backends.Backend) -> None:
    wrong = str(backend.logs).replace(quote(PASSWORD, safe=""), "guessed-wrong")
    with pytest.raises(OSError, match="password authentication failed") as refused:
        Writer(f"{wrong}/run", Header("run", 0.0))
    assert "guessed-wrong" not in str(refused.value)
    with pytest.raises(ConnectionError, match="password authentication failed") as unread:
        load_run(f"{wrong}/run")
    assert "guessed-wrong" not in str(unread.value)


def test_no_password_is_stored(start: Start, backend: backends.Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    where = f"{backend.logs}/run"
    monkeypatch.setattr(sys, "argv", ["train.py", "--run", where])
    header = Header("run", 1.0, config={"run": where}, environment={"command": f"train.py --run {where}"})
    writer = start(header=header)
    writer.event(None, 0.0, "info", f"written to {where}", where)
    writer.document("note", {"place": where})
    writer.scalars(0, 0.0, {where: 1.0})
    writer.put(0, 0.0, {"loss": Reading(None, {where: 1.0}, reason=f"see {where}")})
    assert writer.flush()
    tables = backend.tamper(writer, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'cockpit'")
    stored = "".join(
        repr(backend.tamper(writer, f"SELECT table_row::text FROM {table} AS table_row")) for (table,) in tables
    )
    assert "ada:***@127.0.0.1" in stored
    assert PASSWORD not in stored
    assert quote(PASSWORD, safe="") not in stored
    assert quote(PASSWORD, safe="") not in f"{writer.path} {writer.path!r} {Reader(writer.path).path}"


def test_a_run_that_is_not_there_names_those_that_are(start: Start, backend: backends.Backend) -> None:
    start("mnist-sgd").close()
    with pytest.raises(FileNotFoundError, match=r"did you mean .*/mnist-sgd\? In .* there are: mnist-sgd"):
        load_run(f"{backend.logs}/mnist-sdg")


def test_a_database_without_runs_has_none(backend: backends.Backend) -> None:
    assert list_runs(str(backend.logs)) == []
    with pytest.raises(FileNotFoundError, match="There are no runs in"):
        load_run(f"{backend.logs}/run")


def test_an_address_without_a_name_is_refused_where_one_run_is_meant(backend: backends.Backend) -> None:
    for one in (load_run, lambda where: Writer(where, Header("", 0.0))):
        with pytest.raises(ValueError, match="names no run"):
            one(str(backend.logs))


def test_tables_of_other_programs_are_left_alone(start: Start, backend: backends.Backend) -> None:
    writer = start("first")
    backend.tamper(writer, "CREATE TABLE IF NOT EXISTS public.run (name TEXT)")
    backend.tamper(writer, "INSERT INTO public.run VALUES ('marathon')")
    start("second")
    assert [summary.name for summary in Store(backend.logs).runs()] == ["first", "second"]
    assert backend.tamper(writer, "SELECT * FROM public.run") == [("marathon",)]
    backend.tamper(writer, "DROP TABLE public.run")


def test_runs_do_not_see_each_other(start: Start) -> None:
    writers = [start(name) for name in ("first", "second")]
    for step in range(50):
        for number, writer in enumerate(writers):
            writer.put(step, 0.0, {"loss": Reading(float(number), {"a": float(number)})})
            writer.event(step, 0.0, "info", f"{number}")
            writer.document("number", number)
    for number, writer in enumerate(writers):
        assert writer.flush()
        reader = Reader(writer.path)
        assert set(reader.column("loss").values) == {float(number)}
        assert len(reader.column("loss", "layers")) == 50
        assert {event.text for event in reader.events()} == {f"{number}"}
        assert reader.document("number") == number


KILLED = """
import sys, time
from cockpit.reading import Reading
from cockpit.store import Header, Writer
writer = Writer(sys.argv[1], Header("run", time.time()))
for step in range(10**9):
    writer.put(step, 0.01 * step, {"loss": Reading(float(step), {"a": float(step)})})
    print(step, time.time(), flush=True)
    time.sleep(0.005)
"""


def test_two_readers_beside_a_writing_process_see_every_step(child: Child, backend: backends.Backend) -> None:
    where = f"{backend.logs}/run"
    process = child(KILLED, where)
    process.stdout.readline()
    readers = Reader(where), Store(backend.logs).open("run")
    seen: list[list[int]] = [[], []]
    cursors, deadline = [0, 0], time.monotonic() + LONG
    while min(map(len, seen)) < 200 and time.monotonic() < deadline:
        for number, reader in enumerate(readers):
            cursor = reader.cursor()
            if any(series.key == "loss" for series in reader.series()):
                new = reader.column("loss", since=cursors[number]).steps.tolist()
                seen[number] += [step for step in new if step not in seen[number]]
            cursors[number] = cursor
        time.sleep(0.05)
    for steps in seen:
        assert steps == list(range(len(steps)))
        assert len(steps) >= 200


def test_a_silent_writer_on_another_machine_counts_as_crashed_by_the_servers_clock(
    start: Start, backend: backends.Backend
) -> None:
    writer = start()
    writer.close()
    for age, state in ((2, "running"), (30, "crashed")):
        then = f"extract(epoch FROM clock_timestamp()) - {age}"
        backend.tamper(writer, f"UPDATE run SET host = 'elsewhere', state = 'running', heartbeat = {then}")
        assert Reader(writer.path).state() == state
        assert [summary.state for summary in Store(backend.logs).runs()] == [state]


def test_runs_are_annotated_and_deleted(start: Start, backend: backends.Backend) -> None:
    for name in ("a", "a/below"):
        writer = start(name, header=Header(name, 1.0, tags=("begun with",)))
        writer.put(0, 0.0, {"loss": Reading(1.0)})
        assert writer.flush()
    store = Store(backend.logs)
    store.annotate("a", notes="diverges <b>late</b>")
    store.annotate("a", tags=["good"])
    assert {(each.name, each.tags, each.notes) for each in store.runs()} == {
        ("a", ("good",), "diverges <b>late</b>"),
        ("a/below", ("begun with",), ""),
    }
    store.annotate("a", notes="")
    assert load_run(f"{backend.logs}/a").notes == ""
    assert {(each.name, each.notes) for each in store.runs()} == {("a", ""), ("a/below", "")}
    writer.close()
    store.delete("a/below")
    with pytest.raises(RunIsLive, match="'a' is being written"):
        store.delete("a")
    assert [each.name for each in store.runs()] == ["a"]
    assert backend.tamper(writer, "SELECT count(DISTINCT run) FROM point") == [(1,)]
    with pytest.raises(KeyError, match="there is no run 'a/below'"):
        store.annotate("a/below", notes="gone")


def test_a_run_of_a_newer_version_is_listed_with_the_reason_beside_the_others(
    start: Start, backend: backends.Backend
) -> None:
    for name in ("newer", "run"):
        start(name).close()
    writer = start("last")
    backend.tamper(writer, "UPDATE run SET schema_version = 99 WHERE name = 'newer'")
    summaries = {summary.name: summary for summary in Store(backend.logs).runs()}
    assert {name: summary.state for name, summary in summaries.items()} == {
        "newer": "unreadable", "run": "finished", "last": "running",
    }  # fmt: skip
    assert "written by a newer Cockpit" in summaries["newer"].reason


def test_a_server_is_required_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("private_postgres.INSTALLED", ())
    with pytest.raises(Absent, match="PostgreSQL is not installed"), private_server():
        pass
