"""The first view of a run."""

import pytest

pytestmark = pytest.mark.browser

PANELS = ("Loss", "Update over weight, by layer", "Gradients by layer", "Batch size and noise",
          "Gradient norm and its samples", "Alpha over time")  # fmt: skip
CURVES = tuple(title for title in PANELS if title != "Gradients by layer")
TEXTS = """graph => {
  const boxes = [...graph.querySelectorAll('.annotation-text, .xtitle, .ytitle, .xtick text, .ytick text')]
    .map(text => [text.textContent, text.getBoundingClientRect()]).filter(([, box]) => box.width > 0);
  const frame = graph.getBoundingClientRect();
  return boxes.filter(([, box]) => box.left < frame.left - 1 || box.right > frame.right + 1
    || box.top < frame.top - 1 || box.bottom > frame.bottom + 1).map(([text]) => text);
}"""


def bottom(page, title):
    return page.panel(title).evaluate("panel => panel.getBoundingClientRect().bottom")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_six_panels_fit_a_laptops_window_without_scrolling(new_page, server, finished, scheme):
    finished("digits")
    page = new_page(1440, 900, scheme).open(server.url).settled()
    assert page.page.locator("#view-select").input_value() == "Now"
    assert max(bottom(page, title) for title in PANELS) <= 900


def test_nothing_written_in_a_figure_is_cut_off(page, server, finished):
    finished("digits")
    page.open(server.url).settled()
    for _ in page.widths():
        page.until(page.fits)
        for title in PANELS:
            page.until(lambda title=title: page.panel(title).locator(".js-plotly-plot").evaluate(TEXTS) == [])


def drawn(page, title):
    return page.plot(title, "[...graph.querySelectorAll('.main-svg')].map(svg => svg.outerHTML).join()")


def test_every_panel_follows_the_slider(page, server, finished):
    finished("digits")
    page.open(server.url).settled()
    before = {title: drawn(page, title) for title in PANELS}
    page.page.locator("#slider input").press("Home")
    page.until(lambda: page.step() == 0)
    page.settled()
    assert [title for title in PANELS if drawn(page, title) == before[title]] == []


@pytest.mark.parametrize(("label", "measure", "kind"), [
    ("over log steps", "log", "log"), ("over time of day", "wall", "date"), ("over time", "relative", "linear"),
])  # fmt: skip
def test_the_axis_of_time_is_switched_for_all_panels_and_the_link_keeps_it(
    new_page, page, server, finished, label, measure, kind
):
    finished("digits")
    page.open(server.url).settled()
    page.page.get_by_role("textbox", name="Horizontal axis").click()
    page.page.get_by_role("option", name=label, exact=True).click()
    page.until(lambda: f"x={measure}" in page.page.url)
    page.settled()
    assert {page.plot(title, "graph._fullLayout.xaxis.type") for title in CURVES} == {kind}
    again = new_page().open(page.page.url).settled()
    assert {again.plot(title, "graph._fullLayout.xaxis.type") for title in CURVES} == {kind}
    assert again.page.get_by_role("textbox", name="Horizontal axis").input_value() == label


def test_smoothing_is_moved_by_the_keyboard_kept_by_the_link_and_given_back(page, server, finished):
    finished("digits")
    page.open(server.url).settled()
    thumb = page.page.locator("#smooth input")
    thumb.press("End")
    page.until(lambda: "smooth=0.99" in page.page.url)
    thumb.press("Home")
    page.until(lambda: "smooth=0" in page.page.url and "0.99" not in page.page.url)
    page.page.get_by_label("Smooth as suits each curve").click()
    page.until(lambda: "smooth" not in page.page.url)


def test_the_pointer_tells_every_panel_its_step(page, server, finished):
    finished("digits")
    page.open(server.url).settled()
    page.point("Loss", 150, 50)
    for title in CURVES:
        page.until(lambda title=title: page.panel(title).locator(".hoverlayer .hovertext").count() > 0)
