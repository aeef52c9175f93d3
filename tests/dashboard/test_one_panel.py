"""One panel in full."""

import numpy as np
from dash import dcc, html, no_update
from synthetic import write_run
from visitor import Browser, words

from cockpit.dashboard.one_panel import formula
from cockpit.panel import Panel
from cockpit.reading import Histogram, Reading
from cockpit.store import Header, Writer

WORDS = {"formula": "\\frac{a}{b}\n\\href{x}{y}", "good": "Low.", "bad": "High.", "source": "A paper, eq. (1)."}


def write(directory, panels, instruments, steps=3, **readings):
    writer = Writer(directory, Header(directory.name, 0.0, panels=panels, instruments=instruments), flush_interval=0.05)
    for step in range(steps):
        writer.put(step, 0.1 * step, {key: reading(step) for key, reading in readings.items()})
    writer.event(1, 0.1, "warning", "look out", "mine")
    writer.event(1, 0.1, "warning", "not here", "other")
    writer.close()


def mine(directory, **settings):
    panel = Panel("Mine", "lines", "Read it.", ("mine",), **{**WORDS, **settings})
    write(
        directory, {"mine": panel}, {"mine": {"interval": "every 4th step", "settings": {"decay": 0.9, "bins": None}}},
        mine=lambda step: Reading(float(step), {"a": 1.0, "b": 3.0}, {"part": None}),
    )  # fmt: skip


def test_a_users_own_panel_says_everything_that_it_brings(tmp_path):
    mine(tmp_path / "run")
    text = words(Browser(tmp_path).ask(view="Panel", more={"panel": "mine"})["view"])
    for said in ("Read it.", "Low.", "High.", "A paper, eq. (1).", "every 4th step", "decay 0.9", "bins not set"):
        assert said in text


def test_its_keys_stand_with_their_last_values_and_its_events_below(tmp_path):
    mine(tmp_path / "run")
    browser = Browser(tmp_path)
    text = words(browser.ask(view="Panel", more={"panel": "mine"})["view"])
    assert "mine 2 2 3 mine 2 layers, 1 to 3, median 2 2 3 mine.part missing 2 3" in text
    assert "Step 1: look out" in text
    assert "not here" not in text
    early = words(Browser(tmp_path).ask(view="Panel", step=0, more={"panel": "mine"})["view"])
    assert "mine 0 0 3" in early
    assert "Nothing has happened." in early


def test_histograms_are_counted(tmp_path):
    panel = Panel("H", "histogram", "Read it.", ("h",))
    counts = Histogram(np.array([2, 3]), np.array([0.0, 1.0, 2.0]))
    write(tmp_path / "run", {"h": panel}, {}, h=lambda step: Reading(counts, {"a": counts}))
    text = words(Browser(tmp_path).ask(view="Panel", more={"panel": "h"})["view"])
    assert "h 5 elements 2 3 h 1 layers, 5 elements 2 3" in text


def test_only_symbols_are_set_and_everything_else_is_text():
    assert isinstance(formula(r"\frac{a}{b}"), dcc.Markdown)
    assert getattr(formula("a"), "dangerously_allow_html", False) is False
    assert isinstance(formula(r"\href{javascript:alert(1)}{y}"), html.Code)


def test_its_drawing_is_kept_fresh_like_a_screens(tmp_path):
    write_run(tmp_path / "digits", 60)
    browser = Browser(tmp_path)
    browser.ask(view="Panel", more={"panel": "grad_norm"})
    assert browser.on_page == ["grad_norm"]
    assert browser.ask(view="Panel", more={"panel": "grad_norm"})["figure"] == [no_update]
    (moved,) = browser.ask(view="Panel", step=30, more={"panel": "grad_norm"})["figure"]
    assert moved is not no_update


def test_without_a_name_the_first_panel_is_shown_and_an_unknown_one_is_said(tmp_path):
    write_run(tmp_path / "digits", 60)
    browser = Browser(tmp_path)
    browser.ask(view="Panel")
    assert browser.on_page == ["loss_curves"]
    assert "no panel called “nothing”" in words(browser.ask(view="Panel", more={"panel": "nothing"})["view"])


def test_a_run_without_panels_says_so(tmp_path):
    write(tmp_path / "run", {}, {}, x=lambda step: Reading(1.0))
    assert "declares no panels" in words(Browser(tmp_path).ask(view="Panel")["view"])


def test_every_cards_heading_leads_to_its_panel(tmp_path):
    write_run(tmp_path / "digits", 60)
    found = Browser(tmp_path).ask()["view"]
    links = [part for top in found for part in top._traverse() if isinstance(part, html.A)]
    assert "?run=digits&view=Panel&panel=alpha" in [link.href for link in links]
    assert len(links) == 11
