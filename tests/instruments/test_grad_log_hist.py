"""Magnitudes of the gradients' elements, against brute force."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from harness import by_layer, logged, reasons, record, record_steps
from reference import Truth, one_at_a_time, token_losses
from torch import Tensor, nn

from cockpit.instruments import GradLogHist

N, C = 6, 4
NAME = "grad_log_hist"


class Network(nn.Module):
    """A table of which each sample touches few rows, a convolution, a layer with positions, and one without."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.conv, self.mix, self.head = (
            nn.Embedding(7, 5), nn.Conv1d(5, 4, 2), nn.Linear(3, 3), nn.Linear(12, C),
        )  # fmt: skip

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.mix(self.conv(self.table(words).transpose(1, 2)).tanh()).flatten(1))


def network() -> Network:
    torch.manual_seed(0)
    return Network()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(7, (N, 4), generator=generator), torch.randint(C, (N,), generator=generator)


def truth_of(model: nn.Module) -> Truth:
    x, y = batch()
    return one_at_a_time(model, lambda m: token_losses(m(x).unsqueeze(1), y.unsqueeze(1))[0])


def counts(elements: Tensor) -> tuple[np.ndarray, float]:
    """Bins from −64 to 16 by the exponent in each number, and the share of zeros."""
    numbers = elements.flatten().tolist()
    bins = np.zeros(80, np.int64)
    for number in numbers:
        if number != 0:
            bins[min(max(math.frexp(number)[1] - 1, -64), 15) + 64] += 1
    return bins, sum(number == 0 for number in numbers) / len(numbers)


def loss(model: nn.Module, _: object) -> Tensor:
    x, y = batch()
    return F.cross_entropy(model(x), y)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
def test_every_element_is_counted_at_its_exponent(dtype: torch.dtype, tmp_path: Path) -> None:
    model = network().to(dtype)
    truth = truth_of(model)
    run = record(tmp_path, model, [0], loss, instruments=NAME)
    expected, zeros = counts(truth.flat())
    on_the_edge = 0 if dtype == torch.float64 else 0.01 * expected.sum()  # rounding may carry into the next exponent
    assert np.abs(np.cumsum(logged(run, NAME, 0) - expected)).sum() <= on_the_edge
    assert logged(run, f"{NAME}.zeros", 0) == pytest.approx(zeros)
    assert list(run[NAME].edges) == list(range(-64, 17))
    assert set(by_layer(run, NAME, 0)) == set(truth.gradients)
    for name, rows in truth.gradients.items():
        expected, zeros = counts(rows)
        assert np.abs(np.cumsum(by_layer(run, NAME, 0)[name] - expected)).sum() <= on_the_edge, name
        assert by_layer(run, f"{NAME}.layer_zeros", 0)[name] == pytest.approx(zeros), name


@pytest.mark.parametrize("factor", [1.0, 1024.0])
def test_micro_batches_and_loss_scale_leave_the_elements_what_they_are(factor: float, tmp_path: Path) -> None:
    model = network().double()
    expected, zeros = counts(truth_of(model).flat())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def step(_: int) -> None:
        optimizer.zero_grad()
        for x, y in zip(*(part.split(2) for part in batch()), strict=True):
            (factor * F.cross_entropy(model(x), y) / 3).backward()
        optimizer.step()

    run = record_steps(tmp_path, model, optimizer, range(1), step, instruments=NAME)
    np.testing.assert_array_equal(logged(run, NAME, 0), expected)
    assert logged(run, f"{NAME}.zeros", 0) == pytest.approx(zeros)


def test_what_underflows_is_zero(tmp_path: Path) -> None:
    """The same gradients of a loss that was scaled down too far: undoing the scale does not bring them back."""
    shares = []
    for power in (0, 142):
        run = record(
            tmp_path / str(power), network(), [0], lambda m, _, p=power: loss(m, 0) * 2.0**-p, instruments=NAME
        )
        shares.append(logged(run, f"{NAME}.zeros", 0))
    assert shares[0] < shares[1] < 1


def test_elements_that_are_no_numbers_are_counted_nowhere(tmp_path: Path) -> None:
    run = record(tmp_path, network(), [0], lambda m, _: loss(m, _) * float("nan"), instruments=NAME)
    assert logged(run, NAME, 0).sum() == 0


def test_a_loss_that_nobody_knows_leaves_it_missing_with_the_reason(tmp_path: Path) -> None:
    run = record(tmp_path, network(), [0], lambda m, _: m(batch()[0]).square().sum(), instruments=NAME)
    assert run[NAME].missing.all()
    assert "no loss of torch.nn" in reasons(run)[NAME]


@pytest.mark.parametrize(("samples", "places"), [(2, [0, 3]), (slice(1, None, 2), [1, 3, 5]), ([4], [4])])
def test_of_some_samples_only_theirs_are_counted(samples: Any, places: list[int], tmp_path: Path) -> None:
    model = network().double()
    truth = truth_of(model)
    run = record(tmp_path, model, [0], loss, instruments=[GradLogHist(samples=samples)])
    expected, zeros = counts(truth.flat()[places])
    np.testing.assert_array_equal(logged(run, NAME, 0), expected)
    assert logged(run, f"{NAME}.zeros", 0) == pytest.approx(zeros)
    assert logged(run, f"{NAME}.samples", 0) == len(places)
    for name, rows in truth.gradients.items():
        np.testing.assert_array_equal(by_layer(run, NAME, 0)[name], counts(rows[places])[0])
