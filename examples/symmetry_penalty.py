"""What a learned optimizer loses where it must keep to the symmetries of gradients.

Figure 2 of J. Sobotka and P. Šimánek, Investigation into Training Dynamics of Learned Optimizers. An L2O-LSTM is
meta-trained with a penalty on its updates, β times the sum over hidden units of their absolute deviation from a
symmetry that all gradients have: the rescale symmetry of leaky ReLUs, or the scale symmetry of weights before batch
normalisation. What was learned then trains new networks in a cockpit, whose instruments see the same deviations.
Lines are medians over meta-trainings with several seeds, bands reach from the least to the largest.

python examples/symmetry_penalty.py                  # scikit-learn's digits: minutes
python examples/symmetry_penalty.py --data DIR       # MNIST from DIR/mnist/, ten times as long
"""

import argparse
import dataclasses
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from cockpit import Cockpit, load_run
from cockpit.datasets import Images, digits, mnist
from cockpit.instruments import RescaleSymmetry, ScaleSymmetry
from cockpit.optim.learned import L2OLSTM, Tensors, Weights, meta_train
from cockpit.optim.learned.classification import Classification
from cockpit.optim.learned.l2o_lstm import recipe

STRENGTHS = (0.0, 0.1, 1.0)  # β; the source's are not in its text


@dataclasses.dataclass(frozen=True)
class RescalePenalty:
    """Of updates that shift weight between a unit's two sides."""

    strength: float

    def __call__(self, before: Tensors, after: Tensors) -> Tensor:
        along = along_weights(before, after)
        deviation = along["0.weight"].sum(1) + along["0.bias"] - along["2.weight"].sum(0)
        return self.strength * deviation.abs().sum()


@dataclasses.dataclass(frozen=True)
class ScalePenalty:
    """Of updates that change the length of weights before batch normalisation."""

    strength: float

    def __call__(self, before: Tensors, after: Tensors) -> Tensor:
        return self.strength * along_weights(before, after)["0.weight"].sum(1).abs().sum()


def along_weights(before: Tensors, after: Tensors) -> Tensors:
    """Products of updates and weights, element by element."""
    return {name: (weight - after[name]) * weight for name, weight in before.items()}


Penalty = RescalePenalty | ScalePenalty


@dataclasses.dataclass(frozen=True)
class Symmetry:
    """A network, what it is symmetric to, and what looks at that."""

    activation: str
    title: str
    penalty: type[RescalePenalty] | type[ScalePenalty]
    instrument: type[RescaleSymmetry] | type[ScaleSymmetry]


SYMMETRIES = (
    Symmetry("leaky_relu", "Rescale symmetry, leaky ReLU", RescalePenalty, RescaleSymmetry),
    Symmetry("norm_relu", "Scale symmetry, batch normalisation", ScalePenalty, ScaleSymmetry),
)


def learn(task: Classification, penalty: Penalty, iterations: int, seed: int, run: Path) -> Weights:
    """Meta-trains by the recipe of the package, but for the penalty."""
    penalised = dataclasses.replace(recipe(), tasks=(task,), penalty=penalty, iterations=iterations)
    return meta_train(penalised, seed=seed, run=run)


def train(task: Classification, symmetry: Symmetry, weights: Weights, steps: int, seed: int, run: Path) -> Path:
    """A new network, in a cockpit. Returns where its log went."""
    torch.manual_seed(1000 + seed)
    model, loss_fn = task.network(), nn.CrossEntropyLoss()
    optimizer = L2OLSTM(model.parameters(), weights)
    with Cockpit(model, optimizer, loss_fn, instruments=["loss", symmetry.instrument()], track=2, run=run) as cockpit:
        for _ in range(steps):
            chosen = torch.randint(len(task.x), (task.batch_size,))
            with cockpit.step():
                optimizer.zero_grad()
                loss = loss_fn(model(task.x[chosen]), task.y[chosen])
                loss.backward()
                optimizer.step()
        return cockpit.run


def compare(images: Images, symmetry: Symmetry, options: argparse.Namespace) -> dict[float, list[Path]]:
    """Runs of new networks, one for each seed, by strength of the penalty."""
    task = Classification(images, activation=symmetry.activation)
    found: dict[float, list[Path]] = {}
    for strength in STRENGTHS:
        found[strength] = []
        for seed in range(options.seeds):
            name = f"{symmetry.activation}-{strength:g}-{seed}"
            penalty = symmetry.penalty(strength)
            weights = learn(task, penalty, options.iterations, seed, options.logdir / f"penalty-meta-{name}")
            run = options.logdir / f"penalty-{name}"
            found[strength].append(train(task, symmetry, weights, options.steps, seed, run))
    return found


def values(runs: list[Path], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and what was read with each seed, shape ``[seeds, readings]``."""
    read = [load_run(run)[key] for run in runs]
    return read[0].steps, np.stack([quantity.values for quantity in read])


def draw_column(loss: Axes, deviation: Axes, symmetry: Symmetry, found: dict[float, list[Path]]) -> None:
    """How well networks are trained, and how far updates are from the symmetry."""
    colors = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(found)))
    for color, (strength, runs) in zip(colors, found.items(), strict=True):
        for axes, key in ((loss, "loss"), (deviation, f"{symmetry.instrument.name}.sum")):
            steps, read = values(runs, key)
            axes.plot(steps, np.median(read, axis=0), color=color, label=f"β = {strength:g}")
            axes.fill_between(steps, read.min(0), read.max(0), color=color, alpha=0.12, linewidth=0)
    loss.set(title=symmetry.title, ylabel="training loss")
    deviation.set(xlabel="step", ylabel="Σ |deviation| over units")
    for axes in (loss, deviation):
        axes.set_yscale("log")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with mnist/; without it, digits")
    parser.add_argument("--iterations", type=int, default=80, help="updates of the optimizer's weights")
    parser.add_argument("--steps", type=int, default=100, help="of the networks that it then trains")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--logdir", type=Path, default=Path("runs"), help="where the logs go")
    parser.add_argument("--picture", type=Path, default=Path("symmetry_penalty.png"))
    options = parser.parse_args()
    images = mnist(options.data / "mnist") if options.data else digits()
    figure, columns = plt.subplots(2, 2, figsize=(10, 7), sharex=True, layout="constrained")
    for axes, symmetry in zip(columns.T, SYMMETRIES, strict=True):
        found = compare(images, symmetry, options)
        draw_column(*axes, symmetry, found)
        for strength, runs in found.items():
            loss, deviation = values(runs, "loss")[1], values(runs, f"{symmetry.instrument.name}.sum")[1]
            print(
                f"{symmetry.activation}, β = {strength:g}: loss {np.median(loss.mean(1)):.3f} on average, "
                f"{np.median(loss[:, -10:]):.3f} in the end; deviation {np.median(deviation):.2g}"
            )
    figure.savefig(options.picture, dpi=80)
    plt.close(figure)
    print(f"drawn in {options.picture}")


if __name__ == "__main__":
    main()
