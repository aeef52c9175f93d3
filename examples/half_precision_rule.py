"""Gradients of a scaled loss, used as they come: MPT_LURE against unscaling and Adam, in half precision.

Figure 6.4 of N. Alosily, Loss Scaling and Step Size in Deep Learning Optimization (2023). Twelve learned numbers take
the place of an unscale pass and of Adam's two moments for each of 1,761 parameters. Left: training losses, means over
32 new sine waves, other ones for each of several seeds: the median seed, and the range from the best to the worst.
Right: the losses at the end, wave by wave, of all seeds.

python examples/half_precision_rule.py                     # six thousand episodes, as the source: minutes for a seed
python examples/half_precision_rule.py --episodes 500 --seeds 1
"""

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes

from cockpit.optim.learned import RECIPES, MPTLURERule, Signals, State, Tensors, meta_train, trained

PROBLEMS = 32
RATES = (1e-3, 3e-3, 1e-2, 3e-2)  # of Adam; the source names none


@dataclass(frozen=True)
class UnscaleAndAdam(MPTLURERule):
    """What mixed precision does otherwise, as a rule, so that it trains the same stacked networks in half precision."""

    name = "unscale and Adam"
    rate: float = 1e-3

    def init(self, params: Tensors) -> State:
        return {name: {"m": torch.zeros_like(p), "v": torch.zeros_like(p)} for name, p in params.items()}

    def update(
        self, meta: Tensors, gradients: Tensors, params: Tensors, state: State, signals: Signals
    ) -> tuple[Tensors, State]:
        number, new, remembered = signals.step + 1, {}, {}
        for name, p in params.items():
            gradient = gradients[name] / self.scale
            m = torch.lerp(state[name]["m"], gradient, 0.1)
            v = torch.lerp(state[name]["v"], gradient.square(), 0.001)
            unbiased = (v / (1 - 0.999**number)).sqrt() + 1e-8
            new[name] = p - self.rate * m / (1 - 0.9**number) / unbiased
            remembered[name] = {"m": m, "v": v}
        return new, remembered


def compare(episodes: int, steps: int, seed: int, run: Path) -> dict[str, np.ndarray]:
    """Losses on the same new problems, shape ``[problems, steps + 1]``: of what was learned, and of Adams."""
    recipe = dataclasses.replace(RECIPES["mpt_lure"](), iterations=episodes)
    learned = meta_train(recipe, seed=seed, run=run)
    adams = {f"unscale + Adam, {rate:g}": UnscaleAndAdam(recipe.rule.shapes, rate=rate) for rate in RATES}
    rules = {"MPT_LURE": (recipe.rule, learned.meta), **{name: (rule, {}) for name, rule in adams.items()}}
    found = {}
    for name, (rule, meta) in rules.items():
        chance = torch.Generator().manual_seed(seed + 1)
        found[name] = trained(rule, meta, recipe.test, copies=PROBLEMS, steps=steps, generator=chance).numpy()
    return found


def draw(found: dict[str, np.ndarray], horizon: int, picture: Path) -> None:
    """Trainings on the left, how they end on the right. Losses have shape ``[seeds, problems, steps + 1]``."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, losses in found.items():
        means = losses.mean(1)
        (line,) = left.plot(np.median(means, axis=0), label=name, linewidth=1.2)
        span = np.arange(means.shape[1]), means.min(0), means.max(0)
        left.fill_between(*span, color=line.get_color(), alpha=0.15, linewidth=0)
        right.plot(np.sort(losses[..., -1], axis=None), marker=".", markersize=3, label=name)
    left.axvline(horizon, color="grey", linestyle="--", linewidth=0.8)
    finish(left, "training step; dashed: how far meta-training went", "training loss")
    finish(right, "wave, by its loss", f"loss after {losses.shape[-1] - 1} steps")
    figure.savefig(picture, dpi=90)
    plt.close(figure)


def finish(axes: Axes, x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y, yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=6000)
    parser.add_argument("--steps", type=int, default=330, help="of the trainings that are compared")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--logdir", type=Path, default=Path("runs"), help="where the logs of meta-training go")
    parser.add_argument("--picture", type=Path, default=Path("half_precision_rule.png"))
    options = parser.parse_args()
    tried = [
        compare(options.episodes, options.steps, seed, options.logdir / f"half-precision-rule-{seed}")
        for seed in range(options.seeds)
    ]
    found = {name: np.stack([losses[name] for losses in tried]) for name in tried[0]}
    horizon = min(RECIPES["mpt_lure"]().horizon, options.steps)
    draw(found, horizon, options.picture)
    for name, losses in found.items():
        at = {f"after {horizon} steps": losses[..., horizon].mean(1), "at the end": losses[..., -1].mean(1)}
        said = ", ".join(
            f"{np.median(means):.4f} ({means.min():.4f} to {means.max():.4f}) {when}" for when, means in at.items()
        )
        print(f"{name}: loss {said}")
    print(f"drawn in {options.picture}")


if __name__ == "__main__":
    main()
