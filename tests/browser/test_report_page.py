"""The report as a person opens it: a file, and no network."""

import pytest
from hostile import FOREIGN, write_hostile
from patience import LONG
from synthetic import write_run

from cockpit.dashboard.report import write_report
from cockpit.store import Reader, Store

pytestmark = pytest.mark.browser

HISTOGRAMS = ("Gradient elements",)
CURVES = ("Gradient norm", "Distance and update size", "Hyperparameters")


class Report:
    """A report that is open; whatever it asks for besides itself, and whatever goes wrong, fails its test."""

    def __init__(self, context, path, fragment=""):
        self.trouble, self.requests = [], []
        self.page = context.new_page()
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.trouble.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.address = path.as_uri()
        self.page.goto(self.address + fragment)
        self.page.locator(".view:not([hidden]) .main-svg").first.wait_for()
        self.settle()

    def _hear(self, message):
        if message.type in ("error", "warning"):
            self.trouble.append(f"{message.type}: {message.text}")

    def panel(self, title):
        return self.page.locator(f'.view:not([hidden]) .panel[aria-label="{title}"]')

    def plot(self, title, expression):
        return self.panel(title).locator(".js-plotly-plot").evaluate(f"graph => {expression}")

    def step(self):
        return int(self.page.locator("#step").inner_text().removeprefix("step ").replace(",", ""))

    def settle(self):
        """When what was asked for is drawn, which is with the next frame of the screen."""
        self.page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 300))))"
        )
        return self

    def is_alone(self):
        own = [url for url in self.requests if url.startswith((self.address, "data:", "blob:"))]
        return self.requests == own and self.trouble == []


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_run(folder / "digits", 400)
    Store(folder).annotate("digits", notes="Worked at once.")
    write_report(Reader(folder / "digits"), folder / "report.html", most_steps=9)
    return folder / "report.html"


@pytest.fixture
def opened(chromium, written):
    contexts = []

    def open_report(path=written, fragment="", scheme="light"):
        contexts.append(
            chromium.new_context(viewport={"width": 1440, "height": 900}, color_scheme=scheme, offline=True)
        )
        contexts[-1].set_default_timeout(1000 * LONG)
        return Report(contexts[-1], path, fragment)

    yield open_report
    for context in contexts:
        context.close()


def test_the_slider_moves_histograms_and_marks_and_nothing_leaves(opened):
    report = opened()
    report.page.get_by_role("button", name="Classic").click()
    report.settle()
    assert report.step() == 391
    last = {title: report.plot(title, "graph.querySelector('.main-svg').outerHTML") for title in HISTOGRAMS + CURVES}
    assert report.plot("Gradient norm", "graph.layout.shapes.filter(shape => shape.type === 'line').length") == 0
    report.page.locator("#slider").focus()
    report.page.keyboard.press("Home")
    report.settle()
    assert report.step() == 0
    report.page.keyboard.press("ArrowRight")
    report.page.keyboard.press("ArrowRight")
    report.settle()
    assert report.step() == 91
    moved = {title: report.plot(title, "graph.querySelector('.main-svg').outerHTML") for title in HISTOGRAMS + CURVES}
    assert [title for title in last if last[title] == moved[title]] == []
    assert report.panel("Gradient elements").locator(".words").inner_text().startswith("Step 91:")
    assert report.plot("Gradient norm", "graph.layout.shapes.find(shape => shape.type === 'line').x0") == 91
    assert "step=91" in report.page.url
    assert report.is_alone(), (report.trouble, report.requests)


def test_a_report_cannot_reach_anybody(opened):
    report = opened()
    report.page.evaluate("""() => {
      window.refused = [];
      document.addEventListener("securitypolicyviolation", (event) => window.refused.push(event.effectiveDirective));
      fetch("http://127.0.0.1:9/").catch(() => 0);
      new Image().src = "http://127.0.0.1:9/x.png";
      const script = document.createElement("script");
      script.textContent = "window.ran = true";
      document.body.append(script);
    }""")
    kinds = ["connect-src", "img-src", "script-src-elem"]
    report.page.wait_for_function("kinds => kinds.every((kind) => window.refused.includes(kind))", arg=kinds)
    assert report.page.evaluate("window.ran") is None


def test_a_link_opens_the_same_view_at_the_same_step(opened):
    report = opened(fragment="#view=Classic&step=141")
    assert report.step() == 141
    assert report.panel("Gradient tests").count() == 1


def test_play_runs_to_the_end(opened):
    report = opened(fragment="#view=Now&step=191")
    report.page.get_by_role("button", name="Play").click()
    report.page.locator("#step", has_text="step 391").wait_for()
    report.page.get_by_role("button", name="Play").wait_for()
    assert report.is_alone()


def test_colours_are_the_systems_until_switched(opened):
    report = opened(scheme="dark")
    paper = "graph._fullLayout.paper_bgcolor"
    assert report.plot("Loss", paper) == "#1b1f26"
    report.page.get_by_role("button", name="Dark or light").click()
    report.settle()
    assert report.plot("Loss", paper) == "#ffffff"
    assert "\ue000" not in report.page.evaluate("document.documentElement.outerHTML.replace(/<script.*/s, '')")


NARROW = """width => document.documentElement.scrollWidth <= width
  && [...document.querySelectorAll(".view:not([hidden]) .main-svg:first-child")].every(
    (plot) => plot.clientWidth <= width)"""
"""Whether the page, and every figure that is shown, has become as narrow as its window."""


def test_the_report_fits_its_window(opened):
    report = opened()
    for width in (1440, 1024, 400):
        report.page.set_viewport_size({"width": width, "height": 900})
        report.page.wait_for_function(NARROW, arg=width)
        sizes = report.page.evaluate("""
          [...document.querySelectorAll(".view:not([hidden]) .main-svg:first-child")].map(
            (plot) => [plot.clientWidth, plot.clientHeight])
        """)
        assert len(sizes) > 6
        assert all(300 <= wide <= width and high >= 150 for wide, high in sizes)


def test_pictures_can_be_saved_from_a_report(opened):
    report = opened(fragment="#view=Now&step=191")
    report.panel("Loss").locator(".nsewdrag").first.hover(force=True)
    with report.page.expect_download() as download:
        report.panel("Loss").get_by_role("button", name="Download as SVG").click()
    assert download.value.suggested_filename == "digits-loss_curves-step-191.svg"
    assert b"Loss" in download.value.path().read_bytes()


def test_no_stored_text_is_code(opened, tmp_path):
    name = write_hostile(tmp_path)
    Store(tmp_path).annotate(name, notes="</script><script>alert(4)</script>")
    write_report(Reader(tmp_path / name), tmp_path / "report.html", most_steps=3)
    report = opened(tmp_path / "report.html")
    for tab in report.page.locator(".tab").all():
        tab.click()
        report.settle()
    foreign = FOREIGN.replace('script:not([src]):not([id^="_dash"])', "nothing").replace("#view", ".view")
    assert report.page.evaluate(foreign) == []
    assert report.page.locator("script").count() == 5
    assert "</script><script>alert(4)</script>" in report.page.locator(".notes").inner_text()
    assert report.is_alone(), (report.trouble, report.requests)
