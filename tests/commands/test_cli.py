import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import datetime
from math import nan
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
from patience import LONG

from cockpit.cli import main
from cockpit.reading import Reading
from cockpit.store import Header, Writer

NOON = datetime(2024, 5, 17, 12, 0).timestamp()


def log_run(directory, created, loss):
    writer = Writer(directory, Header(directory.name, created))
    writer.put(7, 1.0, {"loss": Reading(loss)})
    writer.close()


@pytest.fixture
def logdir(tmp_path):
    log_run(tmp_path / "first", NOON, 0.123456)
    log_run(tmp_path / "group" / "second", NOON + 60, nan)
    return tmp_path


def test_runs_lists_the_newest_first(logdir, capsys):
    assert main(["runs", str(logdir)]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["NAME", "STATE", "LAST", "STEP", "LAST", "LOSS", "STARTED"],
        ["group/second", "finished", "7", "nan", "2024-05-17", "12:01:00"],
        ["first", "finished", "7", "0.1235", "2024-05-17", "12:00:00"],
    ]


def test_runs_names_a_log_that_cannot_be_read_and_lists_the_others(logdir, capsys):
    (logdir / "broken").mkdir()
    (logdir / "broken" / "rank0.db").write_bytes(b"no database at all" * 99)
    assert main(["runs", str(logdir)]) == 0
    captured = capsys.readouterr()
    assert "unreadable" in captured.out
    assert "first" in captured.out
    assert "broken cannot be read" in captured.err


def test_names_and_reasons_say_nothing_that_a_terminal_would_obey(tmp_path, capsys):
    for name in ("\x1b[2J\x1b]0;owned\x07", "a\nb  finished", "\u202egnp.exe", "caf\udce9"):
        log_run(tmp_path / name, NOON, 0.1)
    (tmp_path / "\x1b[31mbroken").mkdir()
    (tmp_path / "\x1b[31mbroken" / "rank0.db").write_bytes(b"")
    os.utime(tmp_path / "\x1b[31mbroken" / "rank0.db", (NOON, NOON))
    assert main(["runs", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert main(["export", str(tmp_path / "\x1b[1m"), "--to", "csv"]) == 2
    said = capsys.readouterr().err
    assert len(captured.out.splitlines()) == 6
    assert (captured.err.count("\n"), said.count("\n")) == (1, 1)
    for text in (captured.out, captured.err, said):
        assert all(character.isprintable() for character in text.replace("\n", ""))
        text.encode()


def test_a_run_that_began_when_no_calendar_has_it_is_listed(tmp_path, capsys):
    log_run(tmp_path / "run", 1e15, 0.1)
    assert main(["runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[-2:] == ["1000000000000000", "s"]


SPOILT = {
    "cut short": lambda whole: whole[: len(whole) // 3],
    "empty": lambda whole: b"",
    "no database": lambda whole: b"hello " * 1000,
    "newer": lambda whole: whole,
}


@pytest.mark.parametrize("command", [["export", "{}", "--to", "json"], ["tail", "{}"], ["diff", "{}", "{}"]])
@pytest.mark.parametrize("how", SPOILT)
def test_a_log_that_cannot_be_read_is_answered_with_one_line(tmp_path, capsys, command, how):
    log_run(tmp_path / "run", NOON, 0.1)
    path = tmp_path / "run" / "rank0.db"
    path.write_bytes(SPOILT[how](path.read_bytes()))
    if how == "newer":
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE run SET schema_version = 99")
    assert main([word.format(tmp_path / "run") for word in command]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"cockpit: {path} ")
    assert captured.err.count("\n") == 1
    assert ("upgrade with" in captured.err) == (how == "newer")


def test_runs_says_that_a_directory_is_empty(tmp_path, capsys):
    assert main(["runs", str(tmp_path)]) == 0
    assert "no runs" in capsys.readouterr().out


def test_export_writes_csv_to_the_standard_output(logdir, capsys):
    assert main(["export", str(logdir / "first"), "--to", "csv"]) == 0
    assert capsys.readouterr().out == "step,loss\n7,0.123456\n"


def test_export_writes_json_to_a_file(logdir, capsys):
    target = logdir / "first.json"
    assert main(["export", str(logdir / "first"), "--to", "json", "--output", str(target)]) == 0
    assert json.loads(target.read_text())["series"]["loss"]["values"] == [0.123456]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("kind", "start"), [("html", b"<!doctype html>"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_export_writes_reports_and_pictures_to_files(logdir, capsys, kind, start):
    target = logdir / f"first.{kind}"
    assert main(["export", str(logdir / "first"), "--to", kind, "-o", str(target)]) == 0
    assert target.read_bytes()[: len(start)].lower() == start.lower()
    assert capsys.readouterr().err == ""


def test_a_file_that_cannot_be_written_is_named_before_the_reason(logdir, capsys):
    target = logdir / "nowhere" / "file"
    assert main(["export", str(logdir / "first"), "--to", "csv", "-o", str(target)]) == 2
    assert capsys.readouterr().err == f"cockpit: {target}: No such file or directory\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs", "{}/nowhere"], "no directory"),
        (["dashboard", "{}/nowhere"], "no directory"),
        (["dashboard", "{}", "--host", "192.0.2.5"], "assign"),
        (["export", "{}/frist", "--to", "csv"], "did you mean"),
        (["export", "{}/broken", "--to", "csv"], "broken"),
        (["report", "{}/frist"], "did you mean"),
        (["report", "{}/broken"], "broken"),
        (["report", "{}/first", "-o", "{}/nowhere/file"], "nowhere/file"),
        (["export", "{}/first", "--to", "csv", "--output", "{}/nowhere/file"], "nowhere/file"),
        (["demo", "--data", "mnist"], "--data-dir"),
        (["demo", "--data", "mnist", "--data-dir", "{}"], "no train-images"),
        (["demo", "--logdir", "{}/first/rank0.db"], "rank0.db"),
    ],
)
def test_a_mistake_is_answered_with_one_line_and_exit_code_2(logdir, capsys, arguments, message):
    (logdir / "broken").mkdir()
    (logdir / "broken" / "rank0.db").write_bytes(b"no database at all" * 99)
    assert main([argument.format(logdir) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("cockpit: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["fly"], "fly"),
        (["export", "run", "--to", "xml"], "parquet"),
        (["demo", "--steps", "0"], "at least 1"),
        (["demo", "--fault", "gremlins"], "raw-pixels"),
        (["dashboard", "--port", "99999"], "between 0 and 65535"),
    ],
)
def test_a_wrong_argument_is_named_and_exits_with_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_the_dashboard_serves_until_ctrl_c(logdir):
    command = [Path(sys.executable).with_name("cockpit"), "dashboard", logdir, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline()
            assert address.startswith("Dashboard: http://127.0.0.1:")
            with urlopen(address.split()[-1], timeout=LONG) as page:
                assert page.status == 200
            process.send_signal(signal.SIGINT)
            assert process.wait(LONG) == 0
        finally:
            process.kill()


def test_the_dashboard_on_all_addresses_prints_its_token_once(logdir):
    command = [Path(sys.executable).with_name("cockpit"), "dashboard", logdir, "--port", "0", "--host", "0.0.0.0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            address, token = process.stdout.readline().split()[-1].split("/?token=")
            port = address.rpartition(":")[2]
            with pytest.raises(HTTPError, match="401"):
                urlopen(f"http://127.0.0.1:{port}", timeout=LONG)
            process.send_signal(signal.SIGINT)
            assert process.wait(LONG) == 0
            rest = process.stdout.read()
        finally:
            process.kill()
    assert "not encrypted" in rest
    assert token not in rest


def test_export_says_which_arrays_it_leaves_out(tmp_path, capsys):
    writer = Writer(tmp_path / "run", Header("run", 0.0))
    writer.put(0, 0.0, {"theta": Reading(2.0, arrays={"a": np.zeros(3)})})
    writer.close()
    assert main(["export", str(tmp_path / "run"), "--to", "csv"]) == 0
    out, err = capsys.readouterr()
    assert out == "step,theta\n0,2.0\n"
    assert f"the arrays of 'theta' are left out: load_run('{tmp_path / 'run'}')['theta'].at(step)" in err


def test_listing_runs_and_exporting_import_no_torch(logdir):
    code = (
        "import sys; from cockpit.cli import main; "
        f"main(['runs', {str(logdir)!r}]); main(['export', {str(logdir / 'first')!r}, '--to', 'csv']); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, timeout=LONG).returncode == 0


def test_export_writes_parquet_to_a_file_and_to_a_pipe(logdir):
    pq = pytest.importorskip("pyarrow.parquet")
    target = logdir / "first.parquet"
    assert main(["export", str(logdir / "first"), "--format", "parquet", "--output", str(target)]) == 0
    assert pq.read_table(target, columns=["key", "step", "value"]).to_pylist() == [
        {"key": "loss", "step": 7, "value": 0.123456}
    ]
    code = f"from cockpit.cli import main; main(['export', {str(logdir / 'first')!r}, '--to', 'parquet'])"
    piped = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, timeout=LONG).stdout
    assert piped == target.read_bytes()


def test_export_without_pyarrow_names_the_extra_and_makes_no_file(logdir, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "cockpit.formats.parquet", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    target = logdir / "first.parquet"
    assert main(["export", str(logdir / "first"), "--to", "parquet", "--output", str(target)]) == 2
    assert "pip install 'cockpit-debugger[parquet]'" in capsys.readouterr().err
    assert not target.exists()


def test_a_closed_pipe_ends_an_export_without_a_traceback(logdir):
    command = [sys.executable, "-c", "import sys; from cockpit.cli import main; sys.exit(main())"]
    export = [*command, "export", str(logdir / "first"), "--to", "csv"]
    with subprocess.Popen(export, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 1
    assert errors == ""


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_export_draws_pictures(logdir, capfdbinary, kind, start):
    target = logdir / f"picture.{kind}"
    assert main(["export", str(logdir / "first"), "--to", kind, "--output", str(target)]) == 0
    assert target.read_bytes().startswith(start)
    assert main(["export", str(logdir / "first"), "--to", kind]) == 0
    assert capfdbinary.readouterr().out.startswith(start)


def test_a_picture_does_not_go_to_a_terminal(logdir, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["export", str(logdir / "first"), "--to", "png"]) == 2
    assert "name a file with --output FILE.png" in capsys.readouterr().err
