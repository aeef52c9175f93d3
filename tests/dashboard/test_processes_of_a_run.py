"""A run that several processes write, on the page and in what is taken from it."""

import io

import pytest
from synthetic import header

from cockpit.cli import main
from cockpit.dashboard import create_app
from cockpit.dashboard.page import Choice, look
from cockpit.dashboard.report import write_report
from cockpit.dashboard.source import Source
from cockpit.dashboard.sources import Sources
from cockpit.dashboard.status import strip
from cockpit.reading import Reading
from cockpit.store import Store, Writer


@pytest.fixture
def writers(tmp_path):
    made = [Writer(tmp_path / "run", header("run"), rank=rank, flush_interval=0.05) for rank in (0, 1)]
    for rank, writer in enumerate(made):
        writer.put(3, 0.1, {"loss": Reading(float(rank))})
        writer.event(3, 0.1, "warning", f"said by {rank}")
        assert writer.flush()
    yield made
    for writer in made:
        writer.close()


def test_events_of_all_processes_are_shown_with_their_rank_and_once(tmp_path, writers):
    source = Source(Store(tmp_path).open("run"))
    source.refresh()
    assert [event.text for event in source.events] == ["said by 0", "rank 1: said by 1"]
    writers[1].event(4, 0.2, "info", "later")
    assert writers[1].flush()
    source.refresh()
    assert [event.text for event in source.events[2:]] == ["rank 1: later"]


def test_the_strip_tells_the_state_of_each_process_and_leads_to_what_it_read(tmp_path, writers):
    sources = Sources(Store(tmp_path))
    writers[1].close("crashed")
    page = look(sources, Choice(), "run")
    assert page.source.state == "crashed"
    assert page.source.states == {0: "running", 1: "crashed"}
    shown = str(strip(page))
    assert "fact-processes" in shown
    assert "run=run%2Frank1" in shown
    assert sources.get("run/rank1").scalar_at("loss", None) == 1.0
    assert [event.text for event in sources.get("run/rank1").events] == ["said by 1"]


def test_a_run_of_one_process_says_nothing_of_processes(tmp_path, writers):
    alone = Writer(tmp_path / "alone", header("alone"))
    page = look(Sources(Store(tmp_path)), Choice(), "alone")
    alone.close()
    assert "processes" not in str(strip(page))


def test_the_report_tells_whose_readings_it_shows_how_each_process_ended_and_what_all_of_them_said(tmp_path, writers):
    writers[0].close()
    writers[1].close("crashed")
    report = io.BytesIO()
    write_report(Store(tmp_path).open("run"), report, most_steps=1)
    text = report.getvalue().decode()
    assert "<b>rank 0 of 2: 1 finished, 1 crashed</b>" in text
    assert "<td>said by 0</td>" in text
    assert "<td>rank 1: said by 1</td>" in text


@pytest.mark.parametrize(
    ("run", "lines"), [("run", ["rank,step,loss", "0,3,0.0", "1,3,1.0"]), ("run/rank1", ["step,loss", "3,1.0"])]
)
def test_numbers_of_all_processes_are_exported_and_downloaded(tmp_path, writers, capsys, run, lines):
    assert main(["export", str(tmp_path / run), "--to", "csv"]) == 0
    told = capsys.readouterr()
    assert (told.out.splitlines(), told.err) == (lines, "")
    client = create_app(Store(tmp_path)).server.test_client()
    assert client.get("/download/csv", query_string={"run": run}, buffered=True).text.splitlines() == lines


def test_a_process_whose_log_is_damaged_is_named_and_the_others_can_be_exported_alone(tmp_path, writers, capsys):
    for writer in writers:
        writer.close()
    (tmp_path / "run" / "rank1.db").write_bytes(b"no database at all" * 99)
    assert main(["export", str(tmp_path / "run"), "--to", "csv"]) != 0
    assert "rank1.db" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "run" / "rank0"), "--to", "csv"]) == 0


def test_a_picture_shows_one_process_and_says_so(tmp_path, writers, capsys):
    assert main(["export", str(tmp_path / "run"), "--to", "tensorboard", "--output", str(tmp_path / "logs")]) == 0
    said = f"cockpit: these are the points of rank 0 of 2; see {tmp_path / 'run'}/rank1\n"
    assert capsys.readouterr().err.startswith(said)
