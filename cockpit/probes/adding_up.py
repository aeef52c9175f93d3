"""Whether individual gradients add up to the gradient: whatever else the loss held would go unnoticed."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from cockpit.capture.backward.backward_pass import BackwardPass

LOOK_EVERY = 16
"""Every how many tracked steps the sum of the individual gradients is looked at along the parameters' values too."""


@dataclass
class Looks:
    """What earlier steps tell: when the sum was last looked at along the parameters' values, and what was found."""

    steps: int = 0
    left_out: dict[int, str] = field(default_factory=dict)
    sizes: dict[int, float] = field(default_factory=dict)
    """Size of what was added up, in the latest step whose norms were known."""
    summed: dict[int, float | None] = field(default_factory=dict)
    """The same with the terms of each individual gradient taken apart, of parameters that were in doubt before;
    ``None`` where nothing tells."""

    def due(self) -> bool:
        """On the first tracked steps, and then now and again: it costs as much as the inner products themselves."""
        self.steps += 1
        return self.steps <= 2 or self.steps % LOOK_EVERY == 0

    def off(self, index: int, gap: float, square: float, parameter: Tensor, lowest: torch.dtype) -> bool:
        """Whether a parameter's individual gradients do not add up to its gradient.

        A gradient that is zero but for rounding has none that they could add up to. What rounding leaves goes by what
        was added up, also within a sample, where terms may cancel. From when a parameter is in doubt that is measured;
        the first time the largest that was added up anywhere stands for it.

        Args:
            index: Which parameter.
            gap: ``|Σ_n ⟨G_n, g⟩ − ‖g‖²|``, or as large along another direction.
            square: ``‖g‖²``.
            parameter: The parameter.
            lowest: The coarsest dtype that any layer computed in.
        """
        # Zero where its squares are too small for its dtype, as deep in a network where gradients vanish.
        if square == 0 or not apart(gap, square, self.sizes[index], parameter, lowest):
            return False
        summed = self.summed.setdefault(index, None)
        largest = max(self.sizes.values()) if summed is None else summed
        return bool(max(square**0.5, gap / square**0.5) > 64 * torch.finfo(parameter.dtype).eps * largest)


def penalised(off: float) -> str:
    """What is said of a parameter whose individual gradients do not.

    Args:
        off: By how much, as a share of the gradient.
    """
    return (
        f"the individual gradients do not add up to its gradient (off by {off:.1e}): the loss "
        "holds a term that is not a mean over samples, such as a penalty on the weights, or gradients are changed on "
        "their way"
    )


def apart(gap: float, square: float, size: float, parameter: Tensor, lowest: torch.dtype) -> bool:
    """Whether ``Σ_n ⟨G_n, g⟩`` and ``‖g‖²`` are further apart than rounding takes them.

    Args:
        gap: Their difference.
        square: ``‖g‖²``.
        size: Size of what was added up.
        parameter: The parameter.
        lowest: The coarsest dtype that any layer computed in.
    """
    relative, rounding = _tolerance(parameter, lowest)
    return bool(gap > relative * square + rounding * size * square**0.5)


def _tolerance(parameter: Tensor, lowest: torch.dtype) -> tuple[float, float]:
    """What rounding may leave: relative to ``‖g‖²``, and relative to the size of what was added up.

    Each is about ten times the worst that networks of all kinds were seen to leave.
    """
    own = torch.finfo(parameter.dtype).eps
    coarsest = max(own, torch.finfo(lowest).eps)
    if parameter.device.type == "cuda" and parameter.dtype == torch.float32:
        coarsest = max(coarsest, 2.0**-10)  # TensorFloat-32, which convolutions use unless told not to
    if coarsest > own:
        # Layers round what they are given and what they return, and both sides see the same; sums are not rounded.
        return 4 * coarsest, coarsest
    return min(5e-2, 1000 * own), 64 * own


def lowest_precision(backward: BackwardPass) -> torch.dtype:
    """The coarsest dtype that anything was computed in: autocast rounds more than the parameters' dtype suggests."""
    dtypes = {call.output_dtype for call in backward.walked} | backward.dtypes
    return max(dtypes, key=lambda dtype: torch.finfo(dtype).eps, default=torch.float64)
