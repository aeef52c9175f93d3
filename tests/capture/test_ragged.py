"""Sequences of different lengths: the last steps through time belong to the longest alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from capturing import SINGLE, TIGHT, agree, captured
from reference import one_at_a_time
from torch import Tensor, nn

from cockpit.capture.samples.layout import Layouts

N, T, C = 5, 6, 4


class Words(nn.Module):
    """The next word of each, by a recurrent layer; a head that is called at every step through time if told so."""

    def __init__(self, kind: type[nn.RNNBase], stepwise: bool = False) -> None:
        super().__init__()
        self.table, self.cell, self.head = nn.Embedding(C + 1, 3), kind(3, 4, batch_first=True), nn.Linear(4, C + 1)
        self.stepwise = stepwise

    def forward(self, words: Tensor) -> Tensor:
        h = self.cell(self.table(words))[0]
        return torch.stack([self.head(step) for step in h.unbind(1)], 1) if self.stepwise else self.head(h)


def padded(*lengths: int) -> Tensor:
    """Words that count from 1; 0 behind the end of each sequence."""
    words = torch.randint(1, C + 1, (len(lengths), T))
    return words * (torch.arange(T) < torch.tensor(lengths)[:, None])


def losses(scores: Tensor, words: Tensor) -> Tensor:
    entries = F.cross_entropy(scores.flatten(0, 1), words.flatten(), ignore_index=0, reduction="none")
    return entries.view(words.shape).sum(1) / (words != 0).sum(1)


def holds_for(model: nn.Module, words: Tensor, layouts: Layouts, **tolerance: float) -> None:
    weights = (words != 0).sum(1).double() / (words != 0).sum()
    truth = one_at_a_time(model, lambda m: losses(m(words), words), weights)

    def step(_: object) -> None:
        F.cross_entropy(model(words).flatten(0, 1), words.flatten(), ignore_index=0).backward()

    agree(captured(model, step, layouts=layouts), truth, **tolerance)


@pytest.mark.parametrize("stepwise", [False, True], ids=["", "stepwise"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["double", "single"])
@pytest.mark.parametrize("kind", [nn.GRU, nn.RNN, nn.LSTM])
def test_steps_of_the_longest_sequence_alone_are_read(
    kind: type[nn.RNNBase], dtype: torch.dtype, stepwise: bool
) -> None:
    torch.manual_seed(0)
    model = Words(kind, stepwise).to(dtype)
    tolerance = TIGHT if dtype == torch.float64 else SINGLE
    holds_for(model, padded(2, 3, 1, T, 2), Layouts(), **tolerance)


@pytest.mark.parametrize("kind", [nn.GRU, nn.RNN])
def test_steps_that_no_sequence_went_through_before_are_read_too(kind: type[nn.RNNBase]) -> None:
    torch.manual_seed(1)
    model, layouts = Words(kind).double(), Layouts()
    for lengths in [(2, 3, 1, 3, 2), (2, 3, T, 3, 2), (1, 1, 1, 1, T)]:
        holds_for(model, padded(*lengths), layouts)


def test_one_sample_alone_does_not_tell_the_batch_axis_of_a_tensor_like_no_other() -> None:
    """A layer that all samples but one go round: it is left out, and what is said of it is true."""

    class Expert(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.expert, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, C)

        def forward(self, x: Tensor) -> Tensor:
            h = self.body(x).tanh()
            chosen = (torch.arange(len(x)) == 2)[:, None]
            return self.head(torch.where(chosen, self.expert(h), h))

    torch.manual_seed(2)
    model, x, y = Expert().double(), torch.randn(N, 3).double(), torch.randint(C, (N,))
    told = captured(model, lambda _: F.cross_entropy(model(x), y).backward())
    assert set(told.left_out) <= {"expert.weight", "expert.bias"}
    assert all("a single sample alone" in reason for reason in told.left_out.values())
    truth = one_at_a_time(model, lambda m: F.cross_entropy(m(x), y, reduction="none"))
    for name, rows in told.gradients.items():
        torch.testing.assert_close(rows, truth.gradients[name], **TIGHT)
