"""A small training under the cockpit, at the pace of something worth watching."""

from __future__ import annotations

import argparse
import time

import torch
from sklearn.datasets import load_digits
from torch import nn

from cockpit import Cockpit

parser = argparse.ArgumentParser()
parser.add_argument("run")
parser.add_argument("--steps", type=int, default=100_000)
parser.add_argument("--pace", type=float, default=0.02, help="seconds between steps")
arguments = parser.parse_args()

torch.manual_seed(0)
torch.set_num_threads(1)
digits = load_digits()
images = torch.tensor(digits.data / 16, dtype=torch.float32)
labels = torch.tensor(digits.target)
model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loss_fn = nn.CrossEntropyLoss()

with Cockpit(model, optimizer, loss_fn, run=arguments.run, track=5) as cockpit:
    for step in range(arguments.steps):
        batch = torch.randint(len(images), (32,))
        with cockpit.step():
            optimizer.zero_grad()
            loss_fn(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        if step % 20 == 0:
            with torch.no_grad():
                accuracy = (model(images).argmax(1) == labels).float().mean().item()
            cockpit.log({"valid/accuracy": accuracy})
        time.sleep(arguments.pace)
