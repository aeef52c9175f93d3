"""Recurrent layers that run as one fused operation, unrolled once more from what they saved."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cockpit.capture.batch_axis import BatchAxis
from cockpit.capture.graph.nodes import Node, saved
from cockpit.capture.individual.gradients import Rows, SampleGradients
from cockpit.capture.individual.outer_products import OuterProducts
from cockpit.capture.unavailable import Unavailable
from cockpit.parameters import working

_LSTM = 2


class FusedLayer:
    """One direction of one LSTM layer that ran fused.

    The outputs were saved, so that the gates of all times come from two products; the gradients at the gates go back
    in time step by step. That costs about what the layer's own forward and backward passes cost.

    Args:
        node: Its node in the graph.

    Raises:
        Unavailable: For other layers than LSTMs, or if what the node saved cannot be had.
    """

    def __init__(self, node: Node) -> None:
        if node._saved_mode != _LSTM or tuple(node._saved_batch_sizes):
            raise Unavailable("only LSTMs without packed sequences can be unrolled from a fused operation")
        names = ("input", "weight0", "weight1", "hx_", "cx_", "result0")
        self._biased = bool(node._saved_has_biases)
        biases = saved(node, "weight2", "weight3") if self._biased else []
        tensors = [working(t) for t in (*saved(node, *names), *biases)]
        self._reverse = bool(node._saved_reverse)
        inputs, self._w, self._u, h, self._c, outputs = tensors[:6]
        self._bias = sum(tensors[6:]) if self._biased else None
        self._inputs = self._in_order(inputs)
        self._before = torch.cat([h.view(1, *outputs.shape[1:]), self._in_order(outputs)[:-1]])
        self._gates: Tensor | None = None

    def gradients(
        self, place: int, deltas: Sequence[Tensor | None], axes: Sequence[BatchAxis | None], samples: int
    ) -> SampleGradients:
        """Individual gradients of one of its weights.

        Args:
            place: 1 to 4: of the input, of the state, and their biases.
            deltas: Gradients at the outputs, at the last state and at the last cell.
            axes: Where the samples are in these.
            samples: Batch size ``N``.

        Raises:
            Unavailable: If the samples are elsewhere than in a layer's second axis.
        """
        wanted = (1, 0, 0)
        if any(axis is not None and axis.dim != dim for axis, dim in zip(axes, wanted, strict=True)):
            raise Unavailable("an LSTM was called with the samples along an axis that is not its batch axis")
        if self._gates is None:
            self._gates = self._backwards(deltas)
        first = next(axis for axis in axes if axis is not None)
        across = BatchAxis(1, first.order)
        gates = across.samples_first(self._gates, samples).flatten(1, 2)
        if place > 2:
            return Rows(gates.sum(1), [gates])
        values = self._inputs if place == 1 else self._before
        return OuterProducts(across.samples_first(values, samples).flatten(1, 2), gates)

    def _in_order(self, tensor: Tensor) -> Tensor:
        return tensor.flip(0) if self._reverse else tensor

    def _backwards(self, deltas: Sequence[Tensor | None]) -> Tensor:
        """Gradients at the gates before their non-linearities, in the order of processing; shape ``[T, N, 4 H]``."""
        gates = self._inputs @ self._w.T + self._before @ self._u.T
        gates = gates if self._bias is None else gates + self._bias
        T, H = len(gates), gates.shape[2] // 4
        i, f, o = (torch.sigmoid(gates[..., k * H : (k + 1) * H]) for k in (0, 1, 3))
        g = torch.tanh(gates[..., 2 * H : 3 * H])
        cells = [self._c.view(o.shape[1:])]
        for t in range(T):
            cells.append(f[t] * cells[t] + i[t] * g[t])
        along, dh, dc = (None if d is None else working(d) for d in deltas)
        along = None if along is None else self._in_order(along)
        dh = torch.zeros_like(cells[0]) if dh is None else dh.reshape(cells[0].shape)
        dc = torch.zeros_like(cells[0]) if dc is None else dc.reshape(cells[0].shape)
        found = torch.empty_like(gates)
        for t in range(T - 1, -1, -1):
            dh = dh if along is None else dh + along[t]
            squashed = torch.tanh(cells[t + 1])
            dc = dc + dh * o[t] * (1 - squashed.square())
            torch.cat(
                [
                    dc * g[t] * i[t] * (1 - i[t]),
                    dc * cells[t] * f[t] * (1 - f[t]),
                    dc * i[t] * (1 - g[t].square()),
                    dh * squashed * o[t] * (1 - o[t]),
                ],
                1,
                out=found[t],
            )
            dh, dc = found[t] @ self._u, dc * f[t]
        return found
