import dataclasses
import itertools
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cockpit.datasets import digits
from cockpit.optim.learned.classification import Classification
from cockpit.optim.learned.l2o_lstm import L2OLSTM, L2OLSTMRule, log_and_sign, recipe
from cockpit.optim.learned.rule import Signals
from cockpit.optim.learned.sines import Sines
from cockpit.optim.learned.training import MetaTraining, trained
from cockpit.optim.learned.unroll import Unrolled

EXAMPLES = Path(__file__).parents[3] / "examples"
SIGNALS = Signals(*torch.zeros(4))
SHAPES = {"matrix": (3, 2), "vector": (4,), "number": ()}


def doubled(rule, seed=0):
    meta = rule.meta_parameters(torch.Generator().manual_seed(seed))
    return {name: tensor.double() for name, tensor in meta.items()}


def tensors(seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64) * torch.tensor(10.0) ** -seed
        for name, shape in SHAPES.items()
    }


def truth(rule, meta, gradients):
    """Updates of one coordinate by ``torch.nn.LSTM``, which is shown its gradients in order."""
    network = nn.LSTM(2, rule.hidden, rule.cells, dtype=torch.float64)
    with torch.no_grad():
        for cell in range(rule.cells):
            getattr(network, f"weight_ih_l{cell}").copy_(meta[f"{cell}.input"])
            getattr(network, f"weight_hh_l{cell}").copy_(meta[f"{cell}.hidden"])
            getattr(network, f"bias_ih_l{cell}").copy_(meta[f"{cell}.bias"])
            getattr(network, f"bias_hh_l{cell}").zero_()
        seen = []
        for g in gradients:
            large = abs(g) >= math.exp(-rule.p)
            seen.append([math.log(abs(g)) / rule.p, math.copysign(1, g)] if large else [-1, math.exp(rule.p) * g])
        outputs, _ = network(torch.tensor(seen, dtype=torch.float64))
        return rule.output_scale * (outputs @ meta["output"] + meta["output.bias"])


@pytest.mark.parametrize("rule", [L2OLSTMRule(), L2OLSTMRule(cells=1, hidden=3, p=4.0, output_scale=1.0)])
def test_every_coordinate_moves_as_torchs_lstm_says(rule):
    meta, steps = doubled(rule), [tensors(seed) for seed in range(6)]
    params = tensors(9)
    state = rule.init(params)
    moved = []
    for gradients in steps:
        after, state = rule.update(meta, gradients, params, state, SIGNALS)
        moved.append({name: after[name] - params[name] for name in params})
        params = after
    for name, shape in SHAPES.items():
        for place in itertools.product(*map(range, shape)):
            expected = truth(rule, meta, [float(step[name][place]) for step in steps])
            torch.testing.assert_close(torch.stack([step[name][place] for step in moved]), expected)


@given(st.floats(-1e6, 1e6), st.floats(0.5, 20))
def test_log_and_sign_is_that_of_the_source(gradient, p):
    found = log_and_sign(torch.tensor(gradient, dtype=torch.float64), p).tolist()
    if abs(gradient) >= math.exp(-p):
        assert found == pytest.approx([math.log(abs(gradient)) / p, math.copysign(1, gradient)])
    else:
        assert found == pytest.approx([-1, math.exp(p) * gradient])


def test_coordinates_do_not_see_each_other():
    rule = L2OLSTMRule()
    meta, params, gradients = doubled(rule), tensors(0), tensors(1)
    first, _ = rule.update(meta, gradients, params, rule.init(params), SIGNALS)
    gradients["vector"] = gradients["vector"].clone()
    gradients["vector"][2] += 1
    second, _ = rule.update(meta, gradients, params, rule.init(params), SIGNALS)
    assert (first["vector"] != second["vector"]).tolist() == [False, False, True, False]
    torch.testing.assert_close(first["matrix"], second["matrix"], rtol=0, atol=0)


def test_exchanged_coordinates_are_updated_alike():
    rule = L2OLSTMRule()
    meta, params, gradients = doubled(rule), tensors(0), tensors(1)
    order = torch.tensor([2, 0, 3, 1])
    turned = [{"vector": tensors_["vector"][order]} for tensors_ in (gradients, params)]
    plain, _ = rule.update(meta, gradients, params, rule.init(params), SIGNALS)
    found, _ = rule.update(meta, *turned, rule.init(turned[1]), SIGNALS)
    torch.testing.assert_close(found["vector"], plain["vector"][order])


def test_a_short_meta_training_makes_losses_fall_faster():
    task = Sines(widths=(1, 8, 1), points=20)
    estimator = Unrolled(length=5, through_gradients=False)
    short = dataclasses.replace(recipe(), rule=L2OLSTMRule(hidden=8), tasks=(task,), estimator=estimator, horizon=10)
    training = MetaTraining(short, seed=0)
    before = final_loss(training, task)
    for _ in range(25):
        training.iterate()
    assert final_loss(training, task) < 0.5 * before


def test_the_weights_of_the_examples_train_other_networks_on_other_images():
    task = Classification(digits(), hidden=(12,), activation="tanh", batch_size=64)
    model, generator = task.network(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / 8)
    optimizer = L2OLSTM(model.parameters(), weights=EXAMPLES / "l2o_lstm.pt")
    _, data = task.sample(1, generator)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        batch = {name: numbers[0] for name, numbers in task.batch(data, generator).items()}
        losses.append(task.loss(dict(model.named_parameters()), batch))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.6 * losses[0]


def final_loss(training, task):
    losses = trained(
        training.recipe.rule,
        training.detached(),
        task,
        copies=8,
        steps=10,
        generator=torch.Generator().manual_seed(1),
    )
    return float(losses[:, -1].mean())
