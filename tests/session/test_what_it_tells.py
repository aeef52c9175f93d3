"""What a run logs for its curves to be read by: events, and what quantities are compared with."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cockpit import Cockpit, load_run

C = 5


def run_of(tmp_path, loss, steps=3, model=None, settings=None, between=None, **options):
    """A run of ``loss(outputs, labels)``; ``between(optimizer, step)`` is called after each step."""
    torch.manual_seed(0)
    model = nn.Linear(4, C) if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), **{"lr": 0.1, **(settings or {})})
    x, y = torch.randn(8, 4), torch.arange(8) % C
    with Cockpit(model, optimizer, run=tmp_path / "run", track=1, **{"instruments": "loss", **options}) as cockpit:
        for step in range(steps):
            with cockpit.step():
                optimizer.zero_grad()
                loss(model(x), y).backward()
                optimizer.step()
            if between is not None:
                between(cockpit, optimizer, step)
    return load_run(tmp_path / "run")


def events(run, kind):
    return [(event.step, event.text) for event in run.reader.events() if event.kind == kind]


SOFT = torch.full((8, C), 1 / C)


@pytest.mark.parametrize(
    ("loss", "classes"),
    [
        (F.cross_entropy, C),
        (lambda z, y: F.nll_loss(z.log_softmax(1), y), C),
        (lambda z, y: F.cross_entropy(z, y, weight=torch.arange(1.0, C + 1)), C),
        (lambda z, y: F.cross_entropy(z, y, label_smoothing=0.1), C),
        (lambda z, y: F.cross_entropy(z, SOFT), C),
        (lambda z, y: 0.5 * F.cross_entropy(z, y), C),
        (lambda z, y: F.binary_cross_entropy_with_logits(z[:, 0], (y == 0).float()), 2),
        (lambda z, y: F.cross_entropy(z[:, :, None].expand(8, C, 3), y[:, None].expand(8, 3)), C),
    ],
    ids=["cross entropy", "nll", "class weights", "smoothed labels", "probabilities", "halved", "binary", "positions"],
)
def test_what_guessing_costs_is_what_equal_scores_cost(tmp_path, loss, classes):
    run = run_of(tmp_path, loss)
    assert run["loss.chance"].values == pytest.approx([math.log(classes)] * 3)
    equal = torch.zeros(8, C, requires_grad=True)
    factor = 0.5 if abs(loss(equal, torch.arange(8) % C).item() - math.log(classes) / 2) < 1e-6 else 1.0
    assert loss(equal, torch.arange(8) % C).item() == pytest.approx(factor * math.log(classes))


def test_what_guessing_costs_adds_up_in_a_sum(tmp_path):
    run = run_of(tmp_path, lambda z, y: F.cross_entropy(z, y, reduction="sum"))
    assert run["loss.chance"].values == pytest.approx([8 * math.log(C)] * 3)


@pytest.mark.parametrize(
    "loss",
    [
        lambda z, y: F.mse_loss(z, SOFT),
        lambda z, y: F.cross_entropy(z, y) + 0.1 * z.square().mean(),
        lambda z, y: F.cross_entropy(z, SOFT, weight=torch.arange(1.0, C + 1)),
        lambda z, y: F.cross_entropy(z, y) + F.cross_entropy(z, y),
    ],
    ids=["regression", "a penalty", "weighted probabilities", "two losses"],
)
def test_where_guessing_has_no_one_price_none_is_logged(tmp_path, loss):
    assert "loss.chance" not in run_of(tmp_path, loss)


def test_micro_batches_guess_as_the_whole_batch_does(tmp_path):
    model, x, y = nn.Linear(4, C), torch.randn(8, 4), torch.arange(8) % C
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Cockpit(model, optimizer, run=tmp_path / "run", instruments="loss", track=1) as cockpit, cockpit.step():
        for part in (slice(0, 4), slice(4, 8)):
            (F.cross_entropy(model(x[part]), y[part]) / 2).backward()
        optimizer.step()
    assert load_run(tmp_path / "run")["loss.chance"].values == pytest.approx([math.log(C)])


def test_a_changed_learning_rate_is_an_event(tmp_path):
    def decay(cockpit, optimizer, step):
        optimizer.param_groups[0]["lr"] = 0.1 if step < 2 else 0.01

    run = run_of(tmp_path, F.cross_entropy, steps=6, between=decay)
    assert events(run, "learning_rate") == [(3, "learning rate 0.1 → 0.01")]


def test_a_schedule_that_changes_every_step_is_one_event(tmp_path):
    def warm_up(cockpit, optimizer, step):
        optimizer.param_groups[0]["lr"] = 0.01 * (step + 2)

    run = run_of(tmp_path, F.cross_entropy, steps=20, settings={"lr": 0.01}, between=warm_up)
    assert [step for step, _ in events(run, "learning_rate")] == [1]


def test_an_evaluation_is_an_event(tmp_path):
    def evaluate(cockpit, optimizer, step):
        cockpit.log({"train/loss": 1.0})
        if step == 4:
            cockpit.log({"valid/accuracy": 0.5, "valid/loss": 1.0})

    run = run_of(tmp_path, F.cross_entropy, steps=6, between=evaluate)
    assert events(run, "evaluation") == [(4, "logged valid/accuracy, valid/loss")]


@pytest.mark.parametrize(("settings", "limit"), [({}, 20.0), ({"momentum": 0.9}, 38.0)])
def test_the_largest_stable_curvature_is_logged_beside_the_curvature(tmp_path, settings, limit):
    run = run_of(tmp_path, F.cross_entropy, settings=settings, instruments="hess_max_ev")
    assert run["hess_max_ev.stable"].values == pytest.approx([limit] * 3)


def test_the_limit_is_that_of_the_rate_the_step_was_made_with(tmp_path):
    def decay(cockpit, optimizer, step):
        optimizer.param_groups[0]["lr"] = 0.05

    run = run_of(tmp_path, F.cross_entropy, instruments="hess_max_ev", between=decay)
    assert run["hess_max_ev.stable"].values == pytest.approx([20, 40, 40])
