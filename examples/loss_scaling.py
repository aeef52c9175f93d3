"""Does it save time to scale the loss in place of the step? Figures 4.3, 4.4, 5.2 and 5.3 of Alosily, Loss Scaling and
Step Size in Deep Learning Optimization (2023), measured again.

For each rule there is a pair of optimizers, written out as the formulas stand: a plain one, and one that takes the
gradients of a scaled loss and leaves factors out. They train the four models of table 4.1 on MNIST, in turn. The source
averages 10 and 20 epochs on a GPU; here an epoch is the median of some steps on one CPU core, in processor time, times
its number of steps.

What agrees: the halves of a pair come to the same parameters, and the update alone is shorter by the operations that
are left out. What does not: of a whole training step this is little. Proposition 5.1 takes the loss scale for the
reason, but it cancels in s/√r, and any other does as well: it is the α in the moment, equation 5.17, that is the step
size. The formulas have neither ε nor bias correction; ScaledAdam of cockpit.optim has both, and is torch.optim.Adam.

python examples/loss_scaling.py                  # scikit-learn's digits, enlarged
python examples/loss_scaling.py --data DIR       # MNIST from DIR/mnist/, see benchmarks/README.md
"""

import argparse
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from torch import Tensor, nn

from cockpit.datasets import Images, digits, mnist
from cockpit.optim import ScaledAdam

EPOCH = 60_000
EPS = 1e-12
"""Keeps gradients that are zero, which the formulas leave out, from becoming NaN."""

State = dict[str, Tensor]
Update = Callable[[Tensor, Tensor, State], None]


@dataclass(frozen=True)
class Pair:
    """A rule on the plain loss and on the scaled one.

    Args:
        plain: Changes a parameter, given its gradient and its state.
        scaled: The same for gradients of the loss multiplied with ``alpha``.
        alpha: The loss scale.
    """

    plain: Update
    scaled: Update
    alpha: float


def descent(lr: float) -> Pair:
    """Equations 4.2 and 4.4."""
    return Pair(lambda p, g, state: p.sub_(lr * g), lambda p, g, state: p.sub_(g), lr)


def moments(lr: float, beta: float, gamma: float) -> Pair:
    """Equations 5.1 to 5.3, and 5.17 to 5.21; a ``beta`` of zero is RMSprop."""
    alpha = lr * (1 - beta) / math.sqrt(1 - gamma)

    def plain(p: Tensor, g: Tensor, state: State) -> None:
        s = beta * state.get("s", torch.zeros(())) + (1 - beta) * g if beta else g
        r = gamma * state.get("r", torch.zeros(())) + (1 - gamma) * g * g
        state["s"], state["r"] = s, r
        p.sub_(lr * (s / (r.sqrt() + EPS)))

    def scaled(p: Tensor, g: Tensor, state: State) -> None:
        s = beta * state.get("s", torch.zeros(())) + alpha * g if beta else alpha * g
        r = gamma * state.get("r", torch.zeros(())) + g * g
        state["s"], state["r"] = s, r
        p.sub_(s / (r.sqrt() + EPS))

    return Pair(plain, scaled, alpha)


RULES = {
    "Fig. 4.3: SGD, factor 0.1": (descent(0.1), (32, 64)),
    "Fig. 4.4: SGD, factor 10": (descent(10.0), (32, 64)),
    "Fig. 5.2: RMSprop": (moments(1e-3, 0.0, 0.9), (32, 64, 128)),
    "Fig. 5.3: Adam": (moments(1e-3, 0.9, 0.999), (32, 64, 128)),
}


def convolutional(first: int, second: int) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, first, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(first, second, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(25 * second, 10)),
    )


MODELS: dict[str, Callable[[], nn.Module]] = {  # 8,954, 91,082, 12,730 and 109,386 parameters
    "A": lambda: convolutional(32, 16),
    "B": lambda: convolutional(128, 64),
    "C": lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10)),
    "D": lambda: nn.Sequential(
        *(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    ),
}


def enlarged(images: Images) -> Images:
    """Digits of 8 × 8 as images of 28 × 28."""
    pixels = (np.pad(np.kron(x, np.ones((3, 3), np.uint8)), [(0, 0), (0, 0), (2, 2), (2, 2)])
              for x in (images.x_train, images.x_valid))  # fmt: skip
    x_train, x_valid = pixels
    return Images(images.name, x_train, images.y_train, x_valid, images.y_valid)


def batches(images: Images, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    while True:
        chosen = torch.randint(len(images.x_train), (size,), generator=generator).numpy()
        yield torch.from_numpy(Images.scaled(images.x_train[chosen])), torch.from_numpy(images.y_train[chosen])


class Half:
    """One optimizer of a pair, with a model of its own, the same for both."""

    def __init__(self, make: Callable[[], nn.Module], update: Update, scale: float) -> None:
        torch.manual_seed(0)
        self.model, self._update, self._scale = make(), update, scale
        self._states: list[State] = [{} for _ in self.model.parameters()]
        self.steps: list[float] = []
        self.updates: list[float] = []

    def step(self, x: Tensor, y: Tensor) -> None:
        began = process_time()
        self.model.zero_grad()
        loss = F.cross_entropy(self.model(x), y)
        (loss if self._scale == 1 else loss * self._scale).backward()
        middle = process_time()
        with torch.no_grad():
            for parameter, state in zip(self.model.parameters(), self._states, strict=True):
                self._update(parameter, parameter.grad, state)
        self.steps.append(process_time() - began)
        self.updates.append(process_time() - middle)


@dataclass(frozen=True)
class Timing:
    """What both halves of a pair took, in seconds: medians for a step and for the update in it."""

    model: str
    batch: int
    plain: float
    scaled: float
    plain_update: float
    scaled_update: float


def timed(images: Images, name: str, pair: Pair, batch: int, seconds: float) -> Timing:
    """Trains both halves in turn."""
    plain, scaled = Half(MODELS[name], pair.plain, 1.0), Half(MODELS[name], pair.scaled, pair.alpha)
    began = perf_counter()
    for x, y in batches(images, batch):
        plain.step(x, y)
        scaled.step(x, y)
        if len(plain.steps) >= 10 and perf_counter() - began > seconds:
            break
    times = [median(some[2:]) for some in (plain.steps, scaled.steps, plain.updates, scaled.updates)]
    return Timing(name, batch, *times)


def distances(images: Images, steps: int = 150) -> dict[str, list[float]]:
    """How far model C comes to stand from where torch.optim.Adam takes it, relatively, after each step."""
    torch.manual_seed(0)
    theirs, ours = MODELS["C"](), MODELS["C"]()
    ours.load_state_dict(theirs.state_dict())
    plain, own = torch.optim.Adam(theirs.parameters(), lr=1e-3), ScaledAdam(ours.parameters(), lr=1e-3, scale=1000.0)
    pair, _ = RULES["Fig. 5.3: Adam"]
    halves = {f"source, loss × {scale:.2g}": Half(MODELS["C"], pair.scaled, scale) for scale in (pair.alpha, 1.0, 1e3)}
    halves = {"source, plain": Half(MODELS["C"], pair.plain, 1.0), **halves}
    found: dict[str, list[float]] = {name: [] for name in (*halves, "cockpit, loss × 1000")}
    for x, y in itertools.islice(batches(images, 64), steps):
        plain.zero_grad()
        F.cross_entropy(theirs(x), y).backward()
        plain.step()
        own.zero_grad()
        own.scale(F.cross_entropy(ours(x), y)).backward()
        own.step()
        for name, half in halves.items():
            half.step(x, y)
            found[name].append(apart(half.model, theirs))
        found["cockpit, loss × 1000"].append(apart(ours, theirs))
    return found


@torch.no_grad()
def apart(model: nn.Module, other: nn.Module) -> float:
    a, b = (nn.utils.parameters_to_vector(m.parameters()) for m in (model, other))
    return float((a - b).norm() / b.norm())


def bars(axes: Axes, title: str, timings: list[Timing]) -> None:
    """Figures 4.3 and 4.4: an epoch of each model with each batch size."""
    for shift, half, label in ((-0.2, "plain", "learning rate"), (0.2, "scaled", "scaled loss")):
        heights = [getattr(t, half) * EPOCH / t.batch for t in timings]
        axes.bar([i + shift for i in range(len(timings))], heights, 0.4, label=label)
    axes.set_xticks(range(len(timings)), [f"{t.model}\n{t.batch}" for t in timings])
    axes.set(title=title, yscale="log", xlabel="model, batch size", ylabel="seconds an epoch")
    axes.legend(fontsize=8)


def circles(axes: Axes, title: str, timings: list[Timing]) -> None:
    """Figures 5.2 and 5.3: the larger the model, the larger the circle."""
    for half, colour in (("plain", "tab:blue"), ("scaled", "tab:orange")):
        for name in dict.fromkeys(t.model for t in timings):
            own = [t for t in timings if t.model == name]
            numel = sum(p.numel() for p in MODELS[name]().parameters())
            epochs = [getattr(t, half) * EPOCH / t.batch for t in own]
            label = half if own[0] is timings[0] else None
            style = {"facecolor": "none", "edgecolor": colour, "linewidth": 1.5}
            axes.scatter([str(t.batch) for t in own], epochs, s=numel / 400 + 15, label=label, **style)
            if half == "plain":
                axes.annotate(f" {name}", ("128", epochs[-1]), xytext=(12, 0), textcoords="offset points")
    axes.set(title=title, yscale="log", xlabel="batch size", ylabel="seconds an epoch")
    low, high = axes.get_ylim()
    axes.set_ylim(low, 6 * high)  # above the largest circle there is room for the legend
    axes.legend(loc="upper center", ncols=2, fontsize=8)


def ratios(axes: Axes, found: dict[str, list[Timing]]) -> None:
    """The claim: what the scaled half takes over what the plain one takes."""
    names = [title.split(": ")[1].replace(", factor", "\n×") for title in found]
    for column, label, shift in (("", "whole step", 0.15), ("_update", "update alone", -0.15)):
        for i, timings in enumerate(found.values()):
            values = [getattr(t, f"scaled{column}") / getattr(t, f"plain{column}") for t in timings]
            colour = "tab:purple" if column else "tab:green"
            axes.scatter([i + shift] * len(values), values, s=12, color=colour, label=None if i else label)
            axes.hlines(median(values), i + shift - 0.1, i + shift + 0.1, color=colour)
    axes.axhline(1, color="black", linewidth=0.6)
    axes.set_xticks(range(len(names)), names)
    axes.set(title="Time with scaled loss over plain time", ylabel="ratio")
    axes.legend(loc="lower right", fontsize=8)


def draw(found: dict[str, list[Timing]], far: dict[str, list[float]], picture: Path) -> None:
    """The four figures, what they come to, and what the rules come to."""
    figure, rows = plt.subplots(2, 3, figsize=(13, 7), layout="constrained")
    for axes, (title, timings) in zip(rows[:, :2].flat, found.items(), strict=True):
        (bars if "SGD" in title else circles)(axes, title, timings)
    ratios(rows[0, 2], found)
    for (name, values), style in zip(far.items(), ["-", "--", "-.", ":", "-"], strict=True):
        rows[1, 2].plot(range(1, len(values) + 1), [max(value, 1e-9) for value in values], style, label=name)
    rows[1, 2].set(title="Distance from torch.optim.Adam", xlabel="step of model C", ylabel="relative", yscale="log")
    rows[1, 2].legend(fontsize=8)
    figure.savefig(picture, dpi=70)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with mnist/; without it, enlarged digits")
    parser.add_argument("--seconds", type=float, default=1.0, help="that each pair is timed for, ten steps at least")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--picture", type=Path, default=Path("loss_scaling.png"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = mnist(options.data / "mnist") if options.data else enlarged(digits())
    found = {
        title: [
            timed(images, name, pair, batch, options.seconds)
            for name, batch in itertools.product(options.models, sizes)
        ]
        for title, (pair, sizes) in RULES.items()
    }
    far = distances(images)
    draw(found, far, options.picture)
    for title, timings in found.items():
        whole, update = (
            median(getattr(t, f"scaled{part}") / getattr(t, f"plain{part}") for t in timings)
            for part in ("", "_update")
        )
        print(f"{title}: a step takes {whole:.3f} of the plain one's time, the update {update:.3f}")
    for name, values in far.items():
        print(f"{name}: {values[-1]:.1e} from torch.optim.Adam after {len(values)} steps")
    print(f"drawn in {options.picture}")


if __name__ == "__main__":
    main()
