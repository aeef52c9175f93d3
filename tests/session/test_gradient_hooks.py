"""Hooks on parameters that alter their gradients: what is read is of the loss, what they do is clipping."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cockpit import Cockpit, load_run

OF_THE_CLOCK = {"time", "cockpit.overhead", "samples_per_second"}


def run(path, hook, micro_batches=1, instruments="full"):
    """Reads in steps of size zero."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    if hook:
        model[0].weight.register_hook(hook)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    x, y = torch.randn(12, 4).double(), torch.randint(3, (12,))
    with Cockpit(model, optimizer, run=path, track=1, instruments=instruments) as cockpit:
        for _ in range(2):
            with cockpit.step():
                optimizer.zero_grad()
                for inputs, labels in zip(x.chunk(micro_batches), y.chunk(micro_batches), strict=True):
                    (F.cross_entropy(model(inputs), labels) / micro_batches).backward()
                optimizer.step()
    return load_run(path), model[0].weight.grad


@pytest.mark.parametrize("key", ["grad_norm", "norm_test"])
def test_a_hook_changes_nothing_whoever_reads(tmp_path, key):
    """Also where nobody asks for second derivatives, which are taken without it."""
    plain, hooked = (run(tmp_path / name, hook, 1, key)[0] for name, hook in (("plain", None), ("3", lambda g: 3 * g)))
    np.testing.assert_allclose(hooked[key].values, plain[key].values, rtol=1e-12)


@pytest.mark.filterwarnings("ignore:.*the batch came in several backward passes")
@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("hook", [lambda g: 3 * g, lambda g: g.clamp(-0.01, 0.01)], ids=["larger", "clipped"])
def test_a_hook_changes_only_what_is_said_of_clipping(tmp_path, hook, micro_batches):
    plain, _ = run(tmp_path / "plain", None, micro_batches)
    hooked, altered = run(tmp_path / "hooked", hook, micro_batches)
    clipping = {"clip", "clip.left", "clip.norm", "clip.threshold"}
    keys = set(plain.keys()) - OF_THE_CLOCK - clipping
    assert keys == set(hooked.keys()) - OF_THE_CLOCK - clipping
    assert len(keys) > 25
    for key in keys:
        np.testing.assert_allclose(hooked[key].values, plain[key].values, rtol=1e-12, atol=1e-14, err_msg=key)
    others = plain["grad_norm"].values[-1] ** 2 - plain["grad_norm"].layers.values[-1][0] ** 2
    assert hooked["clip.norm"].values[-1] == pytest.approx(float(altered.norm() ** 2 + others) ** 0.5)
