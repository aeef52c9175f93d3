"""CABS: the batch size that a learning rate asks for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cockpit.instrument import Instrument, register
from cockpit.panel import Panel
from cockpit.probes.per_sample_moments import PerSampleMoments
from cockpit.reading import Reading
from cockpit.statistics import mean
from cockpit.step import Step


def cabs_batch_size(variances: Tensor, learning_rates: Tensor, loss: Tensor) -> Tensor:
    r"""Batch size that maximises a lower bound on the gain per cost of an SGD step.

    .. math::
        \frac{1}{L} \sum_k \eta_k \, \frac{1}{N} \sum_n \lVert g_n^{(k)} - g^{(k)} \rVert^2

    Balles et al., *Coupling adaptive batch sizes with learning rates* (2017), eq. (22), with a sum over parameters
    where they have learning rates of their own.

    Args:
        variances: Mean squared distance of the individual gradients to their mean, by parameter. Shape ``[P]``.
        learning_rates: Shape ``[P]``.
        loss: Mean loss, positive. Shape ``[]``.

    Returns:
        Number of samples, shape ``[]``.

    Raises:
        ValueError: For a loss that is not positive.

    Example:
        >>> cabs_batch_size(torch.tensor([4.0]), torch.tensor([0.5]), torch.tensor(0.1))
        tensor(20.)
    """
    if bool(loss <= 0):
        raise ValueError(f"CABS needs a positive loss, got {float(loss)}")
    return (learning_rates * variances).sum() / loss


@register
class CABS(Instrument):
    """Batch size suggested for SGD at the present learning rate."""

    name = "cabs"
    configuration = "business"
    needs = (PerSampleMoments,)
    panel = Panel(
        title="CABS batch size",
        kind="lines",
        group="gradients",
        yscale="log",
        ylabel="samples",
        how_to_read="A suggestion far above the batch size says: raise the batch size or lower the learning rate.",
        formula=r"\frac{\eta}{L} \, \frac{1}{N} \sum_n \lVert g_n - g \rVert^2",
        good="Near the batch size that you use, or below it.",
        bad="Far above the batch size: steps of this learning rate are dominated by noise. Raise the batch size "
        "or lower the learning rate.",
        source="Balles et al., Coupling adaptive batch sizes with learning rates (2017), eq. (22); eq. (C.6) of the "
        "Cockpit paper. Parameter groups add up, each with its own learning rate.",
    )

    def compute(self, steps: Sequence[Step]) -> Reading:
        (step,) = steps
        moments = step[PerSampleMoments]
        loss = mean(step.losses, step.weights)
        if bool(loss <= 0):
            return Reading(None, reason="the criterion needs a positive loss")
        missing = [name for name in moments.names if name not in step.learning_rates]
        if missing:
            return Reading(None, reason=f"the optimizer states no learning rate for {missing[0]}")
        rates = torch.tensor([step.learning_rates[name] for name in moments.names], dtype=torch.float64)
        if step.objective_scale is None:
            return Reading(None, reason="how the loss was scaled is not known")
        rates *= abs(step.objective_scale)  # of the mean loss
        variances = mean(moments.layer_sq_norms, moments.weights) - moments.layer_grad_sq_norms
        return Reading(float(cabs_batch_size(variances.clamp_min(0), rates, loss)))
