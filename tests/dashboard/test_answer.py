"""What one request changes on the page."""

import json
import shutil
from dataclasses import replace
from typing import Any

import pytest
from dash import html, no_update
from dash.development.base_component import Component
from synthetic import INSTRUMENTS, header, write_run

from cockpit.dashboard.callbacks import IDLE, PARTS, SOON, TICK, answer
from cockpit.dashboard.page import Choice, choose_run
from cockpit.dashboard.scene import Manner
from cockpit.dashboard.source import Sources
from cockpit.dashboard.views import VIEWS, View
from cockpit.panel import Panel
from cockpit.reading import Reading
from cockpit.screens import CLASSIC
from cockpit.store import RunSummary, Store, Writer

SINGLES = ("view", "status", "runs", "tabs", "views", "shown", "interval", "max_intervals")


class Browser:
    """Asks as the page would, and keeps what the page keeps."""

    def __init__(self, logdir):
        self.sources = Sources(Store(logdir))
        self.shown: dict[str, Any] = {}
        self.on_page: list[str] = []

    def ask(self, list_runs=True, view="Classic", **choice) -> dict[str, Any]:
        outputs = answer(
            self.sources, Choice.from_page({"view": view, **choice}), self.shown, self.on_page, list_runs=list_runs
        )
        found = dict(zip((*PARTS, *SINGLES), outputs, strict=True))
        self.shown = json.loads(json.dumps(found["shown"]))
        if found["view"] is not no_update:
            self.on_page = [card["panel"] for card in ids(found["view"], "figure")]
        return found

    def open(self) -> None:
        """Asks until everything is drawn."""
        while self.ask()["interval"] == SOON:
            pass


def ids(children, part):
    components = children if isinstance(children, list) else [children]
    everything = [child for top in components for child in (top, *top._traverse()) if isinstance(child, Component)]
    found = [getattr(child, "id", None) for child in everything]
    return [id for id in found if isinstance(id, dict) and id.get("part") == part]


def redrawn(found):
    return [figure for figure in found["figure"] if figure is not no_update]


def words(component):
    if isinstance(component, (list, tuple)):
        return " ".join(words(child) for child in component)
    if isinstance(component, Component):
        return words(getattr(component, "children", None))
    return "" if component is None else str(component)


def test_no_runs_are_waited_for(tmp_path):
    found = Browser(tmp_path).ask()
    assert "There are no runs in" in words(found["view"])
    assert (found["interval"], found["max_intervals"]) == (IDLE, -1)


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


def test_nothing_is_redrawn_while_the_log_stands_still(tmp_path):
    write_run(tmp_path / "digits", 40)
    browser = Browser(tmp_path)
    browser.open()
    found = browser.ask(list_runs=False)
    assert redrawn(found) == []
    assert found["view"] is found["status"] is found["runs"] is no_update


def test_a_point_redraws_the_panels_and_not_the_page(tmp_path):
    writer = Writer(tmp_path / "live", header("live"), flush_interval=0.05)
    writer.put(0, 0.0, {"loss": Reading(1.0), "learning_rate": Reading(0.1), "batch_size": Reading(8)})
    assert writer.flush()
    browser = Browser(tmp_path)
    browser.ask()
    writer.put(10, 0.0, {"loss": Reading(0.5)})
    assert writer.flush()
    found = browser.ask(list_runs=False)
    writer.close()
    assert found["view"] is no_update
    assert len(redrawn(found)) == len(browser.on_page)
    assert found["shown"]["last"] == 10


def test_a_live_run_is_looked_at_every_second_and_less_often_when_it_rests(tmp_path):
    with_points = Writer(tmp_path / "live", header("live"), flush_interval=0.05)
    browser = Browser(tmp_path)
    browser.ask()
    paces = [browser.ask(list_runs=False)["interval"] for _ in range(8)]
    with_points.close()
    assert paces[0] == TICK
    assert paces[-1] == IDLE <= 2000


def test_looking_stops_when_every_run_is_over(tmp_path):
    write_run(tmp_path / "digits", 20)
    browser = Browser(tmp_path)
    browser.ask()
    assert browser.ask()["max_intervals"] == 0


def test_what_is_below_the_screen_is_drawn_at_once_after_it(tmp_path):
    write_run(tmp_path / "digits", 40)
    browser = Browser(tmp_path)
    found = browser.ask()
    assert (found["interval"], found["max_intervals"]) == (SOON, -1)
    found = browser.ask(list_runs=False)
    below = browser.on_page[browser.on_page.index("time") :]
    drawn = [name for name, figure in zip(browser.on_page, found["figure"], strict=True) if figure is not no_update]
    assert drawn == below
    assert all(isinstance(figure, dict) for figure in redrawn(found))  # not changes of one that is not there yet
    assert found["max_intervals"] == 0


def test_a_panel_whose_card_is_not_there_yet_is_drawn_when_it_is(tmp_path):
    write_run(tmp_path / "digits", 40)
    browser = Browser(tmp_path)
    browser.ask()
    cards = browser.on_page
    browser.on_page = cards[: cards.index("time")]
    assert browser.ask(list_runs=False)["max_intervals"] == -1
    browser.on_page = cards
    found = browser.ask(list_runs=False)
    drawn = [name for name, figure in zip(cards, found["figure"], strict=True) if figure is not no_update]
    assert drawn == cards[cards.index("time") :]
    assert all(isinstance(figure, dict) for figure in redrawn(found))


def test_looking_goes_on_for_other_live_runs(tmp_path):
    write_run(tmp_path / "digits", 20)
    live = Writer(tmp_path / "live", header("live"), flush_interval=0.05)
    found = Browser(tmp_path).ask(run="digits")
    live.close()
    assert found["max_intervals"] == -1


def test_a_selected_step_moves_every_panel(tmp_path):
    write_run(tmp_path / "digits", 200)
    browser = Browser(tmp_path)
    browser.ask()
    found = browser.ask(step=100, list_runs=False)
    assert len(redrawn(found)) == len(browser.on_page)
    histogram = browser.on_page.index("grad_hist_1d")
    assert found["words"][histogram].startswith("Step 100:")
    assert "100 of 191" in words(found["status"])


@pytest.mark.parametrize(("asked", "step"), [(-5, 0), (10**9, 191), (None, None)])
def test_a_step_outside_the_run_is_its_nearest(tmp_path, asked, step):
    write_run(tmp_path / "digits", 200)
    assert Browser(tmp_path).ask(step=asked)["shown"]["step"] == step


def test_a_log_switch_redraws_its_panel_alone(tmp_path):
    write_run(tmp_path / "digits", 40)
    browser = Browser(tmp_path)
    browser.open()
    (figure,) = redrawn(browser.ask(log={"performance": True}, list_runs=False))
    assert figure["layout"]["yaxis"]["type"] == "log"


def test_a_zoom_redraws_its_panel_alone(tmp_path):
    write_run(tmp_path / "digits", 40)
    browser = Browser(tmp_path)
    browser.open()
    assert len(redrawn(browser.ask(zoom={"performance": [3, 9]}, list_runs=False))) == 1


def changed(patch):
    """Each changed place of a figure, by its path."""
    return {tuple(change["location"]): change["params"]["value"] for change in patch.to_plotly_json()["operations"]}


def test_the_readers_zoom_is_left_alone(tmp_path):
    write_run(tmp_path / "digits", 200)
    browser = Browser(tmp_path)
    browser.open()
    for patch in redrawn(browser.ask(step=100)):
        ranges = [path for path in changed(patch) if path[-1] in ("range", "autorange")]
        fixed = [path for path in ranges if changed(patch).get((*path[:-1], "fixedrange"))]
        assert ranges == fixed


def test_the_legend_survives_a_refresh_and_not_a_change_of_run(tmp_path):
    write_run(tmp_path / "a", 40)
    write_run(tmp_path / "b", 40)
    browser = Browser(tmp_path)
    browser.ask(run="a")
    revision = ("layout", "uirevision")
    first, second = (changed(redrawn(browser.ask(run="a", step=step))[0])[revision] for step in (10, 20))
    browser.ask(run="b")
    assert first == second != changed(redrawn(browser.ask(run="b", step=20))[0])[revision]


def test_an_answer_that_got_lost_is_made_good(tmp_path):
    write_run(tmp_path / "digits", 200)
    browser = Browser(tmp_path)
    browser.ask()
    before = dict(browser.shown)
    browser.ask(step=100)
    browser.shown = before  # the browser never got it
    assert redrawn(browser.ask(step=100, list_runs=False))


def test_an_unknown_run_is_said(tmp_path):
    write_run(tmp_path / "digits", 20)
    assert "there is no run 'digit'" in words(Browser(tmp_path).ask(run="digit")["view"])


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


@pytest.mark.parametrize(
    "data",
    [None, 3, "x", [], {"run": 3}, {"step": "x"}, {"step": 1e400}, {"step": True}, {"zoom": {"a": 1}}, {"zoom": [1]},
     {"zoom": {"a": [float("nan"), 1]}}, {"zoom": {"a": ["x", 1]}}, {"log": [1]}],
)  # fmt: skip
def test_whatever_the_browser_sends_is_a_choice(data):
    choice = Choice.from_page(data)
    assert (choice.run, choice.view, choice.step, choice.scheme) == (None, None, None, "light")
    assert choice.zoom == {}


def test_a_running_run_is_shown_before_newer_finished_ones():
    runs = [RunSummary("old", "running", 1.0), RunSummary("new", "finished", 2.0), RunSummary("bad", "unreadable", 3.0)]
    assert choose_run(runs) == "old"
    assert choose_run(runs[1:]) == "new"
    assert choose_run(runs[2:]) is None


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


@pytest.mark.parametrize("measure", ["log", "wall", "relative"])
def test_another_axis_of_time_redraws_every_panel_whole(tmp_path, measure):
    write_run(tmp_path / "digits", 40)
    browser = Browser(tmp_path)
    browser.ask(view="Now")
    found = browser.ask(view="Now", x=measure, list_runs=False)
    figures = redrawn(found)
    assert len(figures) == len(browser.on_page)
    assert all(
        isinstance(figure, dict) for figure in figures
    )  # no changes to the figure there, which would keep its zoom
    assert found["shown"]["x"] == measure
    assert redrawn(browser.ask(view="Now", x=measure, list_runs=False)) == []


def test_smoothing_redraws_and_is_told(tmp_path):
    write_run(tmp_path / "digits", 40)
    browser = Browser(tmp_path)
    browser.ask(view="Now")
    found = browser.ask(view="Now", smooth=0.9, list_runs=False)
    assert len(redrawn(found)) == len(browser.on_page)
    assert found["shown"]["smooth"] == 0.9


@pytest.mark.parametrize(
    "data", [{"x": "hour"}, {"x": 3}, {"smooth": 1.0}, {"smooth": -1}, {"smooth": "x"}, {"smooth": float("nan")}]
)
def test_an_unknown_manner_is_the_usual_one(data):
    assert Choice.from_page(data).manner == Manner()


def test_a_zoom_is_a_stretch_of_the_axis_that_is_shown(tmp_path):
    write_run(tmp_path / "digits", 40)
    browser = Browser(tmp_path)
    for measure, ends in (("step", [3, 9]), ("log", [0.5, 1.5]), ("relative", [0.1, 0.9]), ("wall", [1e12, 2e12])):
        found = browser.ask(view="Now", x=measure, zoom={"loss_curves": ends}, list_runs=False)
        assert not any(found["empty"]), measure
