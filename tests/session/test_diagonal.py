"""The Hessian's diagonal, handed over to an optimizer of second order: that of brute force."""

import pytest
import pytorch_optimizer
import torch
import torch.nn.functional as F
from hessians import blocks, full_gauss_newton, full_hessian
from torch import nn

from cockpit import Cockpit, load_run
from cockpit.instruments import HessTrace, TICDiag

N = 6
torch.manual_seed(3)
X, Y = torch.randn(N, 4).double(), torch.randint(3, (N,))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def loss(model):
    return F.cross_entropy(model(X), Y)


def diagonal_of(model, matrix):
    """By parameter, of its shape."""
    shapes = dict(model.named_parameters())
    return {name: block.diagonal().view_as(shapes[name]) for name, block in blocks(model, matrix).items()}


def handed(tmp_path, model, optimizer, step, instruments):
    """What one step hands over."""
    with (
        Cockpit(model, optimizer, run=tmp_path / "run", track=1, instruments=instruments) as cockpit,
        cockpit.step() as s,
    ):
        optimizer.zero_grad()
        step()
        found = s.diagonal(optimizer)
        optimizer.step()
    return found


def scaled(model):
    (torch.amp.GradScaler("cpu", init_scale=1024.0).scale(loss(model))).backward()


def in_parts(model):
    for part in (slice(0, 2), slice(2, N)):
        share = (part.stop - part.start) / N
        (F.cross_entropy(model(X[part]), Y[part]) * share).backward()


WAYS = {
    "a mean": (lambda model: loss(model).backward(), 1.0),
    "a sum": (lambda model: F.cross_entropy(model(X), Y, reduction="sum").backward(), N),
    "a tenth": (lambda model: (loss(model) / 10).backward(), 0.1),
    "a loss scale": (scaled, 1.0),
    "two micro-batches": (in_parts, 1.0),
}


@pytest.mark.parametrize("way", WAYS)
def test_it_is_that_of_what_the_optimizer_minimises(way, tmp_path):
    model = network()
    truth = diagonal_of(model, full_hessian(model, loss))
    backward, factor = WAYS[way]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = handed(tmp_path, model, optimizer, lambda: backward(model), [HessTrace("hessian", diagonal=True)])
    torch.testing.assert_close(found, [factor * values for values in truth.values()])


def test_it_stands_in_the_order_of_the_optimizers_groups(tmp_path):
    model = network()
    model[0].bias.requires_grad_(False)
    truth = diagonal_of(model, full_gauss_newton(model, lambda m: m(X), lambda f: F.cross_entropy(f, Y)))
    groups = [{"params": model[2].parameters()}, {"params": model[0].parameters()}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    instruments = [TICDiag("ggn"), HessTrace("ggn", diagonal=True)]  # both take it
    found = handed(tmp_path, model, optimizer, lambda: loss(model).backward(), instruments)
    expected = [truth["2.weight"], truth["2.bias"], truth["0.weight"], torch.zeros(5).double()]
    torch.testing.assert_close(found, expected)
    assert not load_run(tmp_path / "run")["tic_diag"].missing.any()


@pytest.mark.parametrize("kind", [pytorch_optimizer.AdaHessian, pytorch_optimizer.SophiaH])
def test_optimizers_take_it_in_place_of_their_own(kind, tmp_path):
    mine, theirs = network(), network()
    optimizers = [kind(model.parameters(), lr=0.05) for model in (mine, theirs)]
    with Cockpit(
        mine, optimizers[0], run=tmp_path / "run", track=1, instruments=[HessTrace("hessian", diagonal=True)]
    ) as cockpit:
        for _ in range(3):
            with cockpit.step() as step:
                optimizers[0].zero_grad()
                loss(mine).backward()
                optimizers[0].step(hessian=step.diagonal(optimizers[0]))
            truth = list(diagonal_of(theirs, full_hessian(theirs, loss)).values())
            optimizers[1].zero_grad()
            loss(theirs).backward()
            optimizers[1].step(hessian=truth)
    torch.testing.assert_close(list(mine.parameters()), list(theirs.parameters()))


def test_there_is_none_in_steps_that_are_left_out_and_training_is_what_it_would_be(tmp_path):
    found, models = [], [network(), network()]
    for model, instruments in zip(models, ([HessTrace(diagonal=True, track=2)], ["loss"]), strict=True):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with Cockpit(model, optimizer, run=tmp_path / "run", track=1, instruments=instruments) as cockpit:
            for _ in range(3):
                with cockpit.step() as step:
                    optimizer.zero_grad()
                    loss(model).backward()
                    if model is models[0]:
                        found.append(step.diagonal(optimizer))
                    optimizer.step()
    assert [values is None for values in found] == [False, True, False]
    assert all(torch.equal(p, q) for p, q in zip(*(model.parameters() for model in models), strict=True))


def test_whoever_does_not_ask_ahead_is_told_how(tmp_path):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(RuntimeError, match=r"list HessTrace\(diagonal=True, track=1\)"):
        handed(tmp_path, model, optimizer, lambda: loss(model).backward(), ["hess_trace"])
    with (
        Cockpit(model, optimizer, enabled=False) as cockpit,
        cockpit.step() as step,
        pytest.raises(RuntimeError, match="turned off"),
    ):
        step.diagonal(optimizer)


def test_it_is_there_between_the_backward_pass_and_the_end_of_the_step(tmp_path):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Cockpit(model, optimizer, run=tmp_path / "run", track=1, instruments=[HessTrace(diagonal=True)]) as cockpit:
        with cockpit.step() as step:
            with pytest.raises(RuntimeError, match="no backward pass was seen yet"):
                step.diagonal(optimizer)
            loss(model).backward()
            strangers = torch.optim.SGD(network().parameters(), lr=0.1)
            with pytest.raises(RuntimeError, match=r"not known for parameters of shapes \[\[5, 4\], \[5\]"):
                step.diagonal(strangers)
            optimizer.step()
        with pytest.raises(RuntimeError, match="the step is over"):
            step.diagonal(optimizer)


@pytest.mark.filterwarnings("ignore:.*no reading of hess_trace. the loss is not")
def test_what_cannot_be_computed_is_an_error_with_the_reason(tmp_path):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    instruments = [HessTrace(diagonal=True)]
    with (
        Cockpit(model, optimizer, run=tmp_path / "run", track=1, instruments=instruments) as cockpit,
        cockpit.step() as s,
    ):
        (loss(model) + sum(p.square().sum() for p in model.parameters())).backward()
        with pytest.raises(RuntimeError, match="missing in this step: the loss is not"):
            s.diagonal(optimizer)
        optimizer.step()
