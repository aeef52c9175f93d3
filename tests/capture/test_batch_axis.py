"""Where the samples are is measured, and a guess that would look right is not taken."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from capturing import agree, captured
from classifier import truth_of
from reference import one_at_a_time, token_losses
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from cockpit.capture.batch_axis import BatchAxis, find_batch_axis
from cockpit.capture.unavailable import Unavailable

C = 5


class Mixing(nn.Module):
    """A sequence model by hand: positions see each other, samples do not; sequence first if told so."""

    def __init__(self, sequence_first: bool, words: bool = False) -> None:
        super().__init__()
        self.sequence_first = sequence_first
        self.lift = nn.Embedding(C, 4) if words else nn.Linear(3, 4)
        self.query, self.head = nn.Linear(4, 4), nn.Linear(4, C)

    def forward(self, x: Tensor) -> Tensor:
        h = self.lift(x)
        scores = torch.einsum("sne,tne->nst" if self.sequence_first else "nse,nte->nst", self.query(h), h).softmax(2)
        mixed = torch.einsum("nst,tne->sne" if self.sequence_first else "nst,nte->nse", scores, h)
        return self.head(mixed.tanh())


def outputs_first(out: Tensor, sequence_first: bool) -> Tensor:
    return out.transpose(0, 1) if sequence_first else out


LENGTHS = [(3, 4), (4, 3), (4, 8), (8, 4), (4, 4), (6, 3), (3, 6)]


@pytest.mark.parametrize("how", ["flattened", "classes-second", "permuted"])
@pytest.mark.parametrize("words", [False, True], ids=["vectors", "words"])
@pytest.mark.parametrize("sequence_first", [False, True], ids=["batch-first", "sequence-first"])
@pytest.mark.parametrize(("N", "T"), LENGTHS)
def test_loss_of_every_position(N: int, T: int, sequence_first: bool, words: bool, how: str) -> None:
    torch.manual_seed(0)
    model = Mixing(sequence_first, words).double()
    shape = (T, N) if sequence_first else (N, T)
    x = torch.randint(C, shape) if words else torch.randn(*shape, 3).double()
    y = torch.randint(C, shape)

    def loss(_: object) -> None:
        out = model(x)
        if how == "flattened":
            F.cross_entropy(out.view(-1, C), y.view(-1)).backward()
        elif how == "classes-second":
            F.cross_entropy(out.permute(0, 2, 1), y).backward()
        else:  # the other axis first, and then flattened
            F.cross_entropy(out.transpose(0, 1).reshape(-1, C), y.T.reshape(-1)).backward()

    by_sample = y.T if sequence_first else y
    truth = one_at_a_time(model, lambda m: token_losses(outputs_first(m(x), sequence_first), by_sample)[0])
    agree(captured(model, loss), truth)


@pytest.mark.parametrize("sequence_first", [False, True], ids=["batch-first", "sequence-first"])
@pytest.mark.parametrize(("N", "T"), LENGTHS)
def test_one_loss_for_a_whole_sequence(N: int, T: int, sequence_first: bool) -> None:
    torch.manual_seed(1)
    model = Mixing(sequence_first).double()
    x = torch.randn(*((T, N) if sequence_first else (N, T)), 3).double()
    y = torch.randint(C, (N,))
    last = (lambda out: out[-1]) if sequence_first else (lambda out: out[:, -1])
    truth = one_at_a_time(model, lambda m: token_losses(last(m(x)).unsqueeze(1), y.unsqueeze(1))[0])
    agree(captured(model, lambda _: F.cross_entropy(last(model(x)), y).backward()), truth)


@pytest.mark.parametrize("sequence_first", [False, True], ids=["batch-first", "sequence-first"])
def test_two_losses_agree_on_the_batch(sequence_first: bool) -> None:
    torch.manual_seed(2)
    N, T = 4, 4
    model = Mixing(sequence_first).double()
    x, y = torch.randn(4, 4, 3).double(), torch.randint(C, (4, 4))

    def loss(_: object) -> None:
        out = model(x)
        (F.cross_entropy(out.view(-1, C), y.view(-1)) + F.mse_loss(out, torch.ones_like(out))).backward()

    def apart(m: nn.Module) -> Tensor:
        out = outputs_first(m(x), sequence_first)
        labels = y.T if sequence_first else y
        return token_losses(out, labels)[0] + (out - 1).square().mean((1, 2))

    assert N == T
    agree(captured(model, loss), one_at_a_time(model, apart))


def test_as_many_outputs_as_samples() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)).double()
    x, y = torch.randn(6, 6).double(), torch.randn(6, 6).double()
    truth = one_at_a_time(model, lambda m: (m(x) - y).square().mean(1))
    agree(captured(model, lambda _: F.mse_loss(model(x), y).backward()), truth)


def test_positions_and_classes_flattened_beside_as_many_outputs_as_samples() -> None:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4)).double()
    x, y = torch.randn(4, 3, 3).double(), torch.randn(12, 4).double()
    truth = one_at_a_time(model, lambda m: (m(x) - y.view(4, 3, 4)).square().mean((1, 2)))
    agree(captured(model, lambda _: F.mse_loss(model(x).view(12, 4), y).backward()), truth)


def test_batch_that_is_not_the_first_argument() -> None:
    torch.manual_seed(5)

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 1)

        def forward(self, mask: Tensor, *, x: Tensor) -> Tensor:
            return self.second((self.first(x) * mask[0]).tanh()).squeeze(1)

    model, mask = Masked().double(), torch.ones(2, 4).double()
    x, y = torch.randn(8, 3).double(), torch.randn(8).double()
    truth = one_at_a_time(model, lambda m: (m(mask, x=x) - y).square())
    agree(captured(model, lambda _: F.mse_loss(model(mask, x=x), y).backward()), truth)


def test_labelled_and_unlabelled_batches_of_different_size_are_not_paired_up() -> None:
    torch.manual_seed(6)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, C))
    x, more, y = torch.randn(8, 3), torch.randn(4, 3), torch.randint(C, (8,))

    def loss(_: object) -> None:
        labelled, unlabelled = model(x), model(more)
        (F.cross_entropy(labelled, y) + F.mse_loss(unlabelled, torch.zeros(4, C))).backward()

    told = captured(model, loss)
    assert told.gradients == {}
    assert "different batch sizes" in str(told.problem)


@pytest.mark.parametrize("counts", [(1, 3, 2, 2), (0, 4, 1, 3), (1, 0, 2, 1)], ids=str)
def test_masked_words_of_ragged_number_are_not_dealt_out_evenly(counts: tuple[int, ...]) -> None:
    """As many as twice, or once, the batch; the head sees them alone, and could not tell whose they are."""
    torch.manual_seed(6)

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = Mixing(sequence_first=False, words=True), nn.Linear(C, 40)

        def forward(self, words: Tensor, mask: Tensor) -> Tensor:
            return self.head(self.body(words)[mask])

    model = Masked()
    mask = torch.arange(5) < torch.tensor(counts).unsqueeze(1)
    words, y = torch.randint(C, (4, 5)), torch.randint(40, (sum(counts),))
    told = captured(model, lambda _: F.cross_entropy(model(words, mask), y).backward())
    assert told.gradients == {}
    assert "batch size" in str(told.problem)


def test_one_masked_word_of_each_sample() -> None:
    torch.manual_seed(6)
    model = Mixing(sequence_first=False, words=True).double()
    words, y, place = torch.randint(C, (4, 5)), torch.randint(C, (4,)), torch.tensor([0, 3, 2, 3])
    chosen = (torch.arange(4), place)
    truth = one_at_a_time(model, lambda m: token_losses(m(words)[chosen].unsqueeze(1), y.unsqueeze(1))[0])
    agree(captured(model, lambda _: F.cross_entropy(model(words)[chosen], y).backward()), truth)


@pytest.mark.parametrize("features", [3, 8])
def test_loss_in_chunks_of_the_batch_is_not_folded_together(features: int) -> None:
    """Four losses of eight samples each; eight may be the number of features too, and still is no batch size."""
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(features, 4), nn.Tanh(), nn.Linear(4, C))
    x, y = torch.randn(32, features), torch.randint(C, (32,))

    def loss(_: object) -> None:
        parts = zip(model(x).chunk(4), y.chunk(4), strict=True)
        (sum(F.cross_entropy(logits, labels) for logits, labels in parts) / 4).backward()

    told = captured(model, loss)
    assert told.gradients == {}
    assert "batch size" in str(told.problem)


def test_graphs_batched_as_nodes_are_not_paired_up() -> None:
    """Four graphs of four nodes: 16 nodes go in, 4 losses come out, and the nodes' 2 features are no batch of two."""
    torch.manual_seed(7)

    class Graphs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.node, self.graph = nn.Linear(2, 4), nn.Linear(4, C)

        def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
            h = self.node(nodes).tanh()
            h = h.index_add(0, edges[1], h[edges[0]])
            return self.graph(h.view(4, 4, 4).sum(1))

    model = Graphs()
    starts = torch.arange(0, 16, 4)
    edges = torch.stack([torch.cat([starts, starts]), torch.cat([starts + 1, starts + 2])])
    told = captured(model, lambda _: F.cross_entropy(model(torch.randn(16, 2), edges), torch.arange(4)).backward())
    assert told.gradients == {}
    assert "batch size" in str(told.problem)


class Positions(nn.Module):
    """Learned positions, looked up without a batch."""

    def __init__(self, T: int) -> None:
        super().__init__()
        self.words, self.places, self.head = nn.Embedding(7, 4), nn.Embedding(T, 4), nn.Linear(4, C)

    def forward(self, words: Tensor) -> Tensor:
        h = self.words(words) + self.places(torch.arange(words.shape[1]))
        return self.head((h + h.cumsum(1)).tanh())


@pytest.mark.parametrize("N", [2, 3, 4, 8])
@pytest.mark.parametrize("T", [2, 4, 8])
def test_tensor_without_a_batch_axis_is_read_where_it_meets_the_batch(N: int, T: int) -> None:
    for seed in range(10):
        torch.manual_seed(seed)
        model = Positions(T).double()
        words, y = torch.randint(7, (N, T)), torch.randint(C, (N, T))
        told = captured(
            model, lambda _, m=model, w=words, l=y: F.cross_entropy(m(w).view(-1, C), l.flatten()).backward()
        )
        agree(told, one_at_a_time(model, lambda m, w=words, l=y: token_losses(m(w), l)[0]))
        (places,) = (call for call in told.passes[0].walked if call.name == "places")
        assert places.axis is None
        assert "no axis along which" in str(places.problem)


def test_weights_that_are_computed_are_given_no_batch_axis() -> None:
    torch.manual_seed(8)
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    model = nn.Sequential(normed, nn.Tanh(), nn.Linear(4, C)).double()
    x, y = torch.randn(4, 4).double(), torch.randint(C, (4,))
    told = captured(model, lambda _: F.cross_entropy(model(x), y).backward())
    (computed,) = (call for call in told.passes[0].walked if "parametrizations" in call.name)
    assert computed.axis is None
    agree(told, truth_of(model, x, y))


@pytest.mark.parametrize("lengths", [(6, 6, 5, 3), (6, 5, 3, 2)])
def test_packed_data_are_not_taken_for_samples_that_reach_each_other(lengths: tuple[int, ...]) -> None:
    """Most of a sample lies in one block of the packed data; sums over blocks would add up to the gradient as well."""

    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift, self.head = nn.Linear(3, 4), nn.Linear(4, C)

        def forward(self, x: Tensor) -> Tensor:
            packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True)
            lifted = PackedSequence(self.lift(packed.data).tanh(), packed.batch_sizes)
            return self.head(pad_packed_sequence(lifted, batch_first=True)[0])

    torch.manual_seed(1)
    model, x, y = Packed().double(), torch.randn(4, 6, 3).double(), torch.randint(C, (4, 6))
    truth = one_at_a_time(model, lambda m: token_losses(m(x), y)[0])
    told = captured(model, lambda _: F.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward())
    assert {"head.weight", "head.bias"} <= told.gradients.keys()
    for name, rows in told.gradients.items():
        torch.testing.assert_close(rows, truth.gradients[name])
    assert told.gradients.keys() | told.left_out.keys() == dict(model.named_parameters()).keys()


def test_batch_of_one_gives_its_whole_gradient() -> None:
    torch.manual_seed(14)
    model = nn.Sequential(nn.Conv1d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(9, C)).double()
    x, y = torch.randn(1, 2, 4).double(), torch.randint(C, (1,))
    told = captured(model, lambda _: F.cross_entropy(model(x), y).backward())
    for name, p in model.named_parameters():
        torch.testing.assert_close(told.gradients[name][0], p.grad)


def test_single_owner_that_is_nowhere_else_is_no_coincidence() -> None:
    eye = torch.eye(4)
    assert find_batch_axis([(n, eye[n].view(1, 4, 1) * torch.ones(2, 1, 3)) for n in (0, 3)], 4) == BatchAxis(1)
    blocks = [(n, torch.zeros(12, 2).index_fill(0, torch.arange(3 * n, 3 * n + 3), 1.0)) for n in (0, 2)]
    assert find_batch_axis(blocks, 4) == BatchAxis(0, "block")
    strides = [(n, torch.zeros(12, 2).index_fill(0, torch.arange(n, 12, 4), 1.0)) for n in (0, 2)]
    assert find_batch_axis(strides, 4) == BatchAxis(0, "stride")


def test_gradient_that_is_everywhere_has_no_owner() -> None:
    torch.manual_seed(15)
    with pytest.raises(Unavailable, match="no axis along which the 4 samples keep apart"):
        find_batch_axis([(n, torch.randn(4, 8)) for n in (0, 1, 3)], 4)
