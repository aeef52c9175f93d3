"""Layers stand in the order of the forward pass, whatever order they were registered in."""

import pytest
import torch
from torch import nn

from cockpit import Cockpit
from cockpit.dashboard.layer_data import LayerData
from cockpit.dashboard.panels import draw
from cockpit.dashboard.source import Source
from cockpit.dashboard.theme import LIGHT
from cockpit.forward_order import FORWARD, before_their_parts, in_depth_order, in_forward_order
from cockpit.layers import Owner
from cockpit.reading import Reading
from cockpit.store import Header, Reader, Writer


class Block(nn.Module):
    """A module with a parameter of its own around one that it calls."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.gain = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return self.gain * self.inner(x)


class Upside(nn.Module):
    """Registered from the head down."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.block = Block()
        self.seldom = nn.Linear(4, 4)
        self.stem = nn.Linear(4, 4)
        self.never = nn.Linear(4, 4)
        self.often = True

    def forward(self, x):
        x = self.block(torch.tanh(self.stem(x)))
        return self.head(x if self.often else self.seldom(x))


ORDER = ["stem", "block", "block.inner", "head"]
PARAMETERS = [
    "stem.weight", "stem.bias", "block.gain", "block.inner.weight", "block.inner.bias", "head.weight", "head.bias",
]  # fmt: skip


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A run of three steps, in the last of which one more layer is called."""
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("order") / "run"
    model = Upside()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Cockpit(model, optimizer, run=place, track=1) as cockpit:
        for step in range(3):
            model.often = step < 2
            with cockpit.step():
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.randint(3, (8,))).backward()
                optimizer.step()
    return place


def rows(source, name):
    figure = draw(name, source.header.panels[name], source, step=None, colours=LIGHT, log=True).figure
    axis = figure["layout"]["yaxis"]
    return axis["ticktext"] if "ticktext" in axis else axis["categoryarray"]


def test_the_order_of_first_calls_stands_in_the_log_and_grows_with_it(log):
    assert Reader(log).document(FORWARD) == ["stem", "block", "block.inner", "seldom", "head"]


def test_a_heat_map_and_ridges_have_the_first_layer_on_top(log):
    source = Source(Reader(log))
    expected = [*PARAMETERS[:5], "seldom.weight", "seldom.bias", *PARAMETERS[5:]]
    for panel in ("layer_updates", "layer_gradients"):
        shown = [name for name in rows(source, panel) if not name.startswith("never")]
        assert shown == [name for name in expected if name in shown]
        assert len(shown) == len(expected)


def test_the_table_of_layers_has_it_too(log):
    modules = [name for name in LayerData(Source(Reader(log))).modules if name in (*ORDER, "seldom", "never")]
    assert modules == ["stem", "never", "block", "block.inner", "seldom", "head"]


def test_a_log_without_the_order_keeps_its_own(tmp_path):
    writer = Writer(tmp_path, Header("old", 0.0))
    writer.put(0, 0.0, {"ratio": Reading(1.0, {"head": 1.0, "stem": 2.0})})
    writer.close()
    source = Source(Reader(tmp_path))
    assert source.layers("ratio").layers == ("head", "stem")
    assert LayerData(source).modules == ("head", "stem")


def test_what_was_never_called_stands_behind_the_layer_registered_before_it():
    owners = {name: Owner(name, "Linear") for name in ("a", "b", "c")}
    assert in_forward_order(["a", "b", "c"], owners, ["c", "a"]) == ["c", "a", "b"]


def test_what_the_model_does_not_know_stays_behind_the_layer_before_it():
    owners = {"one.weight": Owner("one", "Linear", "weight"), "two.weight": Owner("two", "Linear", "weight")}
    names = ["first", "one.weight", "relu", "two.weight", "tanh"]
    assert in_forward_order(names, owners, ["two", "one"]) == ["first", "two.weight", "tanh", "one.weight", "relu"]


def test_a_module_is_called_before_its_parts_however_deep_and_returns_after_them():
    assert before_their_parts(["a.b.c", "a.b", "d", "a", ""]) == ["", "a", "a.b", "a.b.c", "d"]


def test_modules_that_only_some_quantities_know_find_their_place():
    assert in_depth_order([["a", "c"], ["a", "b", "c"], ["c", "d"], ["z"]]) == ["a", "b", "c", "d", "z"]
