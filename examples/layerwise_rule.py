"""Six learned numbers that train a network: LURE against Meta-SGD on sine waves.

Figure 6.3 of N. Alosily, Loss Scaling and Step Size in Deep Learning Optimization (2023). Both rules are meta-trained
on waves of one phase; every so often what they have learned so far trains new networks for 110 steps, on waves of any
phase. Left: these trainings' losses, over all of meta-training. Right: the losses they end with. Medians, in which a
training that diverged counts as infinitely bad; bands reach from the best to the worst meta-training of several seeds.

python examples/layerwise_rule.py                     # ten thousand episodes each, as the source: minutes for a seed
python examples/layerwise_rule.py --episodes 500 --seeds 1
"""

import argparse
import dataclasses
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from tqdm import tqdm

from cockpit.optim.learned import RECIPES, MetaTraining, Recipe, trained

TRIALS, PROBLEMS = 50, 16  # how often, and on how many new networks at a time, what was learned is tried


def recipes() -> dict[str, Recipe]:
    """The two of the source, and Meta-SGD without the start that it learns beside its rates."""
    meta_sgd = RECIPES["meta_sgd"]()
    rates = dataclasses.replace(meta_sgd, rule=dataclasses.replace(meta_sgd.rule, learned_start=False))
    return {"LURE": RECIPES["lure"](), "Meta-SGD": meta_sgd, "Meta-SGD, rates only": rates}


def learn(name: str, recipe: Recipe, episodes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Meta-trains, and tries what was learned along the way.

    Returns:
        After how many episodes, shape ``[trials]``, and the losses then, shape ``[trials, problems, steps + 1]``.
    """
    training = MetaTraining(dataclasses.replace(recipe, iterations=episodes), seed)
    chance = torch.Generator().manual_seed(seed + 1)
    every = max(1, episodes // TRIALS)
    tried, curves = [], []
    for episode in tqdm(range(1, episodes + 1), desc=name, dynamic_ncols=True):
        training.iterate()
        if episode % every == 0:
            losses = trained(
                recipe.rule, training.detached(), recipe.test, copies=PROBLEMS, steps=recipe.horizon, generator=chance
            )
            tried.append(episode)
            curves.append(losses.nan_to_num(nan=torch.inf, posinf=torch.inf).numpy())
    return np.array(tried), np.stack(curves)


def draw(found: dict[str, tuple[np.ndarray, np.ndarray]], picture: Path) -> None:
    """Trainings on the left, how they end on the right. Curves have shape ``[seeds, trials, problems, steps + 1]``."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, (episodes, curves) in found.items():
        draw_band(left, np.arange(curves.shape[-1]), np.median(curves, (1, 2)), name)
        draw_band(right, episodes, np.median(curves[..., -1], 2), name)
    finish(left, "training step", "training loss, over all of meta-training")
    finish(right, "episode of meta-training", "loss after the last step")
    for axes in (left, right):
        axes.set_ylim(1e-2, 5)  # beyond it trainings diverge, and where most did there is a gap
    figure.savefig(picture, dpi=90)
    plt.close(figure)


def draw_band(axes: Axes, x: np.ndarray, runs: np.ndarray, label: str) -> None:
    """The median over seeds, and the range between the smallest and the largest."""
    (line,) = axes.plot(x, np.median(runs, axis=0), label=label, linewidth=1.2)
    worst = np.minimum(runs.max(0), 1e6)  # what diverged leaves the picture, not the band
    axes.fill_between(x, runs.min(0), worst, color=line.get_color(), alpha=0.12, linewidth=0)


def finish(axes: Axes, x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y, yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--picture", type=Path, default=Path("layerwise_rule.png"))
    options = parser.parse_args()
    found = {}
    for name, recipe in recipes().items():
        learned = [learn(name, recipe, options.episodes, seed) for seed in range(options.seeds)]
        found[name] = learned[0][0], np.stack([curves for _, curves in learned])
    draw(found, options.picture)
    for name, (_, curves) in found.items():
        last = curves[:, -max(1, curves.shape[1] // 10) :]
        print(
            f"{name}: loss {np.median(last[..., 0]):.3f} before a training, {np.median(last[..., -1]):.4f} after it, "
            f"{np.isinf(last[..., -1]).mean():.1%} diverged, in the last tenth of episodes"
        )
    print(f"drawn in {options.picture}")


if __name__ == "__main__":
    main()
