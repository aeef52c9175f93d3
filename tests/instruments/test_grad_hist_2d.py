"""Histograms of elements beside their parameters, of parts of a batch, and over ranges that are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from harness import by_layer, logged, reasons, record, record_steps
from reference import Truth, one_at_a_time
from torch import Tensor, nn

from cockpit.instruments import GradHist1d, GradHist2d
from cockpit.probes import element_histogram

N = 10
X, Y = (-0.3, 0.3, 11), (-0.4, 0.5, 9)
RANGES = {
    "low": X[0], "high": X[1], "bins": X[2],
    "parameter_low": Y[0], "parameter_high": Y[1], "parameter_bins": Y[2],
}  # fmt: skip


class Everything(nn.Module):
    """Every way in which individual gradients come: looked up, convolved, at many positions, at one, or not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 6)
        self.convolution = nn.Conv1d(6, 4, 3, padding=1)
        self.norm = nn.LayerNorm(4)
        self.positions = nn.Linear(4, 30, bias=False)
        self.head = nn.Linear(30, 3)
        self.unused = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.convolution(self.table(x).movedim(1, 2)).movedim(1, 2)
        return self.head(torch.tanh(self.positions(self.norm(h))).mean(1))


def batch(seed: int = 0, samples: int = N) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(7, (samples, 5), generator=generator), torch.randint(3, (samples,), generator=generator)


def everything() -> nn.Module:
    torch.manual_seed(0)
    return Everything().double()


def loss(model: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(data[0]), data[1])


def truth_of(model: nn.Module, data: tuple[Tensor, Tensor]) -> tuple[Truth, dict[str, Tensor]]:
    truth = one_at_a_time(model, lambda m: F.cross_entropy(m(data[0]), data[1], reduction="none"))
    used = {name: rows for name, rows in truth.gradients.items() if not name.startswith("unused")}
    return Truth(truth.losses, truth.weights, used), {name: p.detach().clone() for name, p in model.named_parameters()}


def test_every_pair_is_counted_where_brute_force_counts_it(tmp_path: Path) -> None:
    model = everything()
    truth, parameters = truth_of(model, batch())
    run = record(tmp_path, model, [batch()], loss, instruments=[GradHist2d(**RANGES)])
    np.testing.assert_array_equal(logged(run, "grad_hist_2d", 0), truth.histogram2d(parameters, X, Y))
    for name, counts in by_layer(run, "grad_hist_2d", 0).items():
        np.testing.assert_array_equal(counts, truth.histogram2d(parameters, X, Y, only=[name]), err_msg=name)
    assert set(by_layer(run, "grad_hist_2d", 0)) == set(truth.gradients)
    np.testing.assert_allclose(run["grad_hist_2d"].edges, np.linspace(X[0], X[1], X[2] + 1))
    np.testing.assert_allclose(run["grad_hist_2d"].y_edges, np.linspace(Y[0], Y[1], Y[2] + 1))


SUBSETS: list[tuple[Any, list[int]]] = [
    (4, [0, 2, 5, 7]),
    (slice(1, None, 4), [1, 5, 9]),
    ([7, 0], [0, 7]),
    (99, list(range(N))),
]


@pytest.mark.parametrize(("samples", "places"), SUBSETS, ids=["number", "slice", "list", "more than there are"])
@pytest.mark.parametrize("others", [[], ["norm_test", "early_stopping"]], ids=["alone", "beside those that need all"])
def test_of_some_samples_only_theirs_are_counted(samples: Any, places: list[int], others: list, tmp_path: Path) -> None:
    model = everything()
    truth, parameters = truth_of(model, batch())
    one = GradHist1d(-0.1, 0.1, 7, samples=samples)
    run = record(tmp_path, model, [batch()], loss, instruments=[GradHist2d(**RANGES, samples=samples), one, *others])
    for name in truth.gradients:
        pairs = truth.histogram2d(parameters, X, Y, [name], places)
        np.testing.assert_array_equal(by_layer(run, "grad_hist_2d", 0)[name], pairs, err_msg=name)
        part = Truth(truth.losses[places], truth.weights[places], {name: truth.gradients[name][places]})
        elements = by_layer(run, "grad_hist_1d", 0)[name]
        np.testing.assert_array_equal(elements, part.histogram(-0.1, 0.1, 7), err_msg=name)
    for key in ("grad_hist_1d", "grad_hist_2d"):
        assert logged(run, f"{key}.samples", 0) == len(places)


def test_what_the_whole_batch_shows_is_not_labelled_as_a_part(tmp_path: Path) -> None:
    run = record(tmp_path, everything(), [batch()], loss, instruments=[GradHist1d(), GradHist2d()])
    assert set(run.keys()) <= {"grad_hist_1d", "grad_hist_2d", "learning_rate", "batch_size", "cockpit.overhead"}


def test_samples_that_no_batch_has_leave_a_gap_with_its_reason(tmp_path: Path) -> None:
    run = record(tmp_path, everything(), [batch()], loss, instruments=[GradHist1d(samples=[12]), GradHist2d(samples=4)])
    assert logged(run, "grad_hist_1d", 0) is None
    assert "none of the samples asked for is in a mini-batch of 10" in reasons(run)["grad_hist_1d"]
    D = sum(rows[0].numel() for rows in truth_of(everything(), batch())[0].gradients.values())
    assert logged(run, "grad_hist_2d", 0).sum() == 4 * D


@pytest.mark.parametrize("samples", [None, 4])
def test_the_gradients_marginal_is_the_histogram_of_the_gradients(samples: int | None, tmp_path: Path) -> None:
    both = [GradHist1d(samples=samples), GradHist2d(samples=samples)]
    run = record(tmp_path / "both", everything(), [batch()] * 3, loss, instruments=both)
    alone = record(tmp_path / "alone", everything(), [batch()] * 3, loss, instruments=both[:1])
    for step in range(3):
        np.testing.assert_array_equal(logged(run, "grad_hist_2d", step).sum(1), logged(alone, "grad_hist_1d", step))
        np.testing.assert_array_equal(logged(run, "grad_hist_1d", step), logged(alone, "grad_hist_1d", step))
    np.testing.assert_array_equal(run["grad_hist_1d"].edges, run["grad_hist_2d"].edges)


def refuse(*_: object) -> Tensor:
    raise AssertionError("the elements are counted a second time")


def test_elements_are_counted_once_for_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(element_histogram, "count_rows", refuse)
    monkeypatch.setattr(element_histogram, "count_outer", refuse)
    both = record(tmp_path / "both", everything(), [batch()], loss, instruments=["grad_hist_1d", "grad_hist_2d"])
    assert logged(both, "grad_hist_1d", 0).sum() > 0
    other = [GradHist1d(bins=50), GradHist2d()]
    apart = record(tmp_path / "apart", everything(), [batch()], loss, instruments=other)
    assert logged(apart, "grad_hist_1d", 0) is None, "with other edges it counts for itself"


def test_without_a_range_the_parameters_fit(tmp_path: Path) -> None:
    model = everything()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.03, 0.03)
    run = record(tmp_path, model, [batch()] * 2, loss, instruments=["grad_hist_2d"])
    edges = run["grad_hist_2d"].y_edges
    assert edges.shape == (41,), "one range for all steps"
    assert (edges[0], edges[-1]) == (-(2.0**-5), 2.0**-5)


def test_a_parameter_that_is_not_a_number_is_in_no_pair(tmp_path: Path) -> None:
    model = everything()
    with torch.no_grad():
        model.table.weight[6] = torch.nan
    data = (batch()[0].clamp_max(5), batch()[1])
    run = record(tmp_path, model, [data], loss, instruments=[GradHist1d(), GradHist2d()])
    pairs, elements = by_layer(run, "grad_hist_2d", 0)["table.weight"], by_layer(run, "grad_hist_1d", 0)["table.weight"]
    assert (pairs.sum(), elements.sum()) == (N * 36, N * 42)


@pytest.mark.parametrize("samples", [None, 2])
def test_micro_batches_add_up(samples: int | None, tmp_path: Path) -> None:
    model, parts = everything(), [batch(1, 4), batch(2, 6)]
    whole = tuple(torch.cat(pieces) for pieces in zip(*parts, strict=True))
    truth, parameters = truth_of(model, whole)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_: int) -> None:
        for part in parts:
            (loss(model, part) * len(part[1]) / N).backward()
        optimizer.step()

    run = record_steps(tmp_path, model, optimizer, range(1), step, instruments=[GradHist2d(**RANGES, samples=samples)])
    places = None if samples is None else [0, 2, 4, 7]
    np.testing.assert_array_equal(logged(run, "grad_hist_2d", 0), truth.histogram2d(parameters, X, Y, None, places))


@pytest.mark.parametrize("instrument", [GradHist1d, GradHist2d])
def test_an_adaptive_range_follows_the_elements(instrument: Callable[..., Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Linear(50, 3, bias=False)
    data = torch.randn(N, 50) * 1e-4, torch.arange(N) % 3
    run = record(tmp_path, model, [data] * 12, loss, instruments=[instrument(adaptive=True)])
    column = run[instrument.name]
    assert column.edges.ndim == 2
    highs = column.edges[:, -1]
    assert highs[0] == 1.0
    assert len(set(highs[6:])) == 1, "it settles"
    assert 1e-5 < highs[-1] < 1e-2
    counts = column.values[-1] if column.values.ndim == 2 else column.values[-1].sum(1)
    assert counts.max() < 0.5 * counts.sum()
    assert counts.sum() == N * 150


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"low": 1.0}, "low < high and at least 2 bins"),
        ({"bins": 1}, "low < high and at least 2 bins"),
        ({"parameter_bins": 1}, "low < high and at least 2 bins"),
        ({"parameter_low": 1.0, "parameter_high": 0.0}, "low < high and at least 2 bins"),
        ({"parameter_high": 1.0}, "come together or not at all"),
        ({"samples": 0}, "at least one sample"),
    ],
)
def test_a_range_without_bins_is_refused(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GradHist2d(**options)


def test_a_micro_batch_without_any_of_the_samples_adds_none(tmp_path: Path) -> None:
    model, parts = everything(), [batch(1, 4), batch(2, 6)]
    whole = tuple(torch.cat(pieces) for pieces in zip(*parts, strict=True))
    truth, parameters = truth_of(model, whole)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_: int) -> None:
        for part in parts:
            (loss(model, part) * len(part[1]) / N).backward()
        optimizer.step()

    run = record_steps(tmp_path, model, optimizer, range(1), step, instruments=[GradHist2d(**RANGES, samples=[5])])
    np.testing.assert_array_equal(logged(run, "grad_hist_2d", 0), truth.histogram2d(parameters, X, Y, None, [9]))
