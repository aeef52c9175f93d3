"""Individual gradients of parameters that are used several times, in part, or in another shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cockpit.capture.individual.embedding import EmbeddingGradients
from cockpit.capture.individual.gradients import Rows, SampleGradients
from cockpit.capture.individual.outer_products import OuterProducts
from cockpit.capture.individual.workspace import DEFAULT_LIMIT, Workspace


def added(parts: Sequence[SampleGradients]) -> SampleGradients:
    """Contributions of several uses of one parameter, added before anything is squared.

    Args:
        parts: At least one, all of the parameter's shape.
    """
    blocks = [part for part in parts if isinstance(part, Blocks)]
    others = [part for part in parts if not isinstance(part, Blocks)]
    rest = _alike_together(others)
    if blocks and (merged := Blocks.merged(blocks)) is not None:
        rest.append(merged)
    else:
        rest.extend(blocks)
    if len(rest) == 1:
        return rest[0]
    kinds = {type(part): part for part in rest}
    table, matrix = kinds.get(EmbeddingGradients), kinds.get(OuterProducts)
    if len(rest) == 2 and isinstance(table, EmbeddingGradients) and isinstance(matrix, OuterProducts):
        return TiedGradients(table, matrix)
    return Sum(rest)


def _alike_together(parts: Sequence[SampleGradients]) -> list[SampleGradients]:
    """Calls of one layer are one call with more positions."""
    outer = [part for part in parts if isinstance(part, OuterProducts)]
    rows = [part for part in parts if isinstance(part, Rows)]
    tables = [part for part in parts if isinstance(part, EmbeddingGradients)]
    rest = [part for part in parts if not isinstance(part, (OuterProducts, Rows, EmbeddingGradients))]
    if outer:
        inputs, deltas = [p.inputs for p in outer], [p.deltas for p in outer]
        rest.append(outer[0] if len(outer) == 1 else OuterProducts(torch.cat(inputs, 1), torch.cat(deltas, 1)))
    if rows:
        terms = [term for part in rows for term in part.terms]
        rest.append(rows[0] if len(rows) == 1 else Rows(torch.stack([p.held for p in rows]).sum(0), terms))
    if tables:
        rest.append(tables[0] if len(tables) == 1 else EmbeddingGradients.merged(tables))
    return rest


class Sum(SampleGradients):
    """A parameter that serves several kinds of layer.

    Args:
        parts: Individual gradients of the same parameter from each kind of use.
    """

    def __init__(self, parts: Sequence[SampleGradients]) -> None:
        super().__init__(parts[0].samples, parts[0].shape)
        self._parts = tuple(parts)

    def _form_rows(self, workspace: Workspace) -> Iterator[tuple[int, Tensor]]:
        """Rows of every part, added."""
        for start, pieces in _side_by_side(self._parts, workspace, self.samples):
            total = workspace.take("sum", pieces[0].shape, pieces[0]).copy_(pieces[0])
            for piece in pieces[1:]:
                total += piece
            yield start, total

    def nbytes(self) -> int:
        """Bytes held by all parts."""
        return sum(part.nbytes() for part in self._parts)

    def let_go(self) -> None:
        """All parts do."""
        for part in self._parts:
            part.let_go()

    def dots(self, direction: Tensor) -> Tensor | None:
        """Inner products add over the parts."""
        return _total([part.dots(direction) for part in self._parts])


class TiedGradients(Sum):
    """One matrix as embedding table and as output layer.

    Args:
        table: Its use as a table.
        matrix: Its use as a linear layer.
    """

    def __init__(self, table: EmbeddingGradients, matrix: OuterProducts) -> None:
        super().__init__([table, matrix])
        self._table, self._matrix = table, matrix

    def sq_norms(self) -> Tensor | None:
        """Both squares and twice ``Σ_us (τ_u·a_ns) δ_ns[id_u]``, over the rows ``u`` that sample ``n`` looked up."""
        own = self._matrix.sq_norms()
        if own is None:
            return None
        return (self._table.sq_norms() + own + 2 * self._cross().double()).clamp_min(0)

    def _cross(self) -> Tensor:
        table, inputs, deltas = self._table, self._matrix.inputs, self._matrix.deltas
        per_row = (inputs.shape[1] * 2 + inputs.shape[2]) * inputs.element_size()
        step = max(1, DEFAULT_LIMIT // per_row // 4)
        products = []
        for start in range(0, len(table.sample_of), step):
            n, row = table.sample_of[start : start + step], table.index_of[start : start + step]
            images = torch.bmm(inputs[n], table.touched[start : start + step].unsqueeze(2)).squeeze(2)
            products.append(torch.linalg.vecdot(images, deltas[n, :, row]))
        return table.per_sample(torch.cat(products))


class Blocks(SampleGradients):
    """Contiguous parts of a parameter, each with individual gradients of its own; nothing reaches the rest of it.

    Args:
        parts: Offsets into the flattened parameter, in order, without overlap, and the individual gradients there.
        shape: Shape of the parameter.
    """

    def __init__(self, parts: Sequence[tuple[int, SampleGradients]], shape: torch.Size) -> None:
        super().__init__(parts[0][1].samples, shape)
        self._parts = tuple(parts)

    @classmethod
    def merged(cls, blocks: Sequence[Blocks]) -> Blocks | None:
        """As one; ``None`` where they overlap without being the same."""
        together: dict[tuple[int, torch.Size], list[SampleGradients]] = {}
        for offset, part in (pair for block in blocks for pair in block._parts):
            together.setdefault((offset, part.shape), []).append(part)
        ordered = sorted(together.items(), key=lambda item: (item[0][0], item[0][1].numel()))
        ends = [offset + shape.numel() for (offset, shape), _ in ordered]
        if any(end > following[0][0] for end, following in zip(ends, ordered[1:], strict=False)):
            return None
        return cls([(offset, added(parts)) for (offset, _), parts in ordered], blocks[0].shape)

    @property
    def materialises(self) -> bool:
        """Where one of the parts does."""
        return any(part.materialises for _, part in self._parts)

    def _form_rows(self, workspace: Workspace) -> Iterator[tuple[int, Tensor]]:
        """Rows of every part, each in its place."""
        parts = [part for _, part in self._parts]
        for start, pieces in _side_by_side(parts, workspace, self.samples):
            rows = self._target(workspace, start, start + len(pieces[0]), pieces[0])
            rows.zero_()
            for (offset, part), piece in zip(self._parts, pieces, strict=True):
                rows[:, offset : offset + part.numel] = piece
            yield start, rows

    def nbytes(self) -> int:
        """Bytes held by all parts."""
        return sum(part.nbytes() for _, part in self._parts)

    def let_go(self) -> None:
        """All parts do."""
        for _, part in self._parts:
            part.let_go()

    def sq_norms(self) -> Tensor | None:
        """Squares add over the parts."""
        return _total([part.sq_norms() for _, part in self._parts])

    def dots(self, direction: Tensor) -> Tensor | None:
        """Inner products add over the parts, each with its own part of the direction."""
        if (kept := self._kept_dots(direction)) is not None:
            return kept
        flat = direction.reshape(-1)
        return _total([part.dots(flat[offset : offset + part.numel].view(part.shape)) for offset, part in self._parts])

    def weighted_squares(self, coefficients: Tensor) -> Tensor | None:
        """Each part's, in its place; zero elsewhere."""
        whole: Tensor | None = None
        for offset, part in self._parts:
            if (squares := part.weighted_squares(coefficients)) is None:
                return None
            whole = squares.new_zeros(self.numel) if whole is None else whole
            whole[offset : offset + part.numel] = squares
        return whole


class Rearranged(SampleGradients):
    """A parameter whose elements were taken in another order, or only some of them, before they met any data.

    Args:
        inner: Individual gradients of what was made of it.
        source: For each element of the parameter, where it went; -1 where nowhere. Shape ``[numel]``.
        shape: Shape of the parameter.
    """

    def __init__(self, inner: SampleGradients, source: Tensor, shape: torch.Size) -> None:
        super().__init__(inner.samples, shape)
        self._inner, self._source = inner, source

    def _form_rows(self, workspace: Workspace) -> Iterator[tuple[int, Tensor]]:
        """Rows of what lies underneath, put in order."""
        for start, rows in self._inner.rows(workspace.room("rearranged", 2)):
            yield start, self._placed(rows)

    def _placed(self, values: Tensor) -> Tensor:
        return values[..., self._source.clamp_min(0)] * (self._source >= 0)

    def nbytes(self) -> int:
        """Bytes of what lies underneath."""
        return self._inner.nbytes()

    def sq_norms(self) -> Tensor | None:
        """The same elements in another order."""
        return self._inner.sq_norms()

    def dots(self, direction: Tensor) -> Tensor | None:
        """With the direction in the inner order."""
        inner = direction.new_zeros(self._inner.numel)
        used = self._source >= 0
        inner[self._source[used]] = direction.reshape(-1)[used]
        return self._inner.dots(inner.view(self._inner.shape))

    def weighted_squares(self, coefficients: Tensor) -> Tensor | None:
        """Put in order."""
        squares = self._inner.weighted_squares(coefficients)
        return None if squares is None else self._placed(squares)


def _total(terms: Sequence[Tensor | None]) -> Tensor | None:
    known = [term for term in terms if term is not None]
    return torch.stack(known).sum(0) if len(known) == len(terms) else None


def _side_by_side(
    parts: Sequence[SampleGradients], workspace: Workspace, samples: int
) -> Iterator[tuple[int, list[Tensor]]]:
    """Runs through the rows of several parts at once: the first sample's index, and each part's rows, equally many."""
    rooms = [workspace.room(f"part {i}", len(parts)) for i in range(len(parts))]
    streams = [part.rows(room) for part, room in zip(parts, rooms, strict=True)]
    heads = [next(stream) for stream in streams]
    start = 0
    while start < samples:
        stop = min(first + len(rows) for first, rows in heads)
        yield start, [rows[start - first : stop - first] for first, rows in heads]
        start = stop
        if start < samples:
            heads = [
                next(stream) if first + len(rows) == start else (first, rows)
                for stream, (first, rows) in zip(streams, heads, strict=True)
            ]
