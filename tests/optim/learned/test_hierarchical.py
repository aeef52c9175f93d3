import dataclasses
import functools
import math

import numpy as np
import pytest
import torch
from torch import nn

from cockpit.optim.learned import hierarchical
from cockpit.optim.learned.features import (
    TIMES,
    coordinate_features,
    decayed,
    loss_features,
    tensor_features,
    time_features,
)
from cockpit.optim.learned.hierarchical import Hierarchical, HierarchicalRule
from cockpit.optim.learned.pes import PES
from cockpit.optim.learned.rule import SHARED, Signals
from cockpit.optim.learned.sines import Sines
from cockpit.optim.learned.training import MetaTraining, trained
from cockpit.optim.learned.weights import Weights

DECAYS = (0.9, 0.99, 0.999)
SHAPES = {"matrix": (3, 2), "vector": (4,)}


def tensors(seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64) * torch.tensor(10.0) ** -seed
        for name, shape in SHAPES.items()
    }


def signals(step):
    return Signals(*torch.tensor([step, math.nan, 2.0 - 0.3 * step, 2.1 - 0.2 * step], dtype=torch.float64))


def random_meta(rule, seed=0):
    """Meta-parameters as they may be after learning: nothing is zero."""
    generator = torch.Generator().manual_seed(seed)
    meta = rule.meta_parameters(generator)
    return {
        name: tensor.double() + 0.1 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        for name, tensor in meta.items()
    }


def updated(rule, meta, params, steps):
    state = rule.init(params)
    for number, gradients in enumerate(steps):
        params, state = rule.update(meta, gradients, params, state, signals(number))
    return params, state


def averages(gradients, decays=DECAYS):
    """Momenta and averages of squares of one coordinate."""
    momenta, squares = np.zeros(len(decays)), np.zeros(len(decays))
    for g in gradients:
        for k, beta in enumerate(decays):
            momenta[k] = beta * momenta[k] + (1 - beta) * g
            squares[k] = beta * squares[k] + (1 - beta) * g**2
    return momenta, squares


def root_mean_square(numbers):
    return math.sqrt(sum(number**2 for number in numbers) / len(numbers))


def raw_features(history, parameter):
    """Of each coordinate, before they are normalised. Shape ``[coordinates, features]``."""
    rows = []
    for j, value in enumerate(parameter):
        momenta, squares = averages([gradient[j] for gradient in history])
        rms = np.sqrt(squares)
        rows.append([history[-1][j], value, *momenta, *rms, *(momenta / rms)])
    return np.array(rows)


def told_averages(history):
    found = {part: torch.zeros(len(DECAYS), len(history[0]), dtype=torch.float64) for part in ("momenta", "squares")}
    for gradient in history:
        found = decayed(found, torch.as_tensor(gradient), DECAYS)
    return found


@pytest.fixture
def history():
    return list(np.random.default_rng(0).normal(size=(4, 5)) * [1, 0.1, 1e3, 1, 10])


def test_features_of_coordinates_are_their_formulas(history):
    parameter = np.random.default_rng(1).normal(size=5)
    raw = raw_features(history, parameter)
    expected = np.empty_like(raw)
    for k in range(raw.shape[1]):
        expected[:, k] = [min(1, max(-1, value / root_mean_square(raw[:, k]) / 2)) for value in raw[:, k]]
    found = coordinate_features(torch.as_tensor(history[-1]), torch.as_tensor(parameter), told_averages(history))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_features_of_a_tensor_are_their_formulas(history):
    parameter = np.random.default_rng(1).normal(size=5)
    raw = raw_features(history, parameter)
    sizes = [math.log(root_mean_square(raw[:, k])) / 10 for k in range(2 + 2 * len(DECAYS))]
    gradient = history[-1]
    cosines = [
        float(gradient @ raw[:, 2 + k]) / np.linalg.norm(gradient) / np.linalg.norm(raw[:, 2 + k])
        for k in range(len(DECAYS))
    ]
    found = tensor_features(torch.as_tensor(gradient), torch.as_tensor(parameter), told_averages(history), 2)
    np.testing.assert_allclose(found, [*sizes, *cosines, math.log(5) / 10, 1])


def test_scales_of_gradients_and_weights_are_not_seen_of_coordinates(history):
    parameter = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain = coordinate_features(torch.as_tensor(history[-1]), parameter, told_averages(history))
    large = [1e4 * gradient for gradient in history]
    scaled = coordinate_features(torch.as_tensor(large[-1]), 1e-2 * parameter, told_averages(large))
    torch.testing.assert_close(scaled, plain)


def test_gradients_that_are_zero_have_features_that_are_zero():
    zero = torch.zeros(3)
    found = coordinate_features(zero, zero, {part: torch.zeros(3, 3) for part in ("momenta", "squares")})
    assert not found[:, [0, 1, 2, 3, 4, 8, 9, 10]].any()
    assert found.isfinite().all()


def test_losses_are_seen_in_standard_deviations_from_their_average():
    losses = [(2.0, 3.0), (1.5, 3.5), (1.4, 3.0), (9.0, 3.1)]
    now = {part: torch.zeros(2, dtype=torch.float64) for part in ("weight", "mean", "variance")}
    for pair in losses:
        found, now = loss_features(now, torch.tensor(pair, dtype=torch.float64))
    expected = []
    for which in range(2):
        seen, variance, total = [pair[which] for pair in losses], 0.0, 0.0
        for t in range(1, len(losses) + 1):
            weights = [0.1 * 0.9 ** (t - 1 - s) for s in range(t)]
            mean = sum(w * value for w, value in zip(weights, seen, strict=False)) / sum(weights)
            variance = 0.9 * variance + 0.1 * (seen[t - 1] - mean) ** 2
            total = sum(weights)
        expected.append((seen[-1] - mean) / math.sqrt(variance / total + (1e-3 * mean) ** 2))
    np.testing.assert_allclose(found, np.clip(expected, -5, 5))


def test_the_first_losses_are_no_surprise():
    now = {part: torch.zeros(2) for part in ("weight", "mean", "variance")}
    found, _ = loss_features(now, torch.tensor([7.0, 0.1]))
    torch.testing.assert_close(found, torch.zeros(2), rtol=0, atol=1e-3)  # rounding, in thousandths of a loss


def test_the_time_is_seen_at_its_scales():
    expected = [math.sin(70 / (math.pi * scale)) for scale in TIMES]
    np.testing.assert_allclose(time_features(torch.tensor(70.0, dtype=torch.float64)), expected, rtol=1e-6)


def test_before_anything_is_learned_a_momentum_over_its_rms_is_followed(history):
    rule = HierarchicalRule()
    meta = {n: t.double() for n, t in rule.meta_parameters(torch.Generator().manual_seed(0)).items()}
    params = {"p": torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))}
    steps = [{"p": torch.as_tensor(gradient)} for gradient in history]
    before, _ = updated(rule, meta, params, steps[:-1])
    after, _ = updated(rule, meta, params, steps)
    raw = raw_features(history, before["p"])[:, 8]
    direction = [min(1, max(-1, value / root_mean_square(raw) / 2)) for value in raw]
    np.testing.assert_allclose(before["p"] - after["p"], 0.01 * np.array(direction), rtol=1e-6)


def linear(weight, bias):
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return layer


def lstm_of(meta, rule, inputs):
    network = nn.LSTMCell(inputs, rule.memory, dtype=torch.float64)
    with torch.no_grad():
        network.weight_ih.copy_(meta["memory.0.input"])
        network.weight_hh.copy_(meta["memory.0.hidden"])
        network.bias_ih.copy_(meta["memory.0.bias"])
        network.bias_hh.zero_()
    return network


@torch.no_grad()
def test_updates_are_those_of_torchs_lstm_and_dense_layers_coordinate_by_coordinate():
    rule = HierarchicalRule(memory=3, context=2, hidden=4, step_size=0.5)
    meta, params, steps = random_meta(rule), tensors(0), [tensors(seed) for seed in range(3)]
    memory = lstm_of(meta, rule, 6 + 3 * len(DECAYS))
    first = linear(torch.cat([meta["first"], meta["told"]], dim=1), meta["first.bias"])
    network = nn.Sequential(first, nn.ReLU(), linear(meta["second"], meta["second.bias"]), nn.ReLU())
    last = linear(meta["last"], meta["last.bias"])
    expected = {name: p.flatten().clone() for name, p in params.items()}
    for name, shape in SHAPES.items():
        now, losses = None, {part: torch.zeros(2, dtype=torch.float64) for part in ("weight", "mean", "variance")}
        for number in range(len(steps)):
            history = [step[name].flatten().numpy() for step in steps[: number + 1]]
            said = signals(number)
            surprise, losses = loss_features(losses, torch.stack([said.loss, said.valid_loss]))
            flat = (torch.as_tensor(history[-1]), expected[name], told_averages(history))
            now = memory(torch.cat([tensor_features(*flat, len(shape)), surprise])[None], now)
            tells = torch.cat(
                [
                    time_features(said.step),
                    torch.tensor([math.log(2) - 1], dtype=torch.float64),
                    meta["context"] @ now[0][0],
                ]
            )
            for j, features in enumerate(coordinate_features(*flat)):
                a, b = last(network(torch.cat([features, tells]))) + meta["skip"] @ features
                expected[name][j] -= 0.5 * a.exp() * b
    found, _ = updated(rule, meta, params, steps)
    for name, p in found.items():
        torch.testing.assert_close(p.flatten(), expected[name], rtol=1e-6, atol=1e-9)


def test_exchanged_coordinates_are_updated_alike():
    rule = HierarchicalRule()
    meta, params, steps = random_meta(rule), tensors(0), [tensors(seed) for seed in range(3)]
    order = torch.tensor([2, 0, 3, 1])

    def turned(tensors_):
        return {**tensors_, "vector": tensors_["vector"][order]}

    plain, _ = updated(rule, meta, params, steps)
    found, _ = updated(rule, meta, turned(params), [turned(step) for step in steps])
    torch.testing.assert_close(found, turned(plain))


def test_losses_change_what_is_done():
    rule = HierarchicalRule()
    meta, params, gradients = random_meta(rule), tensors(0), tensors(1)
    _, state = rule.update(meta, gradients, params, rule.init(params), signals(0))
    assert set(state[SHARED]) == {"weight", "mean", "variance"}
    calm, _ = rule.update(meta, gradients, params, state, signals(1))
    jump, _ = rule.update(
        meta, gradients, params, state, signals(1)._replace(valid_loss=torch.tensor(50.0, dtype=torch.float64))
    )
    assert (calm["vector"] != jump["vector"]).all()


def test_it_refuses_to_step_before_it_is_told_the_losses():
    rule = HierarchicalRule()
    weights = Weights(rule, rule.meta_parameters(torch.Generator().manual_seed(0)))
    parameter = nn.Parameter(torch.ones(3))
    optimizer = Hierarchical([parameter], weights=weights)
    parameter.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="valid_loss"):
        optimizer.step()
    assert parameter.tolist() == [1, 1, 1]
    optimizer.tell(loss=1.0, valid_loss=2.0)
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.full((3,), 0.995))


def test_a_short_meta_training_lowers_validation_losses():
    task = Sines(widths=(1, 6, 1), points=20)
    rule = HierarchicalRule(memory=4, context=2, hidden=4)
    short = dataclasses.replace(
        hierarchical.recipe(),
        rule=rule,
        tasks=(task,),
        estimator=PES(length=5, sigma=0.1),
        copies=16,
        horizon=10,
        optimizer=functools.partial(torch.optim.Adam, lr=0.02),
    )
    training = MetaTraining(short, seed=0)
    before = mean_loss(training, task)
    for _ in range(6):
        training.iterate()
    assert mean_loss(training, task) < 0.9 * before


def mean_loss(training, task):
    losses = trained(
        training.recipe.rule,
        training.detached(),
        task,
        copies=16,
        steps=10,
        generator=torch.Generator().manual_seed(1),
    )
    return float(losses.mean())
