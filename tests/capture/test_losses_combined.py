"""Several losses, losses of the user's own, and where a loss may be called."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from capturing import agree, captured
from reference import one_at_a_time, token_losses
from targets import LABELS, TOKENS, C, N, T, Y, network
from torch import Tensor, nn


class _WithLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = network()

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.body(x)
        return {"loss": F.cross_entropy(logits[:, :-1].reshape(-1, C), labels[:, 1:].reshape(-1)), "logits": logits}


def test_loss_inside_the_model_on_shifted_flattened_tokens() -> None:
    model, x, words = _WithLoss().double(), torch.randn(N, T, 3).double(), TOKENS.clamp_max(C - 1)
    truth = one_at_a_time(model, lambda m: token_losses(m.body(x)[:, :-1], words[:, 1:])[0])
    agree(captured(model, lambda _: model(x, words)["loss"].backward()), truth)


def test_two_losses_that_are_added_are_one() -> None:
    model, x = network().double(), torch.randn(N, 3).double()

    def apart(out: Tensor) -> Tensor:
        return token_losses(out.unsqueeze(1), LABELS.unsqueeze(1))[0] + 0.5 * ((out - Y) ** 2).mean(1)

    def both(_: object) -> None:
        out = model(x)
        (F.cross_entropy(out, LABELS) + 0.5 * F.mse_loss(out, Y.double())).backward()

    truth = one_at_a_time(model, lambda m: apart(m(x)))
    told = captured(model, both)
    agree(told, truth)
    assert told.loss == pytest.approx(truth.loss(), rel=1e-7)


def test_two_losses_of_two_heads_on_one_trunk() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.labels, self.values = nn.Linear(3, 4), nn.Linear(4, C), nn.Linear(4, C)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = self.trunk(x).tanh()
            return self.labels(h), self.values(h)

    model, x = Heads().double(), torch.randn(N, 3).double()

    def both(_: object) -> None:
        labels, values = model(x)
        (F.cross_entropy(labels, LABELS, reduction="none").mean() + F.mse_loss(values, Y.double())).backward()

    def apart(m: nn.Module) -> Tensor:
        labels, values = m(x)
        return token_losses(labels.unsqueeze(1), LABELS.unsqueeze(1))[0] + ((values - Y) ** 2).mean(1)

    agree(captured(model, both), one_at_a_time(model, apart))


def test_sum_of_one_loss_beside_the_mean_of_another() -> None:
    model, x = network().double(), torch.randn(N, 3).double()

    def both(_: object) -> None:
        out = model(x)
        (F.mse_loss(out, Y.double(), reduction="sum") + F.cross_entropy(out, LABELS)).backward()

    def apart(out: Tensor) -> Tensor:
        labels = token_losses(out.unsqueeze(1), LABELS.unsqueeze(1))[0]
        return ((out - Y) ** 2).mean(1) + labels / (N * C)

    truth = one_at_a_time(model, lambda m: apart(m(x)))
    told = captured(model, both)
    agree(told, truth)
    assert told.loss == pytest.approx(truth.loss() * N * C, rel=1e-7)


def test_triplets_share_one_network() -> None:
    model, (a, b, c) = network().double(), torch.randn(3, N, 3).double()

    def apart(m: nn.Module) -> Tensor:
        anchor, near, far = m(a), m(b), m(c)
        return ((anchor - near + 1e-6).norm(dim=1) - (anchor - far + 1e-6).norm(dim=1) + 1).clamp_min(0)

    agree(
        captured(model, lambda _: F.triplet_margin_loss(model(a), model(b), model(c)).backward()),
        one_at_a_time(model, apart),
    )


def test_losses_of_the_users_own() -> None:
    model, x = network().double(), torch.randn(N, 3).double()

    def apart(m: nn.Module) -> Tensor:
        return (m(x) - Y).abs().pow(1.5).sum(1)

    truth = one_at_a_time(model, apart)
    told = captured(model, lambda step: (3 * step.register(apart(model))).backward())
    agree(told, truth)
    assert told.loss == pytest.approx(truth.loss(), rel=1e-7)


def test_losses_of_the_users_own_take_the_place_of_those_they_are_made_of() -> None:
    model, x = network().double(), torch.randn(N, 3).double()

    def apart(m: nn.Module) -> Tensor:
        return F.cross_entropy(m(x), LABELS, reduction="none") ** 2

    agree(captured(model, lambda step: step.register(apart(model)).backward()), one_at_a_time(model, apart))


def test_validation_between_loss_and_backward_pass_changes_nothing() -> None:
    model, x = network().double(), torch.randn(N, 3).double()
    truth = one_at_a_time(model, lambda m: token_losses(m(x).unsqueeze(1), LABELS.unsqueeze(1))[0])

    def step(_: object) -> None:
        loss = F.cross_entropy(model(x), LABELS)
        F.cross_entropy(model(torch.cat([x, x])), torch.cat([LABELS, LABELS]))
        loss.backward()

    told = captured(model, step)
    agree(told, truth)
    assert told.loss == pytest.approx(truth.loss(), rel=1e-7)
