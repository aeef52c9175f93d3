"""Largest eigenvalue of the Hessian: how sharp is the loss where training stands?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from cockpit.instrument import Instrument, register
from cockpit.panel import Panel
from cockpit.probes.extreme_eigenvalues import ExtremeEigenvalues
from cockpit.reading import Reading
from cockpit.schedule import Schedule
from cockpit.step import Step


def _enough(tol: float) -> int:
    """Products that reach a tolerance on convolutional networks: eight for every further digit of the residual."""
    return max(5, math.ceil(5 - 8 * math.log10(10 * tol))) if 0 < tol < 1 else 5


@register
class HessMaxEV(Instrument):
    r"""The largest algebraic eigenvalue, :math:`\max_v v^\top H v / v^\top v`, and the smallest beside it; also,
    where it alone decides, how large it may be for the optimizer not to diverge.

    Eq. (C.34) of Schneider et al., *Cockpit: a practical debugging tool for the training of deep neural networks*
    (2021); from Lanczos' method instead of power iteration, which finds the eigenvalue of largest magnitude.

    Args:
        tol: Relative residual to stop at. The eigenvalue's own error is about its square: 2e-2 at the default, 1e-4 at
            ``1e-2``, for about twice the products.
        max_products: Bound on the number of Hessian products in a step; each costs about one and a half plain steps.
            If not given, what the tolerance takes: 5 for ``0.1``, 13 for ``1e-2``.
        track: When it is read.

    Raises:
        ValueError: For a tolerance that is not positive, or less than one product.
    """

    name = "hess_max_ev"
    configuration = "full"
    panel = Panel(
        title="Largest Hessian eigenvalue",
        kind="lines",
        keys=("hess_max_ev", "hess_max_ev.residual", "hess_max_ev.smallest"),
        group="curvature",
        how_to_read="Gradient descent is stable below 2 / learning rate; an eigenvalue lies within the residual.",
        formula=r"\lambda_{\max} = \max_v \frac{v^\top H v}{v^\top v}, \qquad H = \nabla^2 L",
        good="Below the line of stability of the optimizer, 2/η for gradient descent, or hovering at it.",
        bad="Far above it: the next steps climb along that direction. Lower the learning rate, or warm up longer.",
        source="Schneider et al., Cockpit: a practical debugging tool for the training of deep neural networks "
        "(2021), eq. (C.34). By Lanczos' method; the residual is ‖Hv − λv‖, so near to the value there is an "
        "eigenvalue.",
    )

    def __init__(
        self, tol: float = 0.1, max_products: int | None = None, *, track: int | Schedule | None = None
    ) -> None:
        super().__init__(track=track)
        self._probe = ExtremeEigenvalues(tol, _enough(tol) if max_products is None else max_products)
        self.needs = (self._probe,)

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        found = step[self._probe]
        parts = {
            "residual": found.residual,
            "smallest": found.smallest,
            "smallest_residual": found.smallest_residual,
            "products": float(found.products),
        }
        if step.stable_below is not None:
            parts["stable"] = step.stable_below
        return Reading(found.largest, parts=parts)
