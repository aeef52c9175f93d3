"""Hessian products that go round the parameter gradients of a first convolution, against the whole Hessian."""

import pytest
import torch
import torch.nn.functional as F
from hessians import full_hessian, looked_at, trained
from torch import nn

from cockpit.capture.second_order.first_convolution import first_convolutions

N = 5
torch.manual_seed(2)
X, Y = torch.randn(N, 2, 6, 6).double(), torch.randint(3, (N,))


class Net(nn.Module):
    def __init__(self, first):
        super().__init__()
        self.first = first.double()
        self.head = nn.Linear(first(X).flatten(1).shape[1], 3).double()

    def forward(self, x):
        return self.head(self.first(x).tanh_().flatten(1))


class Again(Net):
    """The same layer meets the input twice."""

    def forward(self, x):
        return super().forward(x) + super().forward(x.flip(0))


class Penalised(Net):
    def loss(self):
        return 0.3 * (self.first.weight**4).sum()


class Cut(Net):
    """The weight is used a second time, by no module."""

    def forward(self, x):
        return super().forward(x) + self.first.weight.square().sum()


def convolution(**options):
    torch.manual_seed(0)
    return nn.Conv2d(2, 2, 3, **options)


SHORT = {
    "plain": lambda: (Net(convolution()), X),
    "no bias": lambda: (Net(convolution(bias=False)), X),
    "strided, padded, in groups": lambda: (Net(convolution(stride=2, padding=1, groups=2)), X),
    "dilated": lambda: (Net(convolution(dilation=2)), X),
    "reflected": lambda: (Net(convolution(padding=1, padding_mode="reflect")), X),
    "as large as the input": lambda: (Net(convolution(padding="same")), X),
}
LONG = {
    "called twice": lambda: (Again(convolution()), X),
    "used elsewhere": lambda: (Cut(convolution()), X),
    "penalised": lambda: (Penalised(convolution()), X),
    "the input is differentiated": lambda: (Net(convolution()), X.clone().requires_grad_()),
    "a frozen weight": lambda: (frozen(Net(convolution())), X),
}


def frozen(model):
    model.first.weight.requires_grad_(False)
    return model


def products(graph, tensors):
    """The whole Hessian, column by column, and how many layers were had the short way."""
    hessian, sizes = graph.hessian(tensors), [t.numel() for t in tensors]
    columns = []
    for unit in torch.eye(sum(sizes), dtype=torch.float64):
        vectors = [piece.view_as(t) for piece, t in zip(unit.split(sizes), tensors, strict=True)]
        columns.append(torch.cat([p.reshape(-1) for p in hessian.times(vectors)]))
    return torch.stack(columns, 1), len(first_convolutions(graph.modules, tensors, [r for r, _ in graph._root.parts]))


@pytest.mark.parametrize("name", [*SHORT, *LONG])
def test_every_column_is_that_of_the_whole_hessian(name):
    model, x = (SHORT | LONG)[name]()

    def loss(m):
        return F.cross_entropy(m(x), Y) + (m.loss() if isinstance(m, Penalised) else 0)

    truth = full_hessian(model, loss)
    ((found, short),) = looked_at(model, lambda g: products(g, trained(model)[1]), lambda: (loss(model) * 8).backward())
    torch.testing.assert_close(found, truth)
    assert short == (name in SHORT)


def test_a_straight_line_has_no_curvature():
    model = nn.Sequential(convolution(), nn.Flatten(), nn.AdaptiveAvgPool1d(1)).double()
    tensors = trained(model)[1]
    ((found, _),) = looked_at(model, lambda g: products(g, tensors), lambda: model(X).mean().backward())
    assert not found.any()
