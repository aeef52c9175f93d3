"""The estimator where the tail index is known, and the instruments against loops over coordinates."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from classifier import N, Y, mlp, truth_of
from harness import by_layer, logged, reasons, record
from torch import Tensor, nn

from cockpit.instruments import TailIndexUpdate
from cockpit.readings.tail_index import gaussian_twin, symmetrised, tail_sums

GRAD, UPDATE = "tail_index_grad", "tail_index_update"
ROWS, COORDINATES = 64, 15_625  # a million values


def gaussian(generator: torch.Generator) -> Tensor:
    return torch.randn(ROWS, COORDINATES, generator=generator)


def cauchy(generator: torch.Generator) -> Tensor:
    return torch.empty(ROWS, COORDINATES).cauchy_(generator=generator)


def as_drawn(values: Tensor, generator: torch.Generator) -> Tensor:
    return values


def idle_coordinates(values: Tensor, generator: torch.Generator) -> Tensor:
    return values * (torch.rand(COORDINATES, generator=generator) > 0.2)


def zeros_here_and_there(values: Tensor, generator: torch.Generator) -> Tensor:
    return values * (torch.rand(values.shape, generator=generator) > 0.2)


def unequal(values: Tensor, generator: torch.Generator) -> Tensor:
    scales = 10 ** (8 * torch.rand(COORDINATES, generator=generator) - 4)
    return zeros_here_and_there(idle_coordinates(values, generator), generator) * scales


@pytest.mark.parametrize("change", [as_drawn, idle_coordinates, zeros_here_and_there, unequal])
@pytest.mark.parametrize(("draw", "index"), [(gaussian, 2.0), (cauchy, 1.0)])
def test_the_index_of_stable_noise_is_found_whatever_its_zeros_and_scales(draw, index, change) -> None:
    generator = torch.Generator().manual_seed(0)
    assert tail_sums(change(draw(generator), generator)).index() == pytest.approx(index, abs=0.05)


def test_differences_have_the_index_of_what_is_not_centred() -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.empty(128, 4000).cauchy_(median=3.0, generator=generator)
    assert tail_sums(symmetrised(samples)).index() == pytest.approx(1.0, abs=0.05)


def test_noise_is_compared_with_gaussian_noise_of_its_covariance() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = cauchy(generator)[:, :2000] * torch.linspace(0, 100, 2000)
    twin = gaussian_twin(noise, generator)
    assert tail_sums(twin).index() == pytest.approx(2.0, abs=0.3)
    few = torch.randn(4, 3, generator=generator)
    draws = torch.cat([gaussian_twin(few, generator) for _ in range(5000)])
    torch.testing.assert_close(draws.T @ draws / len(draws), (few.T @ few).double() / 4, rtol=0.1, atol=0.05)


def test_multiples_of_one_number_have_no_tail() -> None:
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(2, (64, 1000), generator=generator) * 2.0 - 1
    assert tail_sums(symmetrised(signs)).lattice()
    assert not tail_sums(torch.randn(64, 1000, generator=generator)).lattice()


def test_a_coordinate_without_enough_values_counts_for_nothing() -> None:
    noise = torch.tensor([[1.0, 0.0, 2.0], [3.0, 5.0, 0.0]])
    sums = tail_sums(noise)
    assert sums.blocks.tolist() == [1, 0, 0]
    assert sums.index() == pytest.approx(math.log(2) / (math.log(4) - math.log(3) / 2))
    assert tail_sums(noise[:, 1:]).index() is None
    with pytest.raises(ValueError, match="at least 2 values of each coordinate, got 1"):
        tail_sums(noise[:1])


def brute_force(samples: Tensor) -> float:
    """Of noise in pairs of samples, one coordinate and one sum after the other; shape ``[N, D]``."""
    grown, sums = 0.0, 0
    for coordinate in samples.T.tolist():
        noise = [a - b for a, b in zip(coordinate[::2], coordinate[1::2], strict=True) if a != b]
        k = 2
        for start in range(0, len(noise) - k + 1, k):
            block = noise[start : start + k]
            grown += math.log(abs(sum(block))) - sum(math.log(abs(x)) for x in block) / k
            sums += 1
    return math.log(k) * sums / grown


def loss(model: nn.Module, x: Tensor) -> Tensor:
    return F.cross_entropy(model(x), Y)


def micro_batches(model: nn.Module, x: Tensor) -> Tensor:
    """All but the last go backwards at once."""
    first, last = (F.cross_entropy(model(x[half]), Y[half]) * 64 for half in (slice(0, 4), slice(4, 8)))
    first.backward()
    return last


@pytest.mark.parametrize("step", [loss, micro_batches])
def test_gradients_are_those_of_single_samples(step, x: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = mlp().double()
    truth = truth_of(model, x)
    run = record(tmp_path, model, [x.double()], step, instruments=GRAD)
    assert logged(run, GRAD, 0) == pytest.approx(brute_force(truth.flat()), rel=1e-7)
    for name, found in by_layer(run, GRAD, 0).items():
        assert found == pytest.approx(brute_force(truth.flat([name])), rel=1e-7), name
    assert logged(run, f"{GRAD}.varying", 0) == 1
    assert logged(run, f"{GRAD}.zeros", 0) == 0
    assert logged(run, f"{GRAD}.gaussian", 0) > 0


def test_gradient_descent_passes_the_tail_of_the_gradients_on(x: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = record(tmp_path, mlp().double(), [x.double()] * 2, loss, instruments=[GRAD, TailIndexUpdate(parts=N)])
    assert run[UPDATE].values == pytest.approx(run[GRAD].values, rel=1e-6)


def test_what_is_too_little_is_missing_with_the_reason(x: Tensor, tmp_path: Path) -> None:
    run = record(tmp_path, mlp(), [x], lambda m, x: F.cross_entropy(m(x[:3]), Y[:3]), instruments=[GRAD, UPDATE])
    assert reasons(run)[GRAD] == "3 samples are too few: it takes 4"
    assert reasons(run)[UPDATE] == "3 parts of the mini-batch are too few: it takes 4"
    with pytest.raises(ValueError, match="at least parts=4, got 3"):
        TailIndexUpdate(parts=3)


def test_updates_that_are_signs_have_no_tail(x: Tensor, tmp_path: Path) -> None:
    model = mlp()
    optimizer = torch.optim.Rprop(model.parameters(), lr=0.01)  # its first step is the sign
    run = record(tmp_path, model, [x], loss, optimizer, instruments=UPDATE)
    assert "as those of signs do: they have no tail" in reasons(run)[UPDATE]


def test_what_is_not_finite_shows(x: Tensor, tmp_path: Path) -> None:
    broken = x.clone()
    broken[3, 1] = float("inf")
    run = record(tmp_path, mlp(), [x, broken], loss, instruments=GRAD)
    assert not run[GRAD].missing.any(), reasons(run)
    assert torch.tensor(run[GRAD].values).isnan().tolist() == [False, True]
