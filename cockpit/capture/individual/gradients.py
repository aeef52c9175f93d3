"""Individual gradients of one parameter, held implicitly and never all at once unless they are small.

Everything here is *raw*: row ``n`` is sample ``n``'s share of the gradient that arrived at the parameter, so that the
rows sum to it. Dividing by the sample's weight and by the scale of the loss is left to whoever reads the sums, where
it costs ``N`` numbers instead of ``N × D``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cockpit.capture.individual.workspace import Workspace
from cockpit.kernels.row_sums import row_sq_norms


class SampleGradients(ABC):
    """One parameter's individual gradients ``G_n``.

    Args:
        samples: Batch size ``N``.
        shape: Shape of the parameter.
    """

    route = "modules"
    """How they came about: from calls of modules, in the graph (``graph``), or by calling modules again (``vmap``)."""

    def __init__(self, samples: int, shape: torch.Size) -> None:
        self.samples = samples
        self.shape = shape
        self._kept: Tensor | None = None
        self._kept_rows = 0

    @property
    def numel(self) -> int:
        """Elements of one individual gradient."""
        return self.shape.numel()

    @property
    def materialises(self) -> bool:
        """Whether even norms need the rows."""
        return False

    def keep(self, buffer: Tensor) -> None:
        """Forms the rows in a buffer, next time they are formed, and reads them from there ever after.

        Args:
            buffer: Shape ``[N, numel]``; it must stay untouched as long as this object lives.
        """
        self._kept = buffer

    def rows(self, workspace: Workspace) -> Iterator[tuple[int, Tensor]]:
        """Chunks of consecutive samples: the first sample's index, and the rows, shape ``[n, numel]``, contiguous.

        A chunk is valid until the next one is asked for; at most ``workspace.limit`` bytes are in use at a time.
        """
        if self._kept is not None and self._kept_rows == self.samples:
            yield 0, self._kept
            return
        for start, rows in self._form_rows(workspace):
            self._kept_rows = start + len(rows)
            yield start, rows
        if self._kept is not None:
            self._drop_sources()

    @abstractmethod
    def _form_rows(self, workspace: Workspace) -> Iterator[tuple[int, Tensor]]:
        """As :meth:`rows`, from scratch. Where rows are to be kept, it forms them there."""

    def _target(self, workspace: Workspace, start: int, stop: int, like: Tensor) -> Tensor:
        """Where rows ``start`` to ``stop`` are formed, shape ``[n, numel]``."""
        if self._kept is not None:
            return self._kept[start:stop]
        return workspace.take("rows", (stop - start, self.numel), like)

    def _drop_sources(self) -> None:  # noqa: B027 - most have nothing to drop
        """The rows are kept: what they were formed from is no longer needed."""

    def _kept_dots(self, direction: Tensor) -> Tensor | None:
        """``⟨G_n, V⟩`` from kept rows."""
        if self._kept is None or self._kept_rows < self.samples:
            return None
        return self._kept @ direction.reshape(-1).to(self._kept.dtype)

    @abstractmethod
    def nbytes(self) -> int:
        """Bytes that are kept alive by holding this object."""

    def select(self, samples: Sequence[int]) -> SampleGradients | None:
        """Those of some samples, by index; ``None`` where all have to be formed to get at them."""
        return None

    def summed(self) -> Tensor | None:
        """``Σ_n Σ_t ‖G_nt‖`` where ``G_n = Σ_t G_nt``, or more than that, float64 of shape ``[]``: what rounding errors
        go by where terms cancel. ``None`` where they are not known."""
        return None

    def let_go(self) -> None:  # noqa: B027 - most hold nothing else
        """What is needed while the gradients are handed over alone may be forgotten."""

    def sq_norms(self) -> Tensor | None:
        """``‖G_n‖²`` without materialising rows, shape ``[N]``; ``None`` where only the rows can tell."""
        return None

    def dots(self, direction: Tensor) -> Tensor | None:
        """``⟨G_n, V⟩`` without materialising rows, shape ``[N]``; ``None`` where only the rows can tell.

        Args:
            direction: ``V``, of the parameter's shape.
        """
        return None

    def total(self) -> Tensor | None:
        """``Σ_n G_n`` without materialising rows, shape ``[numel]``; ``None`` where only the rows can tell."""
        return None

    def elements(self, places: Tensor) -> Tensor | None:
        """Some elements of every individual gradient; ``None`` where all have to be formed to get at them.

        Args:
            places: Which, as if the parameter had one axis. Shape ``[d]``.

        Returns:
            Shape ``[N, d]``.
        """
        return None

    def weighted_squares(self, coefficients: Tensor) -> Tensor | None:
        """``Σ_n c_n G_nj²`` for every ``j`` without materialising rows; ``None`` where only the rows can tell.

        Args:
            coefficients: ``c``, shape ``[N]``.

        Returns:
            Shape ``[numel]``.
        """
        return None


def picked(tensor: Tensor, samples: Sequence[int]) -> Tensor:
    """Entries of the first axis."""
    return tensor[torch.as_tensor(samples, dtype=torch.int64, device=tensor.device)]


class Rows(SampleGradients):
    """Individual gradients that are small enough to be held: biases, normalisation layers.

    Args:
        rows: Shape ``[N, *parameter]``.
        terms: What they are the sums of, shapes ``[N, k, *parameter]``; none if each is one term.
    """

    def __init__(self, rows: Tensor, terms: Sequence[Tensor] = ()) -> None:
        super().__init__(rows.shape[0], rows.shape[1:])
        self.held = rows
        self._terms = terms
        self._rows = rows.reshape(rows.shape[0], -1)

    def _form_rows(self, workspace: Workspace) -> Iterator[tuple[int, Tensor]]:
        """All of them at once: they exist already."""
        yield 0, self._rows.contiguous()

    @property
    def terms(self) -> Sequence[Tensor]:
        """What they are the sums of, shapes ``[N, k, *parameter]``."""
        return self._terms or [self.held.unsqueeze(1)]

    def summed(self) -> Tensor:
        """Norm by norm."""
        sizes = [torch.linalg.vector_norm(term.reshape(*term.shape[:2], -1), dim=2) for term in self.terms]
        return torch.stack([size.double().sum() for size in sizes]).sum()

    def let_go(self) -> None:
        """Forgets the terms."""
        self._terms = ()

    def select(self, samples: Sequence[int]) -> Rows:
        """The rows."""
        return Rows(picked(self._rows.view(-1, *self.shape), samples))

    def total(self) -> Tensor:
        """Sum of the rows."""
        return self._rows.sum(0)

    def elements(self, places: Tensor) -> Tensor:
        """Columns of the rows."""
        return self._rows[:, places]

    def nbytes(self) -> int:
        """Bytes of the rows."""
        return self._rows.numel() * self._rows.element_size()

    def weighted_squares(self, coefficients: Tensor) -> Tensor:
        """One matrix-vector product."""
        return coefficients.to(self._rows.dtype) @ self._rows.square()

    def sq_norms(self) -> Tensor:
        """Row by row."""
        return row_sq_norms(self._rows)

    def dots(self, direction: Tensor) -> Tensor:
        """One matrix-vector product."""
        return self._rows @ direction.reshape(-1).to(self._rows.dtype)


class Zeros(SampleGradients):
    """No gradient came back for any sample.

    Args:
        like: A tensor of the parameter's shape, for its dtype and device.
    """

    def __init__(self, samples: int, like: Tensor) -> None:
        super().__init__(samples, like.shape)
        self._zero = like.new_zeros(())

    def _form_rows(self, workspace: Workspace) -> Iterator[tuple[int, Tensor]]:
        """Zeros, a chunk of samples at a time."""
        step = workspace.chunk(self.samples, self.numel * self._zero.element_size())
        for start in range(0, self.samples, step):
            stop = min(start + step, self.samples)
            yield start, workspace.take("rows", (stop - start, self.numel), self._zero).zero_()

    def select(self, samples: Sequence[int]) -> Zeros:
        """As many zeros."""
        return Zeros(len(samples), self._zero.expand(self.shape))

    def nbytes(self) -> int:
        """Next to nothing."""
        return self._zero.element_size()

    def sq_norms(self) -> Tensor:
        """Zeros."""
        return self._zero.expand(self.samples).double()

    def dots(self, direction: Tensor) -> Tensor:
        """Zeros."""
        return self._zero.expand(self.samples)
