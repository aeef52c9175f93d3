"""Runs as nobody would wish for them: odd names, odd values, damaged logs. The page answers, in words where it must."""

import os
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from asking import question, refreshing
from plotly.io.json import to_json_plotly
from synthetic import write_run
from visitor import Browser, words

from cockpit.dashboard import create_app
from cockpit.dashboard.listing import Listing
from cockpit.dashboard.run_table import field
from cockpit.dashboard.runs import Table
from cockpit.dashboard.views import VIEWS
from cockpit.panel import Panel, Screen
from cockpit.reading import Histogram, Reading
from cockpit.screens import PANELS, SCREENS
from cockpit.store import Header, Store, Writer

PAGE = 4096  # bytes of which SQLite reads and writes at once
EVERY_VIEW = ("Now", "Classic", *VIEWS)
NAMES = (
    "it's \"quoted\"", "a/b/c", "<script>alert(1)</script>", "\N{ROCKET}", "a\nb", "back\\slash", "x" * 200, "con",
    "rank0.db", "a|b", "%2e%2e", "?run=x&view=y#z", "\x1b[2J\u202egnp", "-rf",
)  # fmt: skip


@pytest.fixture
def page(tmp_path):
    return page_of(tmp_path)


def page_of(logs):
    """``page(run=…)`` is the answer to a request as the page sends it, encoded and decoded."""
    client = create_app(Store(logs)).server.test_client()
    refresh = refreshing(client.get("/_dash-dependencies").json)

    def ask(**choice):
        answer = client.post("/_dash-update-component", json=question(refresh, choice, None))
        assert answer.status_code == 200, choice
        return answer.json["response"]

    return ask


def words_of(part):
    """All texts of an answer."""
    if isinstance(part, dict | list):
        return "\n".join(map(words_of, part.values() if isinstance(part, dict) else part))
    return str(part)


def in_list(tmp_path, columns=()):
    """A run's cells in the list of runs, after everything has been encoded."""
    table = Table(Listing(Store(tmp_path)))
    table.answer(None)
    found = table.answer({"known": {"columns": list(columns)}})
    to_json_plotly(found)
    return found["rows"]


def test_runs_of_any_name_are_shown_under_it(tmp_path):
    for name in NAMES:
        write_run(tmp_path / name, 1)
    page = page_of(tmp_path)
    for name in NAMES:
        shown = page(run=name, view="Now")["shown"]["data"]
        assert (shown["run"], shown["view"]) == (name, "Now")
    compared = page(view="Compare", more={"runs": "|".join(NAMES[-4:])})["view"]
    assert all(name in words_of(compared) for name in NAMES[-4:])
    assert {cells["name"] for cells in in_list(tmp_path)} == set(NAMES)


def test_a_name_that_is_no_text_is_shown_as_it_is_listed(page, tmp_path):
    write_run(tmp_path / "cafe", 20)
    os.rename(tmp_path / "cafe", os.path.join(os.fsencode(tmp_path), b"caf\xe9"))
    (cells,) = in_list(tmp_path)
    assert page(run=cells["name"])["shown"]["data"]["run"] == cells["name"] == "caf\\xe9"


def test_values_that_json_does_not_know_are_words(page, tmp_path):
    config = {"seed": 2**100, "huge": -(10**400), "exact": 2**53 - 1, "nothing": float("nan")}
    Writer(tmp_path / "run", Header("run", float(2**60), config)).close()
    (cells,) = in_list(tmp_path, [f"config:{name}" for name in config])
    seed, huge, exact, nothing = (cells[field(f"config:{name}")] for name in config)
    assert (seed, exact, nothing) == (str(2**100), 2**53 - 1, "NaN")
    assert len(huge) <= 200
    for view in EVERY_VIEW:
        page(run="run", view=view)


def test_screens_may_be_called_as_views_are_and_as_each_other(page, tmp_path):
    screens = tuple(Screen(name, 1, ()) for name in ("Layers", "mine", "mine", "Runs"))
    Writer(tmp_path / "run", Header("run", 1.0, screens=screens)).close()
    menu = page(run="run")["view-tabs"]["data"]
    assert menu == ["Layers", "mine", "Runs", *(name for name in VIEWS if name not in ("Layers", "Runs"))]


def test_a_panel_of_nonsense_spares_the_others(page, tmp_path):
    panels = {"odd": Panel("Odd", "lines", "", ("loss",), yscale="cubic", limits=("low", "high"), heights=(-1.0,))}
    writer = Writer(tmp_path / "run", Header("run", 1.0, panels=panels))
    writer.put(0, 0.0, {"loss": Reading(1.0)})
    writer.document("coverage", {"share": float("nan"), "left_out": [1], "routes": {"x": None}})
    writer.close()
    page(run="run")


def spoilt(path, how):
    whole = path.read_bytes()
    if how == "newer":
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE run SET schema_version = 99")
    else:
        path.write_bytes({"cut short": whole[:20_000], "empty": b"", "no database": b"hello " * 1000}[how])
        os.utime(path, (0, 0))  # an empty file that is new would be a run that begins


DAMAGES = {
    "cut short": "damaged or cut short", "empty": "it is empty", "no database": "not a log of Cockpit",
    "newer": "was written by a newer Cockpit",
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGES)
def test_a_run_that_cannot_be_read_says_why_in_every_view(page, tmp_path, how):
    write_run(tmp_path / "run", 400)
    write_run(tmp_path / "good", 20)
    spoilt(tmp_path / "run" / "rank0.db", how)
    for view in EVERY_VIEW:
        said = str(page(run="run", view=view)["view"]["children"])
        assert DAMAGES[how] in said or view == "Runs"
    reasons = {cells["name"]: cells["reason"] for cells in in_list(tmp_path)}
    assert DAMAGES[how] in reasons["run"]
    assert reasons["good"] == ""


def test_a_spoilt_page_is_said_and_what_stands_elsewhere_is_drawn(page, tmp_path):
    write_run(tmp_path / "run", 400, flush_interval=60)  # at once: what stands on which page is always the same
    path = tmp_path / "run" / "rank0.db"
    whole, drawn = path.read_bytes(), 0
    for at in range(PAGE, len(whole), 12 * PAGE):
        path.write_bytes(whole[:at] + bytes(PAGE) + whole[at + PAGE :])
        for view in ("Now", "Layers", "Compare"):
            shown = page(run="run", view=view)
            assert shown["view"]["children"]
            drawn += view == "Now" and "is damaged" in str(shown["view"]) and "cursor" in shown["shown"]["data"]
    assert drawn > 0


# Two thousand series


SERIES = 2000


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """A run with metrics of the user's own, layer-wise readings and histograms: two thousand series in all."""
    logs = tmp_path_factory.mktemp("crowded")
    panels = PANELS | {f"mine{number}": Panel(f"Mine {number}", "lines", "Read it.") for number in range(50)}
    writer = Writer(
        logs / "run", Header("run", 1.0, panels=panels, screens=SCREENS, instruments={name: {} for name in panels})
    )
    counts = Histogram(np.arange(8), np.arange(9.0))
    for step in range(30):
        readings = {
            name: Reading(1.0 + step, {"a": 1.0, "b": 2.0}, {f"part{part}": 0.5 for part in range(4)})
            for name in panels.keys() - PANELS.keys()
        }
        writer.put(step, 0.1 * step, readings | {"loss": Reading(1.0), "hist": Reading(counts, {"a": counts})})
        metrics = {f"block{number}/loss": 1.0 for number in range(100)}
        metrics |= {f"block{number}/rate{number % 7}": 0.1 * step for number in range(700)}
        metrics |= {f"metric {number}": float(step) for number in range(897)}
        writer.scalars(step, 0.1 * step, metrics)
    writer.close()
    return logs


@pytest.mark.parametrize("view", EVERY_VIEW)
def test_a_run_with_two_thousand_series_stays_readable(crowded, view):
    browser = Browser(crowded)
    found = browser.ask(view=view)
    assert len(browser.sources.get("run").series) == SERIES
    page = to_json_plotly(found["view"])
    assert len(page) < 4_000_000
    if view in ("Now", "Classic"):
        assert "more of your metrics have no room here" in words(found["view"])
    if view == "Layers":
        assert "The first 40 quantities have a column" in words(found["view"])
