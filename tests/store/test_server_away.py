"""A server that goes and comes back while runs are written to it and read."""

import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from asking import Asker
from patience import LONG
from private_postgres import PASSWORD, Server, private_server

from cockpit.dashboard import serve
from cockpit.reading import Reading
from cockpit.run import load_run
from cockpit.store import Header, Reader, Store, UnreadableLog, Writer, drain


@pytest.fixture(scope="module")
def fragile(postgres: Server) -> Iterator[Server]:
    """A server that tests may stop: others go on with theirs."""
    with private_server() as server:
        yield server


def begun(where: str, **options: Any) -> Writer:
    return Writer(where, Header("run", time.time()), flush_interval=0.05, **options)


AWAY = 10.0  # seconds
BACK = 30.0  # seconds within which its return is noticed: the longest pause between two attempts to write is 5 s


@pytest.mark.slow
def test_a_server_that_is_away_for_ten_seconds_is_said_once_and_nothing_is_lost(
    fragile: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = fragile.empty()
    writer = begun(f"{logs}/run")
    writer.put(0, 0.0, {"loss": Reading(0.0)})
    assert writer.flush()
    with serve(Store(logs), port=0) as server:
        pages = {view: Asker(server.url) for view in ("Now", "Layers", "Compare", "Runs")}
        assert not any(is_away(page.ask(run="run", view=view)) for view, page in pages.items())
        fragile.stop()
        gone = asked = time.monotonic()
        longest, step, told = 0.0, 0, set()
        while time.monotonic() < gone + (AWAY if told >= {"Now", "Layers"} else LONG):
            step += 1
            began = time.perf_counter()
            writer.put(step, 0.01 * step, {"loss": Reading(float(step))})
            longest = max(longest, time.perf_counter() - began)
            if time.monotonic() > asked + 2:
                told |= {view for view, page in pages.items() if is_away(page.ask(run="run", view=view))}
                asked = time.monotonic()
            time.sleep(0.005)
        assert not writer.flush(timeout=0.0)
        fragile.start()
        back = time.monotonic()
        assert writer.flush()
        assert time.monotonic() - back < BACK
        assert not is_away(pages["Now"].ask(run="run", view="Now"))
        assert pages["Now"].shown is not None
        assert pages["Now"].shown["last"] == step
    assert longest < AWAY / 2  # to wait for the server takes all of them
    assert told >= {"Now", "Layers"}
    writer.close()
    said = capsys.readouterr().err
    assert said.count("cannot be written") == 1
    assert "Training goes on; writing is tried again" in said
    run = load_run(f"{logs}/run")
    assert step > 100
    assert list(run["loss"].steps) == list(range(step + 1))
    assert (run.state, run.reader.dropped()) == ("finished", 0)
    (said,) = [event.text for event in run.reader.events() if "could not be written" in event.text]
    assert int(re.search(r"for (\d+) s", said)[1]) >= AWAY / 2


def is_away(answer: dict[str, Any]) -> bool:
    """Whether the page says in words that the database is away."""
    return "cannot be re" in str(answer.get("view"))  # reached, or read


def test_what_does_not_fit_while_the_server_is_away_is_counted(
    fragile: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    where = f"{fragile.empty()}/run"
    writer = begun(where, capacity=100)
    assert writer.flush()
    fragile.stop()
    time.sleep(0.2)
    for step in range(250):
        writer.put(step, 0.0, {"loss": Reading(1.0)})
    assert writer.dropped >= 150
    fragile.start()
    assert writer.flush()
    writer.event(None, 1.0, "info", "back")
    writer.close()
    reader = Reader(where)
    assert reader.dropped() == writer.dropped
    assert len(reader.column("loss")) == 250 - writer.dropped
    assert "dropped" in capsys.readouterr().err


def test_a_server_that_stays_away_ends_in_words_and_a_count(
    fragile: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "_FINAL_PATIENCE", 0.2)
    writer = begun(f"{fragile.empty()}/run")
    assert writer.flush()
    fragile.stop()
    try:
        for step in range(7):
            writer.put(step, 0.0, {"loss": Reading(1.0)})
        writer.close()
        said = capsys.readouterr().err
        assert "7 items were lost" in said
        assert quote(PASSWORD, safe="") not in said
        assert PASSWORD not in said
    finally:
        fragile.start()


def test_readers_say_that_the_server_is_away_and_go_on_when_it_is_back(fragile: Server) -> None:
    where = fragile.empty()
    writer = begun(f"{where}/run")
    writer.put(0, 0.0, {"loss": Reading(0.0)})
    writer.close()
    reader, store = Reader(f"{where}/run"), Store(where)
    assert len(reader.column("loss")) == 1
    fragile.stop()
    try:
        with pytest.raises(UnreadableLog, match=r"/run cannot be read: ") as refused:
            reader.column("loss")
        assert quote(PASSWORD, safe="") not in str(refused.value)
        with pytest.raises(OSError, match="cannot be reached: "):
            store.runs()
    finally:
        fragile.start()
    assert len(reader.column("loss")) == 1
    assert [summary.name for summary in store.runs()] == ["run"]
