"""Losses are recognised wherever they are called, and taken apart into what each sample contributes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from capturing import SINGLE, TIGHT, agree, captured
from reference import Truth, doubled, one_at_a_time, token_losses
from targets import LABELS, TOKENS, C, N, T, Y, network
from torch import Tensor, nn


def check(
    model: nn.Module,
    x: Tensor,
    loss: Callable[[Tensor], Tensor],
    truth: Callable[[Tensor], tuple[Tensor, Tensor] | Tensor],
    number: Callable[[Truth], float] = Truth.loss,
) -> None:
    """``loss`` of the output against individual losses (and weights) written out, in both precisions."""

    def apart(output: Tensor) -> tuple[Tensor, Tensor]:
        found = truth(output)
        equal = torch.full((N,), 1 / N, dtype=torch.float64)
        return found if isinstance(found, tuple) else (found, equal)

    weights = apart(doubled(model)(x.double()))[1].detach()
    expected = one_at_a_time(model, lambda m: apart(m(x.double()))[0], weights)
    for dtype, tolerance in ((torch.float64, TIGHT), (torch.float32, SINGLE)):
        cast, inputs = model.to(dtype), x.to(dtype)
        told = captured(cast, lambda _, m=cast, i=inputs: loss(m(i)).backward())
        agree(told, expected, **tolerance)
        assert told.loss == pytest.approx(number(expected), rel=tolerance["rtol"])


CLASS_WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 3.0, 0.25])


def weighted(like: Tensor) -> Tensor:
    return CLASS_WEIGHTS.to(like)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2}], ids=["hard", "smoothed"])
@pytest.mark.parametrize("classes", [False, True], ids=["unweighted", "weighted"])
def test_cross_entropy_of_one_label_a_sample(classes: bool, options: dict) -> None:
    weight = CLASS_WEIGHTS if classes else None
    check(
        network(), torch.randn(N, 3),
        lambda out: F.cross_entropy(out, LABELS, weight=weighted(out) if classes else None, **options),
        lambda out: token_losses(out.unsqueeze(1), LABELS.unsqueeze(1), weight, **options),
    )  # fmt: skip


@pytest.mark.parametrize("classes", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("flattened", [False, True], ids=["positions-last", "flattened"])
def test_cross_entropy_of_tokens_some_of_which_are_ignored(flattened: bool, smoothing: float, classes: bool) -> None:
    """One sample has no token left: it has weight 0, and no loss."""

    def loss(out: Tensor) -> Tensor:
        options = {"ignore_index": 9, "label_smoothing": smoothing, "weight": weighted(out) if classes else None}
        if flattened:
            return F.cross_entropy(out.view(-1, C), TOKENS.view(-1), **options)
        return F.cross_entropy(out.transpose(1, 2), TOKENS, **options)

    check(
        network(), torch.randn(N, T, 3), loss,
        lambda out: token_losses(out, TOKENS, CLASS_WEIGHTS if classes else None, 9, smoothing),
    )  # fmt: skip


@pytest.mark.parametrize("classes", [False, True], ids=["unweighted", "weighted"])
def test_cross_entropy_with_probabilities_as_targets(classes: bool) -> None:
    """Class weights enter the losses, but not the mean."""
    targets = torch.rand(N, C).softmax(1)

    def apart(out: Tensor) -> Tensor:
        weight = weighted(out) if classes else torch.ones(C).double()
        return torch.stack([-(weight * targets[n].double() * out[n].log_softmax(0)).sum() for n in range(N)])

    check(
        network(), torch.randn(N, 3),
        lambda out: F.cross_entropy(out, targets.to(out), weight=weighted(out) if classes else None), apart,
    )  # fmt: skip


def test_negative_log_likelihood() -> None:
    check(
        network(), torch.randn(N, 3),
        lambda out: nn.NLLLoss(weight=weighted(out))(out.log_softmax(1), LABELS),
        lambda out: token_losses(out.unsqueeze(1), LABELS.unsqueeze(1), CLASS_WEIGHTS),
    )  # fmt: skip


PLAIN_MEANS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "mse": (lambda out: F.mse_loss(out, Y.to(out)), lambda o, y: (o - y) ** 2),
    "mse-module": (lambda out: nn.MSELoss()(out, Y.to(out)), lambda o, y: (o - y) ** 2),
    "l1": (lambda out: F.l1_loss(out, Y.to(out)), lambda o, y: (o - y).abs()),
    "smooth-l1": (
        lambda out: F.smooth_l1_loss(out, Y.to(out), beta=0.5),
        lambda o, y: torch.where((o - y).abs() < 0.5, (o - y) ** 2, (o - y).abs() - 0.25),
    ),
    "huber": (
        lambda out: F.huber_loss(out, Y.to(out), delta=0.5),
        lambda o, y: torch.where((o - y).abs() < 0.5, (o - y) ** 2 / 2, 0.5 * ((o - y).abs() - 0.25)),
    ),
    "bce-with-logits": (
        lambda out: F.binary_cross_entropy_with_logits(out, (Y > 0).to(out), pos_weight=weighted(out)),
        lambda o, y: -(CLASS_WEIGHTS * (y > 0) * F.logsigmoid(o) + (y <= 0) * F.logsigmoid(-o)),
    ),
    "bce": (
        lambda out: nn.BCELoss()(out.sigmoid(), (Y > 0).to(out)),
        lambda o, y: -((y > 0) * F.logsigmoid(o) + (y <= 0) * F.logsigmoid(-o)),
    ),
    "poisson": (lambda out: F.poisson_nll_loss(out, Y.abs().to(out)), lambda o, y: o.exp() - y.abs() * o),
    "gaussian": (
        lambda out: F.gaussian_nll_loss(out, Y.to(out), torch.full_like(out, 0.25)),
        lambda o, y: 0.5 * (math.log(0.25) + (o - y) ** 2 / 0.25),
    ),
    "soft-margin": (lambda out: F.soft_margin_loss(out, Y.sign().to(out)), lambda o, y: (-y.sign() * o).exp().log1p()),
    "kl-mean": (
        lambda out: F.kl_div(out.log_softmax(1), Y.double().softmax(1).to(out), reduction="mean"),
        lambda o, y: y.softmax(1) * (y.log_softmax(1) - o.log_softmax(1)),
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize(("loss", "entries"), PLAIN_MEANS.values(), ids=PLAIN_MEANS.keys())
def test_plain_means_over_several_outputs(loss, entries) -> None:
    check(network(), torch.randn(N, 3), loss, lambda out: entries(out, Y.double()).mean(1))


def test_weighted_squared_error() -> None:
    weight = torch.rand(N, C)
    shares = weight.double().sum(1) / weight.double().sum()
    check(
        network(), torch.randn(N, 3),
        lambda out: F.mse_loss(out, Y.to(out), weight=weight.to(out)),
        lambda out: ((weight.double() * (out - Y) ** 2).sum(1) / weight.double().sum(1), shares),
    )  # fmt: skip


@pytest.mark.parametrize("reduction", ["batchmean", "sum"])
def test_divergence_by_batch_and_by_sum(reduction: str) -> None:
    """By batch a sample's loss is the total of its entries; by sum the number is the user's, the rest a mean's."""
    y = Y.double().softmax(1)
    by_batch = reduction == "batchmean"
    check(
        network(), torch.randn(N, 3),
        lambda out: F.kl_div(out.log_softmax(1), y.to(out), reduction=reduction),
        lambda out: (y * (y.log() - out.log_softmax(1))).sum(1) / (1 if by_batch else C),
        number=lambda truth: truth.loss() * (1 if by_batch else N * C),
    )  # fmt: skip


def test_sum_logs_the_users_number_and_everything_else_refers_to_the_mean() -> None:
    check(
        network(), torch.randn(N, T, 3),
        lambda out: F.cross_entropy(out.flatten(0, 1), TOKENS.view(-1), ignore_index=9, reduction="sum"),
        lambda out: token_losses(out, TOKENS, None, 9),
        number=lambda truth: truth.loss() * int((TOKENS != 9).sum()),
    )  # fmt: skip


MASK = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]])


@pytest.mark.parametrize("in_place", [False, True])
def test_masked_mean_of_unreduced_entries(in_place: bool) -> None:
    labels = TOKENS.clamp_max(C - 1)

    def loss(out: Tensor) -> Tensor:
        entries = F.cross_entropy(out.transpose(1, 2), labels, reduction="none")
        mask = MASK.to(out)
        return entries.mul_(mask).sum().div_(mask.sum()) if in_place else (entries * mask).sum() / mask.sum()

    check(
        network(), torch.randn(N, T, 3), loss,
        lambda out: token_losses(out, torch.where(MASK > 0, labels, -100)),
    )  # fmt: skip


@pytest.mark.parametrize("reduce", [Tensor.mean, lambda e: e.mean(1).mean(), lambda e: e.sum(1).mean() / C])
def test_mean_of_unreduced_entries(reduce: Callable[[Tensor], Tensor]) -> None:
    check(
        network(), torch.randn(N, 3),
        lambda out: reduce(F.mse_loss(out, Y.to(out), reduction="none")),
        lambda out: ((out - Y) ** 2).mean(1),
    )  # fmt: skip


def test_sum_of_unreduced_entries_is_the_users_number() -> None:
    check(
        network(), torch.randn(N, 3),
        lambda out: F.mse_loss(out, Y.to(out), reduction="none").sum(),
        lambda out: ((out - Y) ** 2).mean(1),
        number=lambda truth: truth.loss() * N * C,
    )  # fmt: skip


def test_unreduced_entries_may_be_sent_backwards_as_they_are() -> None:
    model, x = network().double(), torch.randn(N, 3).double()
    shares = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 5.0]).double()
    truth = one_at_a_time(model, lambda m: token_losses(m(x).unsqueeze(1), LABELS.unsqueeze(1))[0], shares / 20)
    told = captured(model, lambda _: F.cross_entropy(model(x), LABELS, reduction="none").backward(shares))
    agree(told, truth)


@pytest.mark.parametrize("how", ["method", "function", "list"])
def test_however_the_backward_pass_is_started(how: str) -> None:
    model, x = network().double(), torch.randn(N, 3).double()
    truth = one_at_a_time(model, lambda m: token_losses(m(x).unsqueeze(1), LABELS.unsqueeze(1))[0])

    def step(_: object) -> None:
        loss = F.cross_entropy(model(x), LABELS)
        if how == "method":
            loss.backward()
        else:
            torch.autograd.backward(loss if how == "function" else [loss])

    agree(captured(model, step), truth)


@pytest.mark.parametrize("k", [2.0, 3.0, 1024.0])
def test_loss_divided_in_place_reads_as_the_loss(k: float) -> None:
    def loss(out: Tensor) -> Tensor:
        value = F.cross_entropy(out, LABELS)
        value /= k
        return value

    check(
        network(), torch.randn(N, 3), loss, lambda out: token_losses(out.unsqueeze(1), LABELS.unsqueeze(1))[0]
    )  # fmt: skip
