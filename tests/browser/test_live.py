"""A training process writes, a browser watches."""

import subprocess
import sys
from pathlib import Path

import pytest
from patience import LONG
from synthetic import Training, header

from cockpit.dashboard import serve
from cockpit.store import Store, Writer

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A dashboard of a training that goes on, at which several tests look."""
    runs = tmp_path_factory.mktemp("live")
    with subprocess.Popen([sys.executable, Path(__file__).with_name("train.py"), runs / "training"]) as training:
        try:
            with serve(Store(runs), port=0) as server:
                yield server
        finally:
            training.kill()


def last(page, title):
    """The step of the last point that is drawn; how many there are does not tell, for of a long run not all are."""
    return page.plot(title, "Math.max(0, ...graph._fullData.flatMap(trace => trace.x?.at(-1) ?? []))") or 0


def test_points_of_a_real_training_arrive_by_themselves(page, live):
    page.open(f"{live.url}/?view=Classic")
    page.until(lambda: last(page, "Performance") > 10)
    before, step = last(page, "Performance"), page.step()
    page.until(lambda: last(page, "Performance") > before and page.step() > step)
    assert page.page.locator("#status").inner_text().startswith("RUNNING")


def test_the_users_metric_joins_the_loss(page, live):
    page.open(f"{live.url}/?view=Classic")
    page.until(lambda: "valid/accuracy" in page.panel("Performance").inner_text())


def test_panels_gain_curves_and_axes_while_the_page_is_open(page, server, runs):
    writer = Writer(runs / "live", header("live"), flush_interval=0.05)
    training = Training()
    page.page.goto(f"{server.url}/?view=Classic")
    page.panel("Performance").get_by_text("Appears with the first reading").wait_for()
    axes = "Object.keys(graph.layout).filter(name => name.startsWith('yaxis')).length"
    for step, named, metrics in ((0, "loss", {}), (10, "f1", {"f1": 0.5}), (20, "recall", {"f1": 0.6, "recall": 0.1})):
        page.panel("Performance").scroll_into_view_if_needed()
        writer.put(step, 0.1 * step, training.readings(step))
        writer.scalars(step, 0.1 * step, metrics)
        page.until(lambda named=named: named in page.panel("Performance").inner_text())
        page.until(lambda metrics=metrics: page.plot("Performance", axes) == 2 + len(metrics))  # one is that of events
    writer.close()
    page.until(lambda: "FINISHED" in page.page.locator("#status").inner_text())


def test_a_panel_that_comes_into_view_is_as_new_as_the_others(page, server, start):
    start("training")
    page.page.set_viewport_size({"width": 1440, "height": 500})
    page.open(server.url)
    page.until(lambda: last(page, "Loss") > last(page, "Time") + 10)
    shown = page.step()
    page.panel("Time").scroll_into_view_if_needed()
    page.until(lambda: last(page, "Time") > shown - 10)


def test_a_run_that_starts_later_appears_by_itself(page, server, start):
    page.page.goto(server.url)
    page.page.get_by_text("There are no runs in").wait_for()
    start("training")
    page.page.locator("#view .panel .main-svg").first.wait_for()
    page.until(lambda: page.page.locator("#run").input_value().startswith("training"))


def test_zoom_survives_a_refresh(page, live):
    page.open(f"{live.url}/?view=Classic")
    page.until(lambda: last(page, "Performance") > 25)
    page.panel("Performance").scroll_into_view_if_needed()
    page.drag("Performance", (30, 5), (120, -5))
    zoomed = page.plot("Performance", "[graph._fullLayout.xaxis.range, graph._fullLayout.yaxis.range]")
    before = last(page, "Performance")
    page.until(lambda: last(page, "Performance") > before + 5)
    assert page.plot("Performance", "[graph._fullLayout.xaxis.range, graph._fullLayout.yaxis.range]") == zoomed


def test_a_selected_step_stays_while_training_goes_on_until_the_latest_is_followed_again(page, live):
    page.open(f"{live.url}/?view=Classic")
    page.until(lambda: page.step() > 20)
    page.page.locator("#slider input").press("Home")
    page.until(lambda: page.step() == 0)
    before = page.fact("step")
    page.until(lambda: page.fact("step") != before)
    assert page.step() == 0
    assert page.page.locator("#slider input").evaluate("slider => slider === document.activeElement")
    page.page.get_by_label("Follow latest").click()
    page.until(lambda: page.step() > 20)
    followed = page.step()
    page.until(lambda: page.step() > followed)


def test_a_killed_training_is_seen_as_crashed(page, server, start):
    process = start("training")
    page.open(f"{server.url}/?view=Classic")
    page.until(lambda: page.step() > 5)
    process.kill()
    page.until(lambda: "CRASHED" in page.page.locator("#status").inner_text())


def test_looking_ends_with_the_run(page, server, start):
    process = start("training", "--steps", "60")
    page.open(f"{server.url}/?view=Classic")
    assert process.wait(LONG) == 0
    page.until(lambda: "FINISHED" in page.page.locator("#status").inner_text())
    page.settled()
    before = len(page.requests)
    page.page.wait_for_timeout(6000)
    assert len(page.requests) == before
