"""Losses that are not what they look like: the reason is given, and what can be known of them is still read."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from capturing import Captured, captured
from targets import LABELS, N, T, Y, network


def refused(told: Captured, words: str) -> None:
    """No individual losses, and the reason is given in these words."""
    assert not told.failures
    assert told.losses is None
    assert words in str(told.problem)


def test_focal_loss_is_not_a_weighted_mean_of_what_it_is_made_of() -> None:
    model, x = network(), torch.randn(N, 3)

    def focal(_: object) -> None:
        entries = F.cross_entropy(model(x), LABELS, reduction="none")
        ((1 - (-entries).exp()) ** 2 * entries).mean().backward()

    told = captured(model, focal)
    refused(told, "register individual losses")
    assert set(told.left_out) == {name for name, _ in model.named_parameters()}


def test_focal_loss_is_recognised_beside_another_loss() -> None:
    model, x = network(), torch.randn(N, 3)

    def both(_: object) -> None:
        out = model(x)
        entries = F.cross_entropy(out, LABELS, reduction="none")
        (((1 - (-entries).exp()) ** 2 * entries).mean() + F.mse_loss(out, Y)).backward()

    refused(captured(model, both), "register individual losses")


def test_focal_loss_is_recognised_however_the_backward_pass_is_started() -> None:
    model, x = network(), torch.randn(N, 3)

    def focal(_: object) -> None:
        entries = F.cross_entropy(model(x), LABELS, reduction="none")
        torch.autograd.backward(((1 - (-entries).exp()) ** 2 * entries).mean())

    refused(captured(model, focal), "register individual losses")


def test_term_of_the_users_own_leaves_the_individual_losses_unknown() -> None:
    """A divergence written by hand reaches the same layers, sample by sample: it is in g_n, and not in l_n."""
    model, x = network(), torch.randn(N, 3)

    def loss(_: object) -> None:
        out = model(x)
        (F.mse_loss(out, Y) + 0.1 * out.square().sum(1).mean()).backward()

    told = captured(model, loss)
    refused(told, "step.losses")
    out = model(x)
    assert told.loss == pytest.approx(float((F.mse_loss(out, Y) + 0.1 * out.square().sum(1).mean()).detach()), rel=1e-6)


def test_negative_weights_of_entries_are_refused() -> None:
    model, x = network(), torch.randn(N, 3)
    signs = torch.tensor([1.0, -1, 1, 1, 1, 1])
    told = captured(model, lambda _: (F.cross_entropy(model(x), LABELS, reduction="none") * signs).mean().backward())
    refused(told, "negative")


def test_unknown_loss_is_not_guessed_at() -> None:
    model, x = network(), torch.randn(N, 3)
    told = captured(model, lambda _: (model(x) - Y).abs().pow(1.5).mean().backward())
    refused(told, "step.losses")
    assert told.loss == pytest.approx(float((model(x) - Y).abs().pow(1.5).mean().detach()))
    assert set(told.arrived) == {name for name, _ in model.named_parameters()}


def test_loss_that_is_only_looked_at_does_not_hide_the_one_that_is_trained_on() -> None:
    model, x = network(), torch.randn(N, 3)

    def step(_: object) -> None:
        out = model(x)
        F.mse_loss(out, Y)
        (out - Y).abs().pow(1.5).mean().backward()

    told = captured(model, step)
    refused(told, "step.losses")
    assert told.loss == pytest.approx(float((model(x) - Y).abs().pow(1.5).mean().detach()))
    for name, p in model.named_parameters():
        torch.testing.assert_close(told.arrived[name].float(), p.grad)


def test_mean_by_target_length_is_no_mean_of_entries() -> None:
    model, x = network(), torch.randn(N, T, 3)
    lengths = torch.tensor([1, 2, 1, 2, 1, 2])

    def step(_: object) -> None:
        scores = model(x).log_softmax(2).transpose(0, 1)
        F.ctc_loss(scores, torch.ones(N, 2).long(), torch.full((N,), T), lengths).backward()

    refused(captured(model, step), "mean of its entries")


def test_everything_ignored_is_no_loss_at_all() -> None:
    model, x = network(), torch.randn(N, 3)
    told = captured(model, lambda _: F.cross_entropy(model(x), torch.full((N,), -100)).backward())
    assert not told.failures
    assert told.loss != told.loss
