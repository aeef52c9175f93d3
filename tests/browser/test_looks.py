"""Sizes, colours, and text that stays text."""

import time

import pytest

from cockpit.panel import Panel
from cockpit.reading import Reading
from cockpit.store import Header, Writer

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(1)><b>bold"

OVERLAPS = """() => {
  const boxes = [...document.querySelectorAll('.panel')].map(panel => panel.getBoundingClientRect());
  return boxes.some((a, i) => boxes.some((b, j) => i < j &&
    a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1));
}"""


def test_the_page_fits_its_window(page, server, finished):
    finished("digits")
    page.open(f"{server.url}/?view=Classic").settled()
    for _ in page.widths():
        page.until(page.fits)
        page.until(lambda: not page.page.evaluate(OVERLAPS))
        sizes = page.page.evaluate(
            "[...document.querySelectorAll('.js-plotly-plot')].map(graph => [graph.clientWidth, graph.clientHeight])"
        )
        assert all(wide >= 300 and high >= 150 for wide, high in sizes)


def test_the_colour_scheme_is_the_systems_until_switched_and_then_kept(new_page, server, finished):
    finished("digits")
    page = new_page(scheme="dark").open(f"{server.url}/?view=Classic").settled()

    def scheme():
        return page.page.evaluate("document.documentElement.dataset.mantineColorScheme")

    def paper():
        return page.plot("Performance", "graph._fullLayout.paper_bgcolor")

    assert (scheme(), paper()) == ("dark", "#1b1f26")
    page.page.get_by_label("Dark or light").click()
    page.until(lambda: (scheme(), paper()) == ("light", "#ffffff"))
    page.page.reload()
    page.page.locator("#view .panel .main-svg").first.wait_for()
    page.settled()
    assert (scheme(), paper()) == ("light", "#ffffff")


def test_nothing_stored_is_rendered_as_html(page, server, runs):
    panel = Panel(HOSTILE, "lines", HOSTILE, ylabel=HOSTILE, references=((0.5, HOSTILE),))
    writer = Writer(
        runs / HOSTILE, Header(HOSTILE, time.time(), panels={HOSTILE: panel, "metrics": metrics_panel()}),
        flush_interval=0.05,
    )  # fmt: skip
    for step in range(5):
        writer.put(step, 0.1 * step, {HOSTILE: Reading(0.1 * step)})
        writer.scalars(step, 0.1 * step, {HOSTILE + "/train": 1.0, HOSTILE + "2/train": 2.0})
    writer.event(2, 0.2, "error", HOSTILE, HOSTILE)
    writer.document("coverage", {"share": 0.5, "left_out": {HOSTILE: HOSTILE}, "coupled": False})
    writer.close()
    page.open(f"{server.url}/?view=Classic").settled()
    page.page.locator("#run").click()
    page.page.locator("#alerts summary").click()
    assert page.page.locator("img").count() == 0
    for place in (".heading h3", ".how", ".notice", "#alerts", ".annotation-text", "[role=option]"):
        assert HOSTILE[:4] in page.page.locator(place).first.text_content(), place
    assert page.page.title() == f"{HOSTILE} · Cockpit"


def metrics_panel():
    return Panel("Metrics", "lines", "What the script logs.", keys=("nothing",), user_metrics=True)
