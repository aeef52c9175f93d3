"""Persistent evolution strategies: meta-gradients without differentiating, and without the bias of truncations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cockpit.optim.learned.cohort import Cohort, Life
from cockpit.optim.learned.rule import Tensors
from cockpit.optim.learned.unroll import Estimate, Estimator, Penalty, Summary, unroll


@dataclass(frozen=True)
class PES(Estimator):
    r"""Persistent evolution strategies with antithetic pairs.

    In each truncation every problem goes on once with ``φ + ε`` and once with ``φ − ε``, ``ε`` drawn anew from
    ``N(0, σ²)`` and added to what it was perturbed with before, ``ξ``:

    .. math::
        \hat g = \frac{1}{2 \sigma^2} (L^+ - L^-) \, \xi, \qquad \xi = \sum_{\tau \le t} \varepsilon_\tau

    Vicol, Metz and Sohl-Dickstein, *Unbiased gradient estimation in unrolled computation graphs with persistent
    evolution strategies* (2021), algorithm 2. Unbiased for the gradient of the summed losses of a whole training,
    averaged over the perturbations.

    Args:
        length: Steps of a truncation.
        sigma: Standard deviation ``σ`` of a perturbation.

    Raises:
        ValueError: If ``sigma`` is not positive.
    """

    sigma: float = 0.01
    sides: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sigma > 0:
            raise ValueError(f"perturbations have a positive standard deviation; got sigma={self.sigma}")

    def estimate(
        self,
        cohort: Cohort,
        meta: Tensors,
        summary: Summary,
        generator: torch.Generator,
        penalty: Penalty | None = None,
    ) -> Estimate:
        """One antithetic pair for each problem."""
        noise = {
            name: self.sigma * torch.randn(cohort.copies, *value.shape, generator=generator, dtype=value.dtype)
            for name, value in meta.items()
        }
        return self.perturbed(cohort, meta, noise, summary, generator, penalty)

    @torch.no_grad()
    def perturbed(
        self,
        cohort: Cohort,
        meta: Tensors,
        noise: Tensors,
        summary: Summary,
        generator: torch.Generator,
        penalty: Penalty | None = None,
    ) -> Estimate:
        """The estimate from given perturbations.

        Args:
            cohort: The problems; they have gone on afterwards.
            meta: Meta-parameters.
            noise: ``ε`` of each problem. Shape ``[copies, …]``.
            summary: Makes the meta-loss of outer losses.
            generator: Source of batches.
            penalty: Of single updates, if any are to be avoided.
        """

        def side(meta: Tensors, life: Life, step: Tensor, batches: list[Tensors]) -> tuple[Tensor, Life]:
            losses, life = unroll(cohort.rule, cohort.task, cohort.horizon, meta, life, step, batches, penalty=penalty)
            return summary(losses), life

        batches = cohort.batches(self.length, generator)
        both = {name: torch.stack([value + noise[name], value - noise[name]]) for name, value in meta.items()}
        lives = _stacked(cohort.lives)
        each = torch.func.vmap(torch.func.vmap(side), in_dims=(0, 0, None, None))
        losses, life = each(both, lives, cohort.step, batches)
        cohort.advance(_unstacked(life), self.length)
        cohort.drift = {name: cohort.drift.get(name, 0) + epsilon for name, epsilon in noise.items()}
        slope = (losses[0] - losses[1]) / (2 * self.sigma**2)
        gradients = {name: slope.reshape(-1, *[1] * (xi.ndim - 1)) * xi for name, xi in cohort.drift.items()}
        return Estimate(losses.mean(0), gradients)


def _stacked(lives: list[Life]) -> Life:
    params = {name: torch.stack([life.params[name] for life in lives]) for name in lives[0].params}
    state = {
        owner: {name: torch.stack([life.state[owner][name] for life in lives]) for name in tensors}
        for owner, tensors in lives[0].state.items()
    }
    return Life(params, state)


def _unstacked(both: Life) -> list[Life]:
    return [
        Life(
            {name: tensor[side] for name, tensor in both.params.items()},
            {owner: {name: tensor[side] for name, tensor in found.items()} for owner, found in both.state.items()},
        )
        for side in range(PES.sides)
    ]
