"""Running parts of the user's network once more without leaving a trace."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cockpit.capture.hooks.extended import silent_extensions


class aside:  # noqa: N801 - a context manager, written as one
    """Inside the block no operation is recorded, and none is seen by a function mode: not by the user's, who counts or
    changes their own, and not by ours, which would take longer to look at it than it takes."""

    def __enter__(self) -> None:
        self._recording = torch.is_grad_enabled()
        self._modes = torch._C.DisableTorchFunction()
        self._modes.__enter__()
        torch._C._set_grad_enabled(False)

    def __exit__(self, *_: object) -> None:
        torch._C._set_grad_enabled(self._recording)
        self._modes.__exit__(None, None, None)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Whatever runs inside the block leaves random generators and buffers as they were.

    A backward pass runs forward passes again where activations are checkpointed, and these draw random numbers and
    update running statistics. Where the user has extended modules with BackPACK, its extensions do not run, and what it
    keeps for the user's own backward pass stays.

    Args:
        model: Whose buffers to keep.
    """
    buffers = [(b, b.clone()) for b in model.buffers()]
    devices = {p.device for p in model.parameters() if p.device.type not in ("cpu", "meta")}
    kinds = {device.type for device in devices}
    indices = sorted({device.index for device in devices})
    try:
        with (
            silent_extensions(),
            torch.random.fork_rng(indices, device_type=kinds.pop() if len(kinds) == 1 else "cuda"),
        ):
            yield
    finally:
        for buffer, value in buffers:
            if not torch.equal(buffer, value):
                buffer.data.copy_(value)  # unnoticed by autograd, as batch normalisation moves them unnoticed by it


@contextmanager
def without_tensor_hooks(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Inside the block no hook of the tensors runs; after it they have those they had before, in their order.

    Args:
        tensors: Leaves of the graph. A hook of theirs alters what is differentiated with respect to them, too.
    """
    held = [(hooks, list(hooks.items())) for t in tensors if (hooks := t._backward_hooks)]
    for hooks, _ in held:
        hooks.clear()
    try:
        yield
    finally:
        for hooks, before in held:
            hooks.update(before)


@contextmanager
def without_hooks(module: nn.Module) -> Iterator[None]:
    """Inside the block no hook of a module or its submodules runs; after it they have the attributes they had before.

    Args:
        module: The root of the tree.
    """
    saved = [(m, dict(m.__dict__)) for m in module.modules()]
    try:
        for m, _ in saved:
            m._forward_hooks, m._forward_pre_hooks = OrderedDict(), OrderedDict()
        yield
    finally:
        for m, attributes in saved:
            m.__dict__.clear()
            m.__dict__.update(attributes)
