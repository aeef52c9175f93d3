"""AdaHessian, of the package pytorch-optimizer, with the Hessian's diagonal from the cockpit.

By itself AdaHessian has the loss differentiated with ``create_graph=True``, and the gradients once more through a graph
three times as long, for Hutchinson's estimate of the diagonal. The cockpit has a better one, from a pass back to the
layers' outputs alone, and hands it over: ``optimizer.step(hessian=step.diagonal(optimizer))``. It is that of the
Gauss-Newton matrix, which for a network with ReLU has the Hessian's diagonal, squared sample by sample: the noise of
other coordinates is not in it. Its sum is what the panel "Hessian trace" shows.

pip install pytorch-optimizer
python examples/adahessian.py                     # scikit-learn's digits
python examples/adahessian.py --data DIR          # MNIST from DIR/mnist/, see benchmarks/README.md
"""

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from pytorch_optimizer import AdaHessian
from torch import Tensor, nn

from cockpit import Cockpit
from cockpit.datasets import Images, digits, mnist
from cockpit.instruments import HessTrace

WAYS = {"its own": None, "cockpit, ggn_mc": "ggn_mc", "cockpit, hutchinson": "hutchinson"}
"""Where the diagonal comes from."""

EXACT = "hessian"
COLOURS = dict(zip(["plain SGD", *WAYS], ["#9aa0a6", "#d9822b", "#1f6fb4", "#8fbfe6"], strict=True))
LOSS = nn.CrossEntropyLoss()


def network(images: Images) -> nn.Module:
    """Two convolutions and two dense layers."""
    channels, height, width = images.shape
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(32 * (height // 4) * (width // 4), 64), nn.ReLU(), nn.Linear(64, images.classes)),
    )


def batches(images: Images, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The same ones for every way."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        chosen = torch.randint(len(images.x_train), (128,), generator=generator).numpy()
        yield torch.from_numpy(Images.scaled(images.x_train[chosen])), torch.from_numpy(images.y_train[chosen])


class Training:
    """One way to train.

    Args:
        images: Where the batches come from.
        way: One of :data:`WAYS`, or plain SGD.
        logdir: Where the log goes.
        lr: Learning rate of AdaHessian.
    """

    def __init__(self, images: Images, way: str, logdir: Path, lr: float = 0.03) -> None:
        self.model, self.way = network(images), way
        parameters = self.model.parameters()
        if way in (
            EXACT,
            *WAYS,
        ):  # along coordinates that are hardly curved its own eps of 1e-16 lets steps become millions
            self.optimizer = AdaHessian(parameters, lr=lr, eps=1e-2)
        else:
            self.optimizer = torch.optim.SGD(parameters, lr=0.1)
        curvature = EXACT if way == EXACT else WAYS.get(way)
        instruments = [] if curvature is None else [HessTrace(curvature, diagonal=True, track=1)]
        run = logdir / f"adahessian-{curvature}"
        self.cockpit = Cockpit(
            self.model, self.optimizer, run=run, instruments=["loss", *instruments], enabled=curvature is not None
        )
        self.losses: list[float] = []
        self.seconds: list[float] = []

    def step(self, x: Tensor, y: Tensor) -> None:
        began = perf_counter()
        with self.cockpit.step() as step:
            self.optimizer.zero_grad()
            loss = LOSS(self.model(x), y)
            loss.backward(create_graph=self.way == "its own")
            if self.cockpit.enabled:
                self.optimizer.step(hessian=step.diagonal(self.optimizer))
            else:
                self.optimizer.step()
        if self.way == "its own":
            self.optimizer.zero_grad()  # gradients with a graph hold the network that holds them
        self.seconds.append(perf_counter() - began)
        self.losses.append(loss.item())

    def diagonal(self) -> Tensor:
        """What AdaHessian was given last, or took."""
        return torch.cat([self.optimizer.state[p]["hessian"].flatten() for p in self.model.parameters()])

    def close(self) -> None:
        if self.cockpit.enabled:
            self.cockpit.close()


def train(images: Images, steps: int, logdir: Path) -> list[Training]:
    """All ways in turn, step by step."""
    trainings = [Training(images, way, logdir) for way in COLOURS]
    for x, y in batches(images, steps):
        for training in trainings:
            training.step(x, y)
    for training in trainings:
        training.close()
    return trainings


def errors(images: Images, logdir: Path, draws: int = 5) -> dict[str, float]:
    """How far one estimate is from the exact diagonal, relatively: a mean over some, of one batch."""
    ((x, y),) = batches(images, 1)
    found: dict[str, list[Tensor]] = {}
    for way in (EXACT, *WAYS):
        standing = Training(images, way, logdir, lr=0.0)
        found[way] = []
        for _ in range(1 if way == EXACT else draws):
            standing.step(x, y)
            found[way].append(standing.diagonal().clone())
        standing.close()
    (truth,) = found.pop(EXACT)
    return {
        way: float(torch.stack([(d - truth).norm() / truth.norm() for d in some]).mean()) for way, some in found.items()
    }


def smoothed(losses: list[float], over: int = 20) -> Tensor:
    return torch.tensor(losses).unfold(0, min(over, len(losses)), 1).mean(1)


def bars(axes: Axes, values: dict[str, float], title: str) -> None:
    drawn = axes.barh(list(values), list(values.values()), color=[COLOURS[name] for name in values])
    axes.bar_label(drawn, fmt="%.2f", padding=3)
    axes.invert_yaxis()
    axes.set(title=title, xlim=(0, 1.15 * max(values.values())))


def draw(trainings: list[Training], times: dict[str, float], far: dict[str, float], picture: Path) -> None:
    """What becomes of the loss, what a step takes, and how good the diagonals are."""
    figure, (loss_axes, time_axes, error_axes) = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    for training in trainings:
        if training.way in WAYS:
            loss_axes.plot(smoothed(training.losses), color=COLOURS[training.way], label=training.way)
    loss_axes.set(xlabel="step", title="Loss of AdaHessian", yscale="log")
    loss_axes.legend(title="diagonal")
    bars(time_axes, times, "Time of a step, in plain ones")
    bars(error_axes, far, "Error of one estimate, relative")
    error_axes.set(xscale="log", xlim=(0.05, 5 * max(far.values())))
    figure.savefig(picture, dpi=80)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with mnist/; without it, digits")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--logdir", type=Path, default=Path("runs"), help="where the logs go")
    parser.add_argument("--picture", type=Path, default=Path("adahessian.png"))
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "Using backward.. with create_graph")  # which AdaHessian by itself needs
    images = mnist(options.data / "mnist") if options.data else digits()
    trainings, far = train(images, options.steps, options.logdir), errors(images, options.logdir)
    plain = trainings[0].seconds
    times = {t.way: median(a / b for a, b in zip(t.seconds, plain, strict=True)) for t in trainings}
    draw(trainings, times, far, options.picture)
    for training in trainings[1:]:
        way, last = training.way, float(smoothed(training.losses)[-1])
        print(f"{way}: a step takes {times[way]:.2f} plain ones; error {far[way]:.2f}, loss {last:.3f}")
    print(f"drawn in {options.picture}")


if __name__ == "__main__":
    main()
