"""The browser's way back and forth, also for who is faster than the server."""

import json
import re
from collections import deque
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import pytest
from dash import Patch
from plotly.io.json import to_json_plotly

pytestmark = pytest.mark.browser

ANSWERS = re.compile("/_dash-update-component")
PROMPT = 45_000  # ms; less than the time after which the page takes an answer for lost
THE_PAGE, ITS_RUNS = "shown.data", '"answer"'  # in the outputs of the questions


class Held:
    """Questions of one kind that the server does not get to see until they are let go."""

    def __init__(self, page, kind):
        self._kind, self._kept, self._open = kind, deque(), False
        page.page.route(ANSWERS, self._take)

    def __len__(self):
        return len(self._kept)

    def _take(self, route):
        if not self._open and self._kind in json.loads(route.request.post_data)["output"]:
            self._kept.append(route)
        else:
            route.continue_()

    def let_go(self):
        self._open = True
        while self._kept:
            self._kept.popleft().continue_()


@contextmanager
def held(page, kind):
    questions = Held(page, kind)
    yield questions
    questions.let_go()
    page.settled()
    page.page.unroute(ANSWERS)


def fail(page, kind, failures):
    """Answers the next questions of one kind with these failures, from the last on; the list is emptied meanwhile."""

    def answer(route):
        if not failures or kind not in json.loads(route.request.post_data)["output"]:
            route.continue_()
        elif failures.pop() == "an error":
            route.fulfill(status=500, body="broken")
        else:
            route.abort()

    page.page.route(ANSWERS, answer)


def end_failures(page):
    page.settled().page.unroute(ANSWERS)
    page.trouble.clear()  # the browser's own words about them


def query(page):
    return {name: value for name, (value,) in parse_qs(urlsplit(page.page.url).query).items()}


def tab(page, name):
    page.page.locator("#view-tabs").get_by_text(name, exact=True).click()


def name_of(page, run):
    return page.page.locator(f'.ag-row[row-id="{run}"] [col-id="name"] a')


def test_the_list_of_runs_is_there_again_although_it_was_left_while_it_waited(server, page, finished):
    finished("first", "second")
    page.page.goto(f"{server.url}/?view=Runs")
    name_of(page, "first").wait_for()
    with held(page, ITS_RUNS) as asked:
        page.until(lambda: len(asked) > 0)
        name_of(page, "first").click()
        page.page.locator("#view .panel .main-svg").first.wait_for()
        page.page.go_back()
        page.page.locator("section.runs").wait_for()
    name_of(page, "first").wait_for(timeout=PROMPT)


def test_who_chooses_while_the_page_looks_by_itself_gets_what_was_chosen(server, page, finished):
    finished("first", "second")
    page.page.goto(f"{server.url}/?view=Runs")
    name_of(page, "first").wait_for()
    with held(page, THE_PAGE) as asked:
        page.until(lambda: len(asked) > 0)
        name_of(page, "first").click()
        page.until(lambda: query(page) == {"run": "first"})
        page.page.wait_for_timeout(1000)
        assert len(asked) == 1  # of two answers on their way, either may come last
    page.page.locator("#view .panel .main-svg").first.wait_for(timeout=PROMPT)
    assert query(page) == {"run": "first", "view": "Now"}
    page.page.go_back()
    name_of(page, "first").wait_for(timeout=PROMPT)


def test_back_leads_to_what_is_still_seen_while_the_next_view_is_on_its_way(server, page, finished):
    finished("digits")
    page.open(f"{server.url}/?view=Classic").settled()
    with held(page, THE_PAGE) as asked:
        tab(page, "Layers")
        page.until(lambda: len(asked) > 0)
        assert query(page) == {"run": "digits", "view": "Layers"}
        page.page.go_back()
        page.until(lambda: query(page) == {"run": "digits", "view": "Classic"})
    page.panel("Gradient norm").locator(".main-svg").first.wait_for()
    page.page.locator(".layer-table").wait_for(state="detached")
    assert query(page) == {"run": "digits", "view": "Classic"}
    page.page.go_forward()
    page.page.locator(".layer-table").wait_for()
    assert query(page) == {"run": "digits", "view": "Layers"}


def test_what_an_answer_brings_for_a_figure_that_has_left_the_page_is_taken_out_of_it(server, page, finished):
    finished("digits")
    page.open(f"{server.url}/?view=Classic").settled()
    patch = to_json_plotly(Patch())
    here, gone = '{"panel":"grad_norm","part":"figure"}', '{"of-layers-figure":"map"}'
    brought = {id: {"figure": json.loads(patch)} for id in (here, gone)} | {"shown": {"data": 1}}
    page.page.route(ANSWERS, lambda route: route.fulfill(json={"multi": True, "response": brought}))
    kept = page.page.evaluate("""async () => {
        const answer = await fetch("/_dash-update-component", {method: "POST", body: "{}"});
        return (await answer.json()).response;
    }""")
    assert kept == brought | {gone: {}}
    page.page.unroute(ANSWERS)


def test_of_views_that_nobody_waited_for_the_way_back_knows_the_last(server, page, finished):
    finished("digits")
    page.open(f"{server.url}/?view=Classic").settled()
    with held(page, THE_PAGE):
        for name in ("Layers", "Now", "Layers"):
            tab(page, name)
    page.page.locator(".layer-table").wait_for()
    page.page.go_back()
    page.panel("Gradient norm").locator(".main-svg").first.wait_for()
    assert query(page) == {"run": "digits", "view": "Classic"}


def test_escape_leads_one_place_back_however_often_it_is_pressed_meanwhile(server, page, finished):
    finished("digits")
    page.open(f"{server.url}/?view=Classic").settled()
    tab(page, "Now")
    page.panel("Loss").locator(".main-svg").first.wait_for()
    page.settled()
    page.panel("Loss").locator("h3 a").click()
    page.page.locator(".explained").wait_for()
    page.settled()
    with held(page, THE_PAGE):
        for _ in range(3):
            page.page.keyboard.press("Escape")
            page.page.wait_for_timeout(100)
    page.page.locator(".explained").wait_for(state="detached")
    assert query(page) == {"run": "digits", "view": "Now"}


def depth(page):
    return page.page.evaluate("window.scrollY")


def scroll(page, top):
    """Moves the page, which may have to grow first, to where it then stays."""

    def stays():
        page.page.evaluate(f"window.scrollTo(0, {top})")
        return depth(page.settled()) == top

    page.until(stays)


def test_back_forward_and_a_reload_lead_as_far_down_the_page_as_one_was(server, new_page, finished):
    finished("digits")
    page = new_page(height=300)
    page.open(f"{server.url}/?view=Now")
    scroll(page, 600)
    page.page.keyboard.press("2")
    page.panel("Alpha").locator(".main-svg").first.wait_for()
    page.until(lambda: depth(page) == 0)
    scroll(page, 400)
    page.page.go_back()
    page.until(lambda: depth(page) == 600)
    page.page.go_forward()
    page.until(lambda: depth(page) == 400)
    page.page.reload()
    page.until(lambda: depth(page) == 400)
    page.page.go_back()  # also to what was shown before the page was loaded anew
    page.until(lambda: depth(page) == 600)
    assert query(page) == {"run": "digits", "view": "Now"}


SHORT = """addEventListener("DOMContentLoaded", () => {
    const rule = document.createElement("style");
    rule.id = "short";
    rule.textContent = "#view { height: 200px; min-height: 0; overflow: hidden }";
    document.head.append(rule);
})"""
GROWN = """() => new Promise(done => {
    document.getElementById("short").remove();
    requestAnimationFrame(() => requestAnimationFrame(() => done(window.scrollY)));
})"""


def test_a_page_that_grows_leads_there_once_it_is_long_enough_unless_it_is_moved(server, new_page, finished):
    finished("digits")
    page = new_page(height=300)
    page.open(f"{server.url}/?view=Now")
    scroll(page, 600)
    page.page.add_init_script(SHORT)
    for moved in (False, True):
        page.page.reload()
        page.page.locator("#view .panel .main-svg").first.wait_for(state="attached")
        assert page.settled().page.evaluate("document.documentElement.scrollHeight") < 900
        if moved:
            page.page.keyboard.press("Home")
        assert (page.page.evaluate(GROWN) == 600) is not moved


def test_a_question_for_the_rows_of_the_list_that_failed_is_asked_anew_by_itself(server, page, finished):
    finished("first", "second")
    failures = ["an error", "nobody there"]
    fail(page, ITS_RUNS, failures)
    page.page.goto(f"{server.url}/?view=Runs")
    name_of(page, "first").wait_for(timeout=PROMPT)
    assert not failures
    end_failures(page)


@pytest.mark.parametrize("failure", ["nobody there", "an error"])
def test_after_a_question_that_failed_the_next_click_works_at_once_and_so_does_waiting(server, page, finished, failure):
    finished("digits")
    page.open(f"{server.url}/?view=Classic").settled()
    failures = [failure]
    fail(page, THE_PAGE, failures)
    tab(page, "Layers")
    page.page.locator(".layer-table").wait_for(timeout=PROMPT)  # asked anew by itself
    assert not failures
    page.settled()
    failures.append(failure)
    tab(page, "Classic")
    page.until(lambda: not failures)
    tab(page, "Now")
    page.panel("Loss").locator(".main-svg").first.wait_for(timeout=PROMPT)
    assert query(page) == {"run": "digits", "view": "Now"}
    end_failures(page)
