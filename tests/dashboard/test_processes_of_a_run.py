"""A run that several processes write, on the page."""

import pytest
from synthetic import header

from cockpit.dashboard.page import Choice, look
from cockpit.dashboard.source import Source, Sources
from cockpit.dashboard.status import strip
from cockpit.reading import Reading
from cockpit.store import Store, Writer


@pytest.fixture
def writers(tmp_path):
    made = [Writer(tmp_path / "run", header("run"), rank=rank, flush_interval=0.05) for rank in (0, 1)]
    for rank, writer in enumerate(made):
        writer.put(3, 0.1, {"loss": Reading(float(rank))})
        writer.event(3, 0.1, "warning", f"said by {rank}")
        writer.flush()
    yield made
    for writer in made:
        writer.close()


def test_events_of_all_processes_are_shown_with_their_rank_and_once(tmp_path, writers):
    source = Source(Store(tmp_path).open("run"))
    source.refresh()
    assert [event.text for event in source.events] == ["said by 0", "rank 1: said by 1"]
    writers[1].event(4, 0.2, "info", "later")
    writers[1].flush()
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
