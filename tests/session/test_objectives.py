"""What is made of a loss before it is differentiated: functions, sums, weights, and parameters of odd shapes."""

import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from cockpit import Cockpit, CockpitWarning, load_run
from cockpit.instruments import HessMaxEV, HessTrace


def focal(entries):
    return ((1 - (-entries).exp()) ** 2 * entries).mean()


FUNCTIONS = {
    "focal": lambda x, y: focal(F.cross_entropy(x, y, reduction="none")),
    "exponential": lambda x, y: F.cross_entropy(x, y).exp(),
    "square": lambda x, y: F.cross_entropy(x, y) ** 2,
    "quotient": lambda x, y: 1 / (1 + F.cross_entropy(x, y)),
    "product": lambda x, y: F.cross_entropy(x, y) * F.cross_entropy(2 * x, y),
}
LINEAR = {
    "hardest": lambda x, y: F.cross_entropy(x, y, reduction="none").topk(5).values.mean(),
    "parts": lambda x, y: sum(part.sum() for part in F.cross_entropy(x, y, reduction="none").split(3)) / 12,
    "two": lambda x, y: 0.3 * F.cross_entropy(x, y) + 0.7 * F.cross_entropy(x, y, label_smoothing=0.1),
}


def network(last=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, last)).double()


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(12, 4, generator=generator).double(), torch.randint(3, (12,), generator=generator)


def watch(path, model, objective, instruments, *, lr=0.1, steps=1):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with Cockpit(model, optimizer, run=path, track=1, instruments=instruments) as cockpit:
        for _ in range(steps):
            with cockpit.step():
                optimizer.zero_grad()
                objective().backward()
                optimizer.step()
    return load_run(path)


def hessian(model, objective):
    parameters = list(model.parameters())
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(objective(), parameters, create_graph=True)])
    rows = [torch.autograd.grad(g, parameters, retain_graph=True) for g in gradient]
    return gradient.detach(), torch.stack([torch.cat([r.flatten() for r in row]) for row in rows])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_the_loss_is_read_as_it_is_differentiated(name, tmp_path):
    model, (x, y) = network(), batch()
    gradient, H = hessian(model, lambda: FUNCTIONS[name](model(x), y))
    value = FUNCTIONS[name](model(x), y).item()
    exact = [HessMaxEV(1e-9, 60), HessTrace("hessian"), "loss", "grad_norm"]
    run = watch(tmp_path / "run", model, lambda: FUNCTIONS[name](model(x), y), exact)
    assert run["loss"].values[0] == pytest.approx(value, rel=1e-12)
    assert run["grad_norm"].values[0] == pytest.approx(float(gradient.norm()), rel=1e-10)
    assert run["hess_max_ev"].values[0] == pytest.approx(float(torch.linalg.eigvalsh(H)[-1]), rel=1e-6)
    assert run["hess_trace"].values[0] == pytest.approx(float(H.trace()), rel=1e-9)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_of_a_function_of_the_loss_no_individual_gradients_are_given(name, tmp_path):
    model, (x, y) = network(), batch()
    with pytest.warns(CockpitWarning, match="not linear|individual|not a weighted mean"):
        run = watch(tmp_path / "run", model, lambda: FUNCTIONS[name](model(x), y), "norm_test")
    assert run["norm_test"].missing.all()


@pytest.mark.parametrize("name", LINEAR)
def test_what_chooses_moves_and_adds_losses_is_no_function_of_theirs(name, tmp_path):
    model, (x, y) = network(), batch()
    gradient, _ = hessian(model, lambda: LINEAR[name](model(x), y))
    scale = 0.7 if name == "two" else 1.0  # the largest is divided out
    run = watch(tmp_path / "run", model, lambda: LINEAR[name](model(x), y), "norm_test+grad_norm")
    assert run["grad_norm"].values[0] == pytest.approx(float(gradient.norm()) / scale, rel=1e-10)
    assert not run["norm_test"].missing.any()


def test_a_sum_at_a_smaller_learning_rate_is_the_same_training_as_a_mean(tmp_path):
    found, (x, y) = [], batch()
    for reduction, lr in (("mean", 0.12), ("sum", 0.01)):
        model = network()
        objective = functools.partial(
            lambda model, reduction: F.cross_entropy(model(x), y, reduction=reduction), model, reduction
        )
        run = watch(tmp_path / reduction, model, objective, "cabs+hess_max_ev", lr=lr)
        found.append([run[key].values[0] for key in ("cabs", "hess_max_ev", "hess_max_ev.stable")])
    np.testing.assert_allclose(*found, rtol=1e-6)
    assert found[0][2] == pytest.approx(2 / 0.12)


def test_a_gradient_scaler_changes_nothing_of_what_is_stable(tmp_path):
    model, (x, y) = network(), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.12)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    with Cockpit(model, optimizer, run=tmp_path / "run", track=1, instruments="hess_max_ev") as cockpit, cockpit.step():
        scaler.scale(F.cross_entropy(model(x), y)).backward()
        scaler.step(optimizer)
    assert load_run(tmp_path / "run")["hess_max_ev.stable"].values[0] == pytest.approx(2 / 0.12)


def test_the_second_derivative_of_weight_norm_is_not_believed(tmp_path):
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 3))).double(), batch()
    with pytest.warns(CockpitWarning, match="second derivative of weight_norm"):
        run = watch(tmp_path / "run", model, lambda: F.cross_entropy(model(x), y), "hess_max_ev+hess_trace+norm_test")
    assert run["hess_max_ev"].missing.all()
    assert not run["hess_trace"].missing.any()  # of the Gauss-Newton matrix, which needs none
    assert not run["norm_test"].missing.any()


class Scaled(nn.Module):
    """Logits at a learned temperature."""

    def __init__(self):
        super().__init__()
        self.layer, self.temperature = nn.Linear(4, 3), nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        return self.layer(x) * self.temperature.exp()


def gauss_newton_trace(model, x):
    """Of the mean cross-entropy, by the Jacobian of all outputs."""
    parameters = list(model.parameters())
    rows = [torch.autograd.grad(z, parameters, retain_graph=True) for z in model(x).flatten()]
    J = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).view(12, 3, -1)
    p = model(x).softmax(1).detach()
    H = torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)
    return float(torch.einsum("nki,nkl,nli->", J, H, J)) / 12


def test_a_parameter_without_axes_has_its_curvature(tmp_path):
    torch.manual_seed(0)
    model, (x, y) = Scaled().double(), batch()
    trace = gauss_newton_trace(model, x)
    run = watch(tmp_path / "run", model, lambda: F.cross_entropy(model(x), y), [HessTrace("ggn")])
    assert run["hess_trace"].values[0] == pytest.approx(trace, rel=1e-9)


class Prototypes(nn.Module):
    """Classifies by the nearest prototype; only with ``torch.cdist`` it has no closed form."""

    def __init__(self, distances):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.prototypes, self.distances = nn.Linear(4, 2), nn.Parameter(torch.randn(3, 2)), distances

    def forward(self, x):
        return -self.distances(self.layer(x), self.prototypes).square()


def test_alphas_first_slope_is_that_of_the_parameters_before_the_step(tmp_path):
    found, (x, y) = [], batch()
    for i, distances in enumerate((torch.cdist, lambda z, p: torch.linalg.vector_norm(z.unsqueeze(1) - p, dim=2))):
        model = Prototypes(distances).double()
        objective = functools.partial(lambda model: F.cross_entropy(model(x), y), model)
        found.append(watch(tmp_path / str(i), model, objective, "alpha", lr=0.3, steps=2)["alpha"].values[0])
    assert found[0] == pytest.approx(found[1], rel=1e-9)


class SometimesTwice(nn.Module):
    """From some step on its layer's weight is used a second time, where no module is called."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.twice = nn.Linear(4, 3), False

    def forward(self, x):
        out = self.layer(x)
        return out + F.linear(x.tanh(), self.layer.weight) if self.twice else out


def test_a_gauss_newton_trace_follows_what_the_model_does(tmp_path):
    model, (x, y) = SometimesTwice().double(), batch()
    optimizer, truths = torch.optim.SGD(model.parameters(), lr=0.0), []
    with Cockpit(model, optimizer, run=tmp_path / "run", track=1, instruments=[HessTrace("ggn")]) as cockpit:
        for step in range(8):
            model.twice = step in (2, 4, 5)
            truths.append(gauss_newton_trace(model, x))
            with cockpit.step():
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
    assert load_run(tmp_path / "run")["hess_trace"].values == pytest.approx(truths, rel=1e-9)


def of_losses(path, *objectives, scaler=None):
    """What ``loss`` and ``loss.chance`` say of one step that goes backwards through each objective."""
    model, (x, y) = network(), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with Cockpit(model, optimizer, run=path, track=1, instruments="loss") as cockpit, cockpit.step():
        for objective in objectives:
            loss = objective(model(x), y)
            (loss if scaler is None else scaler.scale(loss)).backward()
        optimizer.step()
    run = load_run(path)
    return run["loss"].values[0], run["loss.chance"].values[0]


def summed(x, y):
    return F.cross_entropy(x, y, reduction="sum")


@pytest.mark.parametrize("scaled", [False, True], ids=["", "scaled"])
@pytest.mark.parametrize(
    ("divided", "is_times_the_mean"),
    [
        (lambda x, y: summed(x, y), 12),
        (lambda x, y: summed(x, y) / 12, 1),
        (lambda x, y: summed(x, y) / len(x), 1),
        (lambda x, y: summed(x, y) * (1 / 12), 1),
        (lambda x, y: summed(x, y) / 16, 0.75),  # the last batch of an epoch is smaller
        (lambda x, y: F.cross_entropy(x, y, reduction="none").sum() / 12, 1),
        (lambda x, y: F.cross_entropy(x, y) / 4, 1),  # a mean keeps its size, as if micro-batches were to come
    ],
    ids=["sum", "mean", "by len", "times", "fixed", "entries", "mean by 4"],
)
def test_a_sum_that_is_divided_is_the_number_after_the_division(tmp_path, divided, is_times_the_mean, scaled):
    x, y = batch()
    mean = F.cross_entropy(network()(x), y).item()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0) if scaled else None
    loss, chance = of_losses(tmp_path / "run", divided, scaler=scaler)
    assert loss == pytest.approx(mean * is_times_the_mean, rel=1e-6)
    assert chance == pytest.approx(np.log(3) * is_times_the_mean, rel=1e-6)


@pytest.mark.parametrize(
    ("divided", "is_times_the_mean"),
    [
        (lambda x, y: F.cross_entropy(x, y) / 3, 1),
        (lambda x, y: summed(x, y), 36),
        (lambda x, y: summed(x, y) / 3, 36),
        (lambda x, y: summed(x, y) / 12, 1),
        (lambda x, y: summed(x, y) / 12 / 3, 1),
        (lambda x, y: summed(x, y) / 18, 2),
    ],
    ids=["mean", "sum", "sum accumulated", "own mean", "own mean accumulated", "by something else"],
)
def test_a_division_by_the_number_of_passes_is_accumulation(tmp_path, divided, is_times_the_mean):
    x, y = batch()
    mean = F.cross_entropy(network()(x), y).item()
    loss, chance = of_losses(tmp_path / "run", divided, divided, divided)
    assert loss == pytest.approx(mean * is_times_the_mean, rel=1e-6)
    assert chance == pytest.approx(np.log(3) * is_times_the_mean, rel=1e-6)
