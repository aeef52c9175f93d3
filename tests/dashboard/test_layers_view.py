"""The view Layers, as the server answers."""

import json

import dash_mantine_components as dmc
import pytest
from dash import Patch, html, no_update
from drawn import checked, event, plain_array
from layered import FROZEN, MODULES, write_layered
from visitor import Browser, words

from cockpit.dashboard.layer_data import LayerData
from cockpit.dashboard.layer_parts import Settings
from cockpit.dashboard.layers import _drawings, fresh
from cockpit.dashboard.marks import EVENTS_HEIGHT
from cockpit.dashboard.one_layer import drawings_of
from cockpit.dashboard.page import Choice, look
from cockpit.dashboard.sources import Sources
from cockpit.drawing.timeline import MEASURES
from cockpit.panel import LayerColumn, Panel
from cockpit.reading import Reading
from cockpit.store import Header, Store, Writer


def parts(view, kind):
    return [part for top in view for part in (top, *top._traverse()) if isinstance(part, kind)]


def rows(view):
    """The first cell of each row of the table, and the words of the others."""
    body = parts(view, html.Tbody)[0]
    return {words(row.children[0]).strip(): [words(cell) for cell in row.children[1:]] for row in body.children}


@pytest.fixture
def browser(tmp_path):
    """A page each time it is asked: a view builds its parts once."""
    write_layered(tmp_path / "net")

    class Anew(Browser):
        def ask(self, **choice):
            self.shown = {}
            return super().ask(**choice)

    return Anew(tmp_path)


def test_repeated_blocks_are_folded_unless_asked_otherwise(browser):
    assert list(rows(browser.ask(view="Layers", more={"sort": "depth"})["view"])) == [
        "embed", "▸ blocks.[0-2].norm  × 3", "▸ blocks.[0-2].attend  × 3", "▸ blocks.[0-2].widen  × 3", "head",
    ]  # fmt: skip
    every = rows(browser.ask(view="Layers", more={"sort": "depth", "grouping": "depth"})["view"])
    assert list(every) == list(MODULES)


def test_what_stands_out_is_marked_and_comes_first(browser):
    found = rows(browser.ask(view="Layers", more={"grouping": "depth"}, step=70)["view"])
    assert next(iter(found)) == FROZEN
    assert found[FROZEN][0].strip().startswith("◆")
    before = rows(browser.ask(view="Layers", more={"grouping": "depth"}, step=20)["view"])
    assert next(iter(before)) == "embed"


def test_a_column_sorts(browser):
    found = rows(browser.ask(view="Layers", more={"grouping": "depth", "sort": "trace:share"})["view"])
    assert list(found) == list(MODULES)[::-1]


def test_further_columns_are_shown_on_request(browser):
    def titles(**more):
        view = browser.ask(view="Layers", more=more)["view"]
        return [words(cell).strip() for cell in parts(view, html.Thead)[0].children.children][1:]

    declared = ["Update / weight", "Median log₂ |g|", "Curvature share", "Noise"]
    assert titles() == declared
    assert titles(extra="trace") == [*declared, "trace"]
    assert len(titles(extra="*")) == 8


def test_a_group_unfolds(browser):
    more = {"sort": "depth", "unfolded": json.dumps(["blocks.[0-2].norm"])}
    found = list(rows(browser.ask(view="Layers", more=more)["view"]))
    assert found[1:5] == ["▾ blocks.[0-2].norm  × 3", "blocks.0.norm", "blocks.1.norm", "blocks.2.norm"]


@pytest.mark.parametrize("more", [{"unfolded": "{"}, {"unfolded": "3"}, {"grouping": "x"}, {"quantity": "x"}])
def test_whatever_the_address_says_is_shown_as_far_as_it_fits(browser, more):
    assert len(rows(browser.ask(view="Layers", more=more)["view"])) == 5


def test_the_formula_of_the_order_stands_on_the_page(browser):
    text = words(browser.ask(view="Layers")["view"])
    assert "score = max( |v − median of the neighbours| / s" in text


def test_a_layer_by_itself_shows_its_histograms_and_every_curve(browser):
    found = browser.ask(view="Layers", more={"layer": "head"})
    text = words(found["view"])
    assert "Linear, weight 4 × 4, bias 4 × 4" in text
    assert "Gradient magnitudes, weight" in text
    page = look(browser.sources, Choice(view="Layers", more={"layer": "head"}), "net")
    drawings = drawings_of(page, LayerData(page.source), Settings(layer="head"))
    assert list(drawings) == ["Gradient magnitudes, weight", "Gradient magnitudes, bias", "Curves 1"]
    headings = [note["text"].split("  ")[0] for note in drawings["Curves 1"].figure["layout"]["annotations"]]
    assert headings == ["update", "magnitude.layer_zeros", "trace", "moments.noise", "moments.signal"]


def test_what_happened_stands_below_every_figure_of_a_layer_and_the_pointer_is_shared(browser):
    page = look(browser.sources, Choice(view="Layers", more={"layer": "head"}), "net")
    page.source.happened.add(event("learning_rate", 50, "0.1 → 0.01"))
    for drawing in drawings_of(page, LayerData(page.source), Settings(layer="head")).values():
        figure = checked(drawing.figure)
        (ticks,) = [trace for trace in figure["data"] if trace.get("name") == "learning rate"]
        assert plain_array(ticks["x"]).tolist() == [50]
        assert figure["layout"]["yaxis" + ticks["yaxis"][1:]]["domain"] == [0, EVENTS_HEIGHT]
        told = [trace for trace in figure["data"] if "%{y" in trace.get("hovertemplate", "")]
        assert set(figure["layout"]["meta"]["cursor"]) == {"x" + trace.get("yaxis", "y") for trace in told}


def test_an_unknown_layer_is_said(browser):
    assert "no layer called “nothing”" in words(browser.ask(view="Layers", more={"layer": "nothing"})["view"])


def test_a_run_without_layers_says_so(tmp_path):
    writer = Writer(tmp_path / "whole", Header("whole", 0.0), flush_interval=0.05)
    writer.put(0, 0.0, {"loss": Reading(1.0)})
    writer.close()
    assert "Nothing was logged layer by layer" in words(Browser(tmp_path).ask(view="Layers")["view"])


def test_a_table_that_waits_says_for_what(tmp_path):
    ratios = LayerColumn("Update over weight", "ratio", how_to_read="")
    dead = LayerColumn("Dead", "dead", how_to_read="")
    panels = {
        "ratio": Panel("Ratio", "lines", "", layers=(ratios,)),
        "dead": Panel("Dead", "lines", "", layers=(dead,)),
    }
    header = Header("live", 0.0, panels=panels, instruments={"ratio": {"interval": "every 5th step"}})
    writer = Writer(tmp_path / "live", header, flush_interval=0.05)
    waits = words(Browser(tmp_path).ask(view="Layers")["view"])
    writer.close()
    assert "with the first of these readings: Update over weight (every 5th step)." in waits
    assert "Dead" not in waits  # its instrument is off


def test_a_map_without_a_value_says_when_it_will_have_one(tmp_path):
    quotient = LayerColumn("Noise over signal", "noise", over="signal", how_to_read="")
    instruments = {"noise": {"interval": "every 5th step"}, "signal": {"interval": "every 7th step"}}
    panels = {"noise": Panel("Noise", "lines", "", layers=(quotient,))}
    writer = Writer(tmp_path / "live", Header("live", 0.0, panels=panels, instruments=instruments), flush_interval=0.05)

    def waits(**more):
        page = look(Sources(Store(tmp_path)), Choice(view="Layers", more=more), "live")
        return _drawings(page, LayerData(page.source), Settings.of(more))["map"].empty

    writer.put(5, 0.0, {"noise": Reading(None, {"a": 1.0})})
    writer.put(7, 0.1, {"signal": Reading(None, {"a": 2.0}), "gone": Reading(None, {"a": None})})
    assert writer.flush()
    together = "the first step at which noise (every 5th step) and signal (every 7th step) are both read"
    assert waits() == f"Noise over signal appears with {together}."
    assert waits(quantity="gone") == "gone is missing in all layers at every step so far."
    writer.close()
    assert waits() == "Noise over signal has no value: noise and signal were read at no step in common."


@pytest.mark.parametrize("more", [{}, {"quantity": "update"}])
def test_the_map_is_called_by_its_quantity_though_none_is_chosen(browser, more):
    view = browser.ask(view="Layers", more=more)["view"]
    (chosen,) = [part for part in parts(view, dmc.Select) if getattr(part, "id", {}).get("more") == "quantity"]
    words = {option["value"]: option["label"] for option in chosen.data}
    assert words[chosen.value] == "Update / weight"
    assert len(set(words.values())) == len(words)


def test_a_run_of_an_earlier_version_shows_all_its_layers_quantities(tmp_path):
    writer = Writer(
        tmp_path / "old", Header("old", 0.0, panels={"g": Panel("G", "lines", "Read.")}), flush_interval=0.05
    )
    for step in range(4):
        writer.put(step, 0.1, {"g": Reading(1.0, {"a": 1.0, "b": None}), "h": Reading(1.0, {"a": float("nan")})})
    writer.close()
    found = rows(Browser(tmp_path).ask(view="Layers")["view"])
    assert found == {"a": [" 1", " ◆ NaN"], "b": ["–", "–"]}


def test_it_is_built_once_and_kept_by_its_own_callback(browser):
    first = browser.ask(view="Layers")
    again = browser.ask(view="Layers", step=30)
    assert first["shown"]["identity"] == again["shown"]["identity"]


def test_its_callback_answers_for_a_view_that_is_on_the_page(tmp_path, browser):
    shown = browser.ask(view="Layers", step=70, more={"grouping": "depth"})["shown"]
    tables, figures, empty, *_, forms = fresh(Sources(Store(tmp_path)), shown, 1, ["map", "gone"], {})
    assert next(iter(rows(tables[0]))) == FROZEN
    assert (len(figures), figures[1], empty[0]) == (2, no_update, "")
    assert isinstance(figures[0], dict)  # not changes, where nobody knows of what
    _, (changed, _), *_ = fresh(Sources(Store(tmp_path)), shown, 1, ["map", "gone"], forms)
    assert isinstance(changed, Patch)
    assert fresh(Sources(Store(tmp_path)), {"view": "Classic"}, 1, ["map"], {}) is None
    assert fresh(Sources(Store(tmp_path)), shown | {"run": "gone"}, 1, ["map"], {}) is None


@pytest.mark.parametrize("measure", MEASURES)
def test_every_figure_over_time_follows_the_choice_of_the_axis(browser, measure):
    for more, names in (({}, ["map"]), ({"layer": "head"}, ["Gradient magnitudes, weight", "Curves 1"])):
        choice = {"view": "Layers", "x": measure, "step": 70, "more": more}
        page = look(browser.sources, Choice.from_page(choice), "net")
        drawings = _drawings(page, LayerData(page.source), Settings.of(more))
        timeline = page.source.timeline(measure)
        for name in names:
            layout, traces = checked(drawings[name].figure)["layout"], drawings[name].figure["data"]
            x = plain_array(traces[0]["x"])
            assert x[-2] < timeline.at(95) <= x[-1]
            assert timeline.at(70) in {shape["x0"] for shape in layout["shapes"]}
            assert layout["xaxis"]["title"]["text"] == timeline.title
            assert layout["xaxis"]["type"] == {"log": "log", "wall": "date"}.get(measure, "linear")
        _, figures, *_ = fresh(browser.sources, browser.ask(**choice)["shown"], 1, names, {})
        assert len(figures) == len(names)


def test_another_axis_of_time_lays_the_figures_out_anew(browser):
    identities = {str(browser.ask(view="Layers", x=measure)["shown"]["identity"]) for measure in ("step", "log")}
    assert len(identities) == 2
