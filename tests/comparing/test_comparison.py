import numpy as np
import pytest

from cockpit.comparing.comparison import QUANTILES, Finding, quantiles, rank, settings_of
from cockpit.comparing.divergence import Verdict
from cockpit.reading import Histogram, Reading
from cockpit.store import Header, Reader, Writer

EDGES = np.linspace(-4, 4, 33)


def header(name, **settings):
    return Header(name, 0.0, **settings)


def written(place, seed, fault=None, steps=300):
    """A run of noise; from step ``fault`` on the layer ``b`` is shifted, and from 40 steps later the loss."""
    random = np.random.default_rng(seed)
    writer = Writer(place, header(place.name), capacity=10 * steps)
    for step in range(steps):
        loss, a, b = random.normal(size=3)
        counts, _ = np.histogram(random.normal(loc=2 * (fault is not None and step >= fault), size=400), EDGES)
        if fault is not None:
            loss, b = loss + 5 * (step >= fault + 40), b + 5 * (step >= fault)
        readings = {
            "loss": Reading(loss),
            "grad_norm": Reading(a, layers={"a": a, "b": b}),
            "grad_hist_1d": Reading(Histogram(counts.astype(np.int64), EDGES)),
            "time": Reading(step * (1.0 + seed)),
            "cockpit": Reading(None, parts={"overhead": seed + 0.5}),
        }
        writer.put(step, 0.1 * step, readings)
    writer.scalars(5, 0.5, {"valid/accuracy": 0.5})
    writer.close()
    return Reader(place)


def test_layers_and_quantities_are_ranked_by_the_step_from_which_they_are_apart(tmp_path):
    ranking = rank(written(tmp_path / "a", 0), written(tmp_path / "b", 1, fault=120))
    found = {(finding.key, finding.layer): finding.step for finding in ranking.apart}
    assert set(found) == {("grad_norm", "b"), ("grad_hist_1d", ""), ("loss", "")}
    assert found["grad_norm", "b"] == pytest.approx(120, abs=8)
    assert found["grad_hist_1d", ""] == pytest.approx(120, abs=8)
    assert found["loss", ""] == pytest.approx(160, abs=8)
    assert [finding.step for finding in ranking.apart] == sorted(found.values())
    assert ranking.together == 2  # grad_norm of the network and of layer a
    assert ranking.until == 299


def test_of_many_quantities_none_is_apart_by_chance_and_one_that_is_shifted_is_found(tmp_path):
    readers = []
    for name in ("a", "b"):
        writer = Writer(tmp_path / name, header(name), capacity=10_000)
        random = np.random.default_rng(ord(name))
        walks = random.normal(size=(200, 60)).cumsum(0)
        for step in range(200):
            layers = {f"walk {at}": walks[step, at] for at in range(60)}
            layers |= {f"noise {at}": random.normal() for at in range(60)}
            layers["noise 7"] += 6 * (name == "b" and step >= 100)
            writer.put(step, 0.1 * step, {"norm": Reading(None, layers)})
        writer.close()
        readers.append(Reader(tmp_path / name))
    ranking = rank(*readers)
    assert [finding.layer for finding in ranking.apart] == ["noise 7"]
    assert ranking.apart[0].step == pytest.approx(100, abs=8)
    assert ranking.together == 119


def test_a_run_beside_itself_stays_together(tmp_path):
    reader = written(tmp_path / "a", 0)
    ranking = rank(reader, reader)
    assert ranking.apart == ()
    assert ranking.together == 5
    assert ranking.untold == ("valid/accuracy",)


def test_what_the_machine_did_is_not_compared(tmp_path):
    ranking = rank(written(tmp_path / "a", 0), written(tmp_path / "b", 7))
    assert {"time", "cockpit.overhead"}.isdisjoint(finding.key for finding in ranking.apart)


def test_the_ranking_is_that_of_the_runs_in_the_other_order(tmp_path):
    a, b = written(tmp_path / "a", 0), written(tmp_path / "b", 1, fault=120)
    assert rank(a, b).apart == rank(b, a).apart


def test_keys_of_one_run_alone_are_named(tmp_path):
    for name, key in (("a", "alpha"), ("b", "beta")):
        with_key = Writer(tmp_path / name, header(name))
        with_key.put(0, 0.0, {key: Reading(1.0), "loss": Reading(2.0)})
        with_key.close()
    ranking = rank(Reader(tmp_path / "a"), Reader(tmp_path / "b"))
    assert ranking.only == (("alpha",), ("beta",))
    assert ranking.untold == ("loss",)
    assert ranking.until is None


def test_a_shorter_run_is_compared_as_far_as_it_goes(tmp_path):
    ranking = rank(written(tmp_path / "a", 0), written(tmp_path / "b", 1, fault=120, steps=150))
    assert ranking.until == 149
    assert [(finding.key, finding.layer) for finding in ranking.apart if finding.layer] == [("grad_norm", "b")]


@pytest.mark.parametrize("wide", [False, True], ids=["shared bins", "bins of each"])
def test_quantiles_of_a_histogram_are_those_of_what_it_counts(wide):
    samples = np.random.default_rng(0).normal(size=(3, 20_000))
    edges = np.linspace(-5, 5, 401)
    counts = np.array([np.histogram(row, edges)[0] for row in samples])
    found = quantiles(counts, np.tile(edges, (3, 1)) if wide else edges)
    np.testing.assert_allclose(found, np.quantile(samples, QUANTILES, axis=1), atol=0.01)  # a bin is 0.025 wide


def test_quantiles_of_a_histogram_without_ends_stay_finite():
    found = quantiles(np.array([[10, 0, 0], [0, 0, 10]]), np.array([-np.inf, 0.0, 1.0, np.inf]))
    np.testing.assert_array_equal(found, [[0, 1]] * 3)


def test_an_empty_histogram_has_no_quantiles():
    assert np.isnan(quantiles(np.zeros((1, 3), np.int64), np.arange(4.0))).all()


def test_settings_that_differ_come_first_and_are_told_by_name():
    shared = {
        "environment": {"torch": "2.6"},
        "optimizer": [{"class": "SGD", "groups": [{"lr": 0.1, "momentum": 0.9}]}],
    }
    parameter = {"name": "fc1.weight", "shape": [3, 4], "numel": 12, "module": "fc1", "type": "Linear"}
    one = header("a", config={"lr": 0.1, "name": "first"}, model={"parameters": [parameter]}, **shared)
    other = header("b", config={"name": "second"}, model={"parameters": [{**parameter, "shape": [3, 5]}]}, **shared)
    rows = [(entry.section, entry.name, entry.values) for entry in settings_of([one, other])]
    assert rows == [
        ("config", "lr", ("0.1", None)),
        ("config", "name", ("first", "second")),
        ("model", "parameters fc1.weight shape", ("[3, 4]", "[3, 5]")),
        ("optimizer", "class", ("SGD", "SGD")),
        ("optimizer", "groups lr", ("0.1", "0.1")),
        ("optimizer", "groups momentum", ("0.9", "0.9")),
        ("model", "parameters fc1.weight type", ("Linear", "Linear")),
        ("environment", "torch", ("2.6", "2.6")),
    ]


@pytest.mark.parametrize(("chance", "words"), [(0.0, "no"), (1e-9, "no"), (0.02, "1 in 50"), (0.00043, "1 in 2,300")])
def test_how_likely_chance_does_the_same_is_told_in_words(chance, words):
    assert Finding("loss", "", Verdict(3, False, 5.0, 9, chance)).odds == words
