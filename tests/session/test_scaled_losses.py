"""Under a loss-scaled optimizer every instrument reports what it reports under the plain one."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cockpit import Cockpit, load_run
from cockpit.instrument import registered
from cockpit.optim import DynamicScale, ScaledAdam, ScaledAdamW, ScaledRMSprop, ScaledSGD

PLAIN = {
    ScaledSGD: torch.optim.SGD,
    ScaledAdam: torch.optim.Adam,
    ScaledAdamW: torch.optim.AdamW,
    ScaledRMSprop: torch.optim.RMSprop,
}
INSTRUMENTS = list(registered())
OF_THE_SCALER = ("amp", "amp.skipped", "amp.smallest", "amp.largest")
OF_THE_CLOCK = ("time", "cockpit.overhead", "samples_per_second")


def trained(path, kind, *, max_norm=None, steps=4, normalised=False, instruments=INSTRUMENTS, **options):
    """Trains a small network, under all instruments; its run."""
    torch.manual_seed(0)
    between = [nn.BatchNorm1d(6)] if normalised else []
    model = nn.Sequential(nn.Linear(4, 6), *between, nn.ReLU(), nn.Linear(6, 3)).double()
    optimizer = kind(model.parameters(), lr=0.05, **options)
    generator = torch.Generator().manual_seed(1)
    with Cockpit(model, optimizer, run=path, track=1, instruments=instruments) as cockpit:
        for _ in range(steps):
            x, y = torch.randn(12, 4, generator=generator).double(), torch.randint(3, (12,), generator=generator)
            with cockpit.step():
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                (optimizer.scale(loss) if hasattr(optimizer, "scale") else loss).backward()
                if max_norm and hasattr(optimizer, "scale"):
                    optimizer.clip_grad_norm_(max_norm)
                elif max_norm:
                    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
                optimizer.step()
    return load_run(path)


SCALED = pytest.mark.parametrize(
    ("kind", "scale"),
    [
        (ScaledSGD, None),
        (ScaledSGD, 2.0**12),
        (ScaledAdam, 2.0**12),
        (ScaledAdam, [2.0**12, 2.0**3, 2.0**-4, 2.0]),
        (ScaledAdam, DynamicScale(2.0**10, interval=2)),
        (ScaledAdamW, 300.0),
        (ScaledRMSprop, 300.0),
    ],
    ids=["the learning rate", "SGD", "Adam", "one for each parameter", "dynamic", "AdamW", "RMSprop"],
)


@pytest.mark.filterwarnings(
    "ignore:.*no reading of tail_index_update. .*have no tail",  # Adam's first step is a sign
    "ignore:.*no reading of scale_symmetry. no layer lies before batch normalisation",
)
@pytest.mark.parametrize("max_norm", [None, 0.4], ids=["", "clipped"])
@SCALED
def test_instruments_report_unscaled_values(tmp_path, kind, scale, max_norm):
    plain = trained(tmp_path / "plain", PLAIN[kind], max_norm=max_norm)
    scaled = trained(tmp_path / "scaled", kind, max_norm=max_norm, scale=scale)
    keys = set(plain.keys()) - set(OF_THE_CLOCK)
    assert keys <= set(scaled.keys())
    assert len(keys) > 30
    for key in keys - set(OF_THE_SCALER):
        for part in ("missing", "values", "edges", "y_edges"):
            _same(getattr(scaled[key], part), getattr(plain[key], part), f"{key}, {part}")
        if plain[key].layers is not None:
            assert scaled[key].layers.names == plain[key].layers.names
            _same(scaled[key].layers.values, plain[key].layers.values, f"{key}, layers")


@SCALED
def test_what_the_update_has_along_normalised_weights_is_that_of_the_plain_one(tmp_path, kind, scale):
    watched = {"normalised": True, "instruments": ["scale_symmetry"]}
    plain = trained(tmp_path / "plain", PLAIN[kind], **watched)["scale_symmetry"]
    if isinstance(scale, list):
        scale = [*scale[:2], 2.0, 0.25, *scale[2:]]  # of the normalisation's parameters, too
    scaled = trained(tmp_path / "scaled", kind, scale=scale, **watched)["scale_symmetry"]
    assert not plain.missing.any()
    np.testing.assert_allclose(scaled.values, plain.values, rtol=1e-9, atol=1e-12)


def _same(mine, theirs, words):
    if theirs is None:
        assert mine is None
    else:
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12, err_msg=words)


def test_the_scale_itself_is_logged(tmp_path):
    amp = trained(tmp_path / "run", ScaledAdam, scale=DynamicScale(2.0**10, interval=2))["amp"]
    assert list(amp.values) == [2.0**10, 2.0**10, 2.0**11, 2.0**11]


def test_a_learning_rate_that_scales_the_loss_is_followed_by_all_instruments(tmp_path):
    clipped = trained(tmp_path / "run", ScaledSGD, max_norm=0.1)
    assert list(clipped["clip"].values) == [1.0] * 4
    np.testing.assert_allclose(clipped["clip.norm"].values, 0.1, rtol=1e-4)
