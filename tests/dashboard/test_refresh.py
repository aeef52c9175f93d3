"""What one request draws again, and when the next one comes."""

import json

import pytest
from dash import no_update
from synthetic import Training, header, write_run
from visitor import Browser, redrawn, words

from cockpit.dashboard.answer import IDLE, LATER, SOON, TICK
from cockpit.reading import Reading
from cockpit.store import Writer


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
    browser.open()
    writer.put(10, 0.0, {"loss": Reading(0.5)})
    assert writer.flush()
    found = browser.ask(list_runs=False)
    writer.close()
    assert found["view"] is no_update
    assert browser.drawn(found) == ["performance"]  # in the others nothing has changed
    assert found["shown"]["last"] == 10


def test_a_live_run_is_looked_at_every_second_and_less_often_when_it_rests(tmp_path):
    with_points = Writer(tmp_path / "live", header("live"), flush_interval=0.05)
    browser = Browser(tmp_path)
    browser.ask()
    paces = [browser.ask(list_runs=False)["shown"]["next"] for _ in range(8)]
    with_points.close()
    assert paces[0] == TICK
    assert paces[-1] == IDLE <= 2000


def test_looking_stops_when_every_run_is_over(tmp_path):
    write_run(tmp_path / "digits", 20)
    browser = Browser(tmp_path)
    browser.ask()
    assert browser.ask()["shown"]["next"] is None


def test_what_is_below_the_screen_is_drawn_at_once_after_it(tmp_path):
    write_run(tmp_path / "digits", 40)
    browser = Browser(tmp_path)
    found = browser.ask()
    assert found["shown"]["next"] == SOON
    found = browser.ask(list_runs=False)
    assert browser.drawn(found) == browser.on_page[browser.on_page.index("time") :]
    assert all(isinstance(figure, dict) for figure in redrawn(found))  # not changes of one that is not there yet
    assert found["shown"]["next"] is None


def test_a_panel_whose_card_is_not_there_yet_is_drawn_when_it_is(tmp_path):
    write_run(tmp_path / "digits", 40)
    browser = Browser(tmp_path)
    browser.ask()
    cards = browser.on_page
    browser.on_page = cards[: cards.index("time")]
    assert browser.ask(list_runs=False)["shown"]["next"] is not None
    browser.on_page = cards
    found = browser.ask(list_runs=False)
    assert browser.drawn(found) == cards[cards.index("time") :]
    assert all(isinstance(figure, dict) for figure in redrawn(found))


def test_looking_goes_on_for_other_live_runs(tmp_path):
    write_run(tmp_path / "digits", 20)
    live = Writer(tmp_path / "live", header("live"), flush_interval=0.05)
    found = Browser(tmp_path).ask(run="digits")
    live.close()
    assert found["shown"]["next"] is not None


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


def without_zoom(figure):
    """A figure without the ranges that are the reader's."""
    figure = json.loads(json.dumps(figure))
    for name, axis in figure["layout"].items():
        if name.startswith(("xaxis", "yaxis")) and not axis.get("fixedrange"):
            axis.pop("range", None)
    return figure


@pytest.mark.parametrize("view", ["Now", "Classic"])
def test_a_live_page_becomes_what_a_new_page_shows_whatever_the_run_gains(tmp_path, view):
    """Panels without points, with points, with a metric more, with a value that no logarithm has, with a warning."""
    writer = Writer(tmp_path / "live", header("live"), flush_interval=0.05)
    live, training = Browser(tmp_path), Training()
    live.ask(view=view)
    gains = [
        lambda: writer.put(0, 0.0, {"loss": Reading(1.0), "norm_test": Reading(0.5)}),
        lambda: writer.scalars(0, 0.1, {"valid/accuracy": 0.5}),
        lambda: writer.put(10, 0.2, training.readings(10)),
        lambda: writer.scalars(10, 0.2, {"f1": 0.1, "valid/loss": 2.0}),
        lambda: writer.put(20, 0.3, {"grad_norm": Reading(-1.0), "alpha": Reading(None)}),
        lambda: writer.event(20, 0.3, "warning", "odd", "loss"),
        lambda: writer.put(30, 0.4, {"grad_norm": Reading(float("nan")), "update_size": Reading(0.0)}),
    ]
    for gain in gains:
        gain()
        assert writer.flush()
        while live.ask(view=view)["shown"]["next"] == SOON:
            pass
        new = Browser(tmp_path)
        while new.ask(view=view)["shown"]["next"] == SOON:
            pass
        assert live.on_page == new.on_page
        for name in new.on_page:
            assert without_zoom(live.figures[name]) == without_zoom(new.figures[name]), name
    writer.close()


def test_what_a_live_run_gains_is_drawn_where_it_is_seen(tmp_path):
    writer = Writer(tmp_path / "live", header("live"), flush_interval=0.05)
    training = Training()
    writer.put(0, 0.0, training.readings(0))
    assert writer.flush()
    browser = Browser(tmp_path)
    browser.open()
    for step in (10, 20):
        writer.put(step, 0.1 * step, training.readings(step))
    assert writer.flush()
    found = browser.ask(seen=["time", "alpha"])
    assert browser.drawn(found) == ["alpha", "time"]
    assert {*found["shown"]["behind"]} == {*browser.on_page} - {"alpha", "time"}
    assert found["shown"]["next"] == TICK
    found = browser.ask(seen=["performance"], at_leisure=False)  # scrolled into view
    assert browser.drawn(found) == ["performance"]
    new = Browser(tmp_path)
    new.open()
    writer.close()
    assert browser.figures["performance"] == new.figures["performance"]


def test_a_step_is_shown_where_it_is_seen_and_then_everywhere(tmp_path):
    write_run(tmp_path / "digits", 200)
    browser = Browser(tmp_path)
    browser.open()
    found = browser.ask(step=100, seen=["alpha"], at_leisure=False)
    assert browser.drawn(found) == ["alpha"]
    assert found["shown"]["next"] == LATER
    found = browser.ask(step=100, seen=["alpha"])
    assert {*browser.drawn(found)} == {*browser.on_page} - {"alpha"}
    assert found["shown"]["next"] is None


def test_a_tab_that_nobody_sees_is_told_that_the_run_is_over_and_then_drawn(tmp_path):
    writer = Writer(tmp_path / "live", header("live"), flush_interval=0.05)
    writer.put(0, 0.0, {"loss": Reading(1.0)})
    assert writer.flush()
    browser = Browser(tmp_path)
    browser.open()
    writer.put(10, 0.0, {"loss": Reading(0.5)})
    assert writer.flush()
    found = browser.ask(seen=[])
    assert (browser.drawn(found), found["shown"]["last"]) == ([], 10)
    writer.close()
    found = browser.ask(seen=[])
    assert "performance" in browser.drawn(found)
    assert (found["shown"]["state"], found["shown"]["behind"]) == ("finished", [])


def changed(patch):
    """Each changed place of a figure, by its path."""
    found = {}
    for change in patch.to_plotly_json()["operations"]:
        place, value = tuple(change["location"]), change["params"]["value"]
        found |= (
            {(*place, name): part for name, part in value.items()} if change["operation"] == "Merge" else {place: value}
        )
    return found


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


@pytest.mark.parametrize("measure", ["log", "wall", "relative"])
def test_another_axis_of_time_redraws_every_panel_whole(tmp_path, measure):
    write_run(tmp_path / "digits", 40)
    browser = Browser(tmp_path)
    browser.ask(view="Now")
    found = browser.ask(view="Now", x=measure, list_runs=False)
    over_steps = set(browser.on_page) - {"layer_gradients"}
    assert {*browser.drawn(found)} >= over_steps
    for name, figure in zip(browser.on_page, found["figure"], strict=True):  # changes to the one there keep its zoom
        assert isinstance(figure, dict) or name not in over_steps
    assert found["shown"]["x"] == measure
    assert redrawn(browser.ask(view="Now", x=measure, list_runs=False)) == []


def test_smoothing_redraws_and_is_told(tmp_path):
    write_run(tmp_path / "digits", 40)
    browser = Browser(tmp_path)
    browser.ask(view="Now")
    found = browser.ask(view="Now", smooth=0.9, list_runs=False)
    assert {"loss_curves", "gradient_sizes"} <= {*browser.drawn(found)}
    assert found["shown"]["smooth"] == 0.9


def test_a_zoom_is_a_stretch_of_the_axis_that_is_shown(tmp_path):
    write_run(tmp_path / "digits", 40)
    browser = Browser(tmp_path)
    for measure, ends in (("step", [3, 9]), ("log", [0.5, 1.5]), ("relative", [0.1, 0.9]), ("wall", [1e12, 2e12])):
        found = browser.ask(view="Now", x=measure, zoom={"loss_curves": ends}, list_runs=False)
        assert browser.figures["loss_curves"]["data"], measure
        assert not any(said for said in found["empty"] if said is not no_update), measure


@pytest.mark.parametrize(
    ("measure", "ends", "told"),
    [
        ("step", [3, 9.5], [3, 9.5]),
        ("log", [0.5, 1.5], [0.5, 1.5]),
        ("wall", [1e12, 1e12 + 1.5], ["2001-09-09 01:46:40.000000", "2001-09-09 01:46:40.001500"]),
        ("wall", [-9e15, 9e15], [-9e15, 9e15]),
    ],
)
def test_a_page_that_is_opened_at_a_zoom_shows_it(tmp_path, measure, ends, told):
    write_run(tmp_path / "digits", 40)
    browser = Browser(tmp_path)
    browser.ask(view="Now", x=measure, zoom={"loss_curves": ends, "layer_gradients": [-9, 3], "nothing": [0, 1]})
    assert browser.figures["loss_curves"]["layout"]["xaxis"]["range"] == told
    assert browser.figures["layer_gradients"]["layout"]["xaxis"]["range"] == [-9, 3]
    assert "range" not in browser.figures["gradient_sizes"]["layout"]["xaxis"]


def test_a_panel_without_points_has_nothing_to_zoom_to(tmp_path):
    Writer(tmp_path / "empty", header("empty")).close()
    browser = Browser(tmp_path)
    browser.ask(view="Now", zoom={"loss_curves": [3, 9]})
    assert "range" not in browser.figures["loss_curves"]["layout"]["xaxis"]
