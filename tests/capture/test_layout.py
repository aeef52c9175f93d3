"""Where the batch is in every tensor is measured as often as it has to be, and remembered."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from capturing import agree, captured
from classifier import C, truth_of
from torch import Tensor, nn

from cockpit.capture.samples.layout import Layouts


def step_of(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[object], None]:
    return lambda _: F.cross_entropy(model(x), y).backward()


def test_layout_is_measured_once_for_each_set_of_shapes() -> None:
    torch.manual_seed(9)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, C)).double()
    walks = 0

    def count(_: object) -> None:
        nonlocal walks
        walks += 1

    layouts = Layouts()
    counts = []
    for N in (4, 4, 6, 4, 6):
        walks = 0
        x, y = torch.randn(N, 3).double(), torch.randint(C, (N,))

        def step(_: object, x: Tensor = x, y: Tensor = y) -> None:
            out = model(x).clone()
            out.register_hook(count)
            F.cross_entropy(out, y).backward()

        truth = truth_of(model, x, y)
        agree(captured(model, step, layouts=layouts), truth)
        counts.append(walks)
    assert counts == [4, 1, 4, 1, 1]


def test_batch_that_is_not_found_is_searched_ever_more_rarely() -> None:
    """Only the first eight samples have a loss, and eight is the number of features: a way to try, and no batch."""
    torch.manual_seed(9)
    model = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, C))
    layouts, walks = Layouts(), []

    def step(_: object) -> None:
        out = model(torch.randn(32, 8)).clone()
        walks.append(0)
        out.register_hook(lambda _: walks.__setitem__(-1, walks[-1] + 1))
        F.cross_entropy(out[:8], torch.randint(C, (8,))).backward()

    for _ in range(9):
        assert captured(model, step, layouts=layouts).gradients == {}
    assert [asked for asked, count in enumerate(walks, 1) if count > 1] == [1, 2, 4, 8]


def test_layer_that_was_dead_at_first_is_measured_when_it_comes_alive() -> None:
    torch.manual_seed(10)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, C)).double()
    bias = model[0].bias.detach().clone()
    x, y = torch.randn(6, 3).double(), torch.randint(C, (6,))
    layouts = Layouts()
    with torch.no_grad():
        model[0].bias.fill_(-100)
    told = captured(model, step_of(model, x, y), layouts=layouts)
    assert not told.left_out
    assert not told.gradients["0.weight"].any()
    with torch.no_grad():
        model[0].bias.copy_(bias)
    truth = truth_of(model, x, y)
    agree(captured(model, step_of(model, x, y), layouts=layouts), truth)


def test_mostly_dead_layer_is_measured_by_the_samples_that_are_alive() -> None:
    torch.manual_seed(11)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, C)).double()
    with torch.no_grad():
        model[0].bias.fill_(-1)
    x, y = torch.randn(32, 3).double() * 0.05, torch.randint(C, (32,))
    x[[2, 3, 12]] = torch.tensor([[9.0], [-9.0], [9.0]]).double()
    truth = truth_of(model, x, y)
    assert sum(bool(row.any()) for row in truth.gradients["0.weight"]) == 3
    layouts, left_out = Layouts(), []
    for _ in range(16):
        told = captured(model, step_of(model, x, y), layouts=layouts)
        left_out.append(bool(told.left_out))
    assert left_out == sorted(left_out, reverse=True), "once found, it stays found"
    agree(told, truth)


def test_first_loss_of_nan_does_not_spoil_the_layout() -> None:
    torch.manual_seed(12)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, C)).double()
    x, y = torch.randn(6, 3).double(), torch.randint(C, (6,))
    layouts = Layouts()
    for _ in range(3):
        captured(model, step_of(model, x * float("nan"), y), layouts=layouts)
    truth = truth_of(model, x, y)
    agree(captured(model, step_of(model, x, y), layouts=layouts), truth)


def test_branch_that_is_not_part_of_the_loss_is_let_alone() -> None:
    torch.manual_seed(13)

    class Branched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.head, self.spare = nn.Linear(3, 4), nn.Linear(4, C), nn.Linear(4, C)

        def forward(self, x: Tensor) -> Tensor:
            h = self.trunk(x).tanh()
            self.spare(h)
            return self.head(h)

    model = Branched().double()
    x, y = torch.randn(6, 3).double(), torch.randint(C, (6,))
    truth = truth_of(model, x, y)
    agree(captured(model, step_of(model, x, y)), truth)
