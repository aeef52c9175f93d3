"""Two trainings beside each other, as a person compares them.

The page comes last among the fixtures, so that it closes first: it asks for as long as it is open.
"""

import time

import pytest
from synthetic import write_run

from cockpit.dashboard.compare import Compare
from cockpit.reading import Reading
from cockpit.store import Header, Writer

pytestmark = pytest.mark.browser

BOTH = "?view=Compare&runs=one|two"
HOSTILE = "<img src=x onerror=alert(1)>"


def points(page, title):
    return page.plot(title, "graph._fullData.map(trace => trace.x.length)") or [0]


def choose(page, label, option):
    page.page.get_by_role("textbox", name=label).click()
    page.page.get_by_role("option", name=option, exact=True).click()


def test_two_trainings_grow_in_one_figure_and_zoom_survives(server, start, page, runs):
    for name in ("one", "two"):
        start(name)
    page.until(lambda: all((runs / name / "rank0.db").exists() for name in ("one", "two")))
    page.page.goto(server.url + BOTH + "&key=loss")
    page.panel("loss").locator(".main-svg").first.wait_for()
    page.until(lambda: len(points(page, "loss")) >= 2 and min(points(page, "loss")) > 3)
    page.drag("loss", (30, 10), (150, -10))
    ranges = "[graph._fullLayout.xaxis.range, graph._fullLayout.yaxis.range]"
    zoomed, before = page.plot("loss", ranges), points(page, "loss")
    page.until(lambda: points(page, "loss") != before)
    assert page.plot("loss", ranges) == zoomed


def test_what_is_chosen_stands_in_the_address_and_opens_again(server, finished, page):
    finished("one", "two", "three")
    page.page.goto(server.url + BOTH)
    page.panel("loss").locator(".main-svg").first.wait_for()
    choose(page, "Runs", "three")
    page.until(lambda: "three" in page.page.locator(".compare-legend").inner_text())
    choose(page, "Over", "Samples")
    page.until(lambda: page.plot("loss", "graph._fullLayout.xaxis.title.text") == "samples seen")
    assert "over=samples" in page.page.url
    page.page.reload()
    page.panel("loss").locator(".main-svg").first.wait_for()
    page.until(lambda: page.plot("loss", "graph._fullLayout.xaxis.title.text") == "samples seen")
    colours = page.plot(
        "loss", "graph._fullData.filter(trace => trace.hovertemplate && trace.line).map(trace => trace.line.color)"
    )
    assert len(set(colours)) == 3


def test_the_step_from_which_a_run_is_apart_is_told_and_a_click_draws_the_quantity(server, runs, page):
    write_run(runs / "one")
    write_run(runs / "two", fault=True)
    page.page.goto(server.url + BOTH)
    first = page.panel("First divergence of one and two").get_by_role("link").first
    first.wait_for()
    key = first.inner_text()
    first.click()
    page.page.wait_for_url(f"**key={key}*")
    page.page.get_by_text("apart for good from step 2").wait_for()
    page.page.locator("#view .panel .main-svg").first.wait_for()


def test_what_takes_longer_than_the_page_rests_is_asked_for_once_at_a_time(server, finished, page, monkeypatch):
    answer, running, most = Compare.answer, [], []

    def slowly(*args):
        running.append(None)
        most.append(len(running))
        time.sleep(3)  # the page looks every two seconds
        running.pop()
        return answer(*args)

    monkeypatch.setattr(Compare, "answer", slowly)
    finished("one", "two")
    page.page.goto(server.url + BOTH)
    page.panel("First divergence of one and two").get_by_text("These runs stay together").wait_for()
    page.until(lambda: len(most) > 1)
    assert set(most) == {1}


def test_pointing_at_one_figure_shows_the_values_in_all(server, finished, page):
    finished("one", "two")
    page.page.goto(server.url + BOTH + "&key=loss|grad_norm")
    page.panel("grad_norm").locator(".main-svg").first.wait_for()
    page.settled()

    def pointed():  # a page that looks anew meanwhile takes the labels away
        page.point("loss", 110, 60)
        page.page.wait_for_timeout(200)
        return page.panel("grad_norm").locator(".hovertext").count() == 2

    page.until(pointed)


def test_the_view_fits_its_window(server, finished, new_page):
    finished("one", "two")
    page = new_page(scheme="dark")
    page.page.goto(server.url + BOTH)
    page.panel("loss").locator(".main-svg").first.wait_for()
    for _ in page.widths():
        page.until(page.fits)


def test_names_and_settings_are_no_markup(server, page, runs):
    for name in ("one", HOSTILE.replace("/", "-")):
        writer = Writer(runs / name, Header(name, time.time(), config={HOSTILE: HOSTILE + name}))
        for step in range(20):
            writer.put(step, 0.1 * step, {HOSTILE: Reading(1.0, layers={HOSTILE: 1.0 + len(name) * step})})
        writer.close()
    page.page.goto(server.url + "?view=Compare&runs=one|" + HOSTILE.replace("/", "-"))
    page.panel(HOSTILE).locator(".main-svg").first.wait_for()
    page.settled()
    assert page.page.locator("#view img").count() == 0
    assert HOSTILE in page.page.locator(".compare-legend").inner_text()


def test_an_address_without_runs_compares_the_two_newest(server, finished, page):
    finished("one", "two")
    page.page.goto(server.url + "?view=Compare")
    page.page.locator(".compare-legend .run").nth(1).wait_for()
    page.settled()
    assert page.page.locator(".compare-legend .run").count() == 2
