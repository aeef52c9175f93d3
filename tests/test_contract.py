"""What holds for every instrument, and that the suite which says so would notice if it did not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cockpit.instrument import CONFIGURATIONS, Instrument, configured, registered
from cockpit.panel import Panel
from cockpit.probes.gradient_norms import GradientNorms
from cockpit.reading import Histogram, Reading
from cockpit.run import load_run
from cockpit.testing import TRAININGS, check_instrument, check_log, check_panel, check_training_untouched

PLAIN = TRAININGS[0]
DISTINCT = list({tuple(cls.name for cls in configured(name)): name for name in reversed(CONFIGURATIONS)}.values())
PAGE = Path(__file__).parents[1] / "docs" / "instruments.md"


@pytest.mark.parametrize("name", registered())
def test_an_instrument_keeps_the_contract(name):
    check_instrument(name)


@pytest.mark.parametrize("name", registered())
def test_an_instrument_is_documented_in_words(name):
    _, found, entry = PAGE.read_text().partition(f"\n## {name}\n")
    assert found
    assert len(entry.partition("\n## ")[0].split()) > 5


@pytest.mark.parametrize("configuration", DISTINCT)
@pytest.mark.parametrize("training", TRAININGS, ids=str)
def test_training_is_the_same_to_the_last_bit_under_a_configuration(configuration, training, tmp_path):
    check_training_untouched(training, configuration, tmp_path / "run")


class Probing(Instrument):
    """Reads the gradient norm; what is sabotaged below."""

    name = "probing"
    needs = (GradientNorms,)

    def compute(self, steps):
        return steps[0][GradientNorms].total()


def test_an_instrument_of_ones_own_keeps_the_contract():
    check_instrument(Probing(), trainings=TRAININGS[:2])
    check_instrument(Probing, trainings=TRAININGS[:1])


class DrawsRandomNumbers(Probing):
    def compute(self, steps):
        return float(torch.rand(()))


class DrawsFromNumpy(Probing):
    def compute(self, steps):
        return float(np.random.rand())


@pytest.mark.parametrize(
    ("instrument", "what"),
    [(DrawsRandomNumbers, "random generator of torch"), (DrawsFromNumpy, "random generator of numpy")],
)
def test_random_numbers_of_the_training_are_missed(instrument, what, tmp_path):
    with pytest.raises(AssertionError, match=f"SGD: step 0 changed .*{what}"):
        check_training_untouched(PLAIN, instrument, tmp_path / "run")


def move(parameter):
    with torch.no_grad():
        parameter += 1e-6


def leave_a_hook(parameter):
    parameter.register_hook(lambda gradient: None)


def add_to_the_gradient(parameter):
    parameter.grad += 1e-6


@pytest.mark.parametrize(
    ("sabotage", "what"),
    [
        (move, r"model\.0\.weight"),
        (leave_a_hook, r"hooks of 0\.weight: _backward_hooks"),
        (add_to_the_gradient, r"0\.weight\.grad"),
    ],
)
def test_a_parameter_that_was_touched_is_noticed(sabotage, what, tmp_path):
    networks = []

    def network():
        networks.append(PLAIN.network())
        return networks[-1]

    class Saboteur(Probing):
        def compute(self, steps):
            sabotage(next(networks[0].parameters()))
            return 0.0

    with pytest.raises(AssertionError, match=f"step 0 changed .*{what}"):
        check_training_untouched(replace(PLAIN, network=network), Saboteur(), tmp_path / "run")


class Raises(Probing):
    def compute(self, steps):
        raise ZeroDivisionError("nobody is perfect")


class SaysNothing(Probing):
    def compute(self, steps):
        return None


class ReturnsAWord(Probing):
    def compute(self, steps):
        return "high"


@pytest.mark.parametrize(
    ("instrument", "words"),
    [
        (Raises, "probing failed at step 0: ZeroDivisionError: nobody is perfect"),
        (ReturnsAWord, "probing failed at step 0: TypeError: an instrument returns a number, .* got 'high'"),
        (SaysNothing, "probing never gave a reading"),
    ],
)
def test_an_instrument_that_fails_is_told_so(instrument, words):
    with pytest.raises(AssertionError, match=words):
        check_instrument(instrument(), trainings=[PLAIN])


def test_a_reading_that_the_log_holds_otherwise_is_noticed(tmp_path):
    readings = check_training_untouched(PLAIN, Probing(), tmp_path / "run")
    run = load_run(tmp_path / "run")
    check_log(run, "probing", readings)
    for other in (
        Reading(readings[3].value + 1.0),
        Reading(None),
        Reading(Histogram(np.array([1]), np.array([0.0, 1.0]))),
    ):
        with pytest.raises(AssertionError, match="step 3: probing does not survive the log"):
            check_log(run, "probing", {3: other})
    with pytest.raises(KeyError, match=r"probing\.part"):
        check_log(run, "probing", {3: Reading(readings[3].value, parts={"part": 1.0})})


class Everything(Probing):
    """Everything that a reading can hold."""

    def compute(self, steps):
        edges = np.array([0.0, 1.0, 2.0])
        layers = {"a": Histogram(np.array([1, 2]), edges), "b": None}
        parts = {"nan": float("nan"), "none": None, "infinite": {"a": -float("inf"), "b": None}}
        return Reading(Histogram(np.array([steps[0].index, 2**40]), edges), layers, parts)


def test_everything_that_a_reading_can_hold_survives_the_log(tmp_path):
    readings = check_training_untouched(PLAIN, Everything(), tmp_path / "run")
    assert len(readings) == 10
    check_log(load_run(tmp_path / "run"), "probing", readings)


class Undrawable(Probing):
    panel = Panel(title="?", kind="pie", how_to_read="")


def test_a_panel_that_cannot_be_drawn_is_noticed(tmp_path):
    check_training_untouched(PLAIN, Undrawable(), tmp_path / "run")
    with pytest.raises(AssertionError, match=r"the panel 'probing' is not drawn: .*pie"):
        check_panel(tmp_path / "run", "probing")
    with pytest.raises(AssertionError, match="no panel shows nothing"):
        check_panel(tmp_path / "run", "nothing")


def test_the_callers_random_numbers_go_on_where_they_were(tmp_path):
    before = torch.get_rng_state(), np.random.get_state()[1].tobytes()
    check_training_untouched(PLAIN, "loss", tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tobytes() == before[1]
