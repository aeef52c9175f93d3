"""A batch without samples: nothing is read of it but the reason, and the steps around it are as ever."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cockpit import Cockpit, CockpitWarning, load_run


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("sizes", [(6, 0, 6), (0, 6)])
def test_an_empty_batch_is_a_gap_with_a_reason(sizes, reduction, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", CockpitWarning)
        with Cockpit(model, optimizer, run=tmp_path / "run", track=1, instruments="business") as cockpit:
            for size in sizes:
                x, y = torch.randn(size, 4).double(), torch.randint(3, (size,))
                with cockpit.step():
                    optimizer.zero_grad()
                    F.cross_entropy(model(x), y, reduction=reduction).backward()
                    optimizer.step()
    run = load_run(tmp_path / "run")
    empty = np.array([size == 0 for size in sizes])
    for key in ("norm_test", "grad_hist_1d", "hess_trace", "sample_grad_norm"):
        column = run[key]
        missing = {int(step): bool(gone) for step, gone in zip(column.steps, column.missing, strict=True)}
        assert [missing.get(step, True) for step in range(len(sizes))] == list(empty), key
    assert not [event for event in run.events() if event.kind == "error"]
    words = " ".join(str(warning.message) for warning in said)
    assert "the batch is empty" in words
    assert "Error" not in words
