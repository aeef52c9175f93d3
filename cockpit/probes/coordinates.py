"""Signal and noise of single coordinates, from second moments that are formed and forgotten layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cockpit.capture.backward.backward_pass import BackwardPass
from cockpit.capture.individual.gradients import SampleGradients
from cockpit.capture.unavailable import Unavailable
from cockpit.probes.per_sample_moments import covered
from cockpit.probes.probe import Collector, Probe, Reduction, Surroundings
from cockpit.probes.row_sums import RowSums

PIECE = 1 << 16
"""Coordinates that are looked at together."""

VARIANCE_FLOOR = 32
"""Variances below so many rounding errors of the second moment are none."""


@dataclass(frozen=True)
class CoordinateSums:
    """Sums over the coordinates that have variance; float64 on the host.

    Args:
        names: Parameters with individual gradients, in the model's order.
        numel: Coordinates of each. Shape ``[P]``.
        varied: How many of them have variance. Shape ``[P]``.
        signal_to_noise: ``Σ_j g_j² / (Σ_n w_n g_nj² − g_j²)``. Shape ``[P]``.
        evidence: ``Σ_j g_j² / v_j`` with ``v_j`` the estimated variance of ``g_j``. Shape ``[P]``.
    """

    names: tuple[str, ...]
    numel: Tensor
    varied: Tensor
    signal_to_noise: Tensor
    evidence: Tensor

    def mean(self, sums: Tensor) -> tuple[float | None, float]:
        """A mean over all coordinates that have variance, ``None`` if none has, and the share of the others.

        Args:
            sums: Sums over the coordinates of each parameter, shape ``[P]``.
        """
        varied = float(self.varied.sum())
        left_out = 1 - varied / float(self.numel.sum())
        return (float(sums.sum()) / varied if varied else None), left_out


@dataclass(frozen=True)
class Coordinates(Probe[CoordinateSums]):
    """``Σ_n g_nj²`` for every coordinate, reduced at once to sums over coordinates."""

    individual: ClassVar[bool] = True

    def collector(self, surroundings: Surroundings) -> Collector[CoordinateSums]:
        """Begins a step."""
        return CoordinatesCollector(surroundings)


class _SpreadReduction(Reduction):
    """Elementwise ``Σ_n w_n g_nj²``, and the estimated variance of ``g_j``.

    Args:
        gradients: The parameter's individual gradients.
        gradient: Its gradient, raw.
        weights: ``w_n``, shape ``[N]``.
        factors: Turn raw rows into individual gradients, shape ``[N]``.
        scale: Turns the raw gradient into the mean.
    """

    def __init__(
        self, gradients: SampleGradients, gradient: Tensor, weights: Tensor, factors: Tensor, scale: float
    ) -> None:
        self._gradients: SampleGradients | None = gradients
        self.mean = gradient.reshape(-1) / scale
        self._weights, self._factors = weights, factors
        self._equal = bool((weights == weights[0]).all())
        self.second_moment: Tensor | None = None
        self._spread = torch.zeros_like(self.mean)

    def closed(self) -> bool:
        assert self._gradients is not None
        if self._equal:  # with unequal weights the variance is not a function of the second moment
            self.second_moment = self._gradients.weighted_squares(self._weights * self._factors.square())
        if self.second_moment is None:
            self.sums = RowSums(coefficients=self._weights * self._factors.square())
        return self.second_moment is not None

    def rows(self, start: int, rows: Tensor) -> None:
        if not self._equal:
            own = slice(start, start + len(rows))
            deviations = rows * self._factors[own].to(rows.dtype).unsqueeze(1) - self.mean
            self._spread += self._weights[own].to(rows.dtype).square() @ deviations.square()

    def finish(self) -> None:
        if self.sums is not None:
            self.second_moment = self.sums.squares
        self._gradients = self.sums = None

    def over_coordinates(self) -> Tensor:
        """As :func:`coordinate_sums`."""
        assert self.second_moment is not None
        samples = int((self._weights > 0).sum())
        if self._equal:
            return coordinate_sums(self.second_moment, self.mean, samples)
        return coordinate_sums(self.second_moment, self.mean, samples, self._spread)


class CoordinatesCollector(Collector[CoordinateSums]):
    """Holds second moments until the pass is over and it is known what they are worth.

    Args:
        surroundings: The step's.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        self.listeners: list[Callable[[int, Tensor], None]] = []
        """Given the second moments ``Σ_n w_n g_nj²`` of every parameter that is covered, at the end of the pass."""
        self._surroundings = surroundings
        self._open: dict[int, _SpreadReduction] = {}
        self._passes: list[BackwardPass] = []
        self._sums: dict[int, Tensor] = {}

    def reduction(
        self, index: int, gradients: SampleGradients, gradient: Tensor, backward: BackwardPass
    ) -> Reduction | None:
        """Second moments and spread of a parameter, in the first pass."""
        if self._passes:
            return None
        weights, factors = backward.weights().to(gradient.device), backward.factors().to(gradient.device)
        self._open[index] = _SpreadReduction(gradients, gradient, weights, factors, backward.scale())
        return self._open[index]

    def end_pass(self, backward: BackwardPass) -> None:
        """Reduces second moments to sums over coordinates."""
        self._passes.append(backward)
        left_out = self._surroundings.left_out
        for index, reduction in self._open.items():
            if index not in left_out:
                self._sums[index] = reduction.over_coordinates()
                assert reduction.second_moment is not None
                for listener in self.listeners:
                    listener(index, reduction.second_moment)
        self._open.clear()

    def result(self) -> CoordinateSums:
        """All parameters that are covered."""
        if not self._passes:
            raise Unavailable("no backward pass was seen")
        if len(self._passes) > 1:
            raise Unavailable(
                "the batch came in several backward passes, and the variance of a coordinate needs their common mean"
            )
        table, indices = self._surroundings.table, covered(self._surroundings, self._sums)
        varied, snr, evidence = torch.stack([self._sums[i] for i in indices]).cpu().unbind(1)
        numel = torch.tensor([table[i].tensor.numel() for i in indices], dtype=torch.float64)
        return CoordinateSums(tuple(table[i].name for i in indices), numel, varied, snr, evidence)


def coordinate_sums(second_moment: Tensor, gradient: Tensor, samples: int, spread: Tensor | None = None) -> Tensor:
    """Sums over the coordinates of one parameter that have variance.

    Args:
        second_moment: ``Σ_n w_n g_nj²``, shape ``[d]``.
        gradient: ``g_j``, shape ``[d]``.
        samples: Batch size ``N``.
        spread: ``Σ_n w_n² (g_nj − g_j)²``; not needed for equal weights. Shape ``[d]``.

    Returns:
        Float64, shape ``[3]``: how many coordinates have variance, ``Σ_j g_j²/var_j``, and ``Σ_j g_j²/v_j`` with the
        estimated variance ``v_j`` of ``g_j``.
    """
    # In pieces that stay in the cache.
    sums = []
    for start in range(0, len(gradient), PIECE):
        own = slice(start, start + PIECE)
        spread_of_these = None if spread is None else spread[own]
        sums.append(_piece_sums(second_moment[own], gradient[own], samples, spread_of_these))
    return torch.stack(sums).sum(0)


def _piece_sums(second_moment: Tensor, gradient: Tensor, samples: int, spread: Tensor | None) -> Tensor:
    squares, moments = gradient.double().square(), second_moment.double()
    variance = moments - squares
    floor = VARIANCE_FLOOR * torch.finfo(second_moment.dtype).eps
    varied = variance > floor * moments
    snr = torch.where(varied, squares / variance, 0.0).sum()
    if spread is None or samples < 2:
        evidence = snr * (samples - 1)
    else:
        evidence = torch.where(varied, squares / (spread.double() * samples / (samples - 1)), 0.0).sum()
    return torch.stack([varied.sum().double(), snr, evidence])
