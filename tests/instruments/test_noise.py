"""Readings of gradient noise and of relative step sizes, from the training loop to the log, against brute force."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from harness import by_layer, logged, record
from reference import Truth, one_at_a_time
from torch import Tensor, nn

from cockpit.instruments import NoiseScale
from cockpit.instruments._cabs import cabs_batch_size
from cockpit.instruments._noise_scale import SmoothedPair, noise_and_signal, ratio_band
from cockpit.instruments._update_weight_ratio import ratio
from cockpit.run import Run

N, C = 6, 4
KEYS = ["sample_grad_norm", "noise_scale", "cabs", "early_stopping", "mean_gsnr", "update_weight_ratio"]
Setting = tuple[Run, Truth, float]


class Network(nn.Module):
    """Every way to second moments: a table, a normalisation, linear maps at one position and many, a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(12, 6), nn.LayerNorm(6)
        self.mix, self.conv, self.head = nn.Linear(6, 6), nn.Conv1d(5, 3, 2), nn.Linear(15, C)

    def forward(self, words: Tensor) -> Tensor:
        h = self.mix(self.norm(self.table(words))).tanh()
        return self.head(self.conv(h).flatten(1).tanh())


def network() -> Network:
    torch.manual_seed(0)
    return Network()


def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randint(0, 7, (N, 5)), torch.randint(0, C, (N,))


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def truth_of(model: nn.Module) -> Truth:
    words, y = batch()
    return one_at_a_time(model, lambda m: F.cross_entropy(m(words), y, reduction="none"))


def recorded(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> Run:
    return record(path, model, [batch()], loss, optimizer, instruments=KEYS)


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def setting(request: pytest.FixtureRequest, tmp_path: Path) -> Setting:
    model = network().to(request.param)
    truth = truth_of(model)
    tolerance = 1e-7 if request.param == torch.float64 else 1e-3
    return recorded(tmp_path, model), truth, tolerance


def elements(truth: Truth) -> tuple[Tensor, Tensor]:
    """All individual gradients, and their mean, of the coordinates that vary."""
    rows, g = truth.flat(), truth.mean_gradient()
    second = truth.weights @ rows.square()
    varied = second - g.square() > 1e-5 * second
    return rows[:, varied], g[varied]


def test_early_stopping_is_that_of_brute_force(setting: Setting) -> None:
    run, truth, tolerance = setting
    rows, g = elements(truth)
    spread = rows.square().sum(0) - N * g.square()
    evidence = 1 - N * (N - 1) / len(g) * float((g.square() / spread).sum())
    assert logged(run, "early_stopping", 0) == pytest.approx(evidence, rel=tolerance)


def test_mean_gsnr_is_that_of_brute_force(setting: Setting) -> None:
    run, truth, tolerance = setting
    rows, g = elements(truth)
    expected = float((g.square() / (rows.square().mean(0) - g.square())).mean())
    assert logged(run, "mean_gsnr", 0) == pytest.approx(expected, rel=tolerance)
    left_out = 1 - len(g) / truth.flat().shape[1]
    assert left_out > 0, "words that do not occur have no variance"
    assert logged(run, "mean_gsnr.left_out", 0) == pytest.approx(left_out, rel=1e-12)


def test_unequal_weights_enter_both_criteria(tmp_path: Path) -> None:
    model, (words, y) = network().double(), batch()
    weight = torch.tensor([0.5, 2.0, 1.0, 3.0]).double()
    truth = one_at_a_time(
        model, lambda m: F.cross_entropy(m(words), y, reduction="none"), weight[y] / weight[y].sum()
    )  # fmt: skip
    rows, g = elements(truth)
    variance = N / (N - 1) * (truth.weights.square() @ (rows - g).square())
    run = record(
        tmp_path, model, [batch()], lambda m, b: F.cross_entropy(m(b[0]), b[1], weight=weight), instruments=KEYS
    )
    evidence = 1 - float((g.square() / variance).mean())
    assert logged(run, "early_stopping", 0) == pytest.approx(evidence, rel=1e-7)
    gsnr = float((g.square() / (truth.weights @ rows.square() - g.square())).mean())
    assert logged(run, "mean_gsnr", 0) == pytest.approx(gsnr, rel=1e-7)


def test_cabs_is_that_of_brute_force(setting: Setting) -> None:
    run, truth, tolerance = setting
    spread = (truth.flat() - truth.mean_gradient()).square().sum(1).mean()
    assert logged(run, "cabs", 0) == pytest.approx(0.1 * float(spread) / truth.loss(), rel=tolerance)


def test_cabs_weighs_parameter_groups_with_their_own_learning_rates(tmp_path: Path) -> None:
    model = network().double()
    truth = truth_of(model)
    head = {"params": list(model.head.parameters()), "lr": 0.5}
    rest = {"params": [p for name, p in model.named_parameters() if not name.startswith("head")]}
    run = recorded(tmp_path, model, torch.optim.SGD([head, rest], lr=0.1))
    total = 0.0
    for name in truth.gradients:
        spread = (truth.flat([name]) - truth.mean_gradient([name])).square().sum(1).mean()
        total += (0.5 if name.startswith("head") else 0.1) * float(spread)
    assert logged(run, "cabs", 0) == pytest.approx(total / truth.loss(), rel=1e-7)


def test_cabs_refuses_a_loss_that_is_not_positive() -> None:
    with pytest.raises(ValueError, match="positive loss"):
        cabs_batch_size(torch.ones(1), torch.ones(1), torch.tensor(0.0))


def test_sample_norms_are_those_of_brute_force(setting: Setting) -> None:
    run, truth, tolerance = setting
    norms = truth.flat().norm(dim=1)
    assert logged(run, "sample_grad_norm", 0) == pytest.approx(float(norms.quantile(0.5)), rel=tolerance)
    for q in (0.05, 0.25, 0.75, 0.95):
        found = logged(run, f"sample_grad_norm.q{round(100 * q):02d}", 0)
        assert found == pytest.approx(float(norms.quantile(q)), rel=tolerance)
    share = float(norms.max() ** 2 / norms.square().sum())
    assert logged(run, "sample_grad_norm.largest_share", 0) == pytest.approx(share, rel=tolerance)
    assert logged(run, "sample_grad_norm.largest_index", 0) == int(norms.argmax())


def test_noise_scale_is_that_of_brute_force(setting: Setting) -> None:
    run, truth, tolerance = setting
    rows, g = truth.flat(), truth.mean_gradient()
    noise = float((rows - g).square().sum() / (N - 1))
    signal = float(g @ g) - noise / N
    assert logged(run, "noise_scale.noise", 0) == pytest.approx(noise, rel=tolerance)
    assert logged(run, "noise_scale.signal", 0) == pytest.approx(signal, rel=tolerance)
    found = logged(run, "noise_scale", 0)
    assert found == pytest.approx(noise / signal, rel=tolerance) if signal > 0 else found is None


def test_noise_and_signal_are_unbiased() -> None:
    generator = torch.Generator().manual_seed(0)
    expectation, batches, size = torch.tensor([0.3, -0.2, 0.1]), 20_000, 4
    rows = expectation + torch.randn(batches, size, 3, generator=generator)
    found = torch.stack(noise_and_signal(rows.square().sum(2).mean(1), rows.mean(1).square().sum(1), size), 1)
    truth = torch.tensor([3.0, float(expectation @ expectation)])
    error = found.std(0) / batches**0.5
    assert bool(((found.mean(0) - truth).abs() < 3 * error).all())


def test_noise_scale_is_missing_where_the_signal_cannot_be_resolved(tmp_path: Path) -> None:
    model = nn.Linear(2, 1, bias=False).double()
    nn.init.zeros_(model.weight)
    x, y = torch.eye(2).double().repeat(2, 1), torch.tensor([[1.0], [1.0], [-1.0], [-0.9]]).double()
    run = record(tmp_path, model, [(x, y)], lambda m, b: F.mse_loss(m(b[0]), b[1]), instruments=[NoiseScale()])
    assert logged(run, "noise_scale", 0) is None
    assert logged(run, "noise_scale.signal", 0) < 0


def test_identical_samples_have_no_coordinate_that_varies(tmp_path: Path) -> None:
    model = nn.Linear(3, 2).double()
    x, y = torch.randn(1, 3).double().expand(N, 3), torch.zeros(N, dtype=torch.long)
    run = record(tmp_path, model, [(x, y)], loss, instruments=["early_stopping", "mean_gsnr"])
    assert logged(run, "early_stopping", 0) is None
    assert logged(run, "mean_gsnr", 0) is None
    assert logged(run, "mean_gsnr.left_out", 0) == 1.0


def test_update_weight_ratio_is_measured(setting: Setting) -> None:
    run, truth, tolerance = setting
    layers = by_layer(run, "update_weight_ratio", 0)
    squares = [0.0, 0.0]
    # Rounding the parameters to their dtype is part of the step, where that is small beside them.
    tolerance = max(tolerance, 1e-6)
    for name, parameter in network().named_parameters():
        step, weight = 0.1 * truth.mean_gradient([name]), parameter.detach().double()
        squares[0] += float(step @ step)
        squares[1] += float(weight.square().sum())
        expected = None if not weight.any() else pytest.approx(float(step.norm() / weight.norm()), rel=tolerance)
        assert layers.get(name) == expected
    expected = (squares[0] / squares[1]) ** 0.5
    assert logged(run, "update_weight_ratio", 0) == pytest.approx(expected, rel=tolerance)


def test_zero_weights_have_no_ratio() -> None:
    assert ratio(1.0, 0.0) is None
    assert ratio(1.0, 2.0) == 0.5


def band_by_hand(pairs: list[tuple[float, float]], decay: float) -> tuple[float, float]:
    """From normalised weights, in plain sums."""
    weights = [decay ** (len(pairs) - 1 - i) for i in range(len(pairs))]
    weights = [w / sum(weights) for w in weights]
    means = [sum(w * pair[k] for w, pair in zip(weights, pairs, strict=True)) for k in (0, 1)]
    squared = sum(w * w for w in weights)

    def covariance(i: int, j: int) -> float:
        spread = sum(w * (p[i] - means[i]) * (p[j] - means[j]) for w, p in zip(weights, pairs, strict=True))
        return spread / (1 - squared) * squared

    noise, signal = means
    variance = covariance(0, 0) / noise**2 + covariance(1, 1) / signal**2 - 2 * covariance(0, 1) / (noise * signal)
    return noise / signal * math.exp(-2 * variance**0.5), noise / signal * math.exp(2 * variance**0.5)


def test_the_band_of_the_noise_scale_is_that_of_plain_sums() -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = [(3 + 0.3 * a, 1 + 0.1 * b) for a, b in torch.randn(12, 2, generator=generator).tolist()]
    smoothed = SmoothedPair(0.9)
    for pair in pairs:
        noise, signal = smoothed.add(*pair)
    assert ratio_band(noise, signal, smoothed.covariance()) == pytest.approx(band_by_hand(pairs, 0.9), rel=1e-9)


def test_the_band_holds_the_truth_about_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(1)
    held = []
    for _ in range(400):
        smoothed = SmoothedPair(0.95)
        for noise, signal in (torch.randn(60, 2, generator=generator) * 0.2 + torch.tensor([2.0, 1.0])).tolist():
            means = smoothed.add(noise, signal)
        band = ratio_band(*means, smoothed.covariance())
        assert band is not None
        held.append(band[0] <= 2.0 <= band[1])
    assert 0.9 < sum(held) / len(held) < 0.99  # two standard errors: 0.95


def test_a_single_reading_has_no_band() -> None:
    smoothed = SmoothedPair(0.9)
    assert ratio_band(*smoothed.add(2.0, 1.0), smoothed.covariance()) is None


def test_a_signal_that_may_be_zero_has_no_band() -> None:
    assert ratio_band(2.0, 1.0, np.diag([0.01, 0.26])) is None
    assert ratio_band(2.0, 1.0, np.diag([0.01, 0.24])) is not None
    assert ratio_band(2.0, -1.0, np.diag([0.01, 0.01])) is None


def test_the_noise_scale_lies_in_its_band(tmp_path: Path) -> None:
    model = network().double()
    slow = torch.optim.SGD(model.parameters(), lr=1e-3)  # else four steps change the signal by more than its own size
    agreeing = batch()[0], torch.zeros(N, dtype=torch.long)
    run = record(tmp_path, model, [agreeing] * 4, loss, slow, instruments=["noise_scale"])
    value = run["noise_scale"].values[-1]
    assert run["noise_scale.low"].values[-1] <= value <= run["noise_scale.high"].values[-1]


@pytest.mark.parametrize("weights", [[0.2] * 5, [0.6, 0.1, 0.1, 0.1, 0.1], [0.5, 0.3, 0.2]])
def test_noise_and_signal_are_unbiased_whatever_the_samples_weigh(weights):
    w, G = torch.tensor(weights).double(), torch.tensor([1.0, -2.0]).double()
    deviation = torch.tensor([[0.5, 1.5]]).double()
    found = []
    for signs in itertools.product((-1.0, 1.0), repeat=len(weights)):  # all equally likely: the mean is the expectation
        g = G + torch.tensor(signs).double().unsqueeze(1) * deviation
        squares = float((w * (g**2).sum(1)).sum()), float((w @ g).square().sum())
        found.append(noise_and_signal(*squares, samples=1 / float((w**2).sum())))
    assert np.mean(found, axis=0) == pytest.approx([float((deviation**2).sum()), float(G @ G)])
