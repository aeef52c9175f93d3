"""What one answer puts on the page."""

import shutil
from dataclasses import replace
from typing import Any

import pytest
from dash import html, no_update
from synthetic import INSTRUMENTS, header, write_run
from visitor import Browser, words

from cockpit.dashboard.answer import IDLE
from cockpit.dashboard.views import VIEWS, View
from cockpit.panel import Panel
from cockpit.reading import Reading
from cockpit.screens import CLASSIC
from cockpit.store import Writer


def test_no_runs_are_waited_for(tmp_path):
    found = Browser(tmp_path).ask()
    assert "There are no runs in" in words(found["view"])
    assert found["shown"]["next"] == IDLE


@pytest.mark.parametrize("view", ["Now", "Compare", "Runs"])
def test_without_runs_the_menu_leads_where_none_is_needed(tmp_path, view):
    browser = Browser(tmp_path)
    found = browser.ask(view=view)
    assert found["views"] == found["tabs"] == ["Compare", "Runs"]
    write_run(tmp_path / "first", 20)
    browser.sources.listing.look(anew=True)
    found = browser.ask(view=view)
    assert found["views"] == found["tabs"] == ["Now", "Classic", *VIEWS]


def test_a_first_run_appears_by_itself(tmp_path):
    browser = Browser(tmp_path)
    browser.ask()
    write_run(tmp_path / "first", 20)
    assert browser.ask(list_runs=False)["shown"]["run"] == "first"


def test_a_run_is_drawn_as_its_header_says(tmp_path):
    write_run(tmp_path / "digits", 40)
    browser = Browser(tmp_path)
    found = browser.ask()
    assert browser.on_page == [
        "alpha", "gradient_tests", "distances", "grad_hist_1d", "grad_norm", "performance", "hyperparameters", "time",
        "sample_grad_norm", "clip", "overhead",
    ]  # fmt: skip
    assert found["views"] == found["tabs"] == ["Now", "Classic", *VIEWS]
    assert found["runs"] == [{"value": "digits", "label": "digits · finished"}]


def test_every_panel_says_how_it_is_read(tmp_path):
    write_run(tmp_path / "digits", 40)
    text = words(Browser(tmp_path).ask()["view"])
    for sentence in (INSTRUMENTS["alpha"].how_to_read, INSTRUMENTS["grad_hist_1d"].how_to_read):
        assert sentence in text


def test_an_unknown_run_is_said(tmp_path):
    write_run(tmp_path / "digits", 20)
    assert "There is no run 'digit'" in words(Browser(tmp_path).ask(run="digit")["view"])


def test_a_broken_log_is_said_and_listed(tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "rank0.db").write_bytes(b"not a database" * 100)
    found = Browser(tmp_path).ask(run="broken")
    assert found["runs"] == [{"value": "broken", "label": "broken · unreadable"}]
    assert "cannot be read" in words(found["view"])


def test_a_run_that_is_deleted_while_it_is_looked_at_is_said(tmp_path):
    write_run(tmp_path / "digits", 40)
    browser = Browser(tmp_path)
    browser.ask()
    shutil.rmtree(tmp_path / "digits")
    found = browser.ask(list_runs=False)
    assert "digits" in words(found["view"])
    assert browser.on_page == []


def test_a_path_out_of_the_log_directory_is_refused(tmp_path):
    write_run(tmp_path / "secret" / "run", 20)
    (tmp_path / "runs").mkdir()
    assert "is not a run in" in words(Browser(tmp_path / "runs").ask(run="../secret/run")["view"])


def test_an_instruments_error_stands_on_its_panels(tmp_path):
    writer = Writer(tmp_path / "live", header("live"), flush_interval=0.05)
    writer.event(7, 0.1, "error", "norm_test failed: ValueError: odd", "norm_test")
    assert writer.flush()
    browser = Browser(tmp_path)
    text = words(browser.ask()["view"])
    writer.close()
    assert "Error at step 7: norm_test failed: ValueError: odd" in text
    assert "1 error" in words(browser.ask(step=7)["status"])


def test_an_error_shows_from_its_step_on(tmp_path):
    write_run(tmp_path / "digits", 200)
    browser = Browser(tmp_path)
    browser.ask()
    gauge = browser.on_page.index("gradient_tests")
    notices = [browser.ask(step=step)["notice"][gauge] for step in (140, 120)]
    assert notices[0].startswith("Warning at step 130")
    assert notices[1].startswith("Warning at step 0")


def test_the_strip_tells_loss_overhead_and_coverage(tmp_path):
    write_run(tmp_path / "digits", 200)
    text = words(Browser(tmp_path).ask()["status"])
    for fact in ("finished", "step 191", "loss", "overhead +8 %", "98 % of parameters", "head.weight: no optimizer"):
        assert fact in text


def test_the_overhead_unfolds_to_the_interval_of_each_instrument_in_force_at_the_step(tmp_path):
    writer = Writer(tmp_path / "live", header("live"), flush_interval=0.05)
    for step, intervals in ((5, {"loss": 6.0, "alpha": 48.0}), (40, {"loss": 3.0, "alpha": 24.0})):
        layers = {
            "cockpit.interval": Reading(3.0, intervals),
            "cockpit.cost": Reading(0.9, {"loss": 0.05, "alpha": 0.85}),
        }
        writer.put(step, 0.0, {"loss": Reading(1.0), **layers})
    assert writer.flush()
    browser = Browser(tmp_path)
    now = words(browser.ask()["status"])
    then = words(browser.ask(step=39)["status"])
    writer.close()
    assert "loss every 3rd step +0.05 steps" in now
    assert now.index("loss every") < now.index("alpha every 24th step +0.85 steps") < now.index("distance every 10th")
    assert "alpha every 48th step" in then


def test_a_panel_that_waits_says_for_what(tmp_path):
    writer = Writer(tmp_path / "live", header("live"), flush_interval=0.05)
    text = words(Browser(tmp_path).ask()["view"])
    writer.close()
    assert "Appears with the first reading of alpha, measured every 10th step and the next." in text


def test_a_panel_that_stays_empty_says_what_the_run_reports(tmp_path):
    writer = Writer(tmp_path / "live", header("live"), flush_interval=0.05)
    writer.event(0, 0.0, "error", "the capture failed: odd", "the capture")
    assert writer.flush()
    text = words(Browser(tmp_path).ask()["view"])
    writer.close()
    assert "every 10th step and the next. The run reports: the capture failed: odd" in text


def one_panel(tmp_path, panel, reading):
    run = header("odd", {"odd": panel})
    writer = Writer(tmp_path / "odd", run, flush_interval=0.05)
    writer.put(0, 0.0, {"odd": reading})
    writer.close()
    return words(Browser(tmp_path).ask()["view"])


def test_a_kind_of_a_later_version_is_said(tmp_path):
    odd: Any = "hologram"
    text = one_panel(tmp_path, Panel("Odd", odd, "Look at it."), Reading(1.0))
    assert "cannot draw panels of kind “hologram”" in text


def test_readings_that_do_not_fit_their_panel_are_said(tmp_path):
    text = one_panel(tmp_path, Panel("Odd", "histogram", "Look at it."), Reading(1.0))
    assert "odd is logged as scalar, which a “histogram” panel does not draw." in text


def test_what_was_always_missing_is_said_to_be(tmp_path):
    text = one_panel(tmp_path, Panel("Odd", "histogram", "Look at it."), Reading(None))
    assert "odd is missing at every step so far." in text


@pytest.mark.parametrize("kind", ["lines", "histogram"])
def test_why_it_was_always_missing_is_told(tmp_path, kind):
    text = one_panel(tmp_path, Panel("Odd", kind, "Look at it."), Reading(None, reason="a batch of one sample"))
    assert "issing at every step so far. The run says: a batch of one sample." in text


def of_run_or_not(of_run):
    return View(
        "Elsewhere",
        of_run,
        identity=lambda look: [look.choice.more.get("panel", "")],
        build=lambda look: [html.P(f"{look.choice.more.get('panel')} of {look.page.run if look.page else 'no run'}")],
        register=lambda app, sources: None,
    )


@pytest.mark.parametrize(("of_run", "run"), [(True, "digits"), (False, "no run")])
def test_a_view_of_its_own_takes_the_place_of_the_panels(tmp_path, monkeypatch, of_run, run):
    monkeypatch.setitem(VIEWS, "Elsewhere", of_run_or_not(of_run))
    write_run(tmp_path / "digits", 20)
    browser = Browser(tmp_path)
    before = browser.ask()
    assert before["views"] == before["tabs"] == ["Now", "Classic", *VIEWS]
    assert "Elsewhere" in VIEWS
    found = browser.ask(view="Elsewhere", more={"panel": "loss"})
    assert words(found["view"]) == f"loss of {run}"
    assert (found["shown"]["view"], found["shown"]["more"]) == ("Elsewhere", {"panel": "loss"})
    assert ("last" in found["shown"]) == of_run
    assert browser.ask(view="Elsewhere", more={"panel": "loss"})["view"] is no_update
    assert words(browser.ask(view="Elsewhere", more={"panel": "alpha"})["view"]) == f"alpha of {run}"


def test_a_view_of_no_single_run_needs_none(tmp_path, monkeypatch):
    monkeypatch.setitem(VIEWS, "Elsewhere", of_run_or_not(False))
    assert words(Browser(tmp_path).ask(view="Elsewhere")["view"]) == "None of no run"


NOW = ["loss_curves", "layer_updates", "layer_gradients", "batch_and_noise", "gradient_sizes", "alpha_strip"]


def test_now_is_the_first_view_and_has_six_panels(tmp_path):
    write_run(tmp_path / "digits", 40)
    browser = Browser(tmp_path)
    found = browser.ask(view=None)
    assert found["shown"]["view"] == "Now"
    assert sorted(browser.on_page[:6]) == sorted(NOW)
    assert "cannot be drawn" not in words(found["view"])


def test_a_run_of_an_older_version_opens_in_the_screen_it_has(tmp_path):
    old = replace(header("old"), screens=(CLASSIC,), panels={**INSTRUMENTS})
    writer = Writer(tmp_path / "old", old, flush_interval=0.05)
    writer.put(0, 0.0, {"loss": Reading(1.0), "alpha": Reading(0.1), "grad_norm": Reading(1.0)})
    writer.close()
    browser = Browser(tmp_path)
    found = browser.ask(view=None)
    assert found["views"] == ["Classic", *VIEWS]
    assert [name for name in browser.on_page if name in NOW] == []
