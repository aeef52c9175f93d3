"""What the instruments that come with Cockpit say of themselves."""

import copy

import pytest

from cockpit.drawing.arrange import keys_of
from cockpit.drawing.explanation import words_of_panel
from cockpit.drawing.formula import equations, is_tex
from cockpit.instrument import Instrument, registered
from cockpit.panel import LayerColumn, Panel
from cockpit.tracking.description import panels_of

OWN = {name: cls for name, cls in registered().items() if cls.__module__.startswith("cockpit.instruments")}
PANELS = panels_of([cls() for cls in OWN.values()])


@pytest.mark.parametrize("name", PANELS)
def test_every_panel_has_a_formula_that_is_set_and_says_what_is_good_what_is_bad_and_whose_it_is(name):
    for words in words_of_panel(name, PANELS) or [None]:
        assert words is not None
        assert equations(words.formula)
        assert all(is_tex(equation) for equation in equations(words.formula))
        assert all((words.good, words.bad, words.source, words.how_to_read))


@pytest.mark.parametrize("name", OWN)
def test_every_instrument_is_explained(name):
    assert any(words_of_panel(panel, PANELS) for panel in PANELS if name in keys_of(panel, PANELS[panel]))


def test_the_table_of_layers_has_its_columns():
    titles = {column.title for panel in PANELS.values() for column in panel.layers}
    of_layers = {"Update / weight", "Median log₂ |g|", "Noise", "Dead units", "Activation RMS", "Curvature share"}
    by_name = {"Rescale symmetry", "Scale symmetry", "Translation symmetry", "Tail index", "Update tail index"}
    assert titles == of_layers | by_name


def test_words_and_columns_survive_the_log():
    panel = Panel("A", "lines", "Read.", formula="x", good="g", bad="b", source="s", layers=(LayerColumn("T", "k"),))
    data = panel.to_json()
    data["layers"][0]["of a later version"] = 1
    assert Panel.from_json(data) == panel


def test_an_instrument_remembers_what_it_was_set_to():
    class Own(Instrument):
        name = "own"

        def __init__(self, depth: int, *, width: float = 0.5, track: int | None = None) -> None:
            super().__init__(track=track)

        def compute(self, steps):
            return None

    assert Own(3, track=2).settings == {"depth": 3, "width": 0.5}
    assert copy.deepcopy(Own(3)).settings == {"depth": 3, "width": 0.5}
    assert registered()["norm_test"](track=4).settings == {}
    with pytest.raises(TypeError, match="depth"):
        Own()
