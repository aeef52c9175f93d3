"""A bug that no picture shows: images fed as numbers from 0 to 255 instead of 0 to 1.

Drawn with automatic colour limits both look the same, and neither training fails with an error. The histogram of the
individual gradients, with its fixed range of [-1, 1], gives the bug away at the first step: the end bins fill.

python examples/raw_pixels.py                                        # scikit-learn's digits
python examples/raw_pixels.py --cifar DIR/cifar10_subset.npz         # CIFAR-10 images, see benchmarks/README.md
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import nn

from cockpit import Cockpit, load_run
from cockpit.datasets import Images, digits, from_npz
from cockpit.logged import Quantity

Prepare = Callable[[np.ndarray], np.ndarray]
PIPELINES: dict[str, Prepare] = {"scaled to [0, 1]": Images.scaled, "raw, 0 to 255": Images.raw}


def network(images: Images) -> nn.Module:
    """Three convolutions and three dense layers: 3c3d in small."""
    channels, height, width = images.shape
    return nn.Sequential(
        *(nn.Conv2d(channels, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(24, 32, 3, padding=1), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(32 * (height // 4) * (width // 4), 128), nn.ReLU()),
        *(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, images.classes)),
    )


def train(images: Images, prepare: Prepare, run: Path, steps: int) -> Path:
    """Train with one of the two pipelines; all else is equal. Returns where the log went."""
    torch.manual_seed(0)
    model = network(images)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    loss_fn = nn.CrossEntropyLoss()
    with Cockpit(model, optimizer, loss_fn, run=run, track=10) as cockpit:
        for _ in range(steps):
            chosen = torch.randint(len(images.x_train), (64,)).numpy()
            x = torch.from_numpy(prepare(images.x_train[chosen]))
            y = torch.from_numpy(images.y_train[chosen])
            with cockpit.step():
                optimizer.zero_grad()
                loss = loss_fn(model(x), y)
                loss.backward()
                optimizer.step()
        return cockpit.run


def share_in_end_bins(histogram: Quantity) -> float:
    """Which share of the first step's gradient elements lies in the two outermost bins."""
    counts = histogram.values[0]
    return float((counts[0] + counts[-1]) / counts.sum())


def draw_image(axes: Axes, images: Images, name: str) -> None:
    """One image as a viewer with automatic colour limits shows it."""
    pixels = PIPELINES[name](images.x_train[3])
    axes.imshow(pixels.transpose(1, 2, 0) / pixels.max(), cmap="gray")
    axes.set(title=f"Images {name}", xticks=[], yticks=[])


def draw_histogram(axes: Axes, histogram: Quantity) -> None:
    """The gradient elements of the very first step, the end bins in another colour."""
    counts, edges = histogram.values[0], histogram.edges
    bars = axes.bar(edges[:-1], counts / counts.sum(), np.diff(edges), align="edge", color="tab:blue")
    for bar in (bars[0], bars[-1]):
        bar.set_color("tab:red")
    axes.set(yscale="log", xlim=(-1.05, 1.05), xlabel="element of an individual gradient, step 0", ylabel="share")
    label = f"{share_in_end_bins(histogram):.2%}\nin the end bins"
    axes.text(0.97, 0.95, label, transform=axes.transAxes, ha="right", va="top", color="tab:red")


def draw(images: Images, runs: dict[str, Path], picture: Path) -> None:
    """One column per pipeline: an image as it looks, the gradients as they are, and what becomes of the training."""
    figure, rows = plt.subplots(3, 2, figsize=(9, 8.5), layout="constrained")
    for left, right in rows[1:]:
        right.sharey(left)
    for (image_axes, histogram_axes, loss_axes), (name, run) in zip(rows.T, runs.items(), strict=True):
        log = load_run(run)
        draw_image(image_axes, images, name)
        draw_histogram(histogram_axes, log["grad_hist_1d"])
        loss_axes.plot(log["loss"].steps, log["loss"].values)
        loss_axes.set(xlabel="step", ylabel="mini-batch loss")
    figure.savefig(picture, dpi=90)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=Path, metavar="FILE", help="CIFAR-10 images; without it, digits")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--logdir", type=Path, default=Path("runs"), help="where the logs go")
    parser.add_argument("--picture", type=Path, default=Path("raw_pixels.png"))
    options = parser.parse_args()
    images = from_npz(options.cifar) if options.cifar else digits()
    runs = {
        name: train(images, prepare, options.logdir / f"raw-pixels-{prepare.__name__}", options.steps)
        for name, prepare in PIPELINES.items()
    }
    draw(images, runs, options.picture)
    for name, run in runs.items():
        log = load_run(run)
        print(
            f"{name}: loss {log['loss'].values[-1]:.3f}, "
            f"{share_in_end_bins(log['grad_hist_1d']):.3%} of the first gradient elements in the end bins"
        )
    print(f"drawn in {options.picture}")


if __name__ == "__main__":
    main()
