"""Finished runs: replay, links, switching."""

import numpy as np
import pytest

from cockpit.dashboard import serve
from cockpit.instruments import GradHist2d
from cockpit.reading import Histogram2d, Reading
from cockpit.store import Header, Store, Writer

pytestmark = pytest.mark.browser

PANELS = ("Alpha", "Gradient tests", "Distance and update size", "Gradient elements", "Gradient norm",
          "Hyperparameters", "Performance")  # fmt: skip


def drawn(page):
    """What each panel shows, reduced to its texts and shapes."""
    return {title: page.plot(title, "graph.querySelector('.main-svg').outerHTML") for title in PANELS}


def test_the_slider_moves_every_panel(page, server, finished):
    finished("digits")
    page.open(f"{server.url}/?view=Classic").settled()
    before = drawn(page)
    thumb = page.page.locator("#slider input")
    thumb.press("Home")
    page.until(lambda: page.step() == 0)
    page.settled()
    after = drawn(page)
    assert [title for title in PANELS if before[title] == after[title]] == []
    assert page.panel("Gradient elements").locator(".words").inner_text().startswith("Step 0:")
    assert page.fact("step") == "0 of 391"


def test_the_slider_moves_a_histogram_of_pairs_and_its_axes(page, server, runs):
    """Its bins may reach further at later steps than at earlier ones."""
    panel = GradHist2d.panel
    header = Header("pairs", 0.0, panels={"grad_hist_2d": panel}, instruments={"grad_hist_2d": {}})
    writer = Writer(runs / "pairs", header)
    for step, reach in ((0, 0.25), (9, 4.0)):
        counts = np.eye(4, dtype=np.int64) * (step + 1)
        pairs = Histogram2d(counts, np.linspace(-1, 1, 5), np.linspace(-reach, reach, 5))
        writer.put(step, 0.1 * step, {"grad_hist_2d": Reading(pairs)})
    writer.close()
    page.open(server.url).settled()
    heights = "[graph._fullLayout.yaxis.range, graph._fullLayout.yaxis3.range]"
    widths = "[graph._fullLayout.xaxis.range, graph._fullLayout.xaxis2.range]"
    assert page.plot(panel.title, heights) == [[-4, 4]] * 2
    thumb = page.page.locator("#slider input")
    for key, step, reach in (("Home", 0, 0.25), ("End", 9, 4)):
        thumb.press(key)
        page.until(lambda step=step: page.step() == step)
        page.settled()
        assert page.panel(panel.title).locator(".words").inner_text().startswith(f"Step {step}: {4 * (step + 1)} pairs")
        assert page.plot(panel.title, heights) == [[-reach, reach]] * 2
        assert page.plot(panel.title, widths) == [[-1, 1]] * 2
        assert page.plot(panel.title, "graph._fullData[1].y.length") == 4
        assert page.plot(panel.title, "Math.max(...graph._fullData[1].y)") == step + 1


def test_the_keyboard_moves_the_slider_by_one_step(page, server, finished):
    finished("digits")
    page.open(f"{server.url}/?view=Classic&step=100").settled()
    page.page.locator("#slider input").press("ArrowRight")
    page.until(lambda: page.step() == 101)


def test_the_thumb_can_be_dragged(page, server, finished):
    finished("digits")
    page.open(f"{server.url}/?view=Classic").settled()
    track = page.page.locator("#slider input").bounding_box()
    height = track["y"] + track["height"] / 2
    page.page.mouse.move(track["x"] + track["width"] - 8, height)
    page.page.mouse.down()
    page.page.mouse.move(track["x"] + track["width"] / 2, height, steps=12)
    page.until(lambda: 180 < page.step() < 210)  # the thumb follows with the next frame
    page.page.mouse.up()
    page.settled()
    assert 180 < page.step() < 210
    assert f"step={page.step()}" in page.page.url


def test_play_replays_the_run_and_stops_at_its_end(page, server, finished):
    finished("digits")
    page.open(f"{server.url}/?view=Classic&step=200").settled()
    page.page.get_by_role("textbox", name="Duration of the replay").click()
    page.page.get_by_role("option", name="in 10 s").click()
    page.page.get_by_role("button", name="Play").click()
    seen = []
    page.until(lambda: seen.append(page.step()) or seen[-1] == 391)
    assert seen == sorted(seen)
    assert len(set(seen)) > 2  # a slow machine drops frames, but not all between the first and the last
    page.page.get_by_role("button", name="Play").wait_for()


def test_a_replay_in_a_loop_begins_anew_at_the_end(page, server, finished):
    finished("digits")
    page.open(f"{server.url}/?view=Classic&step=330").settled()
    page.page.get_by_role("textbox", name="Duration of the replay").click()
    page.page.get_by_role("option", name="in 10 s").click()
    page.page.get_by_label("Loop").check()
    page.page.get_by_role("button", name="Play").click()
    page.until(lambda: page.step() > 380)
    page.until(lambda: 0 < page.step() < 200)
    page.page.get_by_role("button", name="Pause").click()


def test_moves_of_the_slider_are_never_taken_back_by_answers_on_their_way(page, server, finished):
    """Keys come faster than the server answers; the last one decides."""
    finished("digits")
    page.open(f"{server.url}/?view=Classic").settled()
    slider = page.page.locator("#slider input")
    slider.press("Home")
    for _ in range(12):
        slider.press("ArrowRight", delay=15)
        page.page.wait_for_timeout(30)
    assert slider.input_value() == "12"
    page.until(lambda: page.step() == 12)
    page.settled()
    assert (slider.input_value(), page.step()) == ("12", 12)


def test_pause_stops_where_it_is(page, server, finished):
    finished("digits")
    page.open(f"{server.url}/?view=Classic").settled()
    page.page.get_by_role("textbox", name="Duration of the replay").click()
    page.page.get_by_role("option", name="in 60 s").click()
    page.page.get_by_role("button", name="Play").click()
    page.until(lambda: 0 < page.step() < 300)
    page.page.get_by_role("button", name="Pause").click()
    page.settled()
    stopped = page.step()
    page.page.wait_for_timeout(800)
    assert page.step() == stopped < 391


def test_another_run_is_one_choice_away_and_back_leads_back(page, server, finished):
    finished("first", "second")
    page.open(f"{server.url}/?view=Classic").settled()
    assert "run=second" in page.page.url
    page.page.locator("#run").click()
    page.page.get_by_role("option", name="first").click()
    page.until(lambda: page.page.title() == "first · Cockpit")
    assert "run=first" in page.page.url
    page.page.go_back()
    page.until(lambda: page.page.title() == "second · Cockpit")
    page.until(lambda: page.page.locator("#run").input_value().startswith("second"))


def test_a_link_opens_the_same_view_again(page, new_page, server, finished):
    finished("first", "second")
    page.open(f"{server.url}/?run=first&view=Classic").settled()
    page.page.locator("#slider input").press("Home")
    page.until(lambda: page.step() == 0)
    for _ in range(3):
        page.page.locator("#slider input").press("ArrowRight")
    page.until(lambda: page.step() == 3 and "step=3" in page.page.url)
    words = page.settled().panel("Gradient elements").locator(".words").inner_text()
    again = new_page().open(page.page.url).settled()
    assert (again.step(), again.page.url) == (3, page.page.url)
    assert again.page.locator("#run").input_value().startswith("first")
    assert again.panel("Gradient elements").locator(".words").inner_text() == words
    assert not again.page.get_by_label("Follow latest").is_checked()


@pytest.mark.parametrize("address", ["?run=first", "?view=Classic"])
def test_what_an_address_leaves_open_is_filled_in_without_a_step_of_the_history(page, server, finished, address):
    finished("first", "second")
    page.open(server.url + address).settled()
    assert "run=" in page.page.url
    assert "view=" in page.page.url
    assert page.page.evaluate("window.history.state?.inside") is None


@pytest.mark.parametrize("over", ["over steps", "over time of day"])
def test_a_zoom_is_kept_by_the_link_whatever_server_answers(page, new_page, runs, finished, port, over):
    finished("digits")
    ends = "graph._fullLayout.xaxis._rl.map(Number)"

    def whole():  # two clicks that come too late one after the other are no double click
        if again.plot("Gradient norm", "graph._fullLayout.xaxis.autorange") is not True:
            again.panel("Gradient norm").locator(".nsewdrag").first.dblclick()
        return again.plot("Gradient norm", "graph._fullLayout.xaxis.autorange") is True

    with serve(Store(runs), port=port) as server:
        page.open(f"{server.url}/?view=Classic").settled()
        page.page.get_by_role("textbox", name="Horizontal axis").click()
        page.page.get_by_role("option", name=over, exact=True).click()
        page.settled().drag("Gradient norm", (60, 20), (150, 22))
        page.until(lambda: "zoom=grad_norm" in page.page.url)
        first, last = page.settled().plot("Gradient norm", ends)
        address = page.page.url
        page.page.goto("about:blank")
    with serve(Store(runs), port=port):
        again = new_page().open(address).settled()
        assert again.plot("Gradient norm", ends) == pytest.approx([first, last], abs=1e-3 * (last - first))
        assert again.page.url == address
        again.until(whole)
        again.until(lambda: "zoom" not in again.page.url)
        assert again.settled().plot("Gradient norm", "graph._fullLayout.xaxis.autorange") is True
        again.page.goto("about:blank")


def test_a_link_to_no_run_is_answered_in_words(page, server, finished):
    finished("digits")
    page.page.goto(f"{server.url}/?run=digitz")
    page.page.get_by_text("there is no run 'digitz'").wait_for()
    page.page.locator("#run").click()
    page.page.get_by_role("option", name="digits").click()
    page.page.locator("#view .panel .main-svg").first.wait_for()


def test_a_logarithmic_axis_is_one_click_away_and_the_link_keeps_it(page, new_page, server, finished):
    finished("digits")
    page.open(f"{server.url}/?view=Classic").settled()
    assert page.plot("Performance", "graph._fullLayout.yaxis.type") == "linear"
    page.panel("Performance").get_by_label("log").click()
    page.until(lambda: page.plot("Performance", "graph._fullLayout.yaxis.type") == "log")
    page.until(lambda: "log=performance" in page.page.url)
    again = new_page().open(page.page.url).settled()
    assert again.plot("Performance", "graph._fullLayout.yaxis.type") == "log"
    assert again.panel("Performance").get_by_label("log").is_checked()


def test_the_pointer_shows_the_same_step_in_all_panels(page, server, finished):
    finished("digits")
    page.open(f"{server.url}/?view=Classic").settled()
    wanted = {"Gradient norm": 1, "Distance and update size": 2, "Gradient tests": 3}
    page.point("Gradient norm", 210, 40)
    page.until(lambda: all(page.panel(title).locator(".hovertext").count() >= wanted[title] for title in wanted))
    page.page.mouse.move(5, 5)
    page.until(lambda: page.page.locator(".hovertext").count() == 0)
