"""The list of runs, as a person uses it: find, name, compare, delete, open."""

import time
from pathlib import Path

import pytest

from cockpit.reading import Reading
from cockpit.store import Header, Store, Writer

pytestmark = pytest.mark.browser


def write(runs, name, loss=1.0, created=None, **config):
    writer = Writer(runs / name, Header(name, created or time.time(), config=config), flush_interval=0.05)
    writer.put(0, 0.0, {"loss": Reading(loss), "grad_norm": Reading(2 * loss)})
    writer.put(7, 95.0, {"loss": Reading(loss), "grad_norm": Reading(2 * loss)})
    writer.scalars(7, 95.0, {"valid/accuracy": 1 / loss})
    writer.close()


def open_list(page, server, query=""):
    page.page.goto(f"{server.url}/?view=Runs{query}")
    page.page.locator(".runs-grid .ag-row").first.wait_for()
    return page


def names(page):
    """The runs as they stand on the page, from top to bottom."""
    return page.page.evaluate(
        """() => [...document.querySelectorAll('.runs-grid .ag-pinned-left-cols-container .ag-row')]
            .sort((a, b) => a.getAttribute('row-index') - b.getAttribute('row-index'))
            .map(row => row.getAttribute('row-id'))"""
    )


def cell(page, name, column):
    return page.page.locator(f'.runs-grid .ag-row[row-id="{name}"] [col-id="{column}"]')


def column(page, title):
    """The column's id, by what stands above it."""
    heading = page.page.locator(".runs-grid .ag-header-cell", has_text=title).first
    return heading.get_attribute("col-id")


def select(page, *chosen):
    for name in chosen:
        page.page.locator(f'.runs-grid .ag-row[row-id="{name}"] .ag-selection-checkbox input').click()


def edit(page, name, column, text, key="Enter"):
    cell(page, name, column).dblclick()
    field = page.page.locator(
        ".runs-grid .ag-cell-editor input, .runs-grid .ag-cell-editor textarea, .ag-popup textarea"
    )
    field.fill(text)
    field.press(key)
    field.wait_for(state="detached")


def test_every_run_is_listed_with_what_it_said_last(server, page, runs):
    write(runs, "old", 0.5, created=1_700_000_000.0, lr=0.1, optimizer={"name": "SGD"})
    write(runs, "new", float("nan"), lr=0.2, optimizer={"name": "Adam"})
    (runs / "broken").mkdir()
    (runs / "broken" / "rank0.db").write_bytes(b"no database" * 99)
    open_list(page, server).settled()
    assert set(names(page)) == {"old", "new", "broken"}
    assert names(page).index("new") < names(page).index("old")
    assert cell(page, "old", "elapsed").inner_text() == "1 min 35 s"
    assert cell(page, "old", "step").inner_text() == "7"
    assert [cell(page, name, "loss").inner_text() for name in ("old", "new")] == ["0.5", "NaN"]
    assert [cell(page, name, column(page, "lr")).inner_text() for name in ("old", "new")] == ["0.1", "0.2"]
    assert cell(page, "new", column(page, "optimizer.name")).inner_text() == "Adam"
    assert cell(page, "old", column(page, "valid/accuracy")).inner_text() == "2"
    assert "cannot be read" in cell(page, "broken", "state").inner_text()


def test_a_column_sorts_a_word_filters_and_the_link_keeps_both(server, page, new_page, runs):
    for name, loss in (("a", 2.0), ("b", 10.0), ("c", float("nan")), ("d", 0.1)):
        write(runs, name, loss)
    open_list(page, server)
    page.page.locator('.runs-grid .ag-header-cell[col-id="loss"]').click()
    page.until(lambda: names(page) == ["d", "a", "b", "c"])
    page.page.get_by_label("Find in all columns").fill("b")
    page.until(lambda: names(page) == ["b"])
    page.until(lambda: page.page.locator(".runs-count").inner_text() == "1 of 4 runs")
    page.page.get_by_label("Find in all columns").fill("finished")
    page.until(lambda: "find=finished" in page.page.url and "sort=loss.asc" in page.page.url)
    again = new_page()
    again.page.goto(page.page.url)
    again.until(lambda: names(again) == ["d", "a", "b", "c"])
    again.page.get_by_label("Find in all columns").fill("none of them")
    again.until(lambda: again.page.locator(".runs-count").inner_text() == "0 of 4 runs")


def test_a_run_that_brings_a_column_leaves_the_order_as_it_is(server, page, runs):
    for name, loss in (("a", 2.0), ("b", 1.0)):
        write(runs, name, loss)
    open_list(page, server, "&sort=loss.desc")
    page.until(lambda: names(page) == ["a", "b"])
    write(runs, "c", 1.5, momentum=0.9)
    page.until(lambda: names(page) == ["a", "c", "b"])


def test_a_name_opens_its_run_by_click_and_by_key(server, page, finished):
    finished("first", "second")
    open_list(page, server)
    cell(page, "first", "name").locator("a").click()
    page.page.locator("#view .panel .main-svg").first.wait_for()
    page.until(lambda: "run=first" in page.page.url)
    page.page.go_back()
    page.page.locator(".runs-grid .ag-row").first.wait_for()
    cell(page, "second", "state").click()
    page.page.keyboard.press("ArrowLeft")
    page.page.keyboard.press("Enter")
    page.page.locator("#view .panel .main-svg").first.wait_for()
    page.until(lambda: "run=second" in page.page.url)


def test_other_columns_can_be_chosen_and_the_link_keeps_them(server, page, new_page, runs):
    write(runs, "a", 0.5)
    open_list(page, server)
    page.page.get_by_role("textbox", name="Columns", exact=True).click()
    page.page.get_by_role("option", name="grad_norm").click()
    page.until(lambda: "columns=" in page.page.url)
    page.until(lambda: cell(page, "a", column(page, "grad_norm")).inner_text() == "1")
    again = new_page()
    again.page.goto(page.page.url)
    again.page.locator(".runs-grid .ag-row").first.wait_for()
    again.until(lambda: cell(again, "a", column(again, "grad_norm")).inner_text() == "1")


def test_tags_and_notes_are_edited_in_place_and_kept(server, page, runs):
    write(runs, "a")
    open_list(page, server)
    edit(page, "a", "tags", "good, baseline")
    edit(page, "a", "notes", "the one for the paper")
    kept = ("the one for the paper", ("good", "baseline"))
    page.until(lambda: [(run.notes, run.tags) for run in Store(runs).runs()] == [kept])
    edit(page, "a", "tags", "forgotten", key="Escape")
    page.settled()
    assert cell(page, "a", "tags").inner_text() == "good, baseline"
    page.page.reload()
    page.page.locator(".runs-grid .ag-row").first.wait_for()
    assert cell(page, "a", "notes").inner_text() == "the one for the paper"


def test_values_move_while_selection_filter_and_an_edit_stay(server, page, start, runs):
    write(runs, "over", 0.5)
    start("live")
    page.page.goto(f"{server.url}/?view=Runs")
    page.until(
        lambda: page.page.locator('.ag-row[row-id="live"]').count() > 0 and cell(page, "live", "step").count() > 0
    )
    page.page.get_by_label("Find in all columns").fill("live")
    page.until(lambda: names(page) == ["live"])
    select(page, "live")
    cell(page, "live", "notes").dblclick()
    field = page.page.locator(".ag-popup textarea, .runs-grid .ag-cell-editor textarea")
    field.fill("half a sen")
    before = cell(page, "live", "step").inner_text()
    page.page.wait_for_timeout(5000)
    field.type("tence")
    assert field.input_value() == "half a sentence"
    field.press("Enter")
    page.until(lambda: cell(page, "live", "step").inner_text() != before)
    page.until(lambda: cell(page, "live", "notes").inner_text() == "half a sentence")
    assert names(page) == ["live"]
    assert page.page.locator('.ag-row[row-id="live"] .ag-selection-checkbox input').first.is_checked()


def writing(runs, name, resume=False):
    """A run that is live until it is closed."""
    writer = Writer(runs / name, Header(name, time.time()), resume=resume, flush_interval=0.05)
    writer.put(8, 96.0, {"loss": Reading(1.0)})
    return writer


def test_runs_are_deleted_after_a_question_and_live_ones_are_kept(server, page, runs):
    write(runs, "bad")
    write(runs, "good")
    live = writing(runs, "live")
    open_list(page, server)
    page.until(lambda: cell(page, "live", "state").inner_text() == "running")
    select(page, "bad", "live")
    page.page.get_by_role("button", name="Delete 2 …").click()
    dialog = page.page.get_by_role("dialog")
    dialog.get_by_text("Still running, and kept: live").wait_for()
    dialog.get_by_role("button", name="Keep them").click()
    dialog.wait_for(state="hidden")
    assert (runs / "bad").exists()
    page.page.get_by_role("button", name="Delete 2 …").click()
    dialog.get_by_role("button", name="Delete 1 for good").click()
    page.until(lambda: "bad" not in names(page))
    page.until(lambda: not (runs / "bad").exists())
    assert set(names(page)) == {"good", "live"}
    live.close()
    assert (runs / "live" / "rank0.db").exists()


def test_the_question_before_runs_are_deleted_tells_what_has_ended_or_begun_since_and_offers_no_more(
    server, page, runs
):
    for name in ("bad", "worse"):
        write(runs, name)
    live = writing(runs, "live")
    open_list(page, server)
    page.until(lambda: cell(page, "live", "state").inner_text() == "running")
    select(page, "bad", "worse", "live")
    page.page.get_by_role("button", name="Delete 3 …").click()
    dialog = page.page.get_by_role("dialog")
    dialog.get_by_text("Still running, and kept: live").wait_for()
    live.close()
    dialog.get_by_text("Over by now, and kept: live").wait_for()
    worse = writing(runs, "worse", resume=True)
    dialog.get_by_text("Still running, and kept: worse. Over by now, and kept: live").wait_for()
    dialog.get_by_role("button", name="Delete 1 for good").click()
    page.until(lambda: set(names(page)) == {"worse", "live"})
    worse.close()


def test_chosen_runs_are_compared_in_the_view_compare(server, page, finished):
    finished("first", "second", "third")
    open_list(page, server)
    select(page, "first", "third")
    page.page.get_by_role("button", name="Compare 2").click()
    page.panel("loss").locator(".main-svg").first.wait_for()
    page.until(lambda: "view=Compare" in page.page.url and "runs=" in page.page.url)
    legend = page.page.locator(".compare-legend")
    assert sorted(legend.locator("b").all_inner_texts()) == ["first", "third"]
    names = "graph._fullData.map(trace => trace.name)"
    page.until(lambda: {"first", "third"} <= set(page.plot("loss", names) or ()))
    page.page.go_back()
    page.page.locator(".runs-grid .ag-row").first.wait_for()
    assert "view=Runs" in page.page.url
    page.page.go_forward()
    page.panel("loss").locator(".main-svg").first.wait_for()
    assert sorted(legend.locator("b").all_inner_texts()) == ["first", "third"]


def test_what_differs_between_chosen_runs_is_told(server, page, runs):
    write(runs, "slow", lr=0.1, optimizer={"name": "SGD"})
    write(runs, "fast", lr=0.5, optimizer={"name": "SGD"})
    open_list(page, server)
    select(page, "slow", "fast")
    page.page.get_by_role("button", name="Compare 2").click()
    table = page.panel("Settings").locator("table.settings").first
    table.wait_for()
    assert [sorted(row.split()) for row in table.locator("tbody tr").all_inner_texts()] == [
        ["0.1", "0.5", "config", "lr"]
    ]


def test_runs_come_and_go_by_themselves(server, page, runs):
    write(runs, "a")
    write(runs, "b")
    open_list(page, server)
    write(runs, "c")
    page.until(lambda: set(names(page)) == {"a", "b", "c"})
    Store(runs).delete("b")
    page.until(lambda: set(names(page)) == {"a", "c"})


def test_ten_thousand_runs_are_a_few_rows_of_the_page(server, page, runs):
    write(runs, "r0")
    log = runs / "r0" / "rank0.db"
    for number in range(1, 10_000):
        (runs / f"r{number}").mkdir()
        (runs / f"r{number}" / "rank0.db").hardlink_to(log)
    page.page.goto(f"{server.url}/?view=Runs")
    page.page.get_by_text("10,000 runs").wait_for()  # the first look opens each log once
    assert page.page.locator(".runs-grid .ag-row").count() < 200
    page.page.get_by_label("Find in all columns").fill("r9876")
    page.until(lambda: names(page) == ["r9876"])


def test_the_list_fits_its_window(server, page, runs):
    write(runs, "a-run-with-a-rather-long-name-" + "x" * 60, lr=0.1)
    open_list(page, server)
    for _ in page.widths():
        page.until(page.fits)
        assert page.page.locator(".runs-grid").bounding_box()["height"] > 240


def test_the_list_needs_no_run(server, page, runs: Path):
    page.page.goto(f"{server.url}/?view=Runs")
    page.page.get_by_role("grid").get_by_text("No runs yet.").wait_for()
    write(runs, "first")
    page.page.locator('.ag-row[row-id="first"]').first.wait_for()
