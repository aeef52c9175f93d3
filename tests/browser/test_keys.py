"""The page by keyboard alone."""

import pytest

pytestmark = pytest.mark.browser


def test_arrows_step_and_space_plays(server, page, finished):
    finished("digits")
    page.open(f"{server.url}/?step=100").settled()
    page.page.keyboard.press("ArrowRight")
    page.until(lambda: page.step() == 101)
    page.page.keyboard.press("ArrowLeft")
    page.page.keyboard.press("ArrowLeft")
    page.until(lambda: page.step() == 99)
    page.page.keyboard.press("Shift+ArrowRight")
    page.until(lambda: page.step() == 107)
    page.page.keyboard.press("Home")
    page.until(lambda: page.step() == 0)
    page.page.keyboard.press(" ")
    page.page.get_by_role("button", name="Pause").wait_for()
    page.page.keyboard.press(" ")
    page.page.get_by_role("button", name="Play").wait_for()
    page.page.keyboard.press("End")
    page.until(lambda: page.step() == 391 and page.page.get_by_label("Follow latest").is_checked())


def test_numbers_choose_views(server, page, finished):
    finished("digits")
    page.open(server.url).settled()
    tabs = page.page.locator("#view-tabs input[type=radio]")
    values = [tabs.nth(place).get_attribute("value") for place in range(tabs.count())]
    page.page.keyboard.press(str(values.index("Runs") + 1))
    page.page.locator(".runs-grid .ag-row").first.wait_for()
    page.page.keyboard.press(str(values.index("Classic") + 1))
    page.page.locator("#view .panel .main-svg").first.wait_for()
    page.until(lambda: "view=Classic" in page.page.url)


def test_the_question_mark_lists_the_keys(server, page, finished):
    finished("digits")
    page.open(server.url).settled()
    page.page.keyboard.press("?")
    page.page.get_by_role("dialog", name="Keyboard").get_by_text("Play and pause").wait_for()
    page.page.keyboard.press("Escape")
    page.page.get_by_role("dialog").wait_for(state="hidden")


def test_what_is_typed_is_no_command(server, page, finished):
    finished("digits")
    page.open(f"{server.url}/?step=100").settled()
    page.page.locator("#run").click()
    page.page.keyboard.type("1? d")
    page.page.keyboard.press("ArrowLeft")
    page.settled()
    assert page.step() == 100
    assert page.page.get_by_role("dialog").count() == 0
    assert page.page.evaluate("document.documentElement.dataset.mantineColorScheme") == "light"


def test_tabs_become_a_list_where_there_is_no_room(server, new_page, finished):
    finished("digits")
    wide, narrow = new_page(width=1440).open(server.url), new_page(width=400).open(server.url)
    assert wide.page.locator("#view-tabs").is_visible()
    assert not wide.page.locator("#view-select").is_visible()
    assert not narrow.page.locator("#view-tabs").is_visible()
    narrow.page.locator("#view-select").click()
    narrow.page.get_by_role("option", name="Runs").click()
    narrow.page.locator(".runs-grid .ag-row").first.wait_for()


def test_a_tab_leads_to_its_view_and_back_leads_back(server, page, finished):
    finished("digits")
    page.open(server.url).settled()
    page.page.locator("#view-tabs").get_by_text("Runs").click()
    page.page.locator(".runs-grid .ag-row").first.wait_for()
    page.page.go_back()
    page.page.locator("#view .panel .main-svg").first.wait_for()


def test_what_has_the_focus_is_seen(server, page, finished):
    finished("digits")
    page.open(server.url).settled()
    for _ in range(4):
        page.page.keyboard.press("Tab")
    outline = page.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


def focus(page):
    """What has the focus: itself or the nearest with an id, and whether it is within the view."""
    return page.page.evaluate("[document.activeElement.closest('[id]').id, !!document.activeElement.closest('#view')]")


def test_the_first_tab_offers_a_way_past_the_controls(server, page, finished):
    finished("digits")
    page.open(server.url).settled()
    page.page.keyboard.press("Tab")
    skip = page.page.get_by_role("link", name="Skip to the panels")
    page.until(lambda: skip.bounding_box()["y"] > 0)
    address = page.page.url
    page.page.keyboard.press("Enter")
    assert focus(page) == ["view", True]
    page.page.keyboard.press("Tab")
    assert page.page.evaluate("document.activeElement.textContent") == "Loss"
    assert page.page.url == address


def test_escape_closes_what_lies_on_top_and_only_then_leads_back(server, page, finished):
    finished("digits")
    page.open(f"{server.url}/?view=Panel&panel=alpha").settled()
    page.page.locator("#coverage summary").focus()
    page.page.keyboard.press("Enter")
    page.page.get_by_text("head.weight: no optimizer holds it").wait_for()
    page.page.locator("#downloads summary").click()
    assert page.page.locator("details.unfolding[open]").get_attribute("id") == "downloads"
    page.page.keyboard.press("Escape")
    assert page.page.locator("details.unfolding[open]").count() == 0
    assert focus(page)[0] == "downloads"
    page.page.keyboard.press("?")
    page.page.get_by_role("dialog").wait_for()
    page.page.keyboard.press("Escape")
    page.page.get_by_role("dialog").wait_for(state="hidden")
    assert "view=Panel" in page.settled().page.url
    page.page.keyboard.press("Escape")
    page.until(lambda: "view=Now" in page.page.url)
