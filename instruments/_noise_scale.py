"""Gradient noise scale: which batch size would balance signal and noise?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cockpit.instrument import Instrument, register
from cockpit.panel import Panel
from cockpit.probes.per_sample_moments import PerSampleMoments
from cockpit.reading import Reading
from cockpit.schedule import Schedule
from cockpit.step import Step


def noise_and_signal(mean_sq_norm: float, grad_sq_norm: float, samples: float) -> tuple[float, float]:
    r"""Unbiased estimates of the trace of the gradients' covariance and of the squared norm of their expectation.

    .. math::
        S = \frac{N}{N - 1} \left( \overline{\lVert g_n \rVert^2} - \lVert g \rVert^2 \right), \qquad
        |G|^2 = \frac{N \lVert g \rVert^2 - \overline{\lVert g_n \rVert^2}}{N - 1}

    McCandlish et al., *An empirical model of large-batch training* (2018), appendix A.1, with a single sample as the
    small batch.

    Args:
        mean_sq_norm: Mean of the squared norms of the individual gradients.
        grad_sq_norm: Squared norm of their mean.
        samples: Batch size ``N``; where samples have weights, ``1 / Σ w_n²``, and the mean of squares is weighted too.
            More than 1.

    Returns:
        ``S`` and ``|G|²``; the latter can be negative where noise hides the signal.

    Raises:
        ValueError: For a single sample.

    Example:
        >>> noise_and_signal(3.0, 2.0, samples=2)
        (2.0, 1.0)
    """
    if samples <= 1:
        raise ValueError(f"the noise scale needs more than one sample, got {samples}")
    noise = (mean_sq_norm - grad_sq_norm) * samples / (samples - 1)
    return noise, (samples * grad_sq_norm - mean_sq_norm) / (samples - 1)


@dataclass
class SmoothedPair:
    """Exponential moving averages of two numbers that start unbiased, and how sure they are.

    Args:
        decay: Weight of the past, between 0 and 1.
    """

    decay: float
    _weight: float = 0.0
    _squared_weights: float = 0.0
    _sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    _products: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 2)))

    def add(self, first: float, second: float) -> tuple[float, float]:
        """Takes a pair and returns the averages with it."""
        pair, new = np.array([first, second]), 1 - self.decay
        self._weight = self.decay * self._weight + new
        self._squared_weights = self.decay**2 * self._squared_weights + new**2
        self._sums = self.decay * self._sums + new * pair
        self._products = self.decay * self._products + new * np.outer(pair, pair)
        means = self._sums / self._weight
        return float(means[0]), float(means[1])

    def covariance(self) -> NDArray[np.float64] | None:
        """Covariance of the averages, shape ``[2, 2]``, as of independent readings; ``None`` for a single one."""
        share = self._squared_weights / self._weight**2 if self._weight else 1.0
        if share >= 1:
            return None
        means = self._sums / self._weight
        spread = self._products / self._weight - np.outer(means, means)
        return spread * share / (1 - share)


def ratio_band(
    noise: float, signal: float, covariance: NDArray[np.float64] | None, errors: float = 2.0
) -> tuple[float, float] | None:
    r"""Band around ``noise / signal``, so many standard errors of its logarithm wide to either side.

    .. math::
        \operatorname{Var} \ln \frac{S}{|G|^2} \approx \frac{\operatorname{Var} S}{S^2}
        + \frac{\operatorname{Var} |G|^2}{|G|^4} - 2 \frac{\operatorname{Cov}(S, |G|^2)}{S |G|^2}

    Args:
        noise: ``S``.
        signal: ``|G|²``.
        covariance: Of both. Shape ``[2, 2]``.
        errors: How many.

    Returns:
        Lower and upper edge; ``None`` where one of them is not that far from 0: the ratio may then be anything.

    Example:
        >>> ratio_band(2.0, 1.0, np.zeros((2, 2)))
        (2.0, 2.0)
    """
    if covariance is None:
        return None
    scaled = covariance / np.outer((noise, signal), (noise, signal)) if noise > 0 and signal > 0 else None
    if scaled is None or not max(scaled[0, 0], scaled[1, 1]) * errors**2 < 1:
        return None
    spread = math.sqrt(max(0.0, scaled[0, 0] + scaled[1, 1] - 2 * scaled[0, 1]))
    ratio = noise / signal
    return ratio * math.exp(-errors * spread), ratio * math.exp(errors * spread)


@register
class NoiseScale(Instrument):
    """``S / |G|²`` in samples, both smoothed before they are divided; their raw values as parts, and as ``low`` and
    ``high`` a band of two standard errors, where the readings so far allow one.

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
        self._smoothed = SmoothedPair(decay)

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        moments = step[PerSampleMoments]
        if moments.samples < 2:
            return Reading(None, reason="a single sample says nothing about noise")
        samples = 1 / float((moments.weights**2).sum())
        noise, signal = noise_and_signal(float(moments.mean_sq_norm), float(moments.grad_sq_norm), samples)
        parts = {"noise": noise, "signal": signal}
        if not (math.isfinite(noise) and math.isfinite(signal)):
            return Reading(float("nan"), parts=parts)
        smooth_noise, smooth_signal = self._smoothed.add(noise, signal)
        if smooth_signal <= 0:
            return Reading(
                None, parts=parts, reason="not resolvable: the signal drowns in the noise of this batch size"
            )
        band = ratio_band(smooth_noise, smooth_signal, self._smoothed.covariance())
        if band is not None:
            parts["low"], parts["high"] = band
        return Reading(smooth_noise / smooth_signal, parts=parts)
