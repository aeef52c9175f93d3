"""A log of f-dangel/cockpit, imported and replayed."""

from pathlib import Path

import pytest

from cockpit.formats.json_import import import_json

pytestmark = pytest.mark.browser

PEER = Path(__file__).parent.parent / "compat" / "peer.json"


def test_every_panel_of_an_imported_run_follows_the_slider_and_the_address_holds_the_step(server, page, runs):
    import_json(PEER, runs / "peer")
    page.open(f"{server.url}/?view=Classic").settled()
    titles = [panel.get_attribute("aria-label") for panel in page.page.locator("#view .panel").all()]
    assert {"Alpha", "Gradient elements", "Gradient elements and parameters", "Gradient tests"} <= set(titles)
    shown = [title for title in titles if not page.panel(title).locator(".empty").inner_text()]

    def drawn():
        return {
            title: (
                page.plot(title, "graph.querySelector('.main-svg').outerHTML"),
                page.panel(title).locator(".words").inner_text(),
            )
            for title in shown
        }

    seen = [drawn()]
    thumb = page.page.locator("#slider input")
    for key, step in (("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2)):
        thumb.press(key)
        page.until(lambda step=step: page.step() == step and f"step={step}" in page.page.url)
        seen.append(page.settled() and drawn())
    assert [title for title in shown if len({view[title] for view in seen}) < 2] == []
    words = [view["Gradient elements"][1] for view in seen]
    assert [line.split(":")[0] for line in words] == ["Step 3", "Step 0", "Step 1", "Step 2"]
    address, before = page.page.url, drawn()
    page.page.reload()
    page.page.locator("#view .panel .main-svg").first.wait_for()
    page.settled()
    assert (page.step(), page.page.url) == (2, address)
    assert {title: words for title, (_, words) in drawn().items()} == {
        title: words for title, (_, words) in before.items()
    }
