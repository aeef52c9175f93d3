"""Models that are compiled: in a tracked step they run as they were written.

What ``torch.compile`` makes of a model calls none of the hooks that are placed afterwards; and what it makes while
hooks are there, it makes in as many pieces as there are hooks, for the steps without any as well.
"""

from __future__ import annotations

import sys

import torch


class AsWritten:
    """Until it is removed, whatever was compiled runs as it was written, and nothing is compiled."""

    def __init__(self) -> None:
        # In trainings that compile nothing it would take a second to ask for it.
        self._stance = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else None

    def remove(self) -> None:
        """As it was before."""
        if self._stance is not None:
            self._stance.__exit__(None, None, None)
