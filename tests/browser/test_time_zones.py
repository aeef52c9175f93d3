"""Times of day where the browser's clock is not the server's: the same ones everywhere on the page."""

from datetime import datetime
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest
from synthetic import write_run

pytestmark = pytest.mark.browser

BEGAN = 1_782_000_000.0  # in the summer of 2026
ZONE, AHEAD = "Asia/Kolkata", 5.5 * 3600


@pytest.fixture
def there(page, server, runs):
    """A page in India; its runs began in another year's summer."""
    for name in ("one", "two"):
        write_run(runs / name, 40, created=BEGAN)
    clock = page.page.context.new_cdp_session(page.page)
    clock.send("Emulation.setTimezoneOverride", {"timezoneId": ZONE})
    return page


def local(form):
    return f"{datetime.fromtimestamp(BEGAN, ZoneInfo(ZONE)):{form}}"


def test_axes_tables_and_comparisons_tell_the_readers_time_and_say_which_that_is(there, server):
    title = f"{local('%Y-%m-%d')}, UTC+05:30"
    there.open(f"{server.url}?run=one&x=wall").settled()
    assert there.plot("Loss", "graph._fullLayout.xaxis.title.text") == title
    assert there.plot("Loss", "Math.min(...graph._fullData[0].x)") == pytest.approx(1000 * (BEGAN + AHEAD), abs=5000)
    there.page.goto(f"{server.url}?view=Compare&runs={quote('one|two')}&key=loss&over=wall")
    there.panel("loss").locator(".main-svg").first.wait_for()
    assert there.plot("loss", "graph._fullLayout.xaxis.title.text") == title
    there.page.goto(f"{server.url}?view=Runs")
    there.page.get_by_text(local("%Y-%m-%d %H:%M")).first.wait_for()


def test_a_stretch_of_time_is_kept_as_the_same_moments_wherever_the_address_is_opened(there, server, new_page):
    there.open(f"{server.url}?run=one&x=wall").settled()
    ends = [f"{local('%Y-%m-%d %H:%M:%S')}.{tenths}" for tenths in (2, 8)]  # as plotly tells what the pointer did
    there.plot("Loss", f"Plotly.relayout(graph, {{'xaxis.range': {ends}}}) && 0")
    there.until(lambda: "zoom=" in there.page.url)
    kept = there.page.url.partition("zoom=")[2].split("&")[0].replace("%3A", ":").split(":")[1:]
    assert [float(end) for end in kept] == pytest.approx([1000 * (BEGAN + seconds) for seconds in (0.2, 0.8)], abs=1)
    elsewhere = new_page().open(there.page.url).settled()
    here = f"{datetime.fromtimestamp(BEGAN):%Y-%m-%d %H:%M}"
    assert elsewhere.plot("Loss", "graph._fullLayout.xaxis.range[0]").startswith(here)
