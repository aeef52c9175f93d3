"""Parameters that no module hook serves, read where the graph uses them: against brute force, element by element."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from capturing import SINGLE, TIGHT, agree, captured
from harness import record
from reference import one_at_a_time, token_losses
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

from cockpit.capture.graph.nodes import Graph

N, T, E, C = 5, 4, 6, 3


class SelfAttention(nn.Module):
    def __init__(self, first: bool = True, need_weights: bool = False, dropout: float = 0.0, **options: object) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(E, 2, batch_first=first, dropout=dropout, **options)
        self.first, self.weights, self.head = first, need_weights, nn.Linear(E, C)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.first else x.transpose(0, 1)
        h, _ = self.attend(x, x, x, need_weights=self.weights)
        return self.head(h.tanh() if self.first else h.transpose(0, 1).tanh())


class CrossAttention(nn.Module):
    """Queries from one input, keys and values of another width from another."""

    def __init__(self, same_width: bool = False, **options: object) -> None:
        super().__init__()
        width = {} if same_width else {"kdim": 4, "vdim": 3}
        self.attend = nn.MultiheadAttention(E, 3, batch_first=True, **width, **options)
        self.keys, self.values = nn.Linear(E, width.get("kdim", E)), nn.Linear(E, width.get("vdim", E))
        self.head = nn.Linear(E, C)

    def forward(self, x: Tensor) -> Tensor:
        keys = self.keys(x.flip(1))
        values = keys if self.attend._qkv_same_embed_dim else self.values(x.flip(1))
        return self.head(self.attend(x.tanh(), keys, values)[0])


class Functional(nn.Module):
    """Raw parameters in functional code: a class token, positions, a temperature, a projection, a mixture."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, E))
        self.places = nn.Parameter(torch.randn(1, T + 5, E))
        self.temperature = nn.Parameter(torch.randn(()))
        self.project = nn.Parameter(torch.randn(E, 2 * E))
        self.offset = nn.Parameter(torch.randn(2 * E))
        self.mix = nn.Parameter(torch.randn(E, C))
        self.repeated = nn.Parameter(torch.randn(1, C))
        self.scale = nn.Parameter(torch.randn(C))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places[:, : x.shape[1] + 1]
        h = h / self.temperature.exp()
        h = F.linear(h, self.project.T, self.offset)
        a, b = h.chunk(2, -1)
        h = torch.einsum("nti,io->nto", a * b.sigmoid(), self.mix) - self.repeated.repeat(len(x), 1).unsqueeze(1)
        return F.layer_norm(h, (C,), self.scale, None)[:, 1:]


class WordsAndPlaces(nn.Module):
    """A small GPT: tied embeddings, positions without a batch axis, attention by hand."""

    def __init__(self, vocabulary: int = 20) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(vocabulary, E), nn.Embedding(T + 2, E)
        self.attend, self.join = nn.Linear(E, 3 * E), nn.Linear(E, E, bias=False)
        self.before, self.after = nn.LayerNorm(E), nn.LayerNorm(E)
        self.grow, self.shrink = nn.Linear(E, 2 * E), nn.Linear(2 * E, E)

    def forward(self, w: Tensor) -> Tensor:
        h = self.words(w) + self.places(torch.arange(w.shape[1]))
        q, k, v = (t.unflatten(-1, (2, -1)).transpose(1, 2) for t in self.attend(self.before(h)).split(E, 2))
        h = h + self.join(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        h = h + self.shrink(F.gelu(self.grow(self.after(h))))
        return F.linear(h, self.words.weight)


class Normalised(nn.Module):
    """A convolution and a linear layer whose weights are computed anew at every step."""

    def __init__(self, by: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.first, self.last = by(nn.Conv1d(E, 4, 3, padding=1, groups=2)), by(nn.Linear(4, C))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x.transpose(1, 2)).tanh().transpose(1, 2))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], first: bool = True, layers: int = 1, **options: object) -> None:
        super().__init__()
        self.cell = kind(E, 3, layers, batch_first=first, **options)
        self.first, self.head = first, nn.LazyLinear(C)

    def forward(self, x: Tensor) -> Tensor:
        out, last = self.cell(x if self.first else x.transpose(0, 1))
        last = last if isinstance(last, Tensor) else last[1]
        return self.head(out if self.first else out.transpose(0, 1)) + last[-1].sum(1)[:, None, None]


class Filters(nn.Module):
    """Convolutions and tables without modules."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.offset = nn.Parameter(torch.randn(4, 3, 3)), nn.Parameter(torch.randn(4))
        self.back = nn.Parameter(torch.randn(4, 2, 2))
        self.table, self.slope = nn.Parameter(torch.randn(6, C)), nn.Parameter(torch.rand(2))
        self.gate = nn.Parameter(torch.randn(5, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = F.conv1d(x.transpose(1, 2), self.kernel, self.offset, padding=2, dilation=2, groups=2)
        h = F.prelu(F.conv_transpose1d(h.tanh(), self.back, stride=2, groups=2, padding=1), self.slope.repeat(2))
        looked_up = self.table[(x[..., 0] > 0).long() + 2 * (x[..., 1] > 0).long()]
        gated = torch.where(x[..., :1] > 0, looked_up, looked_up * self.gate[:4].sigmoid())
        return gated * h.mean(1, keepdim=True)[..., :T].transpose(1, 2)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "attention": SelfAttention,
    "attention-sequence-first": lambda: SelfAttention(first=False),
    "attention-with-weights": lambda: SelfAttention(need_weights=True),
    "attention-without-bias": lambda: SelfAttention(bias=False),
    "attention-extra-key": lambda: SelfAttention(add_bias_kv=True, add_zero_attn=True),
    "cross-attention": lambda: CrossAttention(same_width=True),
    "cross-attention-widths": CrossAttention,
    "cross-attention-extra-key": lambda: CrossAttention(add_bias_kv=True),
    "transformer-layer": lambda: nn.Sequential(
        nn.TransformerEncoderLayer(E, 2, 8, dropout=0.0, batch_first=True), nn.Linear(E, C)
    ),
    "raw-parameters": Functional,
    "weight-norm": lambda: Normalised(weight_norm),
    "spectral-norm": lambda: Normalised(lambda m: spectral_norm(m).eval()),
    "orthogonal": lambda: nn.Sequential(orthogonal(nn.Linear(E, 4)), nn.Tanh(), nn.Linear(4, C)),
    "filters": Filters,
    "lstm": lambda: Recurrent(nn.LSTM),
    "lstm-sequence-first-two-layers": lambda: Recurrent(nn.LSTM, False, 2, bias=False),
    "lstm-both-directions": lambda: Recurrent(nn.LSTM, layers=2, bidirectional=True),
    "lstm-projected": lambda: Recurrent(nn.LSTM, proj_size=2),
    "gru": lambda: Recurrent(nn.GRU, layers=2),
    "gru-both-directions": lambda: Recurrent(nn.GRU, False, bidirectional=True),
    "rnn": lambda: Recurrent(nn.RNN, layers=2, nonlinearity="relu"),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("limit", [1, 1 << 28], ids=["one-by-one", "at-once"])
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS.keys())
def test_networks_that_no_hook_serves(make: Callable[[], nn.Module], limit: int) -> None:
    torch.manual_seed(0)
    model, x, y = make(), torch.randn(N, T, E), torch.randint(C, (N, T))
    model(x)
    truth = one_at_a_time(model, lambda m: token_losses(m(x.double()), y)[0])
    for dtype, tolerance in ((torch.float64, TIGHT), (torch.float32, SINGLE)):
        cast, inputs = model.to(dtype), x.to(dtype)
        told = captured(
            cast, lambda _, m=cast, i=inputs: F.cross_entropy(m(i).flatten(0, 1), y.flatten()).backward(), limit
        )
        agree(told, truth, **tolerance)


@pytest.mark.parametrize("limit", [1, 1 << 28], ids=["one-by-one", "at-once"])
def test_small_gpt_with_tied_words_and_places_without_a_batch(limit: int) -> None:
    torch.manual_seed(1)
    model, w, y = WordsAndPlaces(), torch.randint(20, (N, T)), torch.randint(20, (N, T))
    y[1, 2:] = -100
    truth = one_at_a_time(model, lambda m: token_losses(m(w), y)[0], token_losses(model(w), y)[1])
    for dtype, tolerance in ((torch.float64, TIGHT), (torch.float32, SINGLE)):
        cast = model.to(dtype)
        told = captured(cast, lambda _, m=cast: F.cross_entropy(m(w).view(-1, 20), y.view(-1)).backward(), limit)
        agree(told, truth, **tolerance)
    assert "words.weight" in told.sq_norms, "the norms of tied weights need no rows"


DROPPING: dict[str, Callable[[], nn.Module]] = {
    "attention": lambda: SelfAttention(dropout=0.3, add_bias_kv=True),
    "attention-with-weights": lambda: SelfAttention(False, True, dropout=0.3),
    "transformer-layer": lambda: nn.Sequential(
        nn.TransformerEncoderLayer(E, 2, 8, dropout=0.2, batch_first=True), nn.Linear(E, C)
    ),
    "lstm": lambda: Recurrent(nn.LSTM, layers=2, dropout=0.4),
    "gru": lambda: Recurrent(nn.GRU, layers=2, dropout=0.4, bidirectional=True),
    "rnn": lambda: Recurrent(nn.RNN, layers=3, dropout=0.4),
}


@pytest.mark.parametrize("make", DROPPING.values(), ids=DROPPING.keys())
def test_networks_that_draw_random_numbers(make: Callable[[], nn.Module]) -> None:
    """The truth draws the same numbers: it begins from the same state of the generator."""
    torch.manual_seed(2)
    model, x, y = make(), torch.randn(N, T, E), torch.randint(C, (N, T))
    model(x)

    def seeded(m: nn.Module, inputs: Tensor) -> Tensor:
        torch.manual_seed(3)
        return m(inputs)

    # In float32 a fused layer may draw differently than the plain one of float64 does.
    truth = one_at_a_time(model, lambda m: token_losses(seeded(m, x.double()), y)[0])
    cast = model.double()
    told = captured(cast, lambda _: F.cross_entropy(seeded(cast, x.double()).flatten(0, 1), y.flatten()).backward())
    agree(told, truth)
    single = model.float()
    told = captured(single, lambda _: F.cross_entropy(single(x).flatten(0, 1), y.flatten()).backward())
    assert not told.left_out
    for name, p in single.named_parameters():
        torch.testing.assert_close(told.gradients[name].mean(0).float(), p.grad, rtol=1e-4, atol=1e-6)


def test_the_log_tells_which_route_served_which_share(tmp_path: Path) -> None:
    torch.manual_seed(4)
    model = nn.Sequential(SelfAttention(dropout=0.1))
    batch = (torch.randn(N, T, E), torch.randint(C, (N * T,)))
    run = record(tmp_path, model, [batch], lambda m, b: F.cross_entropy(m(b[0]).flatten(0, 1), b[1]))
    coverage = run._reader.document("coverage")
    head = sum(p.numel() for p in model[0].head.parameters()) / sum(p.numel() for p in model.parameters())
    assert coverage["share"] == 1
    assert coverage["routes"] == {"graph": pytest.approx(1 - head), "modules": pytest.approx(head)}


def test_what_a_checkpoint_packed_is_not_looked_at_twice() -> None:
    """It would be computed again for us, and then refused to the user's own backward pass."""

    class Checkpointed(SelfAttention):
        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(super().forward, x, use_reentrant=False)

    torch.manual_seed(5)
    model, x, y = Checkpointed(dropout=0.2), torch.randn(N, T, E), torch.randint(C, (N * T,))
    told = captured(model, lambda _: F.cross_entropy(model(x).flatten(0, 1), y).backward())
    assert not told.failures
    assert set(told.left_out) == {"attend.in_proj_weight", "attend.out_proj.weight"}
    assert all("packed" in reason for reason in told.left_out.values())
    for name, rows in told.gradients.items():
        torch.testing.assert_close(
            rows.mean(0).float(),
            model.get_parameter(name).grad,
            rtol=1e-4,
            atol=1e-6,
            msg=lambda m, n=name: f"{n}: {m}",
        )


@pytest.mark.parametrize("name", ["attention", "raw-parameters", "weight-norm", "lstm", "filters"])
def test_networks_under_autocast(name: str, tmp_path: Path) -> None:
    """Rounding to eight bits is not taken for a penalty."""
    torch.manual_seed(7)
    model, x, y = NETWORKS[name](), torch.randn(N, T, E), torch.randint(C, (N, T))
    model(x)

    def loss(m: nn.Module, _: object = None) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return F.cross_entropy(m(x).flatten(0, 1), y.flatten())

    truth = one_at_a_time(model, lambda m: token_losses(m(x.double()), y)[0])
    agree(captured(model, lambda _: (1024 * loss(model)).backward()), truth, rtol=4e-2, atol=4e-2)
    run = record(tmp_path, model, [0, 0, 0], loss)
    assert run._reader.document("coverage")["left_out"] == {}


@pytest.mark.parametrize("lengths", [[4, 2, 3, 4, 1], [4, 4, 3, 2, 2], [4, 4, 4, 4, 4], [1, 2, 4, 1, 2]])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_packed_sequences(kind: type[nn.RNNBase], lengths: list[int]) -> None:
    """Samples are scattered over the packed tensors; where they are apart again, they are told apart."""

    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = kind(E, 3, 2, batch_first=True), nn.Linear(3, C)

        def forward(self, x: Tensor) -> Tensor:
            packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
            return self.head(pad_packed_sequence(self.cell(packed)[0], batch_first=True)[0])

    torch.manual_seed(8)
    model, x, y = Packed().double(), torch.randn(N, T, E).double(), torch.randint(C, (N, T))
    truth = one_at_a_time(model, lambda m: token_losses(m(x), y)[0])
    agree(captured(model, lambda _: F.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()), truth)


class Marker:
    """Something that lives as long as any node of a graph does."""


def test_nothing_keeps_the_graph_alive() -> None:
    torch.manual_seed(6)
    model, x = SelfAttention(), torch.randn(N, T, E)
    markers: list[weakref.ref[Marker]] = []

    def step(_: object) -> None:
        loss = F.cross_entropy(model(x).flatten(0, 1), torch.zeros(N * T).long())
        marker = Marker()
        markers.append(weakref.ref(marker))
        for node in Graph(loss.grad_fn).nodes:
            if "Accumulate" not in node.name():
                node.metadata["marker"] = marker
        loss.backward(retain_graph=True)

    assert not captured(model, step).left_out
    gc.collect()
    assert markers[0]() is None
