"""Compiled models: one graph for the steps that are left alone, and the readings of the model as it was written."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cockpit import Cockpit, load_run


class Counting:
    """A compiler that changes nothing, and counts what it is given."""

    def __init__(self):
        self.graphs = self.calls = 0

    def __call__(self, graph, inputs):
        self.graphs += 1

        def run(*arguments):
            self.calls += 1
            return graph(*arguments)

        return run


@pytest.fixture(autouse=True)
def _nothing_is_compiled_before_or_after():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))

    def forward(self, x):
        return self.layers(x)


def train(path, compiler, *, steps=9, before=0, in_place=False):
    """Trains with every fourth step tracked, some steps ahead of the cockpit; the parameters it ends with."""
    torch.manual_seed(0)
    written = Network().double()
    model = written
    if compiler is not None and in_place:
        written.compile(backend=compiler)
    elif compiler is not None:
        model = torch.compile(written, backend=compiler)
    optimizer = torch.optim.SGD(written.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(1)

    def step():
        x, y = torch.randn(8, 4, generator=generator).double(), torch.randint(3, (8,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    for _ in range(before):
        step()
    with Cockpit(model, optimizer, run=path, track=4, instruments="economy+hess_max_ev") as cockpit:
        for _ in range(steps):
            with cockpit.step():
                step()
    return [p.detach().clone() for p in written.parameters()]


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("in_place", [False, True], ids=["torch.compile", "module.compile"])
def test_one_graph_is_compiled_and_runs_in_all_steps_that_are_left_alone(tmp_path, before, in_place):
    counting = Counting()
    train(tmp_path / "run", counting, before=before, in_place=in_place)
    assert counting.graphs == 1
    tracked = 3 + 2  # steps 0, 4 and 8, and those that end Alpha's windows
    assert counting.calls == before + 9 - tracked


def test_a_compiled_model_is_read_as_it_was_written(tmp_path):
    plain, compiled = train(tmp_path / "plain", None), train(tmp_path / "compiled", Counting())
    for mine, theirs in zip(compiled, plain, strict=True):
        assert torch.equal(mine, theirs)
    runs = [load_run(tmp_path / name) for name in ("plain", "compiled")]
    for key in ("loss", "norm_test", "alpha", "grad_hist_1d", "hess_max_ev", "activation"):
        found = [run[key] for run in runs]
        assert not found[1].missing.all(), key
        np.testing.assert_array_equal(found[1].values, found[0].values)


def test_what_was_said_of_compiling_holds_again_after_the_step(tmp_path):
    with torch.compiler.set_stance("fail_on_recompile"):
        model = torch.compile(nn.Linear(4, 3), backend=Counting())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with Cockpit(model, optimizer, run=tmp_path / "run", track=1) as cockpit:
            with cockpit.step():
                F.cross_entropy(model(torch.randn(8, 4)), torch.zeros(8).long()).backward()
                optimizer.step()
            with pytest.raises(RuntimeError, match="fail_on_recompile"):
                model(torch.randn(8, 4))
