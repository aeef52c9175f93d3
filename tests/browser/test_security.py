"""Attacks on the page in a real browser: stored text that is code, pages elsewhere, visitors without the token."""

import itertools
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlencode

import pytest
from hostile import CODE, FOREIGN, HOSTILE, LINK, MARKDOWN, write_hostile
from patience import LONG, until

from cockpit.dashboard import guard, serve
from cockpit.notebook import NOTEBOOKS
from cockpit.store import Store

pytestmark = pytest.mark.browser


def views_of(page):
    page.page.locator("#view-tabs input[type=radio]").first.wait_for(state="attached")
    return page.page.evaluate("[...document.querySelectorAll('#view-tabs input[type=radio]')].map(tab => tab.value)")


def test_no_stored_text_is_code_in_any_view(server, page, runs):
    name = write_hostile(runs)
    Store(runs).annotate(name, notes=f"{HOSTILE}\n{MARKDOWN}")
    page.open(server.url).settled()
    for view in views_of(page):
        page.page.locator(f'#view-tabs label:has-text("{view}")').first.click()
        page.until(lambda: f"view={view.replace(' ', '+')}" in page.page.url)  # noqa: B023
        page.settled()
        for details in page.page.locator("details summary").all():
            details.click()
        for graph in page.page.locator("#view .nsewdrag").all():
            graph.hover(force=True)
        assert page.page.evaluate(FOREIGN) == [], view
        assert CODE in page.page.locator("#root, body").first.text_content(), view
    assert page.page.title().endswith("Cockpit")


def test_no_word_about_a_panel_is_code(server, page, runs):
    query = {"run": write_hostile(runs), "view": "Panel", "panel": f"lines {CODE}"}
    page.open(f"{server.url}/?{urlencode(query)}").settled()
    page.page.locator(".formula mjx-container").first.wait_for()  # one line is TeX, and set as such
    assert page.page.evaluate(FOREIGN) == []
    said = page.page.locator(".explained").inner_text()
    for text in (HOSTILE, MARKDOWN, LINK, "$$"):
        assert text in said


def test_names_tags_notes_and_values_of_the_list_are_text(server, page, runs):
    name = write_hostile(runs)
    Store(runs).annotate(name, tags=(HOSTILE, MARKDOWN), notes=HOSTILE)
    page.page.goto(f"{server.url}/?view=Runs")
    page.page.locator(".runs-grid .ag-row").first.wait_for()
    page.settled()
    for column in ("name", "tags", "notes"):
        cell = page.page.locator(f'.runs-grid .ag-cell[col-id="{column}"]')
        assert cell.inner_text().startswith("<img src=x onerror"), column
        cell.hover()
    told, tries = [], itertools.count(1)

    def told_on_notes():  # the grid's own words on a cell come after a moment, and go
        page.page.mouse.move(0, 0)
        cell.hover()
        page.page.wait_for_timeout(min(5000, 1000 * next(tries)))
        told.extend(page.page.locator(".ag-tooltip").all_text_contents())
        return told

    page.until(told_on_notes)
    assert all(words.startswith("<img") for words in told)
    page.page.locator(".runs-grid .ag-row .ag-selection-checkbox input").first.click()
    page.page.get_by_role("button", name="Delete 1 …").click()
    page.page.get_by_role("dialog", name="Delete runs?").get_by_text("<img src=x").wait_for()
    assert page.page.evaluate(FOREIGN) == []
    page.page.get_by_role("button", name="Keep them").click()
    link = page.page.locator('.runs-grid .ag-cell[col-id="name"] a')
    assert link.get_attribute("href").startswith("?run=")
    link.click()
    page.page.locator("#view .panel .main-svg").first.wait_for()
    page.until(lambda: page.page.title() == f"{name} · Cockpit")


@pytest.fixture
def elsewhere():
    """Serves a page from another origin of this machine; gives its address under a name of another site."""
    servers = []

    def publish(html):
        class Page(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(html.encode())

            def log_message(self, *words):
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Page))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://localhost:{servers[-1].server_port}/"

    yield publish
    for one in servers:
        one.shutdown()
        one.server_close()


@pytest.fixture
def tab(chromium):
    """A page that may go wrong."""
    context = chromium.new_context()
    context.set_default_timeout(1000 * LONG)
    yield context.new_page()
    context.close()


def wait(tab, condition):
    """Until the condition holds; the browser goes on meanwhile."""
    until(condition, rest=lambda: tab.wait_for_timeout(100))


@pytest.mark.parametrize("mode", ["no-cors", "cors", "form"])
def test_a_page_elsewhere_can_change_nothing(tab, server, runs, elsewhere, finished, monkeypatch, mode):
    finished("digits")
    target = f"{server.url}/_dash-update-component"
    fetch = (
        f"fetch('{target}', {{method: 'POST', mode: '{mode}', credentials: 'include', body: '{{}}'}}).catch(() => 0)"
    )
    form = f"document.write('<form method=post action=\"{target}\"></form>'); document.forms[0].submit()"
    refused = []
    refuse = guard.refusal
    monkeypatch.setattr(guard, "refusal", lambda status, words: refused.append(status) or refuse(status, words))
    tab.goto(elsewhere(f"<script>{form if mode == 'form' else fetch}</script>"))
    wait(tab, lambda: refused)
    assert refused == [403]
    assert [run.name for run in Store(runs).runs()] == ["digits"]


def framed(tab, address):
    tab.goto(address)
    wait(tab, lambda: len(tab.frames) > 1)
    (frame,) = tab.frames[1:]
    return frame


def test_a_page_elsewhere_cannot_show_the_dashboard_within_itself(tab, server, elsewhere, finished):
    finished("digits")
    frame = framed(tab, elsewhere(f"<iframe src='{server.url}' width=900 height=700></iframe>"))
    wait(tab, lambda: frame.url.startswith("chrome-error:"))


def test_a_notebook_of_this_machine_can(tab, runs, elsewhere, finished):
    finished("digits")
    with serve(Store(runs), port=0, frames=NOTEBOOKS) as server:
        frame = framed(tab, elsewhere(f"<iframe src='{server.url}/?run=digits' width=900 height=700></iframe>"))
        frame.locator("#view .panel .main-svg").first.wait_for()
        frame.locator("#slider input").press("Home")
        frame.locator("#step", has_text="step 0").wait_for()


def test_the_address_with_the_token_opens_the_page_and_keeps_nothing_of_it(tab, runs, finished):
    finished("digits")
    with serve(Store(runs), host="0.0.0.0", port=0) as server:
        home = f"http://127.0.0.1:{server.url.rpartition(':')[2]}"
        assert tab.goto(home).status == 401
        tab.goto(f"{home}/?run=digits&token={server.token}")
        tab.locator("#view .panel .main-svg").first.wait_for()
        assert server.token not in tab.url
        assert server.token not in tab.evaluate("document.cookie + document.documentElement.outerHTML")
        (cookie,) = tab.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        tab.reload()
        tab.locator("#view .panel .main-svg").first.wait_for()
