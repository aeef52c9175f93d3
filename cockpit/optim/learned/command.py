"""``cockpit meta-train``: a recipe by name, its files beside each other, its run among the others."""

from __future__ import annotations

import sys
from pathlib import Path

from cockpit.datasets import mnist
from cockpit.optim.learned.recipe import Recipe
from cockpit.optim.learned.recipes import OF_IMAGES, RECIPES
from cockpit.optim.learned.training import meta_train


def learn(
    name: str,
    *,
    episodes: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    logdir: str = "runs",
    every: int = 500,
    resume: bool = False,
    quiet: bool = False,
    data_dir: Path | None = None,
) -> Path:
    """Meta-trains by a recipe, and returns where the weights are.

    Args:
        name: Of the recipe.
        episodes: Updates of the weights; the recipe's if not given. For more than these an annealed learning rate falls
            more slowly.
        seed: Of everything that chance decides.
        out: File of the weights, ``NAME.pt`` if not given. The checkpoint stands beside it.
        logdir: Directory, or database, of the run ``meta-NAME``.
        every: Updates between two checkpoints.
        resume: Whether to go on from the checkpoint.
        quiet: Without the progress bar.
        data_dir: Where the files of MNIST lie, for recipes that learn on images; without it they take scikit-learn's.

    Raises:
        ValueError: If there is no such recipe, the weights or a checkpoint are there already, the checkpoint to go on
            from is of another recipe or a learning rate that falls otherwise, or there are images for a recipe without.
        OSError: If a file or the log cannot be read or written.
    """
    if name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}; there are: {', '.join(RECIPES)}")
    recipe = RECIPES[name]() if data_dir is None else _on_mnist(name, data_dir)
    if episodes is not None:
        recipe = recipe.lasting(episodes)
    out = Path(f"{name}.pt") if out is None else out
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    for file in (out, checkpoint):
        if file.exists() and not resume:
            raise ValueError(
                f"{file} is there already: choose another --out, or go on from the checkpoint with --resume"
            )
    try:
        meta_train(
            recipe,
            seed=seed,
            out=out,
            run=f"{logdir.rstrip('/')}/meta-{name}",
            checkpoint=checkpoint,
            every=every,
            resume=resume,
            quiet=quiet,
        )
    except KeyboardInterrupt:
        if checkpoint.exists():
            print(f"cockpit: --resume goes on from {checkpoint}", file=sys.stderr)
        raise
    return out


def _on_mnist(name: str, data_dir: Path) -> Recipe:
    if name not in OF_IMAGES:
        raise ValueError(f"{name} does not learn on images; --data-dir is for {', '.join(OF_IMAGES)}")
    return OF_IMAGES[name](mnist(data_dir))
