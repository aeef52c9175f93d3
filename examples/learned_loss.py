"""A learned loss that needs no learning rate: figure 6.2 of Alosily, 2023.

ML³ learns a loss whose gradient descent, with a learning rate of 0.001, makes the squared error fall. *sl* is the same
without a learning rate: since a loss scale is a step size, its loss has to learn how large it is to be. Both learn from
one sine wave, and are tried on ten others.

python examples/learned_loss.py                   # about two minutes on one core
"""

import argparse
import dataclasses
import functools
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes

from cockpit.optim.learned import MetaTraining, Recipe, Rule, Tensors, trained
from cockpit.optim.learned.ml3 import OTHER_SINES, PlainSines, recipe, scaled_recipe

EVERY = 10  # updates of the loss between two looks at it
STEPS = 100  # of gradient descent on other waves
COPIES = 10  # networks, or waves, that a look takes the mean of


@dataclasses.dataclass(frozen=True)
class GradientDescent(Rule):
    """On the squared error itself, for comparison; nothing is learned."""

    name = "gradient descent"

    learning_rate: float = 1e-3

    def meta_parameters(self, generator):
        return {}

    def update(self, meta, gradients, params, state, signals):
        return {name: p - self.learning_rate * gradients[name] for name, p in params.items()}, state


def variants(recipe: Recipe) -> dict[str, Recipe]:
    """What the source does not say of *sl*, its gain and its outer learning rate, otherwise."""
    adam = functools.partial(torch.optim.Adam, lr=1e-3)
    return {
        "sl": recipe,
        "sl, outer rate 1e-3": dataclasses.replace(recipe, optimizer=adam),
        "sl, full gain, outer rate 1e-3": dataclasses.replace(
            recipe, rule=dataclasses.replace(recipe.rule, gain=1.0), optimizer=adam
        ),
    }


def chance() -> torch.Generator:
    """The same networks and waves at every look."""
    return torch.Generator().manual_seed(2)


def after_one_step(rule: Rule, meta: Tensors) -> float:
    """Squared error on the wave that is learned from, after one step from new networks."""
    losses = trained(rule, meta, PlainSines(seed=0), copies=COPIES, steps=1, generator=chance())
    return float(losses[:, -1].mean())


def on_other_waves(rule: Rule, meta: Tensors) -> np.ndarray:
    """Squared error over the steps of gradient descent on waves of other heights and phases. Shape ``[STEPS + 1]``."""
    return trained(rule, meta, OTHER_SINES, copies=COPIES, steps=STEPS, generator=chance()).mean(0).numpy()


class Learned(NamedTuple):
    """Errors of a learned loss: while it is learned, ``[seeds, looks]``; and on other waves, half-way and at the end of
    learning, ``[seeds, STEPS + 1]``."""

    curves: np.ndarray
    halfway: np.ndarray
    end: np.ndarray


def learn(recipe: Recipe, seeds: int) -> Learned:
    """Learns once with each seed."""
    curves, halfway, end = [], [], []
    for seed in range(seeds):
        training = MetaTraining(recipe, seed)
        curve = [after_one_step(recipe.rule, training.detached())]
        while training.iteration < recipe.iterations:
            training.iterate()
            if training.iteration % EVERY == 0:
                curve.append(after_one_step(recipe.rule, training.detached()))
            if training.iteration == recipe.iterations // 2:
                halfway.append(on_other_waves(recipe.rule, training.detached()))
        curves.append(curve)
        end.append(on_other_waves(recipe.rule, training.detached()))
    return Learned(np.array(curves), np.array(halfway), np.array(end))


def draw(axes: Axes, x: np.ndarray, runs: np.ndarray, color: str, label: str) -> None:
    """The median over seeds, and the range between the smallest and the largest."""
    axes.plot(x, np.median(runs, axis=0), color=color, label=label)
    axes.fill_between(x, runs.min(0), runs.max(0), color=color, alpha=0.15, linewidth=0)


def picture(found: dict[str, Learned], iterations: int, where: Path) -> None:
    """Left, how the losses are learned; right, how well they train what they have not seen."""
    figure, (learning, testing) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for number, (label, losses) in enumerate(found.items()):
        color, steps = f"C{number}", np.arange(STEPS + 1)
        draw(learning, EVERY * np.arange(losses.curves.shape[1]), losses.curves, color, label)
        draw(testing, steps, losses.halfway, color, f"{label}, {iterations // 2} updates")
        testing.plot(steps, np.median(losses.end, axis=0), color=color, linestyle="--", linewidth=0.8)
    testing.plot([], color="gray", linestyle="--", linewidth=0.8, label=f"after {iterations}")
    testing.set_ylim(0.1, 20)
    plain = GradientDescent()
    learning.axhline(after_one_step(plain, {}), color="black", linestyle=":", label="squared error itself, rate 1e-3")
    testing.plot(on_other_waves(plain, {}), color="black", linestyle=":")
    learning.set(xlabel="updates of the learned loss", ylabel="squared error after one step", yscale="log")
    testing.set(xlabel="steps on ten other waves", ylabel="squared error", yscale="log")
    for axes in (learning, testing):
        axes.legend(fontsize="x-small")
    figure.savefig(where, dpi=80)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=1000, help="updates of a loss; the source has 500")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--picture", type=Path, default=Path("learned_loss.png"))
    options = parser.parse_args()
    found = {}
    for name, one in {"ml3": recipe(), **variants(scaled_recipe())}.items():
        losses = found[name] = learn(dataclasses.replace(one, iterations=options.iterations), options.seeds)
        step, halfway, end = (np.median(errors[:, -1]) for errors in losses)
        print(f"{name}: {step:.3g} after a step; on other waves {halfway:.3g} half-way, {end:.3g} at the end")
    picture(found, options.iterations, options.picture)
    print(f"drawn in {options.picture}")


if __name__ == "__main__":
    main()
