"""Optimizers that take the gradients of a scaled loss as they come.

A loss scale is a step size: exactly so for SGD, and but for ``ε`` for methods that normalise. So it need not be taken
back from the gradients before a step, as mixed-precision training does. These optimizers do what those of
:mod:`torch.optim` do, on gradients of any scale, whether it is fixed, scheduled, dynamic, or different from one
parameter to the next.
"""

from cockpit.optim.adam import ScaledAdam, ScaledAdamW
from cockpit.optim.loss_scaled import LossScaledOptimizer
from cockpit.optim.rmsprop import ScaledRMSprop
from cockpit.optim.scales import DynamicScale
from cockpit.optim.sgd import ScaledSGD

__all__ = ["DynamicScale", "LossScaledOptimizer", "ScaledAdam", "ScaledAdamW", "ScaledRMSprop", "ScaledSGD"]
