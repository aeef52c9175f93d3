"""The smallest use: wrap the training step, train on real digits, read the run back and draw it.

python examples/minimal.py; then: cockpit dashboard
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cockpit import Cockpit, load_run


def train(run: Path, epochs: int) -> Path:
    """Train a small network on scikit-learn's digits; returns where the log went."""
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    y = torch.tensor(digits.target)
    loader = DataLoader(TensorDataset(x[:1500], y[:1500]), batch_size=64, shuffle=True)

    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10)),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    loss_fn = nn.CrossEntropyLoss()

    with Cockpit(model, optimizer, loss_fn, run=run, track=10, config={"lr": 0.05}) as cockpit:
        for _ in range(epochs):
            for inputs, labels in loader:
                with cockpit.step():
                    optimizer.zero_grad()
                    loss = loss_fn(model(inputs), labels)
                    loss.backward()
                    optimizer.step()
            with torch.no_grad():
                accuracy = (model(x[1500:]).argmax(dim=1) == y[1500:]).float().mean().item()
            cockpit.log({"valid/accuracy": accuracy})
        return cockpit.run


def draw(run: Path, picture: Path) -> None:
    """Draw four of the run's series."""
    log = load_run(run)
    figure, axes = plt.subplots(2, 2, figsize=(9, 6), sharex=True, layout="constrained")
    (loss, accuracy), (grad_norm, norm_test) = axes

    loss.plot(log["loss"].steps, log["loss"].values)
    loss.set(ylabel="mini-batch loss", ylim=(0, None))
    accuracy.plot(log["valid/accuracy"].steps, log["valid/accuracy"].values, marker=".")
    accuracy.set(ylabel="validation accuracy")

    layers = log["grad_norm"].layers
    for name, values in zip(layers.names, layers.values.T, strict=True):
        if name.endswith("weight"):
            grad_norm.plot(log["grad_norm"].steps, values, label=name)
    grad_norm.set(xlabel="step", ylabel="gradient norm", yscale="log", ylim=(0.01, None))
    grad_norm.legend(ncols=3, fontsize="small", loc="lower center")
    norm_test.plot(log["norm_test"].steps, log["norm_test"].values)
    norm_test.axhline(0.71, color="grey", linestyle="--")
    norm_test.text(0.99, 0.02, "dashed: noise equals signal", transform=norm_test.transAxes, ha="right", color="grey")
    norm_test.set(xlabel="step", ylabel="norm test", ylim=(0, None))

    figure.savefig(picture, dpi=90)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/minimal"), help="where the log goes")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--picture", type=Path, default=Path("minimal.png"))
    options = parser.parse_args()
    run = train(options.run, options.epochs)
    draw(run, options.picture)
    print(f"{run} is drawn in {options.picture}")


if __name__ == "__main__":
    main()
