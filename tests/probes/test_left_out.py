"""A parameter whose individual gradients fail is left out, with the reason, and takes no other along."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from harness import Opaque, logged, record
from reference import one_at_a_time, token_losses
from torch import Tensor, nn

from cockpit.capture.individual.convolution import ConvolutionGradients
from cockpit.capture.individual.workspace import Workspace

N, C = 6, 3


@pytest.mark.parametrize("after", [0, 1])
def test_rows_that_fail_half_way_leave_their_parameter_out(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory, say: what was counted of it before the error is not in the histogram either."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(2, 2, 3), nn.Flatten(), nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, C)).double()
    x, y = torch.randn(N, 2, 6).double(), torch.arange(N) % C
    truth = one_at_a_time(model, lambda m: token_losses(m(x).unsqueeze(1), y.unsqueeze(1))[0])
    form = ConvolutionGradients._form_rows

    def broken(self: ConvolutionGradients, workspace: Workspace) -> Iterator[tuple[int, Tensor]]:
        for turn, (start, rows) in enumerate(form(self, Workspace(1))):
            if turn == after:
                raise RuntimeError("no memory left")
            yield start, rows

    monkeypatch.setattr(ConvolutionGradients, "_form_rows", broken)
    loss = lambda m, _: F.cross_entropy(m(x), y)  # noqa: E731
    run = record(tmp_path, model, [0, 0], loss, instruments="business")
    others = [name for name in truth.gradients if name != "0.weight"]
    for key in ("norm_test", "inner_test", "ortho_test"):
        assert logged(run, key, 0) == pytest.approx(getattr(truth, key)(others), rel=1e-7)
    assert (logged(run, "grad_hist_1d", 0) == truth.histogram(only=others)).all()
    assert logged(run, "grad_norm", 0) == pytest.approx(truth.grad_norm(), rel=1e-7)
    assert logged(run, "mean_gsnr", 0) is not None
    left_out = run._reader.document("coverage")["left_out"]
    assert left_out == {"0.weight": "RuntimeError: no memory left"}
    events = [event for event in run._reader.events() if event.kind == "error"]
    assert not events


def test_reading_of_less_than_half_of_the_network_is_refused(tmp_path: Path) -> None:
    class Mostly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.head = nn.Linear(5, 20), nn.Linear(20, C)

        def forward(self, x: Tensor) -> Tensor:
            return self.head((Opaque.apply(x, self.used.weight) + self.used.bias).tanh())

    run = record(tmp_path, Mostly(), [0], lambda m, _: F.cross_entropy(m(torch.randn(N, 5)), torch.arange(N) % C))
    assert logged(run, "norm_test", 0) is None
    (reason,) = {event.text for event in run._reader.events() if event.subject == "norm_test"}
    assert "cover 45% of the parameters" in reason
    assert "'OpaqueBackward' is a function of the model's own" in reason
