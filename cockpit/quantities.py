"""Quantities by the names and with the arguments that f-dangel/cockpit gives them; each stands for an instrument.

Ranges and bins of histograms are that package's own: explicit arguments give the same numbers in either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from cockpit.instrument import Instrument, registered

Schedule = Callable[[int], bool]

_CURVATURES = {"diag_h": "hessian", "diag_ggn_exact": "ggn", "diag_ggn_mc": "ggn_mc"}


class Quantity:
    """Base of all quantities.

    Args:
        track_schedule: Function from the number of a step to whether it is tracked.
        verbose: Has no effect: readings stand in the log.
    """

    key: ClassVar[str]
    """Log key of the instrument."""

    def __init__(self, track_schedule: Schedule, verbose: bool = False) -> None:
        self._schedule = track_schedule
        self._settings: dict[str, Any] = {}

    def instrument(self) -> Instrument:
        """The instrument that it is, with this schedule."""
        return registered()[self.key](track=self._schedule, **self._settings)


class Alpha(Quantity):
    """Normalised step length."""

    key = "alpha"


class CABS(Quantity):
    """Batch size that the CABS rule suggests."""

    key = "cabs"


class Distance(Quantity):
    """Distance from the initial parameters."""

    key = "distance"


class _OfVariance(Quantity):
    """A quantity that divides by the variances of coordinates.

    Args:
        track_schedule: When it is tracked.
        verbose: Has no effect.
        epsilon: Has no effect: coordinates without variance are left out instead.
    """

    def __init__(self, track_schedule: Schedule, verbose: bool = False, epsilon: float = 1e-5) -> None:
        super().__init__(track_schedule, verbose)


class EarlyStopping(_OfVariance):
    """Evidence-based stopping criterion."""

    key = "early_stopping"


class GradHist1d(Quantity):
    """Histogram of the individual gradients' elements.

    Args:
        track_schedule: When it is tracked.
        verbose: Has no effect.
        bins: Number of bins.
        range: Lower and upper end.
        adapt: Must be ``None``.

    Raises:
        ValueError: For bins that adapt.
    """

    key = "grad_hist_1d"

    def __init__(
        self,
        track_schedule: Schedule,
        verbose: bool = False,
        bins: int = 100,
        range: tuple[float, float] = (-2, 2),
        adapt: None = None,
    ) -> None:
        super().__init__(track_schedule, verbose)
        _refuse_adaptation(adapt)
        self._settings = {"low": float(range[0]), "high": float(range[1]), "bins": bins}


class GradHist2d(Quantity):
    """Histogram of pairs of a gradient's element and its parameter.

    Args:
        track_schedule: When it is tracked.
        verbose: Has no effect.
        bins: Number of bins for gradients and for parameters.
        range: Lower and upper end for gradients and for parameters.
        adapt: Must hold nothing but ``None``.
        keep_individual: Has no effect: every parameter has a histogram of its own.

    Raises:
        ValueError: For bins that adapt.
    """

    key = "grad_hist_2d"

    def __init__(
        self,
        track_schedule: Schedule,
        verbose: bool = False,
        bins: tuple[int, int] = (40, 50),
        range: tuple[tuple[float, float], tuple[float, float]] = ((-1, 1), (-2, 2)),
        adapt: tuple[None, None] = (None, None),
        keep_individual: bool = False,
    ) -> None:
        super().__init__(track_schedule, verbose)
        _refuse_adaptation(*adapt)
        (low, high), (parameter_low, parameter_high) = range
        self._settings = {"low": float(low), "high": float(high), "bins": bins[0], "parameter_bins": bins[1]}
        self._settings |= {"parameter_low": float(parameter_low), "parameter_high": float(parameter_high)}


class GradNorm(Quantity):
    """Norm of the mini-batch gradient."""

    key = "grad_norm"


class HessMaxEV(Quantity):
    """Largest eigenvalue of the Hessian.

    Args:
        track_schedule: When it is tracked.
        verbose: Has no effect.
        use_power: Has no effect: a power iteration finds the eigenvalue of largest magnitude, which is another one.
    """

    key = "hess_max_ev"

    def __init__(self, track_schedule: Schedule, verbose: bool = False, use_power: bool = True) -> None:
        super().__init__(track_schedule, verbose)


class _OfCurvature(Quantity):
    """A quantity that needs a diagonal.

    Args:
        track_schedule: When it is tracked.
        verbose: Has no effect.
        curvature: ``"diag_h"``, ``"diag_ggn_exact"`` or ``"diag_ggn_mc"``.
        epsilon: Has no effect: coordinates without curvature are left out instead.

    Raises:
        ValueError: For another diagonal.
    """

    def __init__(
        self, track_schedule: Schedule, verbose: bool = False, curvature: str = "diag_h", epsilon: float = 1e-7
    ) -> None:
        super().__init__(track_schedule, verbose)
        if curvature not in _CURVATURES:
            raise ValueError(f"curvature is one of {', '.join(_CURVATURES)}, got {curvature!r}")
        self._settings = {"curvature": _CURVATURES[curvature]}


class HessTrace(_OfCurvature):
    """Trace of the Hessian, or of the generalised Gauss-Newton matrix."""

    key = "hess_trace"


class InnerTest(Quantity):
    """Noise along the mean gradient."""

    key = "inner_test"


class Loss(Quantity):
    """Mini-batch loss."""

    key = "loss"


class MeanGSNR(_OfVariance):
    """Mean signal-to-noise ratio of the gradient."""

    key = "mean_gsnr"


class NormTest(Quantity):
    """Noise of the gradient altogether."""

    key = "norm_test"


class OrthoTest(Quantity):
    """Noise across the mean gradient."""

    key = "ortho_test"


class Parameters(Quantity):
    """Values of the parameters."""

    key = "parameters"


class TICDiag(_OfCurvature):
    """Takeuchi's criterion from diagonals."""

    key = "tic_diag"


class TICTrace(_OfCurvature):
    """Takeuchi's criterion from traces."""

    key = "tic_trace"


class Time(Quantity):
    """Seconds since the run began."""

    key = "time"


class UpdateSize(Quantity):
    """Length of the update."""

    key = "update_size"


def _refuse_adaptation(*adapt: object) -> None:
    if any(policy is not None for policy in adapt):
        raise ValueError("bins that adapt are not supported: give the range that you want to see")
