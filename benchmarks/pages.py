"""The dashboard as a person meets it: a server of its own process, and Chromium in front of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from long_runs import PACE, stretch
from playwright.sync_api import Browser, Page, sync_playwright

from cockpit.store import Header, Writer

HERE = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
PATIENCE = 600  # seconds
ANSWER = "/_dash-update-component"

# Every panel in the window has its drawing, or says why there is none.
WATCH = """(() => {
  const done = panel => {
    const graph = panel.querySelector('.js-plotly-plot');
    return panel.querySelector('.empty')?.textContent || (graph?._fullData?.length && graph.querySelector('.main-svg'));
  };
  const look = () => {
    const panels = [...document.querySelectorAll('#view .panel')]
      .filter(panel => panel.getBoundingClientRect().top < window.innerHeight);
    if (panels.length && panels.every(done)) requestAnimationFrame(() => { window.drawn = performance.now(); });
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})();"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's browser, without a window.

    Raises:
        FileNotFoundError: If there is none.
    """
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        raise FileNotFoundError(f"no browser found: looked for {', '.join(BROWSERS)}. Leave pages out with --no-pages")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS, timeout=1000 * PATIENCE)
        yield browser
        browser.close()


class Dashboard:
    """A dashboard in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.url: str = self._line()["url"]

    def told(self) -> tuple[list[dict[str, Any]], int]:
        """What it has answered since this was last asked, and the bytes of memory that it holds."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._line()
        return [answer for answer in line["answers"] if answer["path"] == ANSWER], line["memory"]

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the dashboard ended; what it said stands above")
        return json.loads(line)


@contextmanager
def dashboard(logdir: Path) -> Iterator[Dashboard]:
    """A new process: nothing of the runs is known to it."""
    command = [sys.executable, str(HERE / "dashboard_server.py"), str(logdir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Dashboard(process)  # it ends when its input does


@contextmanager
def page_of(browser: Browser) -> Iterator[Page]:
    """A page of a browser that has never been here: nothing is cached."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    page.add_init_script(WATCH)
    yield page
    context.close()


def paint(page: Page, url: str) -> float:
    """Seconds from the navigation until every panel is drawn."""
    page.goto(url, wait_until="commit")
    deadline = time.monotonic() + PATIENCE
    while (drawn := page.evaluate("window.drawn")) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{url} was not drawn within {PATIENCE} s")
        page.wait_for_timeout(20)
    return float(drawn) / 1000


@contextmanager
def going_on(directory: Path, first: int) -> Iterator[None]:
    """The run goes on from a step, fifty numbers every ten milliseconds, as long as it lasts."""
    ended = threading.Event()
    thread = threading.Thread(target=_train, args=(directory, first, ended.is_set))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _train(directory: Path, first: int, ended: Callable[[], bool]) -> None:
    with_panels = _header_of(directory)
    writer = Writer(directory, with_panels, resume=True)
    due = time.monotonic()
    while not ended():
        some = stretch(first, 100)
        for at, (step, seconds) in enumerate(zip(some.steps.tolist(), some.times.tolist(), strict=True)):
            writer.put(step, seconds, some.readings(at))
            writer.scalars(step, seconds, some.metrics(at))
            due += PACE
            time.sleep(max(0.0, due - time.monotonic()))
        first += 100
    writer.close()


def _header_of(directory: Path) -> Header:
    from cockpit.store import Reader

    return Reader(directory).header
