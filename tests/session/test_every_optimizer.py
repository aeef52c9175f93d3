"""All instruments work with every optimizer that PyTorch ships, with those of other packages, and with learned ones."""

import dataclasses
import inspect
import itertools

import numpy as np
import pytest
import pytorch_optimizer
import schedulefree
import torch
import torch.nn.functional as F
from harness import reasons
from torch import nn

from cockpit import Cockpit, load_run
from cockpit.instrument import registered
from cockpit.optim.learned import (
    L2OLSTM,
    LURE,
    ML3,
    MPT_LURE,
    Hierarchical,
    LearnedAdam,
    LearnedOptimizer,
    MetaSGD,
    Weights,
)

STEPS = 3
SHIPPED = [c for c in vars(torch.optim).values() if inspect.isclass(c) and issubclass(c, torch.optim.Optimizer)]
OTHERS = [
    *(schedulefree.SGDScheduleFree, schedulefree.AdamWScheduleFree, schedulefree.RAdamScheduleFree),
    *(pytorch_optimizer.Lion, pytorch_optimizer.AdaHessian, pytorch_optimizer.SophiaH),
]
LEARNED = [LURE, MPT_LURE, MetaSGD, ML3, L2OLSTM, Hierarchical, LearnedAdam]
EVERY = [c for c in [*SHIPPED, *OTHERS, *LEARNED] if c is not torch.optim.Optimizer]
SECOND_ORDER = (pytorch_optimizer.AdaHessian, pytorch_optimizer.SophiaH)
OF_TRIALS = ("tail_index_update", "update_covariance_max_ev")
INSTRUMENTS = list(registered())
UNTRIED = {
    torch.optim.LBFGS: "evaluates the loss itself",
    torch.optim.SparseAdam: "cannot be tried on copies of its parameters",
    pytorch_optimizer.AdaHessian: "cannot be tried on copies of its parameters",
    pytorch_optimizer.SophiaH: "cannot be tried on copies of its parameters",
}
"""Optimizers whose steps with a part of the mini-batch nobody can know, and why."""
OF_THE_STEP = (
    "alpha",
    "cabs",
    "clip",
    "distance",
    "learning_rate",
    "rescale_symmetry",
    "scale_symmetry",
    "translation_symmetry",
    *OF_TRIALS,
    "update_grad_cosine",
    "update_size",
    "update_weight_ratio",
    "hess_max_ev.stable",
)
OF_THE_CLOCK = ("time", "cockpit.overhead", "cockpit.cost", "cockpit.interval")


class Words(nn.Module):
    """The mean of word vectors."""

    def __init__(self, sparse):
        super().__init__()
        self.table = nn.Embedding(8, 3, sparse=sparse)

    def forward(self, x):
        return self.table(x.argsort(1)[:, :2]).mean(1)


def unlearned(kind, model):
    """Weights of a learned optimizer's rule, for a network, as they are before anything is learned."""
    tied = {"shapes": tuple((name, tuple(p.shape)) for name, p in model.named_parameters()), "gain": 0.5}
    known = {field.name for field in dataclasses.fields(kind.rule_type)}
    rule = kind.rule_type(**{name: value for name, value in tied.items() if name in known})
    return Weights(rule, rule.meta_parameters(torch.Generator().manual_seed(0)))


def layered(*between):
    """Without biases, for which Muon has no rule."""
    return nn.Sequential(nn.Linear(8, 6, bias=False), *between, nn.LeakyReLU(), nn.Linear(6, 3, bias=False))


NETWORKS = {
    "layered": lambda kind: layered(),
    "normalised": lambda kind: layered(nn.BatchNorm1d(6, affine=False)),
    "words": lambda kind: Words(sparse=kind is torch.optim.SparseAdam),
}


def make(kind, network):
    """A network and its optimizer."""
    torch.manual_seed(0)
    model = NETWORKS[network](kind)
    learned = {"weights": unlearned(kind, model)} if issubclass(kind, LearnedOptimizer) else {}
    if kind is LearnedAdam:
        learned = {"total_steps": STEPS}
    optimizer = kind(model.parameters(), **learned, lr=0.05)
    if hasattr(optimizer, "train"):  # as those without a schedule ask for
        optimizer.train()
    return model, optimizer


def train(kind, path, network, instruments=INSTRUMENTS):
    """Trains, watched if there is a path; the parameters before and after each step."""
    model, optimizer = make(kind, network)
    generator = torch.Generator().manual_seed(1)
    seen = [[p.detach().clone() for p in model.parameters()]]
    with Cockpit(model, optimizer, run=path, track=1, instruments=instruments, enabled=path is not None) as cockpit:
        for _ in range(STEPS):
            x, y = torch.randn(12, 8, generator=generator), torch.randint(3, (12,), generator=generator)

            def evaluate():
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)  # noqa: B023
                loss.backward(create_graph=kind in SECOND_ORDER)
                return loss

            with cockpit.step():
                if kind is torch.optim.LBFGS:
                    optimizer.step(evaluate)
                else:
                    loss = evaluate()
                    if isinstance(optimizer, LearnedOptimizer):
                        optimizer.tell(loss=loss, valid_loss=loss)
                    optimizer.step()
            if kind in SECOND_ORDER:
                optimizer.zero_grad()  # the gradients hold the graph that holds them
            seen.append([p.detach().clone() for p in model.parameters()])
    return seen


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Runs under SGD, one for each network."""
    folder = tmp_path_factory.mktemp("plain")
    for network in ("layered", "words"):
        train(torch.optim.SGD, folder / network, network)
    return {network: load_run(folder / network) for network in ("layered", "words")}


def is_missing_for(kind, key):
    """What has no value under an optimizer, with a reason that is told."""
    if kind is torch.optim.SparseAdam:
        return key.startswith("hess_max_ev")  # sparse gradients cannot be differentiated
    return kind is torch.optim.LBFGS and key.startswith("clip")


def median_cosine(before, after, *, out):
    """Of the update and a unit's weights, over the units, without its sign; those out of it count too, against those
    into it, where they take part."""
    found = []
    for j in range(6):
        weights, update = (
            torch.cat([first[j], second[:, j]] if out else [first[j]]).double()
            for first, second in (before, [p - q for p, q in zip(before, after, strict=True)])
        )
        lengths = float(update.norm() * weights.norm())
        weights[8:] *= -1
        found.append(abs(float(update @ weights)) / lengths)
    return float(np.median(found))


def said_of_trials(run, kind):
    """What is missing of what comes of trial steps is missing for a reason."""
    tails, covariance = (run[key].missing for key in OF_TRIALS)
    if kind in UNTRIED:
        assert covariance[0]
        assert UNTRIED[kind] in reasons(run)["update_covariance_max_ev"]
    else:
        assert not covariance.any()
        assert not tails.any() or "no tail" in (why := reasons(run)["tail_index_update"]) or "do not differ" in why


@pytest.mark.filterwarnings(
    "ignore:Using backward.. with create_graph",
    "ignore:.*no reading of (tail_index_update|update_covariance_max_ev)",
    "ignore:.*no reading of tail_index_grad. .*sparse",
    "ignore:.*no reading of (rescale|scale|translation)_symmetry. .*(no unit|no layer)",
    "ignore:.*no reading of clip. the optimizer evaluates the loss itself",
    "ignore:.*no reading of hess_max_ev. .* an embedding has sparse=True",
)
@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_all_instruments_work_and_training_stays_the_same(kind, plain, tmp_path):
    network = "words" if kind is torch.optim.SparseAdam else "layered"
    watched, alone = train(kind, tmp_path / "run", network), train(kind, None, network)
    assert all(torch.equal(p, q) for a, b in zip(watched, alone, strict=True) for p, q in zip(a, b, strict=True))
    run, reference = load_run(tmp_path / "run"), plain[network]
    of_the_gradient = [key for key in reference.keys() if not key.startswith((*OF_THE_STEP, *OF_THE_CLOCK))]  # noqa: SIM118
    for key in of_the_gradient:
        if is_missing_for(kind, key):
            assert key not in run or run[key].missing.all()
        elif reference[key].values.size:
            ours, theirs = run[key].values[0], reference[key].values[0]
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6, err_msg=key)
    said_of_trials(run, kind)
    for step, (before, after) in enumerate(itertools.pairwise(alone)):
        sizes = [float((q - p).norm()) for p, q in zip(before, after, strict=True)]
        assert run["update_size"].layers.values[step] == pytest.approx(sizes, rel=1e-4)
        if network == "layered" and max(sizes) > 0:
            cosine = median_cosine(before, after, out=True)
            assert run["rescale_symmetry"].values[step] == pytest.approx(cosine, rel=1e-3, abs=1e-6)
        if step < STEPS - 1 and max(sizes) > 0:  # the first steps of RAdamScheduleFree go nowhere
            assert not any(run[key].missing[step] for key in ("alpha", "update_grad_cosine", "update_weight_ratio"))


@pytest.mark.filterwarnings(
    "ignore:Using backward.. with create_graph",
    "ignore:.*no reading of scale_symmetry. the parameters did not move",
)
@pytest.mark.parametrize("kind", [c for c in EVERY if c is not torch.optim.SparseAdam], ids=lambda kind: kind.__name__)
def test_what_the_update_has_along_normalised_weights_is_read_and_training_stays_the_same(kind, tmp_path):
    watched = train(kind, tmp_path / "run", "normalised", ["scale_symmetry"])
    alone = train(kind, None, "normalised")
    assert all(torch.equal(p, q) for a, b in zip(watched, alone, strict=True) for p, q in zip(a, b, strict=True))
    logged = load_run(tmp_path / "run")["scale_symmetry"]
    for step, (before, after) in enumerate(itertools.pairwise(alone)):
        if torch.equal(before[0], after[0]):  # the first steps of RAdamScheduleFree go nowhere
            assert logged.missing[step]
        else:
            cosine = median_cosine(before, after, out=False)
            assert logged.values[step] == pytest.approx(cosine, rel=1e-3, abs=1e-6)
