"""Alpha: how far along the valley does the optimizer's step end?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cockpit.instrument import Instrument, register
from cockpit.panel import Panel
from cockpit.probes.slopes import Slopes
from cockpit.reading import Reading
from cockpit.schedule import Schedule
from cockpit.statistics import mean_and_variance
from cockpit.step import Step


@dataclass(frozen=True)
class Observation:
    """A mean over a mini-batch, and how far it can be trusted.

    Args:
        mean: The observed mean.
        variance: Variance of the mean, not of the samples.
    """

    mean: float
    variance: float


def fit_parabola(
    start: Observation, end: Observation, slope_start: Observation | None, slope_end: Observation
) -> NDArray[np.float64] | None:
    r"""Parabola :math:`f(u) = w_1 + w_2 u + w_3 u^2` through two noisy losses and two noisy slopes.

    Weighted least squares, as eq. (C.4) of Schneider et al., *Cockpit: a practical debugging tool for the training of
    deep neural networks* (2021), with the position along the step in units of the step: :math:`u = 0` where it begins
    and 1 where it ends, so that all observations have the units of the loss.

    Args:
        start: Loss at ``u = 0``.
        end: Loss at ``u = 1``.
        slope_start: ``⟨g, s⟩`` at ``u = 0``. ``None``: the parabola goes through the other three, whatever their
            variances.
        slope_end: ``⟨g, s⟩`` at ``u = 1``.

    Returns:
        ``(w_1, w_2, w_3)``; ``None`` if an observation is not finite or the fit is singular.
    """
    rows = ((start, (1, 0, 0)), (end, (1, 1, 1)), (slope_start, (0, 1, 0)), (slope_end, (0, 1, 2)))
    observations = [observation for observation, _ in rows if observation is not None]
    means = np.array([o.mean for o in observations])
    variances = np.array([o.variance for o in observations])
    if not (np.isfinite(means).all() and np.isfinite(variances).all()) or variances.max() < 0:
        return None
    design = np.array([row for observation, row in rows if observation is not None], dtype=np.float64)
    # An exact observation would have infinite weight; one that is 1e10 times surer than the worst is as good.
    floor = variances.max() * 1e-20
    roots = np.sqrt(np.maximum(variances, floor)) if floor > 0 else np.ones(len(means))
    solution, _, rank, _ = np.linalg.lstsq(design / roots[:, None], means / roots, rcond=None)
    return solution if rank == 3 else None


@dataclass(frozen=True)
class StepPosition:
    """Where a step ends on the parabola it was made on.

    Args:
        alpha: −1 where it began, 0 at the valley's floor, 1 at the same height on the other side.
        concave: Whether the parabola has no floor; ``alpha`` is then −1 by convention.
        uphill: Whether the step went away from the floor; ``alpha`` is then no measure of its length.
    """

    alpha: float
    concave: bool
    uphill: bool


def position(parabola: NDArray[np.float64]) -> StepPosition | None:
    r"""Where :math:`u = 1` lies: :math:`\alpha = 1 / u_{\min} - 1` with :math:`u_{\min} = -w_2 / (2 w_3)`.

    Args:
        parabola: ``(w_1, w_2, w_3)``.

    Returns:
        The position; ``None`` for a flat line, where every point is as good.

    Example:
        >>> position(np.array([1.0, -2.0, 1.0])).alpha
        0.0
    """
    _, w2, w3 = (float(w) for w in parabola)
    if w2 == 0 and w3 == 0:
        return None
    if w3 <= 0:
        return StepPosition(-1.0, concave=True, uphill=False)
    if w2 == 0:
        return StepPosition(float("inf"), concave=False, uphill=True)
    return StepPosition(-2 * w3 / w2 - 1, concave=False, uphill=w2 > 0)


@register
class Alpha(Instrument):
    """Normalised step size, from the measured step: any optimizer will do.

    Args:
        start: Whether the slopes at the step's start are observed. Each layer's input and output gradient, or its
            individual gradients, are held for them until the optimizer has stepped. Without them the parabola goes
            through both losses and the slope at the end, which nothing is held for, and is noisier: one batch's noise
            in each.
        track: When it is read. It looks at the step and at the one after it.
    """

    name = "alpha"
    configuration = "economy"
    window = 2
    panel = Panel(
        title="Alpha",
        kind="parabola",
        group="steps",
        ylabel="normalised step",
        how_to_read="At −1 the step has not moved, at 0 it stops at the valley's floor, above 0 it crosses it. "
        "Good runs have a median above 0.",
        formula=r"f(u) = w_1 + w_2 u + w_3 u^2, \qquad u = \frac{\tau}{\lVert s \rVert_2} \in [0, 1]"
        "\n"
        r"\alpha = \frac{1}{u_{\min}} - 1, \qquad u_{\min} = -\frac{w_2}{2 w_3}",
        good="A density around 0 or a little above, that keeps its place: steps reach the valley's floor and go "
        "somewhat beyond.",
        bad="Everything near −1: steps are much too short, raise the learning rate. A median near 1 or above: the "
        "steps end as high on the other side as they began, lower it.",
        source="Schneider et al., Cockpit: a practical debugging tool for the training of deep neural networks "
        "(2021), eqs. (C.1) to (C.4), with slopes in units of the loss and variances of the means.",
    )

    def __init__(self, *, start: bool = True, track: int | Schedule | None = None) -> None:
        super().__init__(track=track)
        self._probe = Slopes(start)
        self.needs = (self._probe,)
        if not start:
            words = f"{self.panel.how_to_read} Fitted without the slope at the step's start."
            self.panel = replace(self.panel, how_to_read=words)

    def compute(self, steps: Sequence[Step]) -> Reading:
        first, second = steps
        start, end = first[self._probe], second[self._probe]
        if start.length == 0 or (self._probe.start and start.start is None):
            return Reading(None, reason="the parameters did not move")
        if end.end is None:
            return Reading(None, reason="the step after it was not tracked")
        if min(np.count_nonzero(step.weights.numpy() > 0) for step in steps) < 2:
            return Reading(None, reason="a single sample says nothing about noise")
        parabola = fit_parabola(
            _observe(first.losses, first),
            _observe(second.losses, second),
            None if start.start is None else _observe(start.start, first),
            _observe(end.end, second),
        )
        where = None if parabola is None else position(parabola)
        if where is None:
            return Reading(None, reason="the fit of a parabola to losses and slopes is singular")
        return Reading(where.alpha, parts={"concave": float(where.concave), "uphill": float(where.uphill)})


def _observe(values: Tensor, step: Step) -> Observation:
    return Observation(*mean_and_variance(values, step.weights))
