"""Ways to the exact diagonal of the Hessian against the whole Hessian in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hessians import LOSSES, SCALED, N, Networks, T, Y, blocks, full_hessian, looked_at, network
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cockpit.capture.individual.workspace import Workspace
from cockpit.parameters import ParameterTable
from cockpit.probes.curvature import Curvature
from cockpit.probes.exact_hessian import ExactHessian, HessianRoutes
from cockpit.probes.hessian_diagonal import EXACT_LIMIT

Loss = Callable[[nn.Module], Tensor]


def diagonals(
    model: nn.Module,
    loss: Loss,
    steps: int = 1,
    limit: int = EXACT_LIMIT,
    elementwise: bool = True,
    routes: HessianRoutes | None = None,
) -> list[Curvature]:
    """What so many steps with the same parameters show."""
    table = ParameterTable(model, [torch.optim.SGD(model.parameters(), lr=0.1)])
    routes, found = routes or HessianRoutes(), []
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)

        def look(graph, generator=generator):
            return ExactHessian(graph, table, Workspace(1 << 28), routes, generator, limit).diagonal(elementwise)

        found += looked_at(model, look, lambda: loss(model).backward())
    return found


def agrees(curvature: Curvature, model: nn.Module, truth: Tensor) -> None:
    for values, (name, block) in zip(curvature.diagonal, blocks(model, truth).items(), strict=True):
        torch.testing.assert_close(values.flatten(), block.diagonal(), rtol=1e-7, atol=1e-12)
        assert curvature.by_layer()[name] == pytest.approx(float(block.trace()), rel=1e-7, abs=1e-12)
    assert curvature.exact
    assert not curvature.note


def exactly(model: nn.Module, loss: Loss, way: str) -> None:
    """The diagonal is the Hessian's, and it was had this way."""
    (found,) = diagonals(model, loss)
    assert found.way == way
    agrees(found, model, full_hessian(model, loss))


torch.manual_seed(3)
FLAT, IMAGES = torch.randn(N, 5).double(), torch.randn(N, 2, 8, 8).double()


class Around(nn.Module):
    """Layers around which the input goes too, functions in place of modules, an operation in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.scale = nn.Parameter(torch.tensor([0.5, 2.0, 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        x = x + F.relu(self.first(x))
        x = F.leaky_relu(x + self.second(x), 0.2, inplace=True)
        return self.head(x).clamp(min=-2.0) * self.scale


class Shared(nn.Module):
    """Piecewise linear in its input, quadratic in a weight that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.layer(F.relu(self.layer(x)))))


class Squared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        return x * x


class Relu(torch.autograd.Function):
    """Not what it is called."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


class Misnamed(Squared):
    def forward(self, x: Tensor) -> Tensor:
        return Relu.apply(self.head(x))


def mlp(activation: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), activation, nn.Linear(6, 4, bias=False), activation, nn.Linear(4, 3))


def images(activation: nn.Module, *more: nn.Module) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1, groups=2), activation, nn.MaxPool2d(2), *more),
        *(nn.Conv2d(4, 3, 3, stride=2, padding=1), activation, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3, 3)),
    )


PIECEWISE_LINEAR: Networks = {
    "linear": (lambda: nn.Linear(5, 3), FLAT),
    "perceptron": (lambda: mlp(nn.ReLU(inplace=True)), FLAT),
    "learned slopes": (lambda: mlp(nn.Hardtanh(-0.5, 0.7)).append(nn.PReLU()), FLAT),
    "around": (Around, FLAT),
    "images": (lambda: images(nn.ReLU()), IMAGES),
    "fixed statistics": (lambda: images(nn.LeakyReLU(0.3), nn.BatchNorm2d(4)).eval(), IMAGES),
}
CURVED: Networks = {
    "smooth": (lambda: mlp(nn.GELU()), FLAT),
    "a weight used twice": (Shared, FLAT),
    "a square": (Squared, FLAT),
    "a function of the model's own": (Misnamed, FLAT),
    "batch statistics": (lambda: images(nn.ReLU(), nn.BatchNorm2d(4)), IMAGES),
}


@pytest.mark.parametrize("name", PIECEWISE_LINEAR)
def test_a_piecewise_linear_network_has_the_diagonal_of_its_gauss_newton_matrix(name: str) -> None:
    model, x = network(name, PIECEWISE_LINEAR)
    exactly(model, lambda m: F.cross_entropy(m(x), Y), "piecewise linear")


@pytest.mark.parametrize("name", LOSSES)
def test_it_has_so_under_every_loss(name: str) -> None:
    model, x = network("images", PIECEWISE_LINEAR)
    exactly(model, lambda m: LOSSES[name](m(x)), "piecewise linear")


@pytest.mark.parametrize("name", SCALED)
def test_the_diagonal_is_that_of_the_mean_loss_whatever_it_was_multiplied_with(name: str) -> None:
    model, x = network("perceptron", PIECEWISE_LINEAR)
    truth = full_hessian(model, lambda m: F.cross_entropy(m(x), Y))
    (found,) = diagonals(model, lambda m: SCALED[name](m(x)))
    assert found.way == "piecewise linear"
    agrees(found, model, truth)


@pytest.mark.parametrize("name", CURVED)
def test_networks_that_are_curved_in_a_parameter_go_another_way(name: str) -> None:
    model, x = network(name, CURVED)
    exactly(model, lambda m: F.cross_entropy(m(x), Y), "products")


OBJECTIVES: dict[str, tuple[Callable[[nn.Module, Tensor], Tensor], str]] = {
    "log-probabilities": (lambda m, x: F.nll_loss(F.log_softmax(m(x), 1), Y), "piecewise linear"),
    "the logarithm of probabilities": (lambda m, x: F.nll_loss(m(x).softmax(1).log(), Y), "products"),
    "two losses": (lambda m, x: F.cross_entropy(m(x), Y) + 0.5 * F.mse_loss(m(x), T), "piecewise linear"),
    "weight decay": (
        lambda m, x: F.cross_entropy(m(x), Y) + 0.1 * sum(p.square().sum() for p in m.parameters()),
        "products",
    ),
    "a lasso": (lambda m, x: F.cross_entropy(m(x), Y) + sum(p.abs().sum() for p in m.parameters()), "piecewise linear"),
    "a subtracted loss": (lambda m, x: F.mse_loss(m(x), T) - 0.1 * F.cross_entropy(m(x), Y), "products"),
    "no loss that is known": (lambda m, x: m(x).square().mean(), "products"),
    "a loss that has no curvature": (lambda m, x: F.l1_loss(m(x), T), "products"),
    "attached targets": (lambda m, x: F.mse_loss(m(x), m(x.flip(0))), "products"),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_stands_above_the_network_counts(name: str) -> None:
    model, x = network("perceptron", PIECEWISE_LINEAR)
    objective, way = OBJECTIVES[name]
    exactly(model, lambda m: objective(m, x), way)


@pytest.mark.parametrize(
    "objective", [lambda m, x: F.cross_entropy(m(x), Y) ** 2, lambda m, x: F.cross_entropy(m(x), Y) * m(x).mean()]
)
def test_what_bends_the_loss_itself_is_not_passed_over(objective: Callable[[nn.Module, Tensor], Tensor]) -> None:
    model, x = network("perceptron", PIECEWISE_LINEAR)
    (found,) = diagonals(model, lambda m: objective(m, x))
    assert found.way == "products"
    truth = full_hessian(model, lambda m: objective(m, x)).diagonal()
    told = torch.cat([values.flatten() for values in found.diagonal])
    # What the loss is multiplied with is divided out.
    torch.testing.assert_close(told / told.sum(), truth / truth.sum())


def test_dropout_is_the_mask_that_was_drawn() -> None:
    model, x = network("images", PIECEWISE_LINEAR)
    model.insert(4, nn.Dropout(0.4))

    def loss(m: nn.Module) -> Tensor:
        torch.manual_seed(9)
        return F.cross_entropy(m(x), Y)

    exactly(model, loss, "piecewise linear")


def test_no_number_of_parameters_is_too_large_for_a_piecewise_linear_network() -> None:
    model, x = network("images", PIECEWISE_LINEAR)
    (found,) = diagonals(model, lambda m: F.cross_entropy(m(x), Y), limit=3)
    agrees(found, model, full_hessian(model, lambda m: F.cross_entropy(m(x), Y)))


def test_only_the_traces_are_kept_where_nobody_wants_more() -> None:
    model, x = network("perceptron", PIECEWISE_LINEAR)
    kept, again = diagonals(model, lambda m: F.cross_entropy(m(x), Y), steps=2, elementwise=False)
    assert kept.diagonal == again.diagonal == ()
    torch.testing.assert_close(kept.draws, again.draws)


def test_a_hook_that_bends_the_gradient_is_found_out_and_not_believed_again() -> None:
    model, x = network("perceptron", PIECEWISE_LINEAR)

    def loss(m: nn.Module) -> Tensor:
        h = m[1](m[0](x))
        h.register_hook(lambda gradient: gradient * h.exp())
        return F.cross_entropy(m[2:](h), Y)

    routes = HessianRoutes()
    found = diagonals(model, loss, steps=2, routes=routes)
    assert [curvature.way for curvature in found] == ["products", "products"]
    truth = full_hessian(model, loss)
    agrees(found[1], model, truth)
    assert sorted(routes.disproved.values()) == [
        "BackPACK's DiagHessian gave another diagonal than Hessian products do at '0.weight'",
        "the Gauss-Newton matrix gave another diagonal than Hessian products do at '0.weight'",
    ]
    (estimated,) = diagonals(model, loss, limit=3, routes=routes)
    assert not estimated.exact
    assert all(reason in estimated.note for reason in routes.disproved.values())


def test_parameters_that_are_not_trained_have_no_curvature() -> None:
    model, x = network("perceptron", PIECEWISE_LINEAR)
    model[0].weight.requires_grad_(False)
    (found,) = diagonals(model, lambda m: F.cross_entropy(m(x), Y))
    assert found.way == "piecewise linear"
    agrees(found, model, full_hessian(model, lambda m: F.cross_entropy(m(x), Y)))


@settings(deadline=None, max_examples=25)
@given(
    widths=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    activations=st.lists(st.sampled_from([nn.ReLU, nn.Tanh, nn.Hardtanh, nn.Softplus, nn.Identity]), min_size=3),
    biases=st.lists(st.booleans(), min_size=4, max_size=4),
    loss_name=st.sampled_from(sorted(LOSSES)),
    seed=st.integers(0, 1000),
)
def test_every_small_network_reads_as_the_whole_hessian(widths, activations, biases, loss_name, seed) -> None:
    torch.manual_seed(seed)
    sizes = [5, *widths, 3]
    layers: list[nn.Module] = [nn.Linear(sizes[0], sizes[1], bias=biases[0])]
    for i in range(1, len(sizes) - 1):
        layers += [activations[i - 1](), nn.Linear(sizes[i], sizes[i + 1], bias=biases[i])]
    model = nn.Sequential(*layers).double()

    def loss(m: nn.Module) -> Tensor:
        return LOSSES[loss_name](m(FLAT))

    (found,) = diagonals(model, loss)
    agrees(found, model, full_hessian(model, loss))
