"""Gradient noise scale: which batch size would balance signal and noise?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cockpit.instrument import Instrument, register
from cockpit.panel import Panel
from cockpit.probes.per_sample_moments import PerSampleMoments
from cockpit.reading import Reading
from cockpit.schedule import Schedule
from cockpit.step import Step


def noise_and_signal(mean_sq_norm: float, grad_sq_norm: float, samples: int) -> tuple[float, float]:
    r"""Unbiased estimates of the trace of the gradients' covariance and of the squared norm of their expectation.

    .. math::
        S = \frac{N}{N - 1} \left( \overline{\lVert g_n \rVert^2} - \lVert g \rVert^2 \right), \qquad
        |G|^2 = \frac{N \lVert g \rVert^2 - \overline{\lVert g_n \rVert^2}}{N - 1}

    McCandlish et al., *An empirical model of large-batch training* (2018), appendix A.1, with a single sample as the
    small batch.

    Args:
        mean_sq_norm: Mean of the squared norms of the individual gradients.
        grad_sq_norm: Squared norm of their mean.
        samples: Batch size ``N``, at least 2.

    Returns:
        ``S`` and ``|G|²``; the latter can be negative where noise hides the signal.

    Raises:
        ValueError: For fewer than two samples.

    Example:
        >>> noise_and_signal(3.0, 2.0, samples=2)
        (2.0, 1.0)
    """
    if samples < 2:
        raise ValueError(f"the noise scale needs at least 2 samples, got {samples}")
    noise = (mean_sq_norm - grad_sq_norm) * samples / (samples - 1)
    return noise, (samples * grad_sq_norm - mean_sq_norm) / (samples - 1)


@dataclass
class Smoothed:
    """Exponential moving average that starts unbiased.

    Args:
        decay: Weight of the past, between 0 and 1.
    """

    decay: float
    _sum: float = 0.0
    _weight: float = 0.0

    def add(self, value: float) -> float:
        """Takes a value and returns the average with it."""
        self._sum = self.decay * self._sum + (1 - self.decay) * value
        self._weight = self.decay * self._weight + (1 - self.decay)
        return self._sum / self._weight


@register
class NoiseScale(Instrument):
    """``S / |G|²`` in samples, both smoothed before they are divided; their raw values as parts.

    Args:
        decay: Weight of the past in the moving averages.
        track: When it is read.
    """

    name = "noise_scale"
    configuration = "economy"
    needs = (PerSampleMoments,)
    panel = Panel(
        title="Noise scale",
        kind="lines",
        group="gradients",
        yscale="log",
        ylabel="samples",
        how_to_read="Below the noise scale a larger batch pays in fewer steps; far above it, computation is wasted.",
        formula=r"\frac{S}{\lvert G \rvert^2}"
        "\n"
        r"S = \frac{N}{N - 1} \left( \frac{1}{N} \sum_n \lVert g_n \rVert^2 - \lVert g \rVert^2 \right)"
        "\n"
        r"\lvert G \rvert^2 = \frac{1}{N - 1} "
        r"\left( N \lVert g \rVert^2 - \frac{1}{N} \sum_n \lVert g_n \rVert^2 \right)",
        good="Of the order of the batch size: neither data nor computation is wasted. It grows as the loss falls.",
        bad="Far below the batch size: a smaller batch would go nearly as far with each step. Far above: steps "
        "are mostly noise, a larger batch pays in fewer of them.",
        source="McCandlish et al., An empirical model of large-batch training (2018), appendix A.1, with a single "
        "sample as the small batch. Both parts are smoothed before they are divided.",
    )

    def __init__(self, decay: float = 0.9, *, track: int | Schedule | None = None) -> None:
        super().__init__(track=track)
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self._noise, self._signal = Smoothed(decay), Smoothed(decay)

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        moments = step[PerSampleMoments]
        if moments.samples < 2:
            return Reading(None, reason="a single sample says nothing about noise")
        noise, signal = noise_and_signal(float(moments.mean_sq_norm), float(moments.grad_sq_norm), moments.samples)
        parts = {"noise": noise, "signal": signal}
        if not (math.isfinite(noise) and math.isfinite(signal)):
            return Reading(float("nan"), parts=parts)
        smooth_noise, smooth_signal = self._noise.add(noise), self._signal.add(signal)
        if smooth_signal <= 0:
            return Reading(
                None, parts=parts, reason="not resolvable: the signal drowns in the noise of this batch size"
            )
        return Reading(smooth_noise / smooth_signal, parts=parts)
