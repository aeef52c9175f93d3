"""The parameters that a cockpit watches, and how far they move."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from cockpit.capture.unavailable import Unavailable

_DIFFERENCE = 1 << 20
"""Elements of a difference that are formed at a time: fresh memory costs more than the arithmetic."""


@dataclass(frozen=True, eq=False)
class Parameter:
    """One watched parameter.

    Args:
        name: Dotted name in the model; its first one, where it is shared.
        tensor: The parameter itself.
        owners: Modules that hold it and the attribute they hold it under.
    """

    name: str
    tensor: nn.Parameter
    owners: tuple[tuple[nn.Module, str], ...]


class ParameterTable(Sequence[Parameter]):
    """All trainable parameters of a model that an optimizer holds, in the model's order.

    Args:
        model: The model.
        optimizers: Its optimizers.
        only: Parameters to watch, if not all.

    Raises:
        ValueError: If the model has no trainable parameter, the optimizers hold none of them, or one has no shape yet.
    """

    def __init__(self, model: nn.Module, optimizers: Iterable[Optimizer], only: Iterable[Tensor] | None = None) -> None:
        held = {id(p) for p in _held(optimizers)}
        self._wanted = None if only is None else {id(p) for p in only}
        trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad and self._may_hold(p)]
        if not trainable:
            raise ValueError(
                f"{type(model).__name__} has no trainable parameter: every parameter has requires_grad=False, "
                "or the model has none"
            )
        lazy = [name for name, p in trainable if is_lazy(p)]
        if lazy:
            raise ValueError(
                f"{lazy[0]} of {type(model).__name__} has no shape before the first forward pass: call the model once "
                "with a batch, then make the optimizer and the cockpit"
            )
        owners: dict[int, list[tuple[nn.Module, str]]] = {}
        for module in model.modules():
            for attribute, p in module._parameters.items():
                if p is not None:
                    owners.setdefault(id(p), []).append((module, attribute))
        self._parameters = [Parameter(name, p, tuple(owners[id(p)])) for name, p in trainable if id(p) in held]
        self._watched = {id(p.tensor) for p in self._parameters}
        self.unheld = tuple(name for name, p in trainable if id(p) not in held)
        if not self._parameters:
            raise ValueError(
                "the optimizer holds none of the model's trainable parameters; was it built from another model, "
                "or before the model was moved or replaced?"
            )
        self._indices: dict[nn.Module, set[int]] = {}
        for index, parameter in enumerate(self._parameters):
            for module, _ in parameter.owners:
                self._indices.setdefault(module, set()).add(index)
        self.numel = sum(p.tensor.numel() for p in self._parameters)
        self.unheld_numel = sum(p.numel() for name, p in trainable if id(p) not in held)

    def __len__(self) -> int:
        return len(self._parameters)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._parameters[index]

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._parameters)

    def newcomers(self, model: nn.Module, optimizers: Iterable[Optimizer]) -> tuple[str, ...]:
        """Trainable parameters of the model that the optimizers hold by now and this table does not."""
        held = (p for p in _held(optimizers) if p.requires_grad and self._may_hold(p))
        new = {id(p) for p in held if id(p) not in self._watched}
        return tuple(name for name, p in model.named_parameters() if id(p) in new) if new else ()

    def _may_hold(self, parameter: Tensor) -> bool:
        return self._wanted is None or id(parameter) in self._wanted

    def tensors(self) -> list[Tensor]:
        """The parameters' values, detached and sharing memory."""
        return [p.tensor.detach() for p in self._parameters]

    def indices(self) -> Mapping[nn.Module, set[int]]:
        """Places of the parameters that each module owns itself."""
        return self._indices

    def modules(self, model: nn.Module) -> dict[str, nn.Module]:
        """Modules that own a watched parameter, by dotted name."""
        owning = {id(module) for p in self._parameters for module, _ in p.owners}
        return {name: module for name, module in model.named_modules() if id(module) in owning}


def _held(optimizers: Iterable[Optimizer]) -> Iterator[Tensor]:
    return (p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"])


_PIECE = 1 << 16
"""Terms of a sum in the tensors' own precision: one running float32 sum over millions loses four digits."""


def sq_norms(tensors: Sequence[Tensor]) -> Tensor:
    """Squared norms of at least one tensor, in float64. Shape ``[P]``."""
    split = [t.reshape(-1).split(_PIECE) if t.numel() > _PIECE else (t,) for t in tensors]
    pieces = [piece for of_one in split for piece in of_one]
    if all(piece.dtype in (torch.float32, torch.float64) for piece in pieces):
        norms = torch._foreach_norm(pieces)
    else:  # a norm in half precision has three digits, and may be too large for it
        norms = tuple(torch.linalg.vector_norm(working(piece)) for piece in pieces)
    same = len({norm.dtype for norm in norms}) == 1
    squares = torch.stack(norms if same else [norm.double() for norm in norms]).double().square()
    if len(pieces) == len(tensors):
        return squares
    return torch.stack([part.sum() for part in squares.split([len(of_one) for of_one in split])])


def working(tensor: Tensor) -> Tensor:
    """In the precision that contractions run in: at least float32."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


class Movement(list[Tensor]):
    """A change of the parameters, one tensor for each."""

    @cached_property
    def squares(self) -> Tensor:
        """Squared norms, float64 on the parameters' device. Shape ``[P]``."""
        return sq_norms(self)


class Displacement:
    """Measured parameter changes: ``s = θ(t+1) − θ(t)``, whatever optimizer made them.

    Three copies of the parameters: ``θ(0)``, ``θ(t)``, which becomes ``s``, and the ``s`` of the step before.

    Args:
        table: The watched parameters.

    Attributes:
        start: ``θ(0)``: the values at this moment, or those that a resumed run began with.
    """

    def __init__(self, table: ParameterTable) -> None:
        self._table = table
        self.start: list[Tensor] = [t.clone() for t in table.tensors()]
        self._unknown: str | None = None
        self._before: list[Tensor] = []
        self._last: list[Tensor] = []

    def start_is_unknown(self, reason: str) -> None:
        """The present values are not ``θ(0)``, and what is says nobody: the run began earlier."""
        self.start, self._unknown = [], reason

    def remember(self) -> None:
        """Copies ``θ(t)``; call before anything can change it."""
        tensors = self._table.tensors()
        if not self._before:
            self._before = [torch.empty_like(t) for t in tensors]
        torch._foreach_copy_(self._before, tensors)

    def measure(self) -> Movement:
        """``s`` since :meth:`remember`, of which it takes the place.

        Returns:
            Valid until the second :meth:`remember` from now: the step before stays readable.
        """
        torch._foreach_neg_(self._before)
        torch._foreach_add_(self._before, self._table.tensors())
        self._before, self._last = self._last, self._before
        return Movement(self._last)

    def sizes(self) -> Tensor:
        """``‖θ(t)‖²`` per parameter, of the remembered ``θ(t)``. Shape ``[P]``."""
        return sq_norms(self._before)

    def from_start(self) -> Tensor:
        """``‖θ(t) − θ(0)‖²`` per parameter, of the remembered ``θ(t)``. Shape ``[P]``.

        Raises:
            Unavailable: If the parameters at the run's start are not known.
        """
        if self._unknown is not None:
            raise Unavailable(self._unknown)
        if self._table.numel <= _DIFFERENCE:
            return sq_norms(torch._foreach_sub(self._before, self.start))
        return torch.stack([_sq_distance(now, start) for now, start in zip(self._before, self.start, strict=True)])


def _sq_distance(one: Tensor, other: Tensor) -> Tensor:
    pieces = zip(one.reshape(-1).split(_DIFFERENCE), other.reshape(-1).split(_DIFFERENCE), strict=True)
    return torch.stack([sq_norms([a - b]).sum() for a, b in pieces]).sum()
