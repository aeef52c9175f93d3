"""A real browser on a real page. Skipped where there is none, unless COCKPIT_REQUIRE_BROWSER=1 makes that a failure."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import LONG, until
from synthetic import write_run

from cockpit.dashboard import Server, serve
from cockpit.store import Store

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--process-per-site",
)  # fmt: skip
STAYS = "http://127.0.0.1/stays"  # a page of the dashboard's site, but of no server
HERE = Path(__file__).parent
AT_REST = """() => {
  const {cockpit, lost, places} = window.dash_clientside ?? {};
  const plots = [...document.querySelectorAll("#view .plot")];
  return Boolean(cockpit?.shown?.()) && !cockpit.isAsking() && !cockpit.shown().waits
    && !lost.waiting() && !places.underWay() && !document.querySelector(".dash-graph--pending")
    && plots.every((plot) => plot.querySelector(".main-svg") || plot.querySelector(".empty")?.textContent);
}"""
"""Whether nothing is asked for, what was asked for is shown, and every figure is drawn."""


def unavailable(reason: str) -> None:
    if os.environ.get("COCKPIT_REQUIRE_BROWSER") == "1":
        pytest.fail(f"{reason}, and COCKPIT_REQUIRE_BROWSER=1 asks for one")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        unavailable(f"no browser found: looked for {', '.join(BROWSERS)}")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        unavailable("playwright is not installed: pip install playwright")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS), timeout=1000 * LONG)
        yield browser
        browser.close()


class Page:
    """A page of the dashboard, as a person uses it. Whatever goes wrong in the browser fails the test at its end."""

    def __init__(self, page: Any):
        self.page = page
        self.trouble: list[str] = []
        self.requests: list[str] = []
        page.set_default_timeout(1000 * LONG)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.trouble.append(f"exception: {error}"))
        page.on("dialog", self._dismiss)
        self.waiting: set[Any] = set()
        page.on("request", self._asked)
        page.on("requestfinished", lambda request: self.waiting.discard(request))
        page.on("requestfailed", self._unanswered)

    def _asked(self, request: Any) -> None:
        self.requests.append(request.url)
        self.waiting.add(request)

    def _unanswered(self, request: Any) -> None:
        self.waiting.discard(request)
        if "ERR_ABORTED" not in str(request.failure):  # the page itself went elsewhere
            self.trouble.append(f"failed: {request.url} {request.failure}")

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.trouble.append(f"{message.type}: {message.text}")

    def _dismiss(self, dialog: Any) -> None:
        self.trouble.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def open(self, url: str) -> Page:
        self.page.goto(url)
        self.page.locator("#view .panel .main-svg").first.wait_for()
        return self

    def panel(self, title: str) -> Any:
        return self.page.locator(f'.panel[aria-label="{title}"]')

    def fact(self, name: str) -> str:
        text: str = self.page.locator(f"#fact-{name} b").inner_text()
        return text

    def step(self) -> int:
        """The step that the page says it shows."""
        return int(self.page.locator("#step").inner_text().removeprefix("step ").replace(",", ""))

    def plot(self, title: str, expression: str) -> Any:
        """Something of the panel's figure as it is drawn: ``graph`` in a JavaScript expression."""
        figure = self.panel(title).locator(".js-plotly-plot")
        return figure.evaluate(
            f"graph => graph._fullLayout && ({expression})"
        )  # not while it is drawn for the first time

    def point(self, title: str, x: float, y: float) -> None:
        """Moves the pointer over a figure's plot, to so many pixels from the left and top of it."""
        plot = self.panel(title).locator(".nsewdrag").first
        plot.hover(position={"x": x - 10, "y": y})
        plot.hover(position={"x": x, "y": y})

    def drag(self, title: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Zooms a figure between two corners of its plot: pixels from the left and top; below 0, from the others."""

        def zoomed() -> bool:
            if self.plot(title, "graph._fullLayout.xaxis.autorange") is False:
                return True
            plot = self.panel(title).locator(".nsewdrag").first.bounding_box()
            (left, top), (right, bottom) = [
                (plot["x"] + x % plot["width"], plot["y"] + y % plot["height"]) for x, y in (start, end)
            ]
            self.page.mouse.move(left, top)
            self.page.mouse.down()
            self.page.mouse.move(right, bottom, steps=5)
            self.page.mouse.up()
            return False

        self.until(zoomed)  # on a page that moves meanwhile, it may have to be tried again

    def until(self, condition: Callable[[], bool], timeout: float = LONG) -> None:
        until(condition, timeout, lambda: self.page.wait_for_timeout(100))

    def widths(self) -> Iterator[int]:
        """Makes the window of a desktop, of a tablet and of a telephone out of it, one after the other."""
        for width in (1440, 1024, 400):
            self.page.set_viewport_size({"width": width, "height": 900})
            self.settled()
            yield width

    def fits(self) -> bool:
        """Whether nothing reaches beyond the window's right edge."""
        found: bool = self.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        return found

    def settled(self) -> Page:
        """When nothing has been asked for a while, and all answers are drawn."""
        calm, end = 0, time.monotonic() + LONG
        while calm < 3:
            assert time.monotonic() < end, "the page does not come to rest"
            self.page.wait_for_timeout(100)
            calm = calm + 1 if not self.waiting and self.page.evaluate(AT_REST) else 0
        return self


class Visitors:
    """Browsers of several people, who come again: scripts are loaded and compiled once, not for every test.

    What is compiled lives in a process of the browser, and that as long as it shows a page of the site.
    """

    def __init__(self, browser: Any):
        self._browser = browser
        self._contexts: list[Any] = []
        self._there: list[Page] = []

    def come(self, width: int, height: int, scheme: str) -> Page:
        """A window of a visitor who knows nothing but the page's scripts."""
        number = len(self._there)
        while number >= len(self._contexts):
            self._contexts.append(self._browser.new_context())
            stays = self._contexts[-1].new_page()
            stays.route(STAYS, lambda route: route.fulfill(body=""))
            stays.goto(STAYS)
        window = self._contexts[number].new_page()
        window.set_viewport_size({"width": width, "height": height})
        window.emulate_media(color_scheme=scheme)
        self._there.append(Page(window))
        return self._there[-1]

    def leave(self) -> None:
        """All of them, before the servers that they look at: nobody is left without an answer."""
        while self._there:
            self._forget(self._there.pop())

    def _forget(self, page: Page) -> None:
        """Closes all windows but the one that stays; cookies and what the page has noted are gone."""
        context = page.page.context
        for origin in {"/".join(url.split("/")[:3]) for url in page.requests if url.startswith("http")}:
            kept = {"origin": origin, "storageTypes": "local_storage"}
            context.new_cdp_session(page.page).send("Storage.clearDataForOrigin", kept)
        context.clear_cookies()
        for window in context.pages[1:]:
            window.close()


@pytest.fixture(scope="session")
def visitors(chromium: Any) -> Visitors:
    return Visitors(chromium)


@pytest.fixture
def new_page(visitors: Visitors) -> Iterator[Callable[..., Page]]:
    opened: list[Page] = []

    def make(width: int = 1440, height: int = 900, scheme: str = "light") -> Page:
        opened.append(visitors.come(width, height, scheme))
        return opened[-1]

    yield make
    visitors.leave()
    for page in opened:
        assert page.trouble == []
        outside = [url for url in page.requests if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))]
        assert outside == []


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    return new_page()


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def port() -> int:
    """The same for all tests of a process: browsers know scripts by the address that they come from."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        found: int = free.getsockname()[1]
        return found


@pytest.fixture
def server(runs: Path, port: int, visitors: Visitors) -> Iterator[Server]:
    with serve(Store(runs), port=port) as server:
        yield server
        visitors.leave()


@pytest.fixture
def start(runs: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a process that writes a run, ``train.py`` by default, and ends it with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def launch(name: str, *arguments: str, script: Path = HERE / "train.py") -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, str(script), str(runs / name), *arguments])
        started.append(process)
        return process

    yield launch
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes runs as they were asked for, once: a finished run is a folder that can be copied."""
    known: dict[tuple[tuple[str, ...], int], Path] = {}

    def write(names: tuple[str, ...], steps: int) -> Path:
        if (names, steps) not in known:
            folder = known[names, steps] = tmp_path_factory.mktemp("finished")
            for name in names:
                write_run(folder / name, steps)
        return known[names, steps]

    return write


@pytest.fixture
def finished(runs: Path, written: Callable[..., Path]) -> Callable[..., None]:
    """Writes runs that are over, of 400 steps that look like training."""

    def write(*names: str, steps: int = 400) -> None:
        for name in names:
            shutil.copytree(written(names, steps) / name, runs / name)

    return write
