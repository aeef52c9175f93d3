"""The views Layers and Panel, as a person uses them."""

import time
from pathlib import Path
from urllib.parse import parse_qs, quote, urlparse

import numpy as np
import pytest
from layered import write_layered

from cockpit.panel import LayerColumn, Panel
from cockpit.reading import Histogram, Reading
from cockpit.screens import SCREENS
from cockpit.store import Header, Writer

pytestmark = pytest.mark.browser

LAYERED = Path(__file__).parent.parent / "layered.py"
HOSTILE = '<img src=x onerror=alert(1)><b>bold"'
FIRST = SCREENS[0].name


@pytest.fixture
def layered(runs):
    def write():
        write_layered(runs / "net", 200)

    return write


def query(page):
    return {name: value[0] for name, value in parse_qs(urlparse(page.page.url).query).items()}


def rows(page):
    return [text.strip() for text in page.page.locator(".layer-table tbody th").all_inner_texts()]


def open_layers(page, server, address="?view=Layers"):
    page.page.goto(server.url + address)
    page.page.locator(".layer-table tbody tr").first.wait_for()
    page.page.locator(".layers .main-svg").first.wait_for()
    return page.settled()


def test_rows_unfold_sort_and_open_and_the_address_follows(page, server, layered):
    layered()
    open_layers(page, server)
    page.page.get_by_role("link", name="depth").click()
    page.until(lambda: rows(page)[0] == "embed")
    page.page.locator("tr.follows", has_text="widen").click()
    page.until(lambda: "blocks.1.widen" in rows(page))
    assert query(page) == {
        "run": "net", "view": "Layers", "sort": "depth", "unfolded": '["blocks.[0-2].widen"]',
    }  # fmt: skip
    unfolded = page.page.url
    page.page.locator("tr.follows", has_text="blocks.1.widen").locator("td").first.click()
    page.page.get_by_role("heading", name="blocks.1.widen").wait_for()
    page.settled()
    assert query(page)["layer"] == "blocks.1.widen"
    alone = page.page.url
    page.page.keyboard.press("Escape")
    page.until(lambda: "blocks.1.widen" in rows(page))
    assert page.page.url == unfolded
    page.page.goto(alone)
    page.page.get_by_role("heading", name="blocks.1.widen").wait_for()
    page.settled()
    page.page.keyboard.press("Escape")
    page.until(lambda: "blocks.1.widen" in rows(page))


def test_the_table_and_the_map_follow_the_slider(page, server, layered):
    layered()
    open_layers(page, server, "?run=net&view=Layers&grouping=depth")
    assert rows(page)[0] == "blocks.1.widen"
    open_layers(page, server, "?run=net&view=Layers&grouping=depth&step=40")
    assert rows(page)[0] == "embed"
    marks = "document.querySelector('.layers .js-plotly-plot').layout.shapes.filter(shape => shape.type === 'line')"
    places = f"[...new Set({marks}.map(shape => shape.x0))]"  # in the map, and among the events below it
    assert page.page.evaluate(places) == [40]
    page.page.locator("#slider input").focus()
    for _ in range(3):
        page.page.keyboard.press("ArrowRight")
    page.until(lambda: page.page.evaluate(places) == [43])


def test_a_replay_ends_at_the_last_step_with_the_table_drawn(page, server, layered):
    layered()
    open_layers(page, server, "?run=net&view=Layers&grouping=depth&step=180")
    page.page.locator("#speed").click()
    page.page.get_by_role("option", name="in 10 s").click()
    page.page.get_by_role("button", name="Play").click()
    page.until(lambda: page.step() == 195)
    page.settled()
    assert rows(page)[0] == "blocks.1.widen"


def test_choices_are_kept_in_the_address_and_come_back_with_it(page, server, layered):
    layered()
    open_layers(page, server)
    page.page.get_by_label("Map of", exact=True).first.click()
    page.page.get_by_role("option", name="Curvature share").click()
    title = "document.querySelector('.layers .js-plotly-plot').data[0].colorbar.title.text"
    page.until(lambda: page.page.evaluate(title) == "Curvature share")
    assert query(page)["quantity"] == "trace:share"
    page.page.reload()
    page.page.locator(".layers .main-svg").first.wait_for()
    page.settled()
    assert page.page.evaluate(title) == "Curvature share"


def test_a_live_run_grows_without_losing_the_zoom(page, server, start):
    start("net", "--steps", "100000", "--pace", "0.05", script=LAYERED)
    page.page.goto(server.url + "?run=net&view=Layers")  # a run that is not there yet is looked for by itself
    page.page.locator(".layer-table tbody tr").first.wait_for()
    page.page.locator(".layers .main-svg").first.wait_for()
    graph = page.page.locator(".layers .js-plotly-plot")
    graph.evaluate("graph => Plotly.relayout(graph, {'xaxis.range': [0, 20]})")
    before = page.step()
    page.until(lambda: page.step() > before + 20)
    page.until(lambda: graph.evaluate("graph => graph.data[0].x.bdata ? 1 : graph.data[0].x.length > 4") == 1)
    assert graph.evaluate("graph => graph.layout.xaxis.range.map(Math.round)") == [0, 20]


def test_a_heading_opens_its_panel_in_full_and_escape_and_back_return(page, server, layered):
    layered()
    page.open(server.url).settled()
    page.page.get_by_role("link", name="Update over weight").click()
    page.page.locator(".explained mjx-container").first.wait_for()
    page.settled()
    assert query(page) == {"run": "net", "view": "Panel", "panel": "update"}
    page.page.keyboard.press("Escape")
    page.until(lambda: query(page)["view"] == FIRST)
    page.settled()
    page.page.get_by_role("link", name="Update over weight").click()
    page.page.locator(".explained").wait_for()
    page.page.go_back()
    page.until(lambda: query(page)["view"] == FIRST)
    page.settled()  # what is asked for when the page is left would count as failed
    page.page.goto(server.url + "?run=net&view=Panel&panel=update&step=40")
    page.page.locator(".explained").wait_for()
    page.settled()
    page.page.keyboard.press("Escape")
    page.until(lambda: query(page) == {"run": "net", "view": FIRST, "step": "40"})


def test_the_log_box_and_the_slider_work_in_full_too(page, server, layered):
    layered()
    page.open(server.url + "?run=net&view=Panel&panel=update").settled()
    plot = page.panel("Update over weight")
    assert page.plot("Update over weight", "graph.layout.yaxis.type") == "log"
    plot.get_by_label("log").click()
    page.until(lambda: page.plot("Update over weight", "graph._fullLayout.yaxis.type") == "linear")
    page.page.locator("#slider input").focus()
    page.page.keyboard.press("Home")
    page.until(lambda: "at step 0" in page.page.locator(".facts").inner_text() or page.step() == 0)
    page.until(lambda: "up to step 0" in page.page.locator(".facts").inner_text())


@pytest.mark.parametrize("address", ["view=Layers", "view=Layers&layer=head", "view=Panel&panel=update"])
def test_the_views_fit_their_window(page, server, layered, address):
    layered()
    page.page.goto(f"{server.url}?run=net&{address}")
    page.page.locator(".panel .main-svg").first.wait_for()
    for _ in page.widths():
        page.until(page.fits)


@pytest.mark.parametrize(
    "address",
    ["view=Panel&panel={}", "view=Layers", "view=Layers&layer={}", "view=Panel&panel=<i>", "view=Layers&layer=<i>"],
)
def test_nothing_stored_is_rendered_as_html(page, server, runs, address):
    words = dict.fromkeys(("formula", "good", "bad", "source"), HOSTILE)
    column = LayerColumn(HOSTILE, HOSTILE, how_to_read=HOSTILE)
    panel = Panel(HOSTILE, "lines", HOSTILE, layers=(column,), **words)
    tex = Panel("TeX", "lines", HOSTILE, (HOSTILE,), formula=r"\text{<img src=x onerror=alert(1)>} < \text{[a](b)}")
    layer = f"{HOSTILE}.layer"
    instruments = {HOSTILE: {"interval": HOSTILE, "settings": {HOSTILE: HOSTILE}}}
    writer = Writer(
        runs / "run", Header("run", time.time(), panels={HOSTILE: panel, "tex": tex}, instruments=instruments),
        flush_interval=0.05,
    )  # fmt: skip
    counts = Histogram(np.array([1, 2]), np.array([0.0, 1.0, 2.0]))
    for step in range(3):
        writer.put(step, 0.1, {HOSTILE: Reading(1.0, {layer: 1.0}), "h": Reading(counts, {layer: counts})})
    writer.event(1, 0.1, "warning", HOSTILE, HOSTILE)
    writer.close()
    for name in ("tex", layer if "layer=" in address else HOSTILE):
        page.page.goto(f"{server.url}?run=run&{address.format(quote(name))}")
        page.page.locator("#view .bar, #view .panel").first.wait_for()
        page.settled()
        assert page.page.locator("#view img, #view b:text-is('bold'), #view i").count() == 0
    assert ("<i>" if "<i>" in address else "<img src=x") in page.page.locator("#view").inner_text()
