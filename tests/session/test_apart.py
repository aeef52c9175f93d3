"""Real trainings beside each other: what another seed does, and what another learning rate does."""

import pytest
import torch
from torch import nn

from cockpit import Cockpit
from cockpit.comparing.comparison import rank
from cockpit.store import Reader

STEPS, CHANGE = 240, 120


def train(place, seed, rate=None):
    """A small classifier of noisy clusters; from step ``CHANGE`` on with another learning rate, if one is given."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 4))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    with Cockpit(model, optimizer, run=place, track=1) as cockpit:
        for step in range(STEPS):
            if rate is not None and step == CHANGE:
                optimizer.param_groups[0]["lr"] = rate
            y = torch.randint(4, (16,))
            x = torch.randn(16, 6) + nn.functional.one_hot(y, 6)
            with cockpit.step():
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
    return Reader(place)


@pytest.mark.slow
def test_another_seed_is_no_divergence_and_another_learning_rate_is_one_from_its_step_on(tmp_path):
    base, other, faster = train(tmp_path / "a", 0), train(tmp_path / "b", 1), train(tmp_path / "c", 0, rate=0.5)
    seeds = rank(base, other)
    assert len(seeds.apart) <= 0.02 * (len(seeds.apart) + seeds.together)
    found = {(finding.key, finding.layer): finding.step for finding in rank(base, faster).apart}
    assert found["learning_rate", ""] == CHANGE
    assert found["update_size", ""] == pytest.approx(CHANGE, abs=3)
    assert min(found.values()) >= CHANGE - 3
    apart = {finding.key: finding.step for finding in rank(other, faster).apart if not finding.layer}
    assert apart["update_size"] == pytest.approx(CHANGE, abs=12)
