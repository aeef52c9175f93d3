"""Trains under a cockpit until it is killed: see :mod:`nursery`."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from nursery import Report, fork_on_demand, tell_of_writes
from torch import nn

from cockpit import Cockpit

KEYS = ("loss", "norm_test", "grad_norm", "update_size")  # no loops to be compiled in each of them


def live(place: str, seed: int, report: Report) -> None:
    tell_of_writes(report)
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    cockpit = Cockpit(model, optimizer, run=place, track=1, instruments=list(KEYS))
    for step in itertools.count():
        with cockpit.step():
            optimizer.zero_grad()
            F.cross_entropy(model(torch.randn(8, 4)), torch.randint(3, (8,))).backward()
            optimizer.step()
        report(1, step)


if __name__ == "__main__":
    fork_on_demand(live)
