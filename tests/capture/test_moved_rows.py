"""Rows that data move between samples: read right, or not read at all, whatever the step before was like."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from capturing import agree, captured
from classifier import C, truth_of
from torch import Tensor, nn

from cockpit.capture.batch_axis import BatchAxis, Finding
from cockpit.capture.graph.moved_rows import RowMoves
from cockpit.capture.graph.nodes import Graph
from cockpit.capture.samples.apart import reached_by_strangers
from cockpit.capture.samples.layout import Layouts
from cockpit.capture.samples.single_samples import Arrived


class Words(nn.Module):
    """Every word's scores, mixed within its sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.mix, self.head = nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, C)

    def forward(self, ids: Tensor) -> Tensor:
        h = self.words(ids)
        return self.head((self.mix(h) + h.mean(1, keepdim=True)).tanh())


def mask_of(counts: tuple[int, ...], T: int) -> Tensor:
    return torch.stack([torch.randperm(T) < count for count in counts])


def by_sample(model: nn.Module, ids: Tensor, mask: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Individual gradients one by one, float64, each of the mean over the sample's own words."""
    owner = mask.nonzero()[:, 0]
    losses = F.cross_entropy(model(ids)[mask], y, reduction="none")
    rows = [
        torch.autograd.grad(losses[owner == n].mean(), list(model.parameters()), retain_graph=True)
        for n in range(len(ids))
    ]
    return {
        name: torch.stack(g) for (name, _), g in zip(model.named_parameters(), zip(*rows, strict=True), strict=True)
    }


@pytest.mark.parametrize(
    ("counts", "readable"),
    [
        ([(2, 2, 2, 2), (1, 3, 2, 2), (2, 2, 2, 2)], [True, False, True]),
        ([(1, 3, 2, 2), (3, 1, 1, 3)], [False, False]),
        ([(3, 3), (2, 4), (3, 3), (1, 5)], [True, False, True, False]),
        ([(2, 4), (3, 3)], [False, True]),
        ([(1, 1, 1, 1), (1, 2, 0, 1)], [True, False]),
    ],
)
def test_masked_words_are_read_where_each_sequence_has_as_many(
    counts: list[tuple[int, ...]], readable: list[bool]
) -> None:
    model, layouts = Words().double(), Layouts()
    for number, (count, expected) in enumerate(zip(counts, readable, strict=True)):
        ids, mask = torch.randint(7, (len(count), 6)), mask_of(count, 6)
        y = torch.randint(C, (sum(count),))
        told = captured(
            model, lambda _, i=ids, m=mask, y=y: F.cross_entropy(model(i)[m], y).backward(), layouts=layouts
        )
        assert bool(told.gradients) == expected, number
        if expected:
            truth = by_sample(model, ids, mask, y)
            for name, rows in told.gradients.items():
                torch.testing.assert_close(rows, truth[name])
        else:
            assert "IndexBackward0" in str(told.problem)
            assert "step.losses" in str(told.problem)


class Reordered(nn.Module):
    """The batch in another order between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, C)

    def forward(self, x: Tensor, order: Tensor) -> Tensor:
        h = self.b(self.a(x).tanh()[order]).tanh()
        return self.c(h[order.argsort()])


def test_batch_reordered_inside_the_model_is_not_read_in_the_old_order() -> None:
    model, layouts, N = Reordered().double(), Layouts(), 6
    for order in (torch.arange(N), torch.tensor([1, 2, 3, 4, 5, 0]), torch.arange(N), torch.tensor([0, 1, 2, 3, 5, 4])):
        x, y = torch.randn(N, 3).double(), torch.randint(C, (N,))
        told = captured(model, lambda _, x=x, y=y, o=order: F.cross_entropy(model(x, o), y).backward(), layouts=layouts)
        if torch.equal(order, torch.arange(N)):
            whole = captured(model, lambda _, x=x, y=y, o=order: F.cross_entropy(model(x, o), y).backward())
            assert told.gradients.keys() == whole.gradients.keys() == dict(model.named_parameters()).keys()
            for name, rows in told.gradients.items():
                torch.testing.assert_close(rows.mean(0), whole.gradients[name].mean(0))
        else:
            assert told.gradients == {}


def test_losses_of_the_users_own_stay_readable_where_rows_are_in_their_places() -> None:
    model, N = Reordered().double(), 6
    x, y, order = torch.randn(N, 3).double(), torch.randint(C, (N,)), torch.tensor([2, 0, 1, 5, 3, 4])

    def step(capture: object) -> None:
        losses = F.cross_entropy(model(x, order), y, reduction="none")
        capture.register(losses).backward()

    told = captured(model, step)
    losses = F.cross_entropy(model(x, order), y, reduction="none")
    for name in ("a.weight", "a.bias", "c.weight", "c.bias"):
        parameter = model.get_parameter(name)
        rows = [torch.autograd.grad(loss, parameter, retain_graph=True)[0] for loss in losses]
        torch.testing.assert_close(told.gradients[name], torch.stack(rows))


def moves_behind(loss: Tensor) -> RowMoves:
    return RowMoves.of(Graph(loss.grad_fn))


def test_last_word_of_each_sample_needs_no_second_look() -> None:
    h = torch.randn(4, 5, 3, requires_grad=True).tanh()
    moves = [moves_behind(h[torch.arange(4), last].sum()) for last in torch.randint(5, (2, 4))]
    assert moves[0].key is not None
    assert moves[0] == moves[1]
    assert not moves[0].by_data


def test_other_rows_are_noticed_and_the_same_rows_are_too() -> None:
    h = torch.randn(4, 5, requires_grad=True).tanh()
    picks = [torch.tensor([0, 1, 1, 3]), torch.tensor([0, 1, 1, 3]), torch.tensor([0, 1, 2, 2])]
    keys = [moves_behind(h[pick].sum()).key for pick in picks]
    assert keys[0] == keys[1] != keys[2]
    cuts = [moves_behind(torch.cat([h[0, :k], h[1, k:]]).sum()).key for k in (2, 2, 3)]
    assert cuts[0] == cuts[1] != cuts[2]


def test_loss_that_no_operation_made_moves_no_rows() -> None:
    assert not RowMoves.of(None).any


def test_table_of_weights_and_scores_of_the_true_class_move_no_rows() -> None:
    table = nn.Parameter(torch.randn(9, 3))
    assert not moves_behind(table[torch.tensor([3, 1, 1])].sum()).any
    scores = torch.randn(4, C, requires_grad=True).log_softmax(1)
    assert not moves_behind(scores.gather(1, torch.randint(C, (4, 1))).sum()).any


@pytest.mark.parametrize("samples", [2, 3, 16, 17, 40])
def test_any_pair_that_changes_places_is_found_in_few_passes(samples: int) -> None:
    passes = 0
    for first, second in ((0, 0), (0, 1), (0, samples - 1), (samples // 2 - 1, samples // 2)):
        order = torch.arange(samples)
        order[[first, second]] = order[[second, first]]
        passes, rows = 0, torch.randn(samples, 3)

        def take(*, factors: Tensor, order: Tensor = order, rows: Tensor = rows) -> Arrived:
            nonlocal passes
            passes += 1
            return Arrived([factors[:, None].float() * rows, factors[order][:, None].float() * rows], {}, None)

        findings = {place: Finding(BatchAxis(0), reached=True) for place in (0, 1)}
        assert reached_by_strangers(take, samples, findings) == ({1} if first != second else set())
        if first == second:
            assert passes == 1 + math.ceil(math.log(samples, 16))


class Copies(nn.Module):
    """Several copies of the batch, each with noise of its own."""

    def __init__(self, noise: Tensor, copies: int, in_blocks: bool, first: bool) -> None:
        super().__init__()
        self.noise, self.copies, self.in_blocks, self.first = noise, copies, in_blocks, first
        self.a, self.c = nn.Linear(3, 3), nn.Linear(3, C)

    def forward(self, x: Tensor) -> Tensor:
        x = x.repeat_interleave(self.copies, 0) if self.in_blocks else x.repeat(self.copies, 1)
        if self.first:
            return self.c(self.a(x + self.noise).tanh())
        return self.c((self.a(x) + self.noise).tanh())


@pytest.mark.parametrize("in_blocks", [True, False])
@pytest.mark.parametrize("copies", [2, 4])
def test_copies_of_the_batch_made_inside_the_model_belong_to_their_samples(in_blocks: bool, copies: int) -> None:
    N = 8
    x, y = torch.randn(N, 3).double(), torch.randint(C, (N,))
    labels = y.repeat_interleave(copies) if in_blocks else y.repeat(copies)
    model = Copies(torch.randn(N * copies, 3).double(), copies, in_blocks, first=False).double()
    told = captured(model, lambda _: F.cross_entropy(model(x), labels).backward())
    losses = F.cross_entropy(model(x), labels, reduction="none")
    own = (losses.view(N, -1) if in_blocks else losses.view(-1, N).T).mean(1)
    for name, parameter in model.named_parameters():
        rows = [torch.autograd.grad(loss, parameter, retain_graph=True)[0] for loss in own]
        torch.testing.assert_close(told.gradients[name], torch.stack(rows))


def test_copies_whose_order_nothing_shows_are_withheld() -> None:
    N, copies = 8, 2
    x, y = torch.randn(N, 3).double(), torch.randint(C, (N,)).repeat(copies)
    model = Copies(torch.randn(N * copies, 3).double(), copies, in_blocks=False, first=True).double()
    told = captured(model, lambda _: F.cross_entropy(model(x), y).backward())
    assert told.gradients == {}
    assert "batch size" in str(told.problem)


@pytest.mark.parametrize("features", [3, 6])
@pytest.mark.parametrize("hidden", [None, 8])
def test_features_are_not_taken_for_the_batch_where_a_part_of_it_has_a_loss(features: int, hidden: int | None) -> None:
    inner = [] if hidden is None else [nn.Linear(features, hidden), nn.Tanh()]
    model = nn.Sequential(*inner, nn.Linear(hidden or features, features)).double()
    x, y = torch.randn(32, features).double(), torch.randn(20, features).double()
    told = captured(model, lambda _: F.mse_loss(model(x)[:20], y).backward())
    assert told.gradients == {}
    assert "batch size" in str(told.problem)


def test_features_are_not_taken_for_the_batch_between_two_views() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    x = torch.randn(12, 3).double()
    told = captured(model, lambda _: F.mse_loss(*model(x).chunk(2)).backward())
    assert told.gradients == {}


def test_ordinary_network_is_still_measured_once() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, C)).double()
    layouts, walks = Layouts(), []
    for _ in range(3):
        x, y = torch.randn(6, 3).double(), torch.randint(C, (6,))

        def step(_: object, x: Tensor = x, y: Tensor = y) -> None:
            out = model(x)
            walks.append(0)
            out.register_hook(lambda _: walks.__setitem__(-1, walks[-1] + 1))
            F.cross_entropy(out, y).backward()

        truth = truth_of(model, x, y)
        agree(captured(model, step, layouts=layouts), truth)
    assert walks[1:] == [1, 1]
