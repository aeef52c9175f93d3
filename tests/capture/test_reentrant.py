"""Layers inside and before checkpoints with ``use_reentrant=True``: a backward pass runs inside the backward pass."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from capturing import agree, captured
from harness import by_layer, holds, logged, one_step, reasons, record_steps
from reference import by_copies, one_at_a_time, token_losses
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cockpit.capture.backward.assemble import TWICE
from cockpit.capture.capture import Capture
from cockpit.capture.samples.layout import Layouts

N, T, E, C = 5, 4, 6, 7

Y = torch.arange(N) % C
again = functools.partial(checkpoint, use_reentrant=True)
plain = lambda function, *args: function(*args)  # noqa: E731


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(N, E).double()


class Net(nn.Module):
    """Layers before, inside, between and after checkpoints; ``run`` says what a checkpoint is."""

    def __init__(self, middle: Callable[[], nn.Module] = nn.Identity) -> None:
        super().__init__()
        self.run: Callable[..., Tensor] = again
        self.first, self.between, self.last = nn.Linear(E, E), nn.Linear(E, E), nn.Linear(E, C)
        self.one = nn.Sequential(nn.Linear(E, E), middle(), nn.Tanh(), nn.Linear(E, E))
        self.two = nn.Sequential(nn.Linear(E, E), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).tanh()
        h = h + self.run(self.one, h)
        return self.last(self.run(self.two, self.between(h).tanh()))


def losses(m: nn.Module, x: Tensor, y: Tensor = Y) -> Tensor:
    """Individual losses without checkpoints."""
    m.run = plain
    logits = m(x)
    return token_losses(logits.view(N, -1, logits.shape[-1]), y.view(N, -1))[0]


def read(model: nn.Module, x: Tensor, y: Tensor = Y, **options):
    def step(_: Capture) -> None:
        F.cross_entropy(model(x).flatten(0, -2), y.flatten()).backward()

    return captured(model, step, **options)


def test_layers_before_inside_between_and_after_checkpoints_are_exact(x: Tensor) -> None:
    model = Net().double()
    told = read(model, x)
    agree(told, one_at_a_time(model, lambda m: losses(m, x)))
    assert set(told.gradients) == {name for name, _ in model.named_parameters()}


def test_batch_normalisation_inside_a_checkpoint_couples_samples(x: Tensor) -> None:
    model = Net(lambda: nn.BatchNorm1d(E)).double()
    told = read(model, x)
    agree(told, by_copies(model, lambda m: losses(m, x), N))
    assert told.coupled


def test_dropout_inside_a_checkpoint_is_the_one_of_the_forward_pass(x: Tensor) -> None:
    model = Net(lambda: nn.Dropout(0.5)).double()
    state = torch.get_rng_state()
    told = read(model, x)

    def dropped(m: nn.Module) -> Tensor:
        torch.set_rng_state(state)
        return losses(m, x)

    agree(told, one_at_a_time(model, dropped))


inner_checkpoint_warns = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
"""That there are gradients after all PyTorch finds out when it computes the outer checkpoint again."""


class Nested(nn.Module):
    """A checkpoint in a checkpoint, and a layer that several of them share with each other and with the outside."""

    def __init__(self) -> None:
        super().__init__()
        self.run: Callable[..., Tensor] = again
        self.shared, self.inner, self.outer, self.head = (nn.Linear(E, E) for _ in range(4))

    def within(self, x: Tensor) -> Tensor:
        return self.shared(self.inner(x).tanh())

    def around(self, x: Tensor) -> Tensor:
        return self.run(self.within, self.outer(x).tanh()) + self.shared(x)

    def forward(self, x: Tensor) -> Tensor:
        h = self.shared(x).tanh()
        return self.head(self.run(self.around, h) + self.run(self.within, h.square()))


@inner_checkpoint_warns
def test_nested_checkpoints_and_layers_that_they_share_are_exact(x: Tensor) -> None:
    model = Nested().double()
    told = read(model, x)
    agree(told, one_at_a_time(model, lambda m: losses(m, x)))
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(told.arrived[name], parameter.grad)
    assert len(told.passes) == 1


class Block(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm, self.norm2, self.dropout = nn.LayerNorm(E), nn.LayerNorm(E), dropout
        self.qkv, self.out = nn.Linear(E, 3 * E), nn.Linear(E, E)
        self.mlp = nn.Sequential(nn.Linear(E, 2 * E), nn.GELU(), nn.Linear(2 * E, E), nn.Dropout(dropout))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        scores = (q @ k.transpose(-1, -2)).masked_fill(mask, -torch.inf)
        x = x + F.dropout(self.out(scores.softmax(-1) @ v), self.dropout)
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """Tied embeddings, learned positions, checkpointed blocks."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.run: Callable[..., Tensor] = again
        self.words, self.positions = nn.Embedding(C, E), nn.Embedding(T, E)
        self.blocks = nn.ModuleList(Block(dropout) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(E), nn.Linear(E, C, bias=False)
        self.head.weight = self.words.weight

    def forward(self, tokens: Tensor) -> Tensor:
        mask = torch.ones(T, T).triu(1).bool()
        x = self.words(tokens) + self.positions(torch.arange(T))
        for block in self.blocks:
            x = self.run(block, x, mask)
        return self.head(self.norm(x))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_transformer_blocks_are_exact(dropout: float) -> None:
    model, tokens = GPT(dropout).double(), torch.randint(C, (N, T))
    state = torch.get_rng_state()
    told = read(model, tokens, tokens.roll(1, 1))

    def again_(m: nn.Module) -> Tensor:
        torch.set_rng_state(state)
        return losses(m, tokens, tokens.roll(1, 1))

    agree(told, one_at_a_time(model, again_))


def test_a_whole_model_in_a_checkpoint_is_exact(x: Tensor) -> None:
    model = Net().double()
    model.run = plain

    def step(_: Capture) -> None:
        F.cross_entropy(checkpoint(model, x.clone().requires_grad_(), use_reentrant=True), Y).backward()

    agree(captured(model, step), one_at_a_time(model, lambda m: losses(m, x)))


class Mixing(nn.Module):
    """Positions see each other, samples do not; the sequence comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.run: Callable[..., Tensor] = again
        self.lift, self.query, self.head = nn.Linear(E, E), nn.Linear(E, E), nn.Linear(E, C)

    def mixed(self, h: Tensor) -> Tensor:
        scores = torch.einsum("sne,tne->nst", self.query(h), h).softmax(2)
        return torch.einsum("nst,tne->sne", scores, h)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.run(self.mixed, self.lift(x)))


def test_layers_in_a_checkpoint_tell_that_the_sequence_comes_first() -> None:
    """The head treats positions alike, so that it would take them for samples; here there are fewer of these."""
    model, x, y = Mixing().double(), torch.randn(T, N, E).double(), torch.randint(C, (T, N))
    told = read(model, x, y)

    def apart(m: nn.Module) -> Tensor:
        m.run = plain
        return token_losses(m(x).transpose(0, 1), y.T)[0]

    agree(told, one_at_a_time(model, apart))


def test_micro_batches_under_a_loss_scale_are_exact(x: Tensor, tmp_path: Path) -> None:
    model = Net().double()

    def step() -> None:
        for part, labels in zip(x.chunk(5), Y.chunk(5), strict=True):
            (F.cross_entropy(model(part), labels) / 5 * 1024).backward()

    run = one_step(tmp_path, model, step)
    holds(run, 0, one_at_a_time(model, lambda m: losses(m, x)), keys=["loss", "norm_test", "grad_hist_1d"])


@pytest.mark.parametrize("apart", [True, False], ids=["two passes", "one pass"])
def test_two_losses_through_the_same_layers_are_exact(apart: bool, x: Tensor) -> None:
    model, target = Net().double(), torch.randn(N, C).double()

    def step(_: Capture) -> None:
        both = F.cross_entropy(model(x), Y), F.mse_loss(model(x.flip(1)), target)
        for loss in both if apart else (sum(both),):
            loss.backward()

    def squares(m: nn.Module) -> Tensor:
        m.run = plain
        return (m(x.flip(1)) - target).square().mean(1)

    told = captured(model, step)  # of two passes the latter is told
    truth = one_at_a_time(model, squares if apart else lambda m: losses(m, x) + squares(m))
    agree(told, truth)


@inner_checkpoint_warns
@pytest.mark.parametrize(
    "instruments", ["grad_norm", "grad_norm+norm_test"], ids=["alone", "with individual gradients"]
)
def test_gradients_that_arrive_in_parts_are_put_together(instruments: str, x: Tensor, tmp_path: Path) -> None:
    model = Nested().double()
    run = one_step(tmp_path, model, lambda: F.cross_entropy(model(x), Y).backward(), instruments=instruments.split("+"))
    found = by_layer(run, "grad_norm", 0)
    assert found == pytest.approx({name: float(p.grad.norm()) for name, p in model.named_parameters()}, rel=1e-9)


def test_a_graph_that_is_walked_twice_is_withheld(x: Tensor) -> None:
    model = Net().double()

    def step(_: Capture) -> None:
        loss = F.cross_entropy(model(x), Y)
        loss.backward(retain_graph=True)
        loss.backward()

    assert captured(model, step).problem == TWICE


def test_what_cannot_be_computed_again_on_the_side_is_left_out_with_a_reason(x: Tensor) -> None:
    model, backward = Net().double(), False

    def only_in_backward(function: Callable[..., Tensor], h: Tensor) -> Tensor:
        def fussy(h: Tensor) -> Tensor:
            if torch.is_grad_enabled() and not backward:
                raise LookupError("not now")
            return function(h)

        return again(fussy, h)

    def step(_: Capture) -> None:
        nonlocal backward
        model.run = only_in_backward
        loss = F.cross_entropy(model(x), Y)
        backward = True
        loss.backward()

    told = captured(model, step)
    assert not told.failures
    after = {"last.weight", "last.bias"}
    assert set(told.left_out) == {name for name, _ in model.named_parameters()} - after
    for reason in told.left_out.values():
        assert "use_reentrant=True" in reason
        assert "LookupError: not now" in reason
    truth = one_at_a_time(model, lambda m: losses(m, x))
    for name in after:
        torch.testing.assert_close(told.gradients[name], truth.gradients[name])


def test_a_layer_that_is_called_in_another_way_is_left_out_until_the_next_step(x: Tensor) -> None:
    """Outside the checkpoints every shape is the same."""
    model, layouts = Net().double(), Layouts()
    agree(read(model, x, layouts=layouts), one_at_a_time(model, lambda m: losses(m, x)))
    model.run = lambda function, h: again(lambda h: function(h.unsqueeze(0)).squeeze(0), h)
    told = read(model, x, layouts=layouts)
    inside = {name for name, _ in model.named_parameters() if name.startswith(("one", "two"))}
    assert set(told.left_out) == inside
    assert all("use_reentrant=True" in reason for reason in told.left_out.values())
    agree(read(model, x, layouts=layouts), one_at_a_time(model, lambda m: losses(m, x)))


def test_a_layer_whose_samples_lie_now_here_now_there_is_left_out() -> None:
    """There are as many positions as samples, so that its calls look the same from outside."""
    model, x, y = Net().double(), torch.randn(N, N, E).double(), torch.randint(C, (N, N))
    model.run = lambda function, h: again(lambda h: function(h) + function(h.transpose(0, 1)).transpose(0, 1), h)
    told = read(model, x, y)
    assert "samples do not lie in the same places" in told.left_out["one.0.weight"]
    assert set(told.gradients) >= {"first.weight", "between.weight", "last.weight"}


def test_second_derivatives_are_missing_with_a_reason(x: Tensor, tmp_path: Path) -> None:
    """Of a model all of whose layers but the last are in a checkpoint autograd would silently give the last one's."""
    model, head = Net().double(), nn.Linear(C, C).double()
    whole = nn.ModuleList([model, head])
    model.run = plain

    def step() -> None:
        F.cross_entropy(head(again(model, x.clone().requires_grad_())), Y).backward()

    run = one_step(tmp_path, whole, step, instruments=["hess_trace", "hess_max_ev", "norm_test"])
    assert logged(run, "norm_test", 0) is not None
    for key in ("hess_trace", "hess_max_ev"):
        assert logged(run, key, 0) is None
        assert "use_reentrant=True" in reasons(run)[key]


@inner_checkpoint_warns
@pytest.mark.parametrize(
    "make", [Nested, functools.partial(Net, lambda: nn.BatchNorm1d(E)), functools.partial(GPT, 0.3)]
)
def test_training_is_the_same_to_the_last_bit(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    def train(watched: bool) -> list[Tensor]:
        torch.manual_seed(1)
        model, seen = make(), []
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for parameter in model.parameters():
            parameter.register_hook(lambda gradient: seen.append(gradient.clone()))

        def step(_: int) -> None:
            optimizer.zero_grad()
            words = isinstance(model, GPT)
            data = torch.randint(C, (N, T)) if words else torch.randn(N, E)
            labels = data.roll(1, 1).flatten() if words else Y
            F.cross_entropy(model(data).flatten(0, -2), labels).backward()
            optimizer.step()

        if watched:
            record_steps(tmp_path, model, optimizer, range(3), step, instruments="business")
        else:
            for i in range(3):
                step(i)
        return [*(t.clone() for t in model.state_dict().values()), *seen, torch.get_rng_state()]

    for mine, bare in zip(train(True), train(False), strict=True):
        assert torch.equal(mine, bare)
