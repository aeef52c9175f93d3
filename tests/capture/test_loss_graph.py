"""What can be done with a loss just before its backward pass, and that the pass does not notice."""

import gc
import weakref
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cockpit import Cockpit
from cockpit.capture.capture import Capture
from cockpit.capture.samples.layout import Layouts
from cockpit.capture.unavailable import Unavailable
from cockpit.instrument import Instrument
from cockpit.parameters import ParameterTable
from cockpit.probes.probe import Collector, Probe


@dataclass
class Looking:
    """A receiver that takes from every graph what a test wants."""

    look: object
    seen: list = field(default_factory=list)
    failures: list = field(default_factory=list)

    def before_backward(self, graph):
        self.seen.append(self.look(graph))

    def gradient(self, index, gradient, backward): ...

    def individual(self, index, gradients, gradient, backward): ...

    def left_out(self, index, reason): ...

    def end_pass(self, backward): ...


def looked_at(model, look, step):
    """What ``look`` finds in each graph of a step."""
    receiver = Looking(look)
    table = ParameterTable(model, [torch.optim.SGD(model.parameters(), lr=0.1)])
    capture = Capture(model, table, Layouts(), receiver, False, receiver.failures.append, second_order=True)
    capture.open()
    try:
        step()
    finally:
        capture.close()
    assert not receiver.failures, receiver.failures
    return receiver.seen


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()


GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(6, 5, dtype=torch.float64, generator=GENERATOR)
Y = torch.randint(3, (6,), generator=GENERATOR)
WEIGHTS = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)

LOSSES = {
    "mean": lambda out: F.cross_entropy(out, Y),
    "weighted": lambda out: F.cross_entropy(out, Y, weight=WEIGHTS),
    "sum": lambda out: F.cross_entropy(out, Y, reduction="sum"),
    "accumulated": lambda out: F.cross_entropy(out, Y) / 4,
    "in place": lambda out: F.cross_entropy(out, Y).mul_(8.0),
    "entries": lambda out: (F.cross_entropy(out, Y, reduction="none") * torch.arange(1, 7)).mean(),
    "module": lambda out: nn.CrossEntropyLoss(ignore_index=int(Y[0]))(out, Y) * 2,
}


def explained(graph):
    """The objective as the graph's losses say it, and its gradient."""
    objective = sum((loss.coefficients * loss.entries).sum() for loss in graph.losses)
    return graph.scale, objective.item(), [loss.name for loss in graph.losses]


@pytest.mark.parametrize("name", LOSSES)
def test_coefficients_and_scale_put_the_differentiated_number_together_again(name):
    model, number = network(), []

    def step():
        loss = LOSSES[name](model(X))
        number.append(loss.item())
        loss.backward()

    ((scale, objective, names),) = looked_at(model, explained, step)
    assert names == ["cross_entropy"]
    assert scale * objective == pytest.approx(number[0], rel=1e-12)


def test_the_scale_makes_sums_and_loss_scales_means():
    for name, factor in (("mean", 1.0), ("sum", 6.0), ("accumulated", 0.25), ("in place", 8.0)):
        model = network()
        ((scale, objective, _),) = looked_at(model, explained, lambda m=model, n=name: LOSSES[n](m(X)).backward())
        assert scale == pytest.approx(factor)
        assert objective == pytest.approx(F.cross_entropy(model(X), Y).item())


def test_losses_that_do_not_take_part_are_left_out():
    model = network()

    def step():
        out = model(X)
        F.mse_loss(out, out.detach() + 1)
        F.cross_entropy(out, Y).backward()

    ((_, _, names),) = looked_at(model, explained, step)
    assert names == ["cross_entropy"]


def test_an_unknown_loss_has_its_objective_all_the_same():
    model = network()

    def gradient(graph):
        (found,) = graph.differentiate([model[0].weight])
        return graph.losses, graph.scale, found

    ((losses, scale, found),) = looked_at(model, gradient, lambda: model(X).square().mean().backward())
    assert (losses, scale) == ([], 1.0)
    torch.testing.assert_close(found, model[0].weight.grad)


def test_a_gradient_can_be_differentiated_again():
    model, vector = network(), torch.randn(4, 5, dtype=torch.float64)

    def product(graph):
        (gradient,) = graph.differentiate([model[0].weight], create_graph=True)
        return graph.pull([gradient], [vector], [model[0].weight])[0]

    (found,) = looked_at(model, product, lambda: LOSSES["mean"](model(X)).backward())

    def objective(weight):
        return F.cross_entropy(torch.func.functional_call(model, {"0.weight": weight}, (X,)), Y)

    hessian = torch.autograd.functional.hessian(objective, model[0].weight.detach())
    torch.testing.assert_close(found, torch.einsum("abcd,cd->ab", hessian, vector))


def test_vectors_are_pulled_back_to_every_layers_output():
    model, vector = network(), torch.randn(6, 3, dtype=torch.float64)

    def pulled(graph):
        logits = graph.losses[0].arguments["input"]
        reached, (product,) = graph.to_outputs([logits], [vector], [model[0].bias])
        return {call.name: delta for call, delta in reached}, product

    ((deltas, product),) = looked_at(model, pulled, lambda: LOSSES["mean"](model(X)).backward())
    torch.testing.assert_close(deltas["2"], vector)
    torch.testing.assert_close(deltas["0"].sum(0), product)


def test_what_has_no_second_derivative_says_so():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient):
            return gradient * 2

    model = network()

    def product(graph):
        with pytest.raises(Unavailable, match="marked as differentiable once"):
            graph.differentiate([model[0].weight], create_graph=True)
        return True

    assert looked_at(model, product, lambda: F.cross_entropy(Once.apply(model(X)), Y).backward()) == [True]


class Norm(Collector):
    def __init__(self, surroundings):
        self.table, self.norms = surroundings.table, []

    def before_backward(self, graph):
        tensors = [p.tensor for p in self.table]
        gradients = graph.differentiate(tensors, create_graph=True)
        products = graph.pull(gradients, [torch.ones_like(t) for t in tensors], tensors)
        self.norms.append(sum(float(p.norm()) for p in products))

    def result(self):
        return self.norms


@dataclass(frozen=True)
class Norms(Probe):
    second_order: ClassVar[bool] = True

    def collector(self, surroundings):
        return Norm(surroundings)


class Curved(Instrument):
    name = "curved"
    needs = (Norms,)

    def compute(self, steps):
        return float(len(steps[0][Norms]))


@pytest.mark.filterwarnings("error")
def test_dropout_checkpoints_and_batch_norm_go_on_as_if_nothing_had_been_differentiated(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(inplace=True))
            self.second = nn.Linear(8, 3)

        def forward(self, x):
            return self.second(torch.utils.checkpoint.checkpoint(self.first, x, use_reentrant=False))

    def train(instruments):
        torch.manual_seed(3)
        model = Net().double()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        with Cockpit(
            model, optimizer, instruments=instruments, track=1, run=tmp_path / "run", enabled=bool(instruments)
        ) as cockpit:
            for _ in range(4):
                with cockpit.step():
                    optimizer.zero_grad()
                    for x, y in ((X[:3], Y[:3]), (X[3:], Y[3:])):
                        (F.cross_entropy(model(x), y) / 2).backward()
                    optimizer.step()
        return model.state_dict()

    watched, alone = train(Curved()), train("")
    assert all(torch.equal(watched[name], alone[name]) for name in alone)


def test_the_graph_is_let_go_of_after_the_step(tmp_path):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Cockpit(model, optimizer, instruments=Curved(), track=1, run=tmp_path / "run") as cockpit:
        with cockpit.step():
            hidden = model[1](model[0](X))
            reference = weakref.ref(hidden)
            F.cross_entropy(model[2](hidden), Y).backward()
            F.cross_entropy(model[2](hidden), Y)
            del hidden
            optimizer.step()
        gc.collect()
        assert reference() is None
