"""Short trainings, recorded to the last bit after every step: what a cockpit must not change."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adam, Optimizer
from torch.optim.optimizer import ParamsT
from torch.overrides import _get_current_function_mode_stack

from cockpit.session import Cockpit
from cockpit.tracking.step_context import StepContext

STEPS = 10
BATCH, CLASSES = 8, 3
_HOOKS_OF_TENSORS = ("_backward_hooks", "_post_accumulate_grad_hooks")


@dataclass(frozen=True)
class Training:
    """A short training, the same to the last bit whenever it is repeated.

    Args:
        name: What is particular about it.
        network: Makes the model, for inputs of shape ``[8, 2, 6, 6]`` and three classes.
        optimizer: Makes the optimizer of its parameters.
        track: How often the instruments are read.
        per_sample: Whether individual losses are handed over with ``step.losses``.
        autocast: Whether it runs in bfloat16 where autocast allows.
        micro_batches: Backward passes to a step.
        outside: Whether the optimizer steps after the block.
        closure: Whether the optimizer evaluates the loss itself, several times a step.
        steps: How many steps it takes.
        scaled: Whether a gradient scaler multiplies the loss, and gradients are clipped.
    """

    name: str
    network: Callable[[], nn.Module]
    optimizer: Callable[[ParamsT], Optimizer]
    track: int = 1
    per_sample: bool = False
    autocast: bool = False
    micro_batches: int = 1
    outside: bool = False
    closure: bool = False
    steps: int = STEPS
    scaled: bool = False

    def __str__(self) -> str:
        return self.name


def _convolutional() -> nn.Module:
    features = (nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Flatten())
    return nn.Sequential(*features, nn.Linear(64, 10), nn.ReLU(), nn.Dropout(0.3), nn.Linear(10, CLASSES))


class _Recurrent(nn.Module):
    """Learned positions, and two recurrent layers with dropout in between."""

    def __init__(self) -> None:
        super().__init__()
        self.places, self.cells = nn.Parameter(torch.zeros(2, 36)), nn.LSTM(36, 8, 2, batch_first=True, dropout=0.2)
        # Saving tells equal strings apart, and whether a layer's names are one string depends on what was made before.
        self.cells._flat_weights_names = [sys.intern(name) for name in self.cells._flat_weights_names]
        self.cells._all_weights = [[sys.intern(name) for name in names] for names in self.cells._all_weights]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.cells(x + self.places)[0]
        return out


def _linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(72, CLASSES))


def _attentive() -> nn.Module:
    layer = nn.TransformerEncoderLayer(36, 2, 16, dropout=0.2, batch_first=True)
    head = (nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, CLASSES))
    return nn.Sequential(nn.Flatten(2), layer, _Recurrent(), *head)


_SGD, _ADAM = functools.partial(SGD, lr=0.1, momentum=0.9), functools.partial(Adam, lr=0.01)

TRAININGS = (
    Training("SGD", _convolutional, _SGD),
    Training("Adam, every third step", _convolutional, _ADAM, track=3),
    Training("individual losses handed over", _convolutional, _SGD, per_sample=True),
    Training("bfloat16 autocast", _convolutional, _ADAM, autocast=True),
    Training("two micro-batches", _convolutional, _SGD, micro_batches=2),
    Training("optimizer steps after the block", _convolutional, _SGD, outside=True),
    Training("closure", _convolutional, functools.partial(LBFGS, lr=0.1, max_iter=3), closure=True),
    Training("attention and recurrence", _attentive, _ADAM),
    Training("twenty steps", _linear, _SGD, steps=20),
    Training("gradient scaler and clipping", _convolutional, _SGD, scaled=True),
)


@functools.cache
def untouched(training: Training, device: str | torch.device) -> list[dict[str, object]]:
    """The trajectory without a cockpit."""
    return trajectory(training, device, enabled=False)


def trajectory(training: Training, device: str | torch.device, **options: Any) -> list[dict[str, object]]:
    """Trains under a cockpit, and records all that training consists of.

    Args:
        training: The training.
        device: Where it runs.
        options: For the cockpit.

    Returns:
        After each step and after closing: bytes and numbers by name.
    """
    with _seeded():
        model = training.network().to(device)
        optimizer = training.optimizer(model.parameters())
        scaler = torch.amp.GradScaler(torch.device(device).type, init_scale=1024.0, enabled=training.scaled)
        states = []
        with contextlib.redirect_stderr(io.StringIO()), Cockpit(model, optimizer, **options) as cockpit:
            for _ in range(training.steps):
                with cockpit.step() as step:
                    losses = _update(training, model, optimizer, step, scaler)
                if training.outside:
                    optimizer.step()
                states.append(_state(model, losses, [] if training.outside else [optimizer]))
        states.append(_state(model, losses, [optimizer]))
        return states


def _update(
    training: Training, model: nn.Module, optimizer: Optimizer, step: StepContext, scaler: torch.amp.GradScaler
) -> list[Tensor]:
    """One step of the training; returns the losses."""
    losses: list[Tensor] = []

    def evaluate() -> float:
        optimizer.zero_grad()
        losses.extend(_backward(training, model, step, scaler) for _ in range(training.micro_batches))
        return float(losses[-1].detach())

    if training.closure:
        optimizer.step(evaluate)
    else:
        evaluate()
        if training.scaled:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if not training.outside:
            scaler.step(optimizer)  # the optimizer's own, where no loss is scaled
            scaler.update()
    return losses


def _backward(training: Training, model: nn.Module, step: StepContext, scaler: torch.amp.GradScaler) -> Tensor:
    device = next(model.parameters()).device
    x = torch.randn(BATCH, 2, 6, 6).to(device)
    y = torch.randint(CLASSES, (BATCH,)).to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=training.autocast):
        scores = model(x)
        if training.per_sample:
            loss = step.losses(-scores.log_softmax(1).gather(1, y.unsqueeze(1)).squeeze(1))
        else:
            loss = F.cross_entropy(scores, y)
    scaler.scale(loss / training.micro_batches).backward()
    return loss


def _state(model: nn.Module, losses: Sequence[Tensor], optimizers: Sequence[Optimizer]) -> dict[str, object]:
    """All that training consists of, as bytes and numbers."""
    state: dict[str, object] = {f"model.{name}": _bytes(value) for name, value in model.state_dict().items()}
    for name, p in model.named_parameters():
        state[f"{name}.grad"] = None if p.grad is None else _bytes(p.grad)
        state |= _hooks_of(name, p)
    for name, module in model.named_modules():
        state |= _hooks_of(f"module {name}", module)
    for optimizer in optimizers:
        state |= _hooks_of("the optimizer", optimizer)
        for index, values in optimizer.state_dict()["state"].items():
            state[f"the optimizer's values of parameter {index}"] = _bytes_of_all(values)
    saved = io.BytesIO()
    torch.save(model, saved)
    state["torch.save"] = saved.getvalue()
    state["copy.deepcopy"] = _bytes_of_all(copy.deepcopy(model).state_dict())
    state["losses"] = [_bytes(loss) for loss in losses]
    state["graphs"] = [_graph(loss) for loss in losses]
    state["function modes"] = len(_get_current_function_mode_stack())
    return state | _generators()


def _bytes(tensor: Tensor) -> bytes:
    raw: bytes = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return raw


def _bytes_of_all(values: Mapping[str, Any]) -> dict[str, object]:
    return {name: _comparable(value) for name, value in values.items()}


def _comparable(value: object) -> object:
    if isinstance(value, Tensor):
        return _bytes(value)
    return [_comparable(item) for item in value] if isinstance(value, (list, tuple)) else value


def _hooks_of(name: str, owner: object) -> dict[str, object]:
    """How many hooks of each kind hang on a module, a tensor or an optimizer."""
    kinds = [kind for kind in (*vars(owner), *_HOOKS_OF_TENSORS) if "hook" in kind]
    hooks = {kind: getattr(owner, kind, None) for kind in kinds}
    return {
        f"hooks of {name}: {kind}": len(found or ())
        for kind, found in hooks.items()
        if found is None or isinstance(found, Mapping)
    }


def _graph(loss: Tensor) -> list[str]:
    """Names of the nodes behind a loss, breadth first."""
    nodes, names = [loss.grad_fn], []
    for node in nodes:
        names.append("" if node is None else node.name())
        nodes.extend(following for following, _ in (() if node is None else node.next_functions))
    return names


def _generators() -> dict[str, object]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    kind, words, *rest = np.random.get_state(legacy=True)
    return {
        "random generator of torch": _bytes(torch.get_rng_state()),
        "random generators of the GPUs": [_bytes(state) for state in cuda],
        "random generator of numpy": (kind, np.asarray(words).tobytes(), *rest),
        "random generator of Python": random.getstate(),
    }


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """The same random numbers inside and sums in the same order; the caller's own go on afterwards."""
    numpy_state, python_state, threads = np.random.get_state(), random.getstate(), torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        yield
    np.random.set_state(numpy_state)
    random.setstate(python_state)
    torch.set_num_threads(threads)
