"""What an optimizer would do with other gradients, tried on copies: it and its parameters stay as they are."""

from __future__ import annotations

import copy
import random
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from cockpit.capture.unavailable import Unavailable


def trial_step(optimizer: Optimizer, gradients: Mapping[Tensor, Tensor]) -> dict[Tensor, Tensor]:
    """The step that an optimizer would make from where it stands.

    It steps once, on copies of its parameters, of its state, and of everything else that it holds; random numbers are
    those that it would draw next.

    Args:
        optimizer: Any that steps from ``.grad``.
        gradients: By parameter, of its shape, at the scale of ``.grad``; the others have the gradients that they have.

    Returns:
        ``θ(t+1) − θ(t)`` by parameter, of those named.

    Raises:
        Unavailable: If it cannot be copied, or cannot step without evaluating the loss.
    """
    if _global_optimizer_pre_hooks or _global_optimizer_post_hooks:
        raise Unavailable(
            "a hook on all optimizers is registered, and would take trial steps for steps of the training"
        )
    try:
        twin, stand_ins = _twin(optimizer)
        for parameter, stand_in in stand_ins.items():
            if parameter in gradients:
                stand_in.grad = gradients[parameter].detach().to(stand_in.dtype, copy=True)
            elif parameter.grad is not None:
                stand_in.grad = parameter.grad.detach().clone()
        with _random_numbers_kept(stand_ins):
            type(optimizer).step(twin)
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise Unavailable(f"{type(optimizer).__name__} cannot be tried on copies of its parameters: {said}") from error
    return {parameter: stand_ins[parameter].detach() - parameter.detach() for parameter in gradients}


def _twin(optimizer: Optimizer) -> tuple[Optimizer, dict[Tensor, nn.Parameter]]:
    """A copy without hooks, of which schedulers know nothing, and its parameters by those they stand for."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    stand_ins = {p: nn.Parameter(p.detach().clone(), p.requires_grad) for p in parameters}
    memo: dict[int, Any] = {id(p): stand_in for p, stand_in in stand_ins.items()}
    twin = object.__new__(type(optimizer))
    for name, value in vars(optimizer).items():
        if name.startswith("_optimizer_") and name.endswith("_hooks"):
            vars(twin)[name] = OrderedDict()
        elif name != "step":  # a scheduler counts the steps of the original there
            vars(twin)[name] = copy.deepcopy(value, memo)
    return twin, stand_ins


@contextmanager
def _random_numbers_kept(tensors: Mapping[Tensor, Any]) -> Iterator[None]:
    devices = sorted({t.device.index for t in tensors if t.device.type == "cuda"})
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
