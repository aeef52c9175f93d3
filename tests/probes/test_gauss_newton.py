"""The generalised Gauss-Newton matrix against a dense Jacobian and a dense Hessian of the loss, in float64."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from harness import logged, reasons, record_steps
from hessians import blocks, full_gauss_newton, full_hessian, looked_at
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cockpit.capture.individual.workspace import Workspace
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import ParameterTable
from cockpit.probes.gauss_newton import Routes, gauss_newton

N, T, C = 5, 3, 4


def found(model, loss, draws=None, routes=None, limit=1 << 28, seed=0):
    """What a step's backward pass gives."""
    table = ParameterTable(model, [torch.optim.SGD(model.parameters(), lr=0.1)])
    generator = torch.Generator().manual_seed(seed)

    def look(graph):
        return gauss_newton(graph, table, Workspace(limit), routes or Routes(), generator, draws, diagonal=True)

    (curvature,) = looked_at(model, look, lambda: loss(model).backward())
    return curvature


def agrees(curvature, model, matrix, rtol=1e-7, atol=1e-12):
    """Every block's trace and every coordinate."""
    for values, (name, block) in zip(curvature.diagonal, blocks(model, matrix).items(), strict=True):
        torch.testing.assert_close(values.double().flatten(), block.diagonal(), rtol=rtol, atol=atol)
        assert curvature.by_layer()[name] == pytest.approx(float(block.trace()), rel=rtol, abs=atol)
    assert curvature.total() == pytest.approx(float(matrix.trace()), rel=rtol)


class Residual(nn.Module):
    """A layer around which the input goes too, one that is called twice, and a parameter that no call uses."""

    def __init__(self):
        super().__init__()
        self.inner, self.shared, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, C)
        self.unused, self.scale = nn.Linear(2, 2), nn.Parameter(torch.tensor([0.5, 2.0, 1.0, 1.5]))

    def forward(self, x):
        x = x + self.inner(x).tanh()
        return self.head(self.shared(self.shared(x).tanh()).tanh()) * self.scale


class Tied(nn.Module):
    """Words in, words out, by one table: a module's call at one end, a function of its weight at the other."""

    def __init__(self):
        super().__init__()
        self.table, self.mix = nn.Embedding(C, 6), nn.Linear(6, 6)

    def forward(self, words):
        return F.linear(self.mix(self.table(words)).tanh(), self.table.weight)


class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.attention = nn.Embedding(C, 6), nn.MultiheadAttention(6, 2, batch_first=True)
        self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, C)

    def forward(self, words):
        h = self.table(words)
        return self.head(self.norm(h + self.attention(h, h, h)[0]))


def convolutional():
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(4, 4, 2, groups=2), nn.ReLU(), nn.Conv2d(4, 3, 2, dilation=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(12, C)),
    )


def batch_normalised():
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Softplus(), nn.Linear(5, C))


torch.manual_seed(3)
FLAT, IMAGES = torch.randn(N, 6).double(), torch.randn(N, 2, 6, 6).double()
WORDS = torch.randint(C, (N, T))
NETWORKS = {
    "perceptron": (lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, C)), FLAT),
    "strided, grouped and dilated convolutions": (convolutional, IMAGES),
    "residual, shared and functional": (Residual, FLAT),
    "train-mode batch normalisation": (batch_normalised, FLAT),
    "tied": (Tied, WORDS),
    "attention": (Attentive, WORDS),
}


def network(name):
    torch.manual_seed(0)
    make, inputs = NETWORKS[name]
    return make().double(), inputs


LABELS, NEXT = torch.randint(C, (N,)), torch.randint(C, (N, T))
NEXT[0, 1:] = NEXT[3, 0] = -100
SHARES, VALUES = torch.rand(N, C).double().softmax(1), torch.randn(N, C).double()
BY_CLASS = torch.tensor([1.0, 3.0, 0.5, 2.0]).double()
BITS, POSITIVE = (VALUES > 0).double(), torch.tensor([1.0, 4.0, 0.5, 1.0]).double()
IMPORTANCE = torch.rand(N, C).double()

LOSSES = {
    "cross-entropy": lambda f: F.cross_entropy(f, LABELS),
    "sum": lambda f: F.cross_entropy(f, LABELS, reduction="sum"),
    "class weights": lambda f: F.cross_entropy(f, LABELS, weight=BY_CLASS),
    "label smoothing": lambda f: F.cross_entropy(f, LABELS, weight=BY_CLASS, label_smoothing=0.2),
    "class probabilities": lambda f: F.cross_entropy(f, SHARES, weight=BY_CLASS, label_smoothing=0.1),
    "ignored labels": lambda f: F.cross_entropy(f, LABELS, ignore_index=int(LABELS[0])),
    "entries of their own weight": lambda f: (F.cross_entropy(f, LABELS, reduction="none") * IMPORTANCE[:, 0]).sum(),
    "squares": lambda f: F.mse_loss(f, VALUES),
    "weighted squares": lambda f: F.mse_loss(f, VALUES, weight=IMPORTANCE),
    "bits": lambda f: F.binary_cross_entropy_with_logits(f, BITS, weight=IMPORTANCE, pos_weight=POSITIVE),
    "probabilities of bits": lambda f: F.binary_cross_entropy(f.sigmoid(), BITS),
    "huber": lambda f: F.huber_loss(f, VALUES, delta=0.7),
    "poisson": lambda f: F.poisson_nll_loss(f, VALUES.exp()),
    "margins": lambda f: F.multilabel_soft_margin_loss(f, BITS),
    "two at once": lambda f: F.cross_entropy(f, LABELS) + 0.3 * F.mse_loss(f, VALUES),
    "log-probabilities": lambda f: F.nll_loss(f.log_softmax(1), LABELS, weight=BY_CLASS),
}
AVERAGED = {
    name: loss
    for name, loss in LOSSES.items()
    if name not in ("sum", "entries of their own weight", "probabilities of bits")
}
"""Means, whose Gauss-Newton matrix at the logits is had from the same words."""


def truth(model, inputs, loss):
    return full_gauss_newton(model, lambda m: m(inputs), loss)


@pytest.mark.parametrize("name", [name for name, (_, inputs) in NETWORKS.items() if inputs is not WORDS])
def test_exact_blocks_are_those_of_brute_force(name):
    model, inputs = network(name)
    loss = LOSSES["cross-entropy"]
    agrees(found(model, lambda m: loss(m(inputs))), model, truth(model, inputs, loss))


@pytest.mark.parametrize("name", AVERAGED)
def test_every_loss_has_its_own_root(name):
    model, inputs = network("perceptron")
    loss = LOSSES[name]
    agrees(found(model, lambda m: loss(m(inputs))), model, truth(model, inputs, loss))


def test_a_sum_of_losses_reads_as_their_mean():
    model, inputs = network("perceptron")
    mean = truth(model, inputs, LOSSES["cross-entropy"])
    agrees(found(model, lambda m: LOSSES["sum"](m(inputs))), model, mean)
    agrees(found(model, lambda m: 1024 * LOSSES["cross-entropy"](m(inputs))), model, mean)


def test_weights_of_ones_own_add_up_to_one():
    model, inputs = network("perceptron")
    matrix = truth(model, inputs, LOSSES["entries of their own weight"]) / IMPORTANCE[:, 0].sum()
    agrees(found(model, lambda m: LOSSES["entries of their own weight"](m(inputs))), model, matrix)


def test_probabilities_are_their_own_input():
    model, inputs = network("perceptron")
    matrix = full_gauss_newton(model, lambda m: m(inputs).sigmoid(), lambda p: F.binary_cross_entropy(p, BITS))
    agrees(found(model, lambda m: LOSSES["probabilities of bits"](m(inputs))), model, matrix)


@pytest.mark.parametrize("flat", [False, True], ids=["classes second", "flattened"])
@pytest.mark.parametrize("name", ["tied", "attention"])
def test_words_of_a_sentence_do_not_mix(name, flat):
    model, inputs = network(name)

    def loss(f):
        if flat:
            return F.cross_entropy(f.reshape(-1, C), NEXT.flatten(), weight=BY_CLASS)
        return F.cross_entropy(f.movedim(-1, 1), NEXT, weight=BY_CLASS)

    agrees(found(model, lambda m: loss(m(inputs))), model, truth(model, inputs, loss))


def test_of_a_piecewise_linear_network_it_is_the_hessian():
    model, inputs = network("strided, grouped and dilated convolutions")
    loss = LOSSES["class weights"]
    matrix = full_hessian(model, lambda m: loss(m(inputs)))
    curvature = found(model, lambda m: loss(m(inputs)))
    for values, block in zip(curvature.diagonal, blocks(model, matrix).values(), strict=True):
        torch.testing.assert_close(values.flatten(), block.diagonal(), rtol=1e-7, atol=1e-12)


def test_chunks_of_a_batch_and_float32_agree_with_brute_force():
    model, inputs = network("strided, grouped and dilated convolutions")
    matrix = truth(model, inputs, LOSSES["cross-entropy"])
    curvature = found(model.float(), lambda m: LOSSES["cross-entropy"](m(inputs.float())), limit=1000)
    agrees(curvature, model, matrix, rtol=1e-4, atol=1e-6)


DRAWS = 200


def converges(curvature, model, matrix):
    """Means over many draws lie within three standard errors, blocks and total, and are not exact by accident."""
    expected = {name: float(block.trace()) for name, block in blocks(model, matrix).items()}
    errors = curvature.errors_by_layer()
    for name, value in curvature.by_layer().items():
        assert abs(value - expected[name]) <= 3 * errors[name] + 1e-12, name
    assert abs(curvature.total() - float(matrix.trace())) <= 3 * curvature.total_error() + 1e-9
    assert curvature.total_error() < 0.15 * abs(curvature.total())


@pytest.mark.parametrize("name", AVERAGED)
def test_draws_converge_to_the_truth(name):
    model, inputs = network("perceptron")
    loss = LOSSES[name]
    converges(found(model, lambda m: loss(m(inputs)), DRAWS), model, truth(model, inputs, loss))


@pytest.mark.parametrize("name", ["train-mode batch normalisation", "residual, shared and functional"])
def test_draws_converge_where_closed_forms_do_not_serve(name):
    model, inputs = network(name)
    loss = LOSSES["cross-entropy"]
    converges(found(model, lambda m: loss(m(inputs)), 4 * DRAWS), model, truth(model, inputs, loss))


@pytest.mark.parametrize("name", ["tied", "attention"])
def test_draws_of_words_converge(name):
    model, inputs = network(name)

    def loss(f):
        return F.cross_entropy(f.movedim(-1, 1), NEXT, weight=BY_CLASS)

    converges(found(model, lambda m: loss(m(inputs)), 2 * DRAWS), model, truth(model, inputs, loss))


def test_a_penalty_for_every_word_between_two_outputs_converges():
    """Several inputs in the graph, and a loss that is not one number's alone."""
    model, inputs = network("perceptron")

    def outputs(m):
        return torch.stack([m(inputs), m(inputs + 1)])

    def loss(f):
        return F.cosine_embedding_loss(f[0], f[1], torch.ones(N))

    matrix = full_gauss_newton(model, outputs, loss)
    agrees(found(model, lambda m: loss(outputs(m))), model, matrix)
    curvature = found(model, lambda m: loss(outputs(m)), DRAWS)
    assert abs(curvature.total() - float(matrix.trace())) <= 3 * curvature.total_error()


@settings(max_examples=25, deadline=None)
@given(
    samples=st.integers(2, 4),
    widths=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    classes=st.integers(2, 4),
    positions=st.integers(1, 3),
    seed=st.integers(0, 2**16),
)
def test_exact_for_any_shape(samples, widths, classes, positions, seed):
    torch.manual_seed(seed)
    sizes = [3, *widths, classes]
    layers = [layer for i, o in pairwise(sizes) for layer in (nn.Linear(i, o), nn.Tanh())]
    model = nn.Sequential(*layers[:-1]).double()
    x, y = torch.randn(samples, positions, 3).double(), torch.randint(classes, (samples, positions))

    def loss(f):
        return F.cross_entropy(f.movedim(-1, 1), y)

    agrees(found(model, lambda m: loss(m(x))), model, full_gauss_newton(model, lambda m: m(x), loss))


def test_routes_are_looked_at_anew_ever_more_rarely():
    model, inputs = network("tied")
    routes = Routes()
    pulled = []
    for _ in range(9):
        curvature = found(model, lambda m: F.cross_entropy(m(inputs).movedim(-1, 1), NEXT), 1, routes)
        (route,) = routes._known.values()
        pulled.append(sorted(route.whole))
        assert curvature.total() > 0
    assert pulled == [[0]] * 9
    assert route.asked == 9


REFUSED = {
    "absolute differences": (lambda f: F.l1_loss(f, VALUES), "second derivative of 'l1_loss'"),
    "unknown": (lambda f: f.square().mean(), "no loss of torch.nn"),
    "subtracted": (lambda f: F.cross_entropy(f, LABELS) - 0.1 * F.mse_loss(f, VALUES), "'mse_loss' is subtracted"),
    "negative weights": (lambda f: F.mse_loss(f, VALUES, weight=IMPORTANCE - 0.1), "negative weights"),
    "no probabilities": (lambda f: F.nll_loss(f, LABELS), "no logarithm of probabilities"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_gauss_newton_matrix_is_refused_in_words(name):
    loss, words = REFUSED[name]
    model, inputs = network("perceptron")

    def look(graph):
        table = ParameterTable(model, [torch.optim.SGD(model.parameters(), lr=0.1)])
        with pytest.raises(Unavailable, match=words):
            gauss_newton(graph, table, Workspace(), Routes(), torch.Generator())

    assert looked_at(model, look, lambda: loss(model(inputs)).backward()) == [None]


def test_losses_handed_over_are_refused_by_name(tmp_path):
    model, inputs = network("perceptron")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_, context):
        context.losses(F.cross_entropy(model(inputs), LABELS, reduction="none")).backward()

    run = record_steps(tmp_path, model, optimizer, [0], step, instruments=["hess_trace"])
    assert logged(run, "hess_trace", 0) is None
    assert "step.losses" in reasons(run)["hess_trace"]
    assert "hutchinson" in reasons(run)["hess_trace"]
