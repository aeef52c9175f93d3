"""Peak memory of a training without and with Cockpit: ``python peak.py NETWORK`` prints a line of JSON, in bytes."""

from __future__ import annotations

import gc
import itertools
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cockpit import Cockpit
from cockpit.instrument import Instrument, resolve
from cockpit.instruments import GradHist1d, GradLogHist

N = 128
STEPS = 2  # in the second, all that is kept from one step for the next is there


def mlp(narrower: int = 1) -> tuple[nn.Module, Tensor]:
    wide, last = 4096 // narrower, 1024 // narrower
    layers = [nn.Linear(784, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, last), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(last, 10)), torch.randn(N, 784)


def conv(narrower: int = 1) -> tuple[nn.Module, Tensor]:
    """Widths that double as images shrink: large layers at the end, large outputs at the beginning."""
    layers: list[nn.Module] = []
    widths = [3, *(width // narrower for width in (64, 128, 256, 512, 1024, 2000))]
    for depth, (before, after) in enumerate(itertools.pairwise(widths)):
        layers += [nn.Conv2d(before, after, 3, stride=2 if depth > 1 else 1, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1], 10)), torch.randn(N, 3, 16, 16)


def watched() -> list[Instrument]:
    """Economy, with histograms of a few samples."""
    few = {"grad_hist_1d": GradHist1d(samples=8), "grad_log_hist": GradLogHist(samples=8)}
    return [few.get(instrument.name, instrument) for instrument in resolve("economy")]


def memory(what: str) -> int:
    """The process's resident memory as Linux tells it: now (``VmRSS``), or its peak (``VmHWM``)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(what))


def peak_of(steps: Callable[[], None]) -> int:
    """The peak while something runs. That of ``getrusage`` begins with what the parent process held."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    steps()
    return memory("VmHWM")


def outputs_of(model: nn.Module, x: Tensor) -> int:
    sizes: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda layer, args, output: sizes.append(output.nbytes))
        for layer in model
        if list(layer.parameters())
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return sum(sizes)


def main(name: str) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = {"mlp": mlp, "conv": conv}[name]
    model, x = network()
    y = torch.randint(10, (N,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    def watch(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, steps: int) -> None:
        with tempfile.TemporaryDirectory() as folder, Cockpit(
            model, optimizer, instruments=watched(), track=1, run=Path(folder) / "run"
        ) as cockpit:  # fmt: skip
            for _ in range(steps):
                with cockpit.step():
                    step(model, optimizer, x, y)

    # What is loaded once, and compiled once on a machine: to compile a loop that runs on several cores takes 200 MB.
    small, _ = network(narrower=8)
    watch(small, torch.optim.SGD(small.parameters(), lr=0.01), x, y, STEPS)
    plain = peak_of(lambda: step(model, optimizer, x, y))
    ours = peak_of(lambda: watch(model, optimizer, x, y, STEPS))
    parameters = sum(p.nbytes for p in model.parameters())
    told = {"plain": plain, "ours": ours, "parameters": parameters, "outputs": outputs_of(model, x), "samples": N}
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
