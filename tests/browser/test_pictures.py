"""What the page gives to take along: pictures of figures as PNG and SVG from every view, and the run itself."""

from xml.etree import ElementTree

import pytest

pytestmark = pytest.mark.browser

SVG = "{http://www.w3.org/2000/svg}"


def saved(page, card, kind):
    """The file that a figure's button gives, as its name and its bytes."""
    card.locator(".nsewdrag").first.hover(force=True)
    with page.page.expect_download() as download:
        card.get_by_role("button", name=f"Download as {kind}").first.click()
    return download.value.suggested_filename, download.value.path().read_bytes()


def words_in(svg):
    """All text in it, and the colour of its paper."""
    root = ElementTree.fromstring(svg)
    paper = next(root.iter(f"{SVG}rect"))
    return " ".join("".join(part.itertext()) for part in root.iter(f"{SVG}text")), paper.attrib["style"]


def size_of(png):
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


@pytest.mark.parametrize(("scheme", "paper"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(27, 31, 38)")])
def test_a_panel_is_saved_as_it_is_shown(new_page, server, finished, scheme, paper):
    finished("digits")
    page = new_page(scheme=scheme).open(f"{server.url}/?view=Now&step=100").settled()
    card = page.panel("Loss")
    name, svg = saved(page, card, "SVG")
    assert name == "digits-loss_curves-step-100.svg"
    words, style = words_in(svg)
    assert all(part in words for part in ("Loss · digits · step 100", "step", "learning_rate", "guessing, ln C"))
    assert paper in style
    name, png = saved(page, card, "PNG")
    assert name == "digits-loss_curves-step-100.png"
    graph = card.locator(".js-plotly-plot").bounding_box()
    wide, high = size_of(png)
    assert (wide, high) == (2 * round(graph["width"]), 2 * (round(graph["height"]) + 30))


VIEWS = {
    "view=Classic&step=100": ("digits-", "step-100"),
    "view=Layers": ("digits-", "step-391"),
    "view=Layers&layer=fc1.weight&step=100": ("digits-", "step-100"),
    "view=Panel&panel=alpha&step=100": ("digits-alpha", "step-100"),
    "view=Compare&runs=digits|other&key=loss": ("compare-loss", "svg"),
}


def test_every_figure_of_every_view_offers_both(page, server, finished):
    finished("digits", "other")
    for view, (start, part) in VIEWS.items():
        page.open(f"{server.url}/?run=digits&{view}").settled()
        cards = page.page.locator("#view .panel", has=page.page.locator(".js-plotly-plot .xtitle")).all()
        assert cards, view
        for card in cards:
            card.locator(".nsewdrag").first.hover(force=True)
            assert card.get_by_role("button", name="Download as PNG").count() == 1, view
        name, svg = saved(page, cards[0], "SVG")
        assert name.startswith(start)
        assert part in name
        words, _ = words_in(svg)
        assert all(title.text_content() in words for title in cards[0].locator(".xtitle, .ytitle").all())
        assert "other" in words or "Compare" not in view  # runs are told apart by a legend


def test_the_buttons_are_reached_by_the_keyboard(page, server, finished):
    finished("digits")
    page.open(f"{server.url}/?view=Classic").settled()
    page.panel("Gradient norm").get_by_role("link").focus()
    button = page.panel("Gradient norm").get_by_role("button", name="Download as SVG")
    button.focus()
    with page.page.expect_download() as download:
        page.page.keyboard.press("Enter")
    assert download.value.suggested_filename == "digits-grad_norm-step-391.svg"


def test_the_run_is_downloaded_from_the_strip_on_top(page, server, finished):
    finished("digits")
    page.open(server.url).settled()
    page.page.locator("#downloads summary").click()
    for words, name, start in (
        ("All numbers, CSV", "digits.csv", b"step,"),
        ("Report, one page of HTML", "digits.html", b"<!DOCTYPE html>"),
    ):
        with page.page.expect_download() as download:
            page.page.get_by_role("link", name=words).click()
        assert download.value.suggested_filename == name
        assert download.value.path().read_bytes().startswith(start)
