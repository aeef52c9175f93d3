"""Diagonals of curvature matrices by BackPACK's extensions of second order.

They are run on layers read off the graph of the loss, twins of the user's: nothing of the user's is extended or called
again, and what BackPACK leaves on a parameter it leaves on a twin.

Dangel et al., *BackPACK: packing more into backprop* (2020), section 2.3 and appendix A.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cockpit.capture.graph.chain import Chain, Link, Rearranging, chain_of
from cockpit.capture.individual.workspace import Workspace
from cockpit.capture.second_order.loss_graph import LossGraph
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import ParameterTable
from cockpit.probes.curvature import Curvature, block_sums
from cockpit.probes.loss_roots import HessianPairs, columns_of, hessian_root_of
from cockpit.probes.piecewise_linear import linear_above

COLUMNS_LIMIT = 10_000
"""Columns that BackPACK is made to carry at most."""

MEMORY_LIMIT = 2**30
"""Bytes that a single sample may take."""

_CURVED = (nn.Tanh, nn.Sigmoid, nn.LogSigmoid, nn.ELU, nn.SELU)
_EXTENSIONS = {"hessian": "DiagHessian", "ggn": "DiagGGNExact", "ggn_mc": "DiagGGNMC"}

Matrix = Literal["hessian", "ggn", "ggn_mc"]


@dataclass(frozen=True)
class Plan:
    """What it takes.

    Args:
        columns: The columns that are carried at last.
        bytes_a_sample: Memory for each sample.
        work: Multiplications for each sample.
        forward: Those of one forward pass, for comparison.
    """

    columns: int
    bytes_a_sample: int
    work: int
    forward: int

    def require_feasible(self) -> None:
        """Refuses what would take forever.

        Raises:
            Unavailable: If there are too many columns, or too much memory is needed for a single sample.
        """
        if self.columns > COLUMNS_LIMIT or self.bytes_a_sample > MEMORY_LIMIT:
            raise Unavailable(
                f"BackPACK would carry {self.columns:,} columns (up to {COLUMNS_LIMIT:,}) and take "
                f"{self.bytes_a_sample / 2**30:.1f} GiB for every sample (up to {MEMORY_LIMIT / 2**30:.1f})"
            )


class BackpackDiagonal:
    """A loss whose network is a row of layers that BackPACK knows.

    Args:
        graph: The loss, just before its backward pass.
        table: The watched parameters.
        workspace: Says how much memory is taken at once.
        matrix: Which matrix.

    Raises:
        Unavailable: If the network is no such row, or the loss is not one loss of PyTorch's alone.
    """

    def __init__(self, graph: LossGraph, table: ParameterTable, workspace: Workspace, matrix: Matrix) -> None:
        self._graph, self._table, self._workspace, self._matrix = graph, table, workspace, matrix
        if len(graph.losses) != 1 or not linear_above(graph):
            raise Unavailable("BackPACK needs one loss of torch.nn, and nothing beside it")
        (self._loss,) = graph.losses
        arrangement = self._loss.call.arrangement
        if arrangement is None or arrangement.axis != 0 or columns_of(self._loss) == float("inf"):
            raise Unavailable(f"BackPACK has no second derivatives of '{self._loss.name}'")
        self._samples = arrangement.samples
        self._at: Tensor = self._loss.arguments["input"]
        self._chain: Chain = chain_of(self._at, self._samples)

    def plan(self) -> Plan:
        """What it takes."""
        columns = 1 if self._matrix == "ggn_mc" else int(columns_of(self._loss))
        most = work = forward = 0
        for link in reversed(self._chain.links):
            cost = _multiplications(link)
            most, work, forward = max(most, columns * link.size), work + 2 * columns * cost, forward + cost
            if self._matrix == "hessian" and isinstance(link.layer, _CURVED):
                columns += 2 * link.size
        return Plan(columns, 4 * most * self._at.element_size(), work, forward)

    def compute(self, generator: torch.Generator, draws: int | None = None, elementwise: bool = False) -> Curvature:
        """The diagonal.

        Args:
            generator: Draws the vectors of an estimate.
            draws: How many of them; ``None`` for an exact matrix.
            elementwise: Whether the single coordinates are wanted.

        Raises:
            Unavailable: If BackPACK fails.
        """
        root = hessian_root_of(self._loss)
        assert not isinstance(root, HessianPairs)
        slope = self._slope()
        rows, means = [], [torch.zeros_like(p.tensor) for p in self._table] if elementwise else []
        for _ in range(draws or 1):
            columns = list(root.columns()) if draws is None else [root.draw(generator)]
            diagonal = self._diagonal(torch.stack(columns), slope)
            rows.append(block_sums(diagonal))
            for mean, values in zip(means, diagonal, strict=False):
                mean.add_(values, alpha=1 / (draws or 1))
        names = tuple(parameter.name for parameter in self._table)
        return Curvature(names, torch.stack(rows), "backpack", draws is None, tuple(means))

    def _slope(self) -> Tensor:
        """Gradient of the unscaled mean loss at the network's output."""
        (slope,) = self._graph.differentiate([self._at])
        if slope is None or self._graph.scale == 0:
            raise Unavailable("the gradient that arrives at the loss is zero, so its curvature cannot be told")
        return slope / self._graph.scale

    def _diagonal(self, columns: Tensor, slope: Tensor) -> list[Tensor]:
        """Sums over the samples, so many at once as memory allows."""
        found = {id(p.tensor): torch.zeros_like(p.tensor) for p in self._table}
        at_once = max(1, self._workspace.limit // max(1, self.plan().bytes_a_sample))
        for start in range(0, self._samples, at_once):
            part = slice(start, start + at_once)
            for tensor, values in self._of_samples(part, columns[:, part], slope[part]):
                if id(tensor) in found:
                    found[id(tensor)] += values
        return [found[id(p.tensor)] for p in self._table]

    def _of_samples(self, part: slice, columns: Tensor, slope: Tensor) -> list[tuple[Tensor, Tensor]]:
        from backpack import memory_cleanup

        extension = _extension(self._matrix)
        layers = [_of(link.layer, part) for link in self._chain.links]
        results = []
        try:
            calls = _run(layers, self._chain.inputs[part])
            given: Any = {"matrices": [columns], "signs": [1.0]} if self._matrix == "hessian" else columns
            extension.saved_quantities.save_quantity(calls[-1][1].data_ptr(), given, _never)
            for layer, link, (before, after) in reversed(list(zip(layers, self._chain.links, calls, strict=True))):
                extension(layer, (None,), (slope,))
                for name, tensor in link.parameters.items():
                    results.append((tensor, vars(layer._parameters[name]).pop(extension.savefield)))
                if before.requires_grad:
                    (slope,) = torch.autograd.grad(after, before, slope)
        except Exception as error:
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            raise Unavailable(f"BackPACK's {_EXTENSIONS[self._matrix]} failed: {said}") from error
        finally:
            for layer in layers:
                memory_cleanup(layer)
        return results


def _run(layers: Sequence[nn.Module], inputs: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Forward, each layer by itself, so that gradients can be taken on from layer to layer.

    Returns:
        Each one's input and output, which are kept on the layer too, where BackPACK looks for them.
    """
    calls = []
    with torch.enable_grad():
        for place, layer in enumerate(layers):
            before = inputs.detach().requires_grad_(place > 0)
            inputs = layer(before)
            vars(layer).update(input0=before, output=inputs)
            calls.append((before, inputs))
    return calls


def _of(layer: nn.Module, part: slice) -> nn.Module:
    return layer.of_samples(part) if isinstance(layer, Rearranging) else layer


def _multiplications(link: Link) -> int:
    weight = link.parameters.get("weight")
    if weight is None:
        return link.size
    if isinstance(link.layer, nn.Linear):
        return weight.numel()
    return weight[0].numel() * link.size


def _extension(matrix: Matrix) -> Any:
    """BackPACK's, which also knows what to do with operations that only rearrange."""
    from backpack import extensions

    extension = getattr(extensions, _EXTENSIONS[matrix])()
    if matrix == "hessian":
        from backpack.extensions.secondorder.diag_hessian.diag_h_base import DiagHBaseModule as Base
    else:
        from backpack.extensions.secondorder.diag_ggn.diag_ggn_base import DiagGGNBaseModule as Base
    extension.set_module_extension(Rearranging, Base(_Rearranged()))
    return extension


class _Rearranged:
    """Derivatives of :class:`Rearranging`, by the names that BackPACK asks for."""

    def hessian_is_zero(self, module: Rearranging) -> bool:
        """It is piecewise linear."""
        return True

    def jac_t_mat_prod(
        self, module: Any, g_inp: Any, g_out: Any, mat: Tensor, subsampling: Sequence[int] | None = None
    ) -> Tensor:
        """Transposed Jacobian times columns, shape ``[V, N, …]``."""
        with torch.enable_grad():
            columns = mat.reshape(-1, *module.output.shape)
            products: Tensor = torch.autograd.grad(
                module.output, module.input0, columns, retain_graph=True, is_grads_batched=True
            )[0]
        return products


def _never(existing: Any, other: Any) -> Any:
    raise AssertionError("layers stand in a row")
