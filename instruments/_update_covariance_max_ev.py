"""Largest eigenvalue of the covariance of updates: how much does the step depend on which samples were drawn?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cockpit.instrument import Instrument, register
from cockpit.panel import Panel
from cockpit.probes.trial_steps import PARTS, TrialSteps
from cockpit.reading import Reading
from cockpit.schedule import Schedule
from cockpit.step import Step


def largest_and_trace(products: Tensor) -> tuple[float, float]:
    r"""Largest eigenvalue and trace of a covariance matrix, however many dimensions it has.

    .. math::
        K = \frac{1}{M} \sum_m (s_m - \bar s)(s_m - \bar s)^\top

    has the eigenvalues, other than 0, of the :math:`M \times M` matrix of inner products over :math:`M`.

    Args:
        products: :math:`\langle s_m - \bar s, s_{m'} - \bar s \rangle`. Shape ``[M, M]``.

    Returns:
        Both; NaN where a product is not finite.

    Example:
        >>> largest_and_trace(torch.tensor([[2.0, -2.0], [-2.0, 2.0]]))
        (2.0, 2.0)
    """
    if not bool(products.isfinite().all()):
        return float("nan"), float("nan")
    covariance = products / len(products)
    return float(torch.linalg.eigvalsh(covariance)[-1].clamp_min(0)), float(covariance.trace())


@register
class UpdateCovarianceMaxEV(Instrument):
    r"""Largest eigenvalue of :math:`\frac{1}{M} \sum_m (s_m - \bar s)(s_m - \bar s)^\top`, with :math:`s_m` the step
    that the optimizer would make of part :math:`m` of the mini-batch; the trace, and both of the parts' gradients, as
    parts.

    Args:
        parts: ``M``; each is tried on copies of the parameters and of the optimizer's state.
        track: When it is read.

    Raises:
        ValueError: For fewer than 2 parts.
    """

    name = "update_covariance_max_ev"
    panel = Panel(
        title="Covariance of updates",
        kind="lines",
        keys=("update_covariance_max_ev", "update_covariance_max_ev.trace", "update_covariance_max_ev.gradient"),
        group="steps",
        yscale="log",
        how_to_read="How far the step would be another one, had other samples been drawn: along the direction in which "
        "that is most, and over all of them.",
        formula=r"\lambda_{\max}(K), \qquad K = \frac{1}{M} \sum_m (s_m - \bar s)(s_m - \bar s)^\top",
        good="Falling with the learning rate, and far below the trace: many directions share the noise.",
        bad="Near the trace, and far above the squared length of the step: a few samples toss the parameters along one "
        "direction. A larger batch or a smaller learning rate helps.",
        source="Sobotka and Šimánek, Investigation into training dynamics of learned optimizers; from inner products "
        "of the steps, tried on copies from the same parameters and state.",
    )

    def __init__(self, parts: int = PARTS, *, track: int | Schedule | None = None) -> None:
        super().__init__(track=track)
        self._probe = TrialSteps(parts)
        self.needs = (self._probe,)

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        trials = step[self._probe]
        value, trace = largest_and_trace(trials.updates)
        gradient, gradient_trace = largest_and_trace(trials.gradients)
        parts = {
            "trace": trace,
            "gradient": gradient,
            "gradient_trace": gradient_trace,
            "parts": float(len(trials.updates)),
        }
        return Reading(value, parts=parts)
