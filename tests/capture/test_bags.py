"""Bags of embeddings, of any length, against brute force."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from capturing import agree, captured
from reference import one_at_a_time
from torch import Tensor, nn

N, V, C = 5, 7, 3


class Bags(nn.Module):
    def __init__(self, **options: object) -> None:
        super().__init__()
        self.bag, self.head = nn.EmbeddingBag(V, 4, **options), nn.Linear(4, C)

    def forward(self, rows: Tensor, offsets: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
        return self.head(self.bag(rows, offsets, per_sample_weights=weights).tanh())


OFFSETS = [[0, 2, 5, 6, 10], [0, 0, 4, 4, 9], [0, 2, 4, 6, 8]]


@pytest.mark.parametrize("offsets", OFFSETS)
@pytest.mark.parametrize(
    "options",
    [{"mode": "mean"}, {"mode": "sum"}, {"mode": "mean", "padding_idx": 0}, {"mode": "sum", "sparse": True}],
    ids=str,
)
def test_bags_of_any_length_match_brute_force(options: dict[str, object], offsets: list[int]) -> None:
    torch.manual_seed(0)
    model, y = Bags(**options).double(), torch.randint(C, (N,))
    rows, offset = torch.randint(V, (10,)), torch.tensor(offsets)
    truth = one_at_a_time(model, lambda m: F.cross_entropy(m(rows, offset), y, reduction="none"))
    agree(captured(model, lambda _: F.cross_entropy(model(rows, offset), y).backward()), truth)


def test_bags_of_one_length_and_weighted_bags_match_brute_force() -> None:
    torch.manual_seed(1)
    y, rows = torch.randint(C, (N,)), torch.randint(V, (N, 4))
    for model, given in [(Bags().double(), ()), (Bags(mode="sum").double(), (None, torch.randn(N, 4).double()))]:
        truth = one_at_a_time(model, lambda m, g=given: F.cross_entropy(m(rows, *g), y, reduction="none"))
        agree(captured(model, lambda _, m=model, g=given: F.cross_entropy(m(rows, *g), y).backward()), truth)


def test_where_no_tensor_has_a_row_for_each_sample_individual_losses_help() -> None:
    """With the end as a last offset there are as many offsets as samples, and one more."""
    torch.manual_seed(2)
    model, y = Bags(include_last_offset=True).double(), torch.randint(C, (N,))
    rows, offsets = torch.randint(V, (10,)), torch.tensor([0, 2, 5, 6, 9, 10])
    truth = one_at_a_time(model, lambda m: F.cross_entropy(m(rows, offsets), y, reduction="none"))
    told = captured(model, lambda _: F.cross_entropy(model(rows, offsets), y).backward())
    assert "batch size could not be found" in str(told.problem)

    def step(capture: object) -> None:
        capture.register(F.cross_entropy(model(rows, offsets), y, reduction="none")).backward()

    agree(captured(model, step), truth)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"mode": "max"}, "vectorising failed: offsets"), ({"scale_grad_by_freq": True}, "how often the whole batch")],
    ids=["max", "frequency"],
)
def test_what_has_no_closed_form_is_left_out_with_the_reason(options: dict[str, object], words: str) -> None:
    torch.manual_seed(3)
    model, y = Bags(**options).double(), torch.randint(C, (N,))
    rows, offsets = torch.randint(V, (10,)), torch.tensor(OFFSETS[0])
    told = captured(model, lambda _: F.cross_entropy(model(rows, offsets), y).backward())
    assert words in told.left_out["bag.weight"]
    assert set(told.gradients) == {"head.weight", "head.bias"}
