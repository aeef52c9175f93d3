"""Gradients that the processes of a job average on their way into ``.grad``.

``DistributedDataParallel`` does so below autograd's hooks, which see what the process's own samples give: so individual
gradients add up to what arrives there, and not to what the optimizer finds.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

BEFORE = (
    "the processes averaged the gradients of an earlier backward pass of this step; call the model inside its "
    "no_sync() in all passes but the last"
)
WITHIN = (
    "the processes averaged this pass's gradients before they could be added to those of the step's earlier ones, "
    "because it starts from several losses: add these before calling backward"
)


def is_averaged(model: nn.Module) -> bool:
    """Whether the processes average the gradients of the call of ``model`` that begins.

    Args:
        model: One that is called; it may hold a ``DistributedDataParallel``, or be what one holds.
    """
    if not several_processes():
        return False
    around = getattr(DistributedDataParallel, "_active_ddp_module", None)
    held = [module for module in model.modules() if isinstance(module, DistributedDataParallel)]
    return any(ddp.require_backward_grad_sync for ddp in [*held, *([] if around is None else [around])])


def several_processes() -> bool:
    """Whether this one may exchange gradients with others."""
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
