"""How learned updates differ from those of other optimizers: symmetries, heavy tails and covariance.

Figures 1 and 3 of J. Sobotka and P. Šimánek, Investigation into Training Dynamics of Learned Optimizers. Networks with
one hidden layer of 20 units, either leaky ReLUs or batch normalisation and ReLU, are trained on batches of 128 by SGD,
Adam, Lion, and an L2O-LSTM that was meta-trained on networks of the same kind. The instruments are the cockpit's own,
and all runs can be looked at in the dashboard. Lines are medians over seeds, bands reach from the least to the largest.

pip install pytorch-optimizer
python examples/learned_dynamics.py                  # scikit-learn's digits
python examples/learned_dynamics.py --data DIR       # MNIST from DIR/mnist/, see benchmarks/README.md
"""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from pytorch_optimizer import Lion
from torch import nn
from torch.optim import Optimizer

from cockpit import Cockpit, load_run
from cockpit.datasets import digits, mnist
from cockpit.instruments import (
    RescaleSymmetry,
    ScaleSymmetry,
    TailIndexGrad,
    TailIndexUpdate,
    UpdateCovarianceMaxEV,
)
from cockpit.optim.learned import L2OLSTM
from cockpit.optim.learned.classification import Activation, Classification

HERE = Path(__file__).parent
LEAKY: Activation = "leaky_relu"
NORM: Activation = "norm_relu"
WEIGHTS = {LEAKY: HERE / "l2o_lstm.pt", NORM: HERE / "l2o_lstm_norm.pt"}
SYMMETRY = {LEAKY: "rescale_symmetry", NORM: "scale_symmetry"}
TAILED = ("SGD", "Adam", "L2O")  # updates of Lion are signs, which have no tail

Make = Callable[[Iterable[nn.Parameter], Activation], Optimizer]
OPTIMIZERS: dict[str, Make] = {  # the source names no learning rates
    "SGD": lambda parameters, activation: torch.optim.SGD(parameters, lr=0.5),
    "Adam": lambda parameters, activation: torch.optim.Adam(parameters, lr=1e-2),
    "Lion": lambda parameters, activation: Lion(parameters, lr=1e-3),
    "L2O": lambda parameters, activation: L2OLSTM(parameters, weights=WEIGHTS[activation]),
}


def watched(step: int) -> bool:
    """Every fifth step, but not the first: Adam's first update is a sign, which has no tail."""
    return step % 5 == 4


def train(task: Classification, name: str, seed: int, steps: int, run: Path) -> Path:
    """One training in a cockpit. Returns where its log went."""
    torch.manual_seed(seed)
    model, loss_fn = task.network(), nn.CrossEntropyLoss()
    optimizer = OPTIMIZERS[name](model.parameters(), task.activation)
    symmetry = RescaleSymmetry() if task.activation == LEAKY else ScaleSymmetry()
    instruments = ["loss", symmetry, UpdateCovarianceMaxEV()]
    if name in TAILED:
        instruments += [TailIndexGrad(), TailIndexUpdate()]
    config = {"optimizer": name, "network": task.name, "seed": seed}
    with Cockpit(model, optimizer, loss_fn, instruments=instruments, track=watched, run=run, config=config) as cockpit:
        for _ in range(steps):
            chosen = torch.randint(len(task.x), (task.batch_size,))
            with cockpit.step():
                optimizer.zero_grad()
                loss = loss_fn(model(task.x[chosen]), task.y[chosen])
                loss.backward()
                optimizer.step()
        return cockpit.run


Curves = tuple[np.ndarray, np.ndarray]
"""Steps, and values of each seed. Shapes ``[readings]`` and ``[seeds, readings]``."""


def curves(runs: list[Path], key: str) -> Curves:
    """What one instrument read with each seed."""
    read = [load_run(run)[key] for run in runs]
    return read[0].steps, np.stack([quantity.values for quantity in read])


def draw_line(axes: Axes, found: Curves, color: str, label: str | None, style: str = "-") -> None:
    steps, values = found
    axes.plot(steps, np.median(values, axis=0), style, color=color, label=label, linewidth=1.2)
    axes.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.12, linewidth=0)


def draw(runs: dict[tuple[Activation, str], list[Path]], picture: Path) -> None:
    """On the left and in the middle figure 1, on the right figure 3."""
    figure, rows = plt.subplots(2, 3, figsize=(13, 7), layout="constrained")
    for (absolute, angle, _), activation in zip(rows, (LEAKY, NORM), strict=True):
        for number, name in enumerate(OPTIMIZERS):
            of = runs[activation, name]
            draw_line(absolute, curves(of, f"{SYMMETRY[activation]}.sum"), f"C{number}", name)
            draw_line(angle, curves(of, SYMMETRY[activation]), f"C{number}", name)
    tails, covariance = rows[:, 2]
    for number, name in enumerate(OPTIMIZERS):
        of = runs[LEAKY, name]
        draw_line(covariance, curves(of, "update_covariance_max_ev"), f"C{number}", name)
        if name in TAILED:
            draw_line(tails, curves(of, "tail_index_update"), f"C{number}", name)
            draw_line(tails, curves(of, "tail_index_grad"), f"C{number}", None, ":")
    tails.plot([], ":", color="grey", label="its gradients")
    describe(rows)
    figure.savefig(picture, dpi=62)
    plt.close(figure)


def describe(rows: np.ndarray) -> None:
    """What is seen where."""
    words = (
        ("Rescale symmetry, leaky ReLU", "Σ |deviation| over units"),
        ("Rescale symmetry, leaky ReLU", "median |cos| over units"),
        ("Noise, leaky ReLU", "tail index; 2 is Gaussian"),
        ("Scale symmetry, batch normalisation", "Σ |deviation| over units"),
        ("Scale symmetry, batch normalisation", "median |cos| over units"),
        ("Covariance of updates, leaky ReLU", "largest eigenvalue"),
    )
    for axes, (title, quantity) in zip(rows.flat, words, strict=True):
        axes.set(title=title, xlabel="step", ylabel=quantity)
        axes.grid(alpha=0.3)
        if "tail" not in quantity:
            axes.set_yscale("log")
    for axes in rows[0, ::2]:  # colours are the same in all
        axes.legend(fontsize=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with mnist/; without it, digits")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--logdir", type=Path, default=Path("runs"), help="where the logs go")
    parser.add_argument("--picture", type=Path, default=Path("learned_dynamics.png"))
    options = parser.parse_args()
    images = mnist(options.data / "mnist") if options.data else digits()
    runs = {}
    for activation in (LEAKY, NORM):
        task = Classification(images, activation=activation)
        for name in OPTIMIZERS:
            runs[activation, name] = [
                train(task, name, seed, options.steps, options.logdir / f"dynamics-{activation}-{name}-{seed}")
                for seed in range(options.seeds)
            ]
            print(described(activation, name, runs[activation, name]))
    draw(runs, options.picture)
    print(f"drawn in {options.picture}")


def described(activation: Activation, name: str, runs: list[Path]) -> str:
    """Medians over seeds: of the last quarter, and of symmetry breaking also at the start."""

    def middle(key: str, part: slice) -> float:
        return float(np.nanmedian(curves(runs, key)[1][:, part]))  # missing where too little differs

    symmetry = f"{SYMMETRY[activation]}.sum"
    first, last = slice(0, 2), slice(-max(1, curves(runs, symmetry)[1].shape[1] // 4), None)
    said = (
        f"{activation}, {name}: loss {middle('loss', last):.3f}; deviation {middle(symmetry, first):.2g} at first, "
        f"{middle(symmetry, last):.2g} at last; covariance {middle('update_covariance_max_ev', last):.2g}"
    )
    if name not in TAILED:
        return said
    tails = (middle(f"tail_index_{of}", slice(None)) for of in ("update", "grad"))
    return said + "; tail index {:.2f} of updates, {:.2f} of gradients".format(*tails)


if __name__ == "__main__":
    main()
