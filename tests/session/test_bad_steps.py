"""Numbers, losses and steps that are not as they should be: told in words, training and log stay whole."""

import gc
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from loop import NEED_INDIVIDUAL, Loop, events, no_trace

from cockpit import CockpitWarning, load_run


def test_a_batch_of_one_is_a_gap(loop, begin, tmp_path):
    cockpit = begin(loop)
    for N in (8, 8, 1, 8, 8):
        loop.steps(cockpit, 1, N=N)
    cockpit.close()
    run = load_run(tmp_path / "run")
    for key in ("norm_test", "inner_test", "ortho_test"):
        assert list(run[key].missing) == [False, False, True, False, False]
    assert list(run["alpha"].missing) == [False, True, True, False]
    assert not run["grad_norm"].missing.any()
    assert events(tmp_path) == []


@pytest.mark.parametrize("score", [float("nan"), float("-inf")])
def test_a_loss_that_is_not_finite_is_logged_as_it_is_and_training_stays_what_it_is(score, begin, tmp_path):
    loop, twin = Loop(), Loop()
    torch.manual_seed(1)
    with begin(loop) as cockpit:
        loop.steps(cockpit, 2)
        with cockpit.step():
            loop.backward(score=score)  # a careful user's optimizer does not step now
        loop.steps(cockpit, 2)
        loop.steps(cockpit, 1, score=score)
        loop.steps(cockpit, 1)
    torch.manual_seed(1)
    losses = []
    for step in range(7):
        losses.append(float(twin.backward(score=score if step in (2, 5) else 0.0).detach()))
        if step != 2:
            twin.optimizer.step()
    for mine, theirs in zip(loop.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine.view(torch.int32), theirs.view(torch.int32))
    run = load_run(tmp_path / "run")
    np.testing.assert_array_equal(run["loss"].values, losses)
    assert not run["loss"].missing.any()
    assert not np.isfinite(run["loss"].values[[2, 5]]).any()
    assert not run["norm_test"].missing[[0, 1, 3, 4]].any()


def test_a_first_loss_that_is_not_finite_does_not_spoil_the_others(loop, begin, tmp_path):
    cockpit = begin(loop)
    with cockpit.step():
        loop.backward(score=float("nan"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CockpitWarning)
        loop.steps(cockpit, 4)
    cockpit.close()
    assert list(load_run(tmp_path / "run")["norm_test"].missing[1:]) == [False] * 4


def test_a_loss_of_weight_zero_is_a_gap_that_is_explained(loop, begin, tmp_path):
    cockpit = begin(loop)
    with pytest.warns(CockpitWarning, match="the gradient that arrives at the loss is zero"):
        loop.steps(cockpit, 2, weight=0.0)
    loop.steps(cockpit, 2)
    cockpit.close()
    run = load_run(tmp_path / "run")
    assert list(run["norm_test"].missing) == [True, True, False, False]
    assert not run["loss"].missing[2:].any()


def test_a_loss_that_needs_no_gradient_fails_as_it_would_without_a_cockpit(loop, begin, tmp_path):
    cockpit = begin(loop)
    with pytest.raises(RuntimeError, match="does not require grad"), cockpit.step(), torch.no_grad():
        F.cross_entropy(loop.model(torch.randn(8, 4)), torch.randint(3, (8,))).backward()
    no_trace(loop)
    loop.steps(cockpit, 2)
    cockpit.close()
    assert list(load_run(tmp_path / "run")["loss"].steps) == [0, 1]


def own_loss(loop):
    loop.optimizer.zero_grad()
    loss = (loop.model(torch.randn(8, 4)) ** 2).mean()
    loss.backward()
    loop.optimizer.step()
    return loss.detach()


def test_a_loss_that_was_not_seen_leaves_what_needs_no_individual_losses(loop, begin, tmp_path):
    cockpit = begin(loop)
    losses = []
    with pytest.warns(CockpitWarning) as told:  # noqa: PT031 - the step is what warns, and it is a block
        for _ in range(4):
            with cockpit.step():
                losses.append(own_loss(loop))
    cockpit.close()
    (warning,) = told
    words = f"step 0 gives no reading of {', '.join(sorted(NEED_INDIVIDUAL))}: no loss of torch.nn or"
    assert str(warning.message).startswith(words)
    assert "step.losses" in str(warning.message)
    assert warning.filename == __file__
    run = load_run(tmp_path / "run")
    np.testing.assert_array_equal(run["loss"].values, torch.stack(losses).double().numpy())
    assert (run["grad_norm"].values > 0).all()
    for key in NEED_INDIVIDUAL:
        assert run[key].missing.all()
    said = events(tmp_path)
    assert {event.subject for event in said} == NEED_INDIVIDUAL
    assert len(said) == len(NEED_INDIVIDUAL)
    assert {(event.step, event.kind) for event in said} == {(0, "warning")}


def test_losses_that_are_handed_over_serve_every_instrument(loop, begin, tmp_path):
    cockpit = begin(loop)
    for _ in range(3):
        with cockpit.step() as step:
            loop.optimizer.zero_grad()
            step.losses((loop.model(torch.randn(8, 4)) ** 2).mean(1)).backward()
            loop.optimizer.step()
    cockpit.close()
    run = load_run(tmp_path / "run")
    assert not any(run[key].missing.any() for key in NEED_INDIVIDUAL)
    assert events(tmp_path) == []


@pytest.mark.parametrize("track", [1, 2])
@pytest.mark.parametrize(
    ("losses", "error", "words"),
    [
        (
            torch.ones(3, 2),
            ValueError,
            r"one loss per sample, shape \[N\], got shape \[3, 2\]: leave out the reduction",
        ),
        (torch.tensor(1.0), ValueError, r"got shape \[\]"),
        ([1.0, 2.0], TypeError, "a tensor with one loss per sample, got list"),
    ],
)
def test_losses_of_another_shape_are_refused_on_every_step(losses, error, words, track, loop, begin):
    cockpit = begin(loop, track=track)
    loop.steps(cockpit, 1)
    with pytest.raises(error, match=words), cockpit.step() as step:
        step.losses(losses)
    no_trace(loop)


def test_a_step_without_a_backward_pass_says_so_once(loop, begin, tmp_path):
    cockpit = begin(loop)
    with pytest.warns(CockpitWarning, match="no backward pass was seen") as told:  # noqa: PT031
        for _ in range(3):
            with cockpit.step():
                loop.model(torch.randn(8, 4))
    loop.steps(cockpit, 1)
    cockpit.close()
    assert len(told) == 1
    assert list(load_run(tmp_path / "run")["loss"].missing) == [True, True, True, False]


def test_a_penalty_in_the_loss_withholds_a_parameter_and_says_so_once_although_its_size_changes(loop, begin, tmp_path):
    cockpit = begin(loop, instruments="norm_test+grad_norm")
    with pytest.warns(CockpitWarning, match="such as a penalty on the weights") as told:  # noqa: PT031
        for step in range(6):
            with cockpit.step():
                loop.optimizer.zero_grad()
                loss = F.cross_entropy(loop.model(torch.randn(8, 4)), torch.randint(3, (8,)))
                (loss + (1 + step) * sum(p.square().sum() for p in loop.model.parameters())).backward()
                loop.optimizer.step()
    cockpit.close()
    assert len(told) == 1
    assert load_run(tmp_path / "run")["norm_test"].missing.all()


def test_a_step_within_a_step_is_refused_and_the_next_one_works(loop, begin, tmp_path):
    cockpit = begin(loop)
    loop.steps(cockpit, 1)
    words = "step 1 is still open: a step is one optimizer update, and steps do not nest"
    with pytest.raises(RuntimeError, match=words), cockpit.step(), cockpit.step():
        raise AssertionError("the inner block is not entered")
    no_trace(loop)
    loop.steps(cockpit, 2)
    cockpit.close()
    assert list(load_run(tmp_path / "run")["loss"].steps) == [0, 1, 2]


class Interruption(BaseException):
    """Neither an Exception nor known to anybody."""


def before_the_forward_pass(loop):
    raise ZeroDivisionError("the user's own")


def between_the_passes(loop):
    F.cross_entropy(loop.model(torch.randn(8, 4)), torch.randint(3, (8,)))
    raise KeyboardInterrupt


def in_the_forward_pass(loop):
    loop.model(torch.randn(8, 5))


def in_the_backward_pass(loop):
    hidden = loop.model[0](torch.randn(8, 4))

    def hook(gradient):
        raise Interruption

    hidden.register_hook(hook)
    F.cross_entropy(loop.model[2](hidden.tanh()), torch.randint(3, (8,))).backward()


def after_the_optimizer(loop):
    loop.update()
    raise StopIteration


@pytest.mark.parametrize("track", [1, 3])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (before_the_forward_pass, ZeroDivisionError),
        (between_the_passes, KeyboardInterrupt),
        (in_the_forward_pass, RuntimeError),
        (in_the_backward_pass, Interruption),
        (after_the_optimizer, StopIteration),
    ],
)
def test_an_exception_in_the_users_code_passes_through_and_the_step_never_was(
    fault, error, track, loop, begin, tmp_path
):
    cockpit = begin(loop, track=track)
    loop.steps(cockpit, 3)
    with pytest.raises(error) as caught, cockpit.step():
        fault(loop)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    no_trace(loop)
    loop.optimizer.zero_grad()
    loop.steps(cockpit, 3)
    cockpit.close()
    run = load_run(tmp_path / "run")
    assert list(run["loss"].steps) == [step for step in range(6) if step % track == 0]
    assert not run["loss"].missing.any()
    assert not run["norm_test"].missing.any()
    assert events(tmp_path) == []


def test_a_step_that_failed_holds_no_tensors_although_its_loss_is_kept(loop, begin):
    cockpit = begin(loop)
    losses = []

    def fails():
        losses.append(F.cross_entropy(loop.model(torch.randn(67, 4)), torch.randint(3, (67,))))
        losses[0].backward()
        raise MemoryError

    with pytest.raises(MemoryError), cockpit.step():
        fails()
    gc.collect()
    tensors = [found for found in gc.get_objects() if type(found) is torch.Tensor]
    assert [found.shape for found in tensors if found.dim() > 1 and found.shape[0] == 67] == []
