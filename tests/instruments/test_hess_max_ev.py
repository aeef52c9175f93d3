"""The Hessian's largest and smallest eigenvalue against those of the whole matrix in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from harness import logged, reasons, record, record_steps
from hessians import LOSSES, NETWORKS, SCALED, N, Y, full_hessian, network
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cockpit.instruments import HessMaxEV

EXACT = HessMaxEV(tol=1e-9, max_products=200)


def ends(matrix):
    values = torch.linalg.eigvalsh(matrix)
    return values[-1].item(), values[0].item()


def agrees(run, truth, rel=1e-7, step=0):
    largest, smallest = ends(truth)
    assert logged(run, "hess_max_ev", step) == pytest.approx(largest, rel=rel)
    # nothing waits for the smallest: it is as exact as the products that the largest took make it
    slack = max(rel * largest, logged(run, "hess_max_ev.smallest_residual", step))
    assert logged(run, "hess_max_ev.smallest", step) == pytest.approx(smallest, rel=rel, abs=slack)


def read(path, model, loss, instrument=EXACT):
    """A step that does not move."""
    return record(path, model, [None], lambda m, _: loss(), torch.optim.SGD(model.parameters(), lr=0.0), **{
        "instruments": instrument
    })  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_the_eigenvalues_are_those_of_the_whole_hessian(name, tmp_path):
    model, x = network(name)
    truth = full_hessian(model, lambda m: F.cross_entropy(m(x), Y))
    agrees(read(tmp_path, model, lambda: F.cross_entropy(model(x), Y)), truth)


@pytest.mark.parametrize("name", LOSSES)
def test_they_are_exact_under_every_loss(name, tmp_path):
    model, x = network("tanh")
    truth = full_hessian(model, lambda m: LOSSES[name](m(x)))
    agrees(read(tmp_path, model, lambda: LOSSES[name](model(x))), truth)


@pytest.mark.parametrize("name", SCALED)
def test_they_are_those_of_the_mean_loss_whatever_it_was_multiplied_with(name, tmp_path):
    model, x = network("tanh")
    truth = full_hessian(model, lambda m: F.cross_entropy(m(x), Y))
    agrees(read(tmp_path, model, lambda: SCALED[name](model(x))), truth)


def test_a_gradient_scaler_is_undone(tmp_path):
    model, x = network("tanh")
    truth = full_hessian(model, lambda m: F.cross_entropy(m(x), Y))
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.0), torch.amp.GradScaler("cpu", init_scale=4096.0)

    def step(_):
        scaler.scale(F.cross_entropy(model(x), Y)).backward()
        scaler.step(optimizer)
        scaler.update()

    agrees(record_steps(tmp_path, model, optimizer, range(1), step, instruments=EXACT), truth)


def test_a_penalty_in_the_loss_is_part_of_it(tmp_path):
    model, x = network("tanh")

    def loss(m):
        return F.cross_entropy(m(x), Y) + 0.5 * sum(p.square().sum() for p in m.parameters())

    agrees(read(tmp_path, model, lambda: loss(model)), full_hessian(model, loss))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_keeps_the_digits_it_has(dtype, tmp_path):
    model, x = network("convolutions" if dtype == torch.float32 else "tanh")
    model, x = model.to(dtype), x.to(dtype)
    truth = full_hessian(model, lambda m: F.cross_entropy(m(x.double()), Y))
    run = read(tmp_path, model, lambda: F.cross_entropy(model(x), Y), HessMaxEV(tol=1e-4, max_products=40))
    agrees(run, truth, rel=1e-4 if dtype == torch.float32 else 3e-2)


class Valley(nn.Module):
    """A loss with any curvature: ``½ wᵀ A w`` with given eigenvalues."""

    def __init__(self, spectrum):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        size = len(spectrum)
        turned, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
        self.register_buffer("matrix", turned @ torch.tensor(spectrum, dtype=torch.float64).diag() @ turned.T)
        self.w = nn.Parameter(torch.randn(size, generator=generator, dtype=torch.float64))

    def forward(self):
        return 0.5 * self.w @ self.matrix @ self.w


def test_the_most_negative_eigenvalue_is_not_taken_for_the_largest(tmp_path):
    model = Valley([-100.0, *torch.linspace(-5, 1, 60).tolist(), 4.0])
    run = read(tmp_path, model, model, HessMaxEV(tol=1e-3, max_products=40))
    assert logged(run, "hess_max_ev", 0) == pytest.approx(4.0, rel=1e-5)
    assert logged(run, "hess_max_ev.smallest", 0) == pytest.approx(-100.0, rel=1e-5)


def test_a_new_direction_is_found_by_and_by(tmp_path):
    model = Valley([1.0, *torch.linspace(-0.3, 0.3, 60).tolist()])

    def step(index):
        if index == 5:
            torch.manual_seed(1)
            sideways = F.normalize(torch.randn(61, dtype=torch.float64), dim=0)
            model.matrix += 3 * torch.outer(sideways, sideways)
        model().backward()

    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    run = record_steps(tmp_path, model, optimizer, range(12), step, instruments="hess_max_ev")
    assert logged(run, "hess_max_ev", 4) == pytest.approx(1.0, rel=1e-2)
    largest, _ = ends(model.matrix)
    assert logged(run, "hess_max_ev", 11) == pytest.approx(largest, rel=1e-2)


STEPS = 24
TRUTHS: list[float] = []
"""Largest eigenvalue before each step of the training below, worked out by the first test that asks."""


def training(path, instrument):
    """A small convolutional network that learns something, from the first step to where it has."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 3, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 6), nn.Tanh(), nn.Linear(6, 4))
    )
    x, y = torch.randn(400, 1, 8, 8), torch.randint(4, (400,))
    x[torch.arange(400), 0, y, y] += 3.0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)

    def step(index):
        rows = torch.arange(64) + 5 * index
        if len(TRUTHS) == index:
            TRUTHS.append(ends(full_hessian(model, lambda m: F.cross_entropy(m(x[rows].double()), y[rows])))[0])
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()

    return record_steps(path, model, optimizer, range(STEPS), step, instruments=instrument)


@pytest.mark.parametrize(
    ("tol", "products", "error", "worst"),
    [(0.1, 5, 2.3e-2, 0.35), (3e-2, 9, 1.8e-3, 3e-2), (1e-2, 13, 1.4e-4, 1e-2)],
)
def test_it_follows_a_training_within_the_error_that_its_tolerance_stands_for(tol, products, error, worst, tmp_path):
    run = training(tmp_path, HessMaxEV(tol=tol))
    errors = torch.tensor([abs(logged(run, "hess_max_ev", t) / TRUTHS[t] - 1) for t in range(STEPS)])
    assert float(errors.median()) <= error
    assert float(errors.max()) <= worst
    assert run["hess_max_ev.products"].values.mean() <= products


def test_the_residual_is_that_of_the_eigenvalue(tmp_path):
    model, x = network("convolutions")
    truth = torch.linalg.eigvalsh(full_hessian(model, lambda m: F.cross_entropy(m(x), Y)))
    run = read(tmp_path, model, lambda: F.cross_entropy(model(x), Y), "hess_max_ev")
    for key, residual in (("hess_max_ev", "residual"), ("hess_max_ev.smallest", "smallest_residual")):
        gap = (truth - logged(run, key, 0)).abs().min().item()
        assert 0 < gap <= logged(run, f"hess_max_ev.{residual}", 0)
    assert logged(run, "hess_max_ev.products", 0) <= 5


def test_a_batch_that_comes_in_parts_has_none(tmp_path):
    model, x = network("tanh")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def step(index):
        parts = 1 if index in (0, 3, 4) else 2
        for rows in torch.arange(N).chunk(parts):
            (F.cross_entropy(model(x[rows]), Y[rows]) / parts).backward()

    run = record_steps(tmp_path, model, optimizer, range(5), step, instruments=HessMaxEV(tol=1e-6, max_products=39))
    found = [logged(run, "hess_max_ev", t) for t in range(5)]
    assert [value is None for value in found] == [False, True, True, True, False]
    assert found[4] == pytest.approx(found[0])
    said = " ".join(event.text for event in run._reader.events() if event.subject == "hess_max_ev")
    assert "several backward passes" in said
    assert "the step before" in said


def test_not_a_number_is_logged_as_such(tmp_path):
    model, x = network("tanh")
    with torch.no_grad():
        model[0].weight[0, 0] = math.nan
    run = read(tmp_path, model, lambda: F.cross_entropy(model(x), Y), "hess_max_ev")
    assert math.isnan(logged(run, "hess_max_ev", 0))
    assert math.isnan(logged(run, "hess_max_ev.smallest", 0))


def test_it_recovers_from_a_step_that_was_not_a_number(tmp_path):
    model, x = network("tanh")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def step(index):
        factor = math.nan if index == 1 else 1.0
        F.cross_entropy(model(x * factor), Y).backward()

    run = record_steps(tmp_path, model, optimizer, range(3), step, instruments=EXACT)
    first, broken, again = (logged(run, "hess_max_ev", t) for t in range(3))
    assert math.isnan(broken)
    assert again == pytest.approx(first)


def test_fused_attention_has_none_and_says_what_to_do(tmp_path):
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.queries, self.head = nn.Linear(4, 12), nn.Linear(4, 3)

        def forward(self, x):
            q, k, v = (part.unsqueeze(1) for part in self.queries(x).chunk(3, -1))
            return self.head(F.scaled_dot_product_attention(q, k, v).squeeze(1).mean(1))

    torch.manual_seed(0)
    model, x = Attention().double(), torch.randn(N, 3, 4).double()
    run = one_step_of(tmp_path / "fused", model, x)
    assert logged(run, "hess_max_ev", 0) is None
    assert "sdpa_kernel(SDPBackend.MATH)" in reasons(run)["hess_max_ev"]
    with sdpa_kernel(SDPBackend.MATH):
        truth = full_hessian(model, lambda m: F.cross_entropy(m(x), Y))
        agrees(one_step_of(tmp_path / "plain", model, x), truth)


def one_step_of(path, model, x):
    path.mkdir()
    return read(path, model, lambda: F.cross_entropy(model(x), Y))


def test_nothing_is_read_without_a_backward_pass(tmp_path):
    model, x = network("tanh")
    run = one_step_without_backward(tmp_path, model, x)
    assert logged(run, "hess_max_ev", 0) is None
    assert "no call of backward" in reasons(run)["hess_max_ev"]


def one_step_without_backward(path, model, x):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    return record_steps(path, model, optimizer, range(1), lambda _: model(x), instruments="hess_max_ev")


def test_a_tighter_tolerance_comes_with_the_products_that_it_takes():
    limits = [HessMaxEV(tol=tol).probes()[0].max_products for tol in (0.5, 0.1, 1e-2, 1e-3)]
    assert limits == [5, 5, 13, 21]
    assert HessMaxEV(tol=1e-2, max_products=3).probes()[0].max_products == 3


@pytest.mark.parametrize(
    ("arguments", "words"), [({"tol": 0.0}, "must be positive"), ({"max_products": 0}, "at least 1")]
)
def test_senseless_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        HessMaxEV(**arguments)
