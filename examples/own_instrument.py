"""An instrument of one's own: how many samples is the gradient made of?

python examples/own_instrument.py; then: cockpit dashboard
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

from cockpit import Cockpit, Instrument, Panel, Reading, load_run
from cockpit.probes import PerSampleMoments


class EffectiveSamples(Instrument):
    """How many samples the gradient is made of: (Σ ‖g_n‖)² / Σ ‖g_n‖², between 1 and the batch size."""

    name = "effective_samples"
    needs = (PerSampleMoments,)
    panel = Panel(title="Effective samples", kind="lines", how_to_read="Far below the batch size: few samples teach.")

    def compute(self, steps):
        (step,) = steps
        moments = step[PerSampleMoments]
        norms = moments.layer_sq_norms.sqrt()
        layers = norms.sum(dim=1).square() / norms.square().sum(dim=1)
        total = moments.sq_norms.sqrt().sum().square() / moments.sq_norms.sum()
        return Reading(total.item(), layers=dict(zip(moments.names, layers.tolist(), strict=True)))


def train(run: Path, steps: int, wrong: float) -> Path:
    """Train on digits of which a share is labelled wrongly; returns where the log went."""
    digits = load_digits()
    x = torch.tensor(digits.data, dtype=torch.float32) / 16
    y = torch.tensor(digits.target)
    torch.manual_seed(0)
    mislabelled = torch.rand(len(y)) < wrong
    y = torch.where(mislabelled, torch.randint(10, y.shape), y)

    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    loss_fn = nn.CrossEntropyLoss()
    with Cockpit(model, optimizer, instruments=["loss", EffectiveSamples()], track=2, run=run) as cockpit:
        for _ in range(steps):
            batch = torch.randint(len(y), (128,))
            with cockpit.step():
                optimizer.zero_grad()
                loss_fn(model(x[batch]), y[batch]).backward()
                optimizer.step()
        return cockpit.run


def draw(runs: dict[str, Path], picture: Path) -> None:
    """Draw what the instrument said over training."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for label, run in runs.items():
        samples = load_run(run)["effective_samples"]
        steps_shown = samples.steps[-1]
        axes.plot(samples.steps, samples.values, label=label)
    axes.axhline(128, color="grey", linestyle="--")
    axes.text(steps_shown, 126, "batch size", color="grey", ha="right", va="top")
    axes.set(xlabel="step", ylabel="effective samples", ylim=(0, 135))
    axes.legend(title="labels that are random", loc="lower left")
    figure.savefig(picture, dpi=90)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the logs go")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--picture", type=Path, default=Path("own_instrument.png"))
    options = parser.parse_args()
    runs = {
        f"{100 * wrong:.0f} %": train(options.runs / f"effective-{100 * wrong:.0f}", options.steps, wrong)
        for wrong in (0.0, 0.3)
    }
    draw(runs, options.picture)
    print(f"{' and '.join(map(str, runs.values()))} are drawn in {options.picture}")


if __name__ == "__main__":
    main()
