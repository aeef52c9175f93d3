"""Large buffers that are used again from layer to layer and step to step.

Fresh memory is paid for twice: once by the allocator, once by a page fault for every 4 kB touched. On a CPU the page
faults of a layer's unfolded input cost more than the arithmetic on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

DEFAULT_LIMIT = 256 * 2**20


class Workspace:
    """Named scratch tensors, each as large as the largest request so far.

    Half of the limit is for chunks of materialised individual gradients and what they are made of, half for individual
    gradients that are kept until the optimizer has stepped. Copies of parameters and gradients come on top.

    Args:
        limit: Bytes of both together, as long as one sample fits.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self.limit = limit
        self._buffers: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}
        self._rooms: dict[tuple[str, int], Workspace] = {}

    def take(self, name: str, shape: Sequence[int], like: Tensor) -> Tensor:
        """An uninitialised contiguous tensor; it overwrites what was taken under this name before."""
        key = (name, like.dtype, like.device)
        numel = 1
        for size in shape:
            numel *= size
        buffer = self._buffers.get(key)
        if buffer is None or buffer.numel() < numel:
            del buffer
            self._buffers.pop(key, None)  # given back before more is asked for
            buffer = self._buffers[key] = torch.empty(numel, dtype=like.dtype, device=like.device)
        return buffer[:numel].view(tuple(shape))

    def room(self, name: str, parts: int) -> Workspace:
        """One of several equal parts of this workspace, for those who work side by side; kept under its name."""
        return self._rooms.setdefault((name, parts), Workspace(self.limit // parts))

    @property
    def to_keep(self) -> int:
        """Bytes for individual gradients that are kept until the optimizer has stepped."""
        return self.limit // 2

    def chunk(self, samples: int, bytes_per_sample: int) -> int:
        """How many samples fit into one chunk: at least one, at most all of them."""
        return max(1, min(samples, self.limit // 2 // max(1, bytes_per_sample)))

    def clear(self) -> None:
        """Gives all memory back."""
        self._buffers.clear()
        self._rooms.clear()
