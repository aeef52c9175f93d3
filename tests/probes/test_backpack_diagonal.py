"""Diagonals by BackPACK on layers read off the graph, against whole matrices in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from backpack import extend
from hessians import LOSSES, N, Networks, T, Y, blocks, full_gauss_newton, full_hessian, looked_at, network
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cockpit.capture.individual.workspace import Workspace
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import ParameterTable
from cockpit.probes.backpack_diagonal import BackpackDiagonal, Matrix, Plan
from cockpit.probes.curvature import Curvature
from cockpit.probes.exact_hessian import ExactHessian, HessianRoutes

torch.manual_seed(3)
FLAT, IMAGES, SERIES, VOLUMES = (torch.randn(N, *s).double() for s in ((5,), (2, 8, 8), (2, 8), (2, 3, 3, 3)))


class Functional(nn.Module):
    """Modules for the parameters alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.hardtanh(self.first(x).tanh_() * 1.5, -1.2, 1.0))


NETWORKS: Networks = {
    "perceptron": (
        lambda: nn.Sequential(
            *(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 4, bias=False), nn.ELU(0.7), nn.Linear(4, 4), nn.SELU()),
            *(nn.Linear(4, 4), nn.LogSigmoid(), nn.Linear(4, 3)),
        ),
        FLAT,
    ),
    "functions": (Functional, FLAT),
    "images": (
        lambda: nn.Sequential(
            *(nn.Conv2d(2, 4, 3, padding=1, groups=2), nn.Sigmoid(), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Conv2d(4, 3, 3, stride=2, bias=False), nn.Tanh(), nn.AvgPool2d(1), nn.ZeroPad2d(1), nn.Flatten()),
            nn.Linear(27, 3),
        ),
        IMAGES,
    ),
    "upwards": (
        lambda: nn.Sequential(
            *(nn.Conv2d(2, 2, 3, dilation=2), nn.LeakyReLU(0.2), nn.ConvTranspose2d(2, 4, 2, 2)),
            *(nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
        ),
        IMAGES,
    ),
    "series": (
        lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.Tanh(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(12, 3)),
        SERIES,
    ),
    "volumes": (lambda: nn.Sequential(nn.Conv3d(2, 4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(32, 3)), VOLUMES),
}


def found(
    model: nn.Module,
    loss: Callable[[nn.Module], Tensor],
    matrix: Matrix = "hessian",
    draws: int | None = None,
    limit: int = 1 << 28,
) -> Curvature:
    table = ParameterTable(model, [torch.optim.SGD(model.parameters(), lr=0.1)])

    def look(graph):
        generator = torch.Generator().manual_seed(0)
        return BackpackDiagonal(graph, table, Workspace(limit), matrix).compute(generator, draws, elementwise=True)

    (curvature,) = looked_at(model, look, lambda: loss(model).backward())
    return curvature


def agrees(curvature: Curvature, model: nn.Module, truth: Tensor) -> None:
    assert curvature.way == "backpack"
    for values, (name, block) in zip(curvature.diagonal, blocks(model, truth).items(), strict=True):
        torch.testing.assert_close(values.flatten(), block.diagonal(), rtol=1e-7, atol=1e-12)
        assert curvature.by_layer()[name] == pytest.approx(float(block.trace()), rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("loss_name", LOSSES)
@pytest.mark.parametrize("name", NETWORKS)
def test_both_diagonals_are_those_of_the_whole_matrices(name: str, loss_name: str) -> None:
    model, x = network(name, NETWORKS)
    objective = LOSSES[loss_name]
    truth = full_hessian(model, lambda m: objective(m(x)))
    agrees(found(model, lambda m: objective(m(x))), model, truth)
    truth = full_gauss_newton(model, lambda m: m(x), objective)
    agrees(found(model, lambda m: objective(m(x)), "ggn"), model, truth)


@pytest.mark.parametrize("limit", [1, 20_000])
def test_a_part_of_the_batch_at_a_time_makes_no_difference(limit: int) -> None:
    model, x = network("images", NETWORKS)
    model.insert(4, nn.Dropout(0.4))

    def loss(m: nn.Module) -> Tensor:
        torch.manual_seed(9)
        return F.cross_entropy(m(x), Y)

    agrees(found(model, loss, limit=limit), model, full_hessian(model, loss))


def test_estimates_tend_to_the_diagonal() -> None:
    model, x = network("functions", NETWORKS)
    truth = full_gauss_newton(model, lambda m: m(x), LOSSES["cross-entropy"])
    curvature = found(model, lambda m: F.cross_entropy(m(x), Y), "ggn_mc", draws=400)
    assert not curvature.exact
    assert abs(curvature.total() - float(truth.trace())) < 3.5 * curvature.total_error()


def test_the_scale_of_a_pass_is_undone() -> None:
    model, x = network("perceptron", NETWORKS)
    truth = full_hessian(model, lambda m: F.cross_entropy(m(x), Y))
    agrees(found(model, lambda m: 1024 * F.cross_entropy(m(x), Y, reduction="sum")), model, truth)


# torch's own remark on full backward hooks, of the first layer that is extended
@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
def test_modules_that_the_user_extended_are_neither_in_the_way_nor_written_to() -> None:
    model, x = network("perceptron", NETWORKS)
    truth = full_hessian(model, lambda m: F.cross_entropy(m(x), Y))
    extended = extend(copy.deepcopy(model))
    agrees(found(extended, lambda m: F.cross_entropy(m(x), Y)), model, truth)
    assert not any(hasattr(p, "diag_h") for p in extended.parameters())


def test_nothing_random_is_drawn_and_nothing_is_left_on_the_model() -> None:
    model, x = network("images", NETWORKS)
    before, state = [dict(vars(m)) for m in model.modules()], torch.get_rng_state()
    found(model, lambda m: F.cross_entropy(m(x), Y))
    assert torch.equal(torch.get_rng_state(), state)
    assert [dict(vars(m)) for m in model.modules()] == before
    assert not any(hasattr(p, "diag_h") for p in model.parameters())


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).tanh() + x)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.layer(x).tanh()))


def frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    model[0].bias.requires_grad_(False)
    return model


REFUSED: dict[str, tuple[Callable[[], nn.Module], Callable[[Tensor], Tensor], str]] = {
    "normalisation": (
        lambda: nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3)),
        lambda out: F.cross_entropy(out, Y),
        "'NativeLayerNormBackward0' is no layer that stands in a row",
    ),
    "a way around": (Around, lambda out: F.cross_entropy(out, Y), "'AddBackward0' is no layer"),
    "a layer called twice": (Twice, lambda out: F.cross_entropy(out, Y), "a parameter is used in several layers"),
    "a parameter that is not trained": (frozen, lambda out: F.cross_entropy(out, Y), "are all trained"),
    "a pole": (lambda: nn.Linear(5, 3), lambda out: F.cross_entropy(out, Y) ** 2, "nothing beside it"),
    "a penalty on the outputs": (
        lambda: nn.Linear(5, 3),
        lambda out: F.cross_entropy(out, Y) + out.abs().sum(),
        "nothing beside it",
    ),
    "two losses": (
        lambda: nn.Linear(5, 3),
        lambda out: F.cross_entropy(out, Y) + F.mse_loss(out, T),
        "BackPACK needs one loss",
    ),
    "a loss that is not known": (
        lambda: nn.Linear(5, 3),
        lambda out: F.kl_div(out, T.softmax(1), reduction="batchmean"),
        "no second derivatives of 'kl_div'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_row_of_layers_under_one_loss_is_refused(name: str) -> None:
    make, objective, words = REFUSED[name]
    torch.manual_seed(1)
    model = make().double()
    with pytest.raises(Unavailable, match=words):
        found(model, lambda m: objective(m(FLAT)))


def test_what_would_take_forever_is_refused() -> None:
    with pytest.raises(Unavailable, match=r"20,000 columns \(up to 10,000\)"):
        Plan(20_000, 1, 1, 1).require_feasible()
    with pytest.raises(Unavailable, match=r"take 4.0 GiB for every sample \(up to 1.0\)"):
        Plan(1, 4 * 2**30, 1, 1).require_feasible()


def test_a_network_too_large_for_products_is_exact_by_backpack() -> None:
    model, x = network("images", NETWORKS)
    table = ParameterTable(model, [torch.optim.SGD(model.parameters(), lr=0.1)])
    routes = HessianRoutes()

    def look(graph):
        return ExactHessian(graph, table, Workspace(1 << 28), routes, torch.Generator(), limit=3).diagonal(True)

    for _ in range(3):
        (curvature,) = looked_at(model, look, lambda: F.cross_entropy(model(x), Y).backward())
        agrees(curvature, model, full_hessian(model, lambda m: F.cross_entropy(m(x), Y)))
    assert not routes.disproved


@settings(deadline=None, max_examples=20)
@given(
    channels=st.integers(1, 3),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    activation=st.sampled_from([nn.Tanh, nn.Sigmoid, nn.ReLU, nn.ELU]),
    pool=st.sampled_from([nn.Identity(), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AvgPool2d(3, 2, 1)]),
    loss_name=st.sampled_from(sorted(LOSSES)),
)
def test_every_small_convolutional_network_reads_as_the_whole_hessian(
    channels, kernel, stride, padding, activation, pool, loss_name
) -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(2, channels, kernel, stride, padding), activation(), pool, nn.Flatten()).double()
    with torch.no_grad():
        width = body(IMAGES).shape[1]
    model = nn.Sequential(body, nn.Linear(width, 3)).double()

    def loss(m: nn.Module) -> Tensor:
        return LOSSES[loss_name](m(IMAGES))

    agrees(found(model, loss), model, full_hessian(model, loss))
