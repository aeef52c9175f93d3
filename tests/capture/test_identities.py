"""What has to hold on every tracked step of a training: individual gradients add up to the gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from capturing import captured
from test_graph_walk import DROPPING, C, E, N, T, WordsAndPlaces
from torch import Tensor, nn

from cockpit.capture.samples.layout import Layouts

STEPS = 6


class Patches(nn.Module):
    """A small vision transformer: strided patches, a class token, places, attention with dropout, residuals."""

    def __init__(self) -> None:
        super().__init__()
        self.lift = nn.Conv2d(1, E, 2, stride=2)
        self.token, self.places = nn.Parameter(torch.zeros(1, 1, E)), nn.Parameter(0.1 * torch.randn(1, 5, E))
        self.layers = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(E, 2, 8, dropout=0.1, batch_first=True, norm_first=True),
            num_layers=2,
            enable_nested_tensor=False,
        )
        self.head = nn.Linear(E, C)

    def forward(self, x: Tensor) -> Tensor:
        h = self.lift(x.view(-1, 1, 4, 4)).flatten(2).transpose(1, 2)
        h = torch.cat([self.token.expand(len(h), -1, -1), h], 1) + self.places
        return self.head(self.layers(h)[:, 0])


class LanguageModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.cells = nn.Embedding(20, E), nn.LSTM(E, E, 2, batch_first=True, dropout=0.2)
        self.head = nn.Linear(E, 20)
        self.head.weight = self.words.weight

    def forward(self, w: Tensor) -> Tensor:
        return self.head(self.cells(self.words(w))[0])


def classified(model: nn.Module) -> Tensor:
    return F.cross_entropy(model(torch.randn(N, 16)), torch.randint(C, (N,)))


def told_on(model: nn.Module) -> Tensor:
    words = torch.randint(20, (N, T + 1))
    return F.cross_entropy(model(words[:, :-1]).flatten(0, 1), words[:, 1:].flatten())


def tagged(model: nn.Module) -> Tensor:
    return F.cross_entropy(model(torch.randn(N, T, E)).flatten(0, 1), torch.randint(C, (N * T,)))


TRAININGS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], Tensor]]] = {
    "vision-transformer": (Patches, classified),
    "small-gpt": (WordsAndPlaces, told_on),
    "lstm-language-model": (LanguageModel, told_on),
    "bidirectional-gru": (DROPPING["gru"], tagged),
}


@pytest.mark.parametrize(("make", "loss"), TRAININGS.values(), ids=TRAININGS.keys())
def test_individual_gradients_add_up_on_every_step(
    make: Callable[[], nn.Module], loss: Callable[[nn.Module], Tensor]
) -> None:
    torch.manual_seed(0)
    model, layouts = make(), Layouts()
    loss(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(STEPS):
        told = captured(model, lambda _: loss(model).backward(), layouts=layouts)
        assert not told.failures, told.failures
        assert not told.left_out, told.left_out
        assert told.weights is not None
        for name, p in model.named_parameters():
            rows, g = told.gradients[name], p.grad.double()
            size = rows.flatten(1).norm(dim=1).mean()
            mean = torch.einsum("n,n...->...", told.weights, rows)
            torch.testing.assert_close(mean, g, rtol=1e-4, atol=1e-6 * float(size), msg=lambda m, n=name: f"{n}: {m}")
            dots = (rows.flatten(1) @ g.flatten()) @ told.weights
            torch.testing.assert_close(dots, g.square().sum(), rtol=1e-4, atol=1e-6 * float(size**2))
        optimizer.step()
