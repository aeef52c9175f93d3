"""What a user hands to a cockpit, checked before anything is opened or watched."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from cockpit.capture.backward.assemble import Source, sample_gradients
from cockpit.capture.individual.backpack import batch_gradients
from cockpit.sinks import Sink

STATES = ("finished", "interrupted", "crashed")
"""How a run can end."""


def turned_off() -> bool:
    """Whether the environment asks for silence: ``COCKPIT_DISABLE=1``."""
    return os.environ.get("COCKPIT_DISABLE", "").strip().lower() not in ("", "0", "false", "no")


def checked_model(model: object) -> nn.Module:
    """The model, if it can be watched.

    Raises:
        TypeError: If it is no module, or is or holds ``nn.DataParallel``.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"Cockpit watches a torch.nn.Module, got {type(model).__name__}")
    if any(isinstance(module, nn.DataParallel) for module in model.modules()):
        raise TypeError(
            "nn.DataParallel splits every batch among threads, where individual gradients cannot be put together "
            "again; use DistributedDataParallel, or pass model.module and train on one device"
        )
    return model


def checked_optimizers(optimizer: object) -> list[Optimizer]:
    """One optimizer or several, as a list.

    Raises:
        TypeError: If there is none, or anything else among them.
    """
    given = [optimizer] if isinstance(optimizer, Optimizer) else optimizer
    if not isinstance(given, Iterable) or isinstance(given, (str, Mapping, nn.Module)):
        given = [given]
    optimizers = list(dict.fromkeys(given))
    for item in optimizers:
        if not isinstance(item, Optimizer):
            raise TypeError(f"optimizer must be a torch.optim.Optimizer or a list of them, got {type(item).__name__}")
    if not optimizers:
        raise TypeError("optimizer is an empty list; pass the optimizer that updates the model")
    return optimizers


def checked_backend(backend: object) -> Source:
    """What makes individual gradients.

    Raises:
        ValueError: For anything but one of the two.
    """
    if backend not in ("cockpit", "backpack"):
        raise ValueError(f"backend is 'cockpit' or 'backpack', got {backend!r}")
    return sample_gradients if backend == "cockpit" else batch_gradients


def checked_budget(budget: object) -> float:
    """Extra time allowed, as a share of the plain time.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is not positive and finite.
    """
    hint = "0.1 lets training be ten percent slower; track=1 reads every step, whatever it costs"
    if isinstance(budget, bool) or not isinstance(budget, numbers.Real):
        raise TypeError(f"budget must be a number, got {budget!r}: {hint}")
    share = float(budget)
    if not 0 < share < math.inf:
        raise ValueError(f"budget must be positive and finite, got {budget!r}: {hint}; enabled=False reads nothing")
    return share


def checked_config(config: object) -> dict[str, Any]:
    """Hyperparameters by name.

    Raises:
        TypeError: If they come as anything but a mapping.
    """
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        hint = "; write config=vars(args)" if hasattr(config, "__dict__") else ""
        raise TypeError(f"config must be a mapping from names to values, got {type(config).__name__}{hint}")
    return {str(name): value for name, value in config.items()}


def checked_resume(resume: object) -> bool | int:
    """Whether to go on, or the step at which to."""
    if isinstance(resume, (bool, np.bool_)):
        return bool(resume)
    if not isinstance(resume, numbers.Integral):
        raise TypeError(f"resume must be True, False or the step to go on at, got {resume!r}")
    if resume < 0:
        raise ValueError(f"resume must be the step to go on at, 0 or more, got {resume}")
    return int(resume)


def checked_tags(tags: str | Iterable[str]) -> tuple[str, ...]:
    """Tags; a single word is one tag.

    Raises:
        TypeError: If they are no words.
    """
    words = (tags,) if isinstance(tags, str) else tuple(tags)
    for word in words:
        if not isinstance(word, str):
            raise TypeError(f"tags are words, got {word!r}")
    return words


def checked_sinks(sinks: object) -> list[Sink]:
    """Where a run is passed on to.

    Raises:
        TypeError: For anything else.
    """
    checked = []
    for sink in sinks if isinstance(sinks, Iterable) and not isinstance(sinks, (str, Mapping)) else [sinks]:
        if not isinstance(sink, Sink):
            hint = "such as TensorBoard('logs') or WandB(project='mnist')"
            raise TypeError(f"sinks are objects of cockpit.sinks, {hint}, got {sink!r}")
        checked.append(sink)
    return checked


def checked_scalars(values: object, taken: Sequence[str]) -> dict[str, float | None]:
    """A user's metrics as numbers.

    Args:
        values: By name: numbers, arrays or tensors with one element, ``None`` where a value is undefined.
        taken: Keys that are the cockpit's own.

    Raises:
        TypeError: For what is no mapping, a name that is no string, or a value that is no number.
        ValueError: For a name that is taken.
    """
    if not isinstance(values, Mapping):
        raise TypeError(f'cockpit.log takes a mapping, as {{"valid/accuracy": 0.9}}, got {type(values).__name__}')
    for key in values:
        if not isinstance(key, str):
            raise TypeError(f"cockpit.log takes values by name, but {key!r} is no name")
        if key in taken:
            raise ValueError(f"{key!r} is a log key of the cockpit's own; choose another name, such as 'train/{key}'")
    return {key: _number(key, value) for key, value in values.items()}


def state_after(error: BaseException | None) -> str:
    """One of :data:`STATES`: how a run ended, from what leaves its ``with`` block."""
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "finished"
    return "interrupted" if isinstance(error, (KeyboardInterrupt, GeneratorExit)) else "crashed"


def _number(key: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, Tensor):
        value = value.detach()
    if isinstance(value, (Tensor, np.ndarray)):
        size = value.numel() if isinstance(value, Tensor) else value.size
        if size != 1:
            raise TypeError(f"cockpit.log takes single numbers, but {key!r} has shape {list(value.shape)}")
        value = value.item()
    if not isinstance(value, (numbers.Real, np.bool_)):
        raise TypeError(f"cockpit.log takes numbers, but {key!r} is {type(value).__name__}: {value!r}")
    return float(value)
