"""LSTM cells as functions of their weights: what recurrent rules are made of.

:func:`torch.lstm_cell` does the same, but neither ``vmap`` nor ``grad`` has a rule for what it becomes on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from cockpit.optim.learned.rule import Tensors


def lstm_weights(sizes: Sequence[int], generator: torch.Generator) -> Tensors:
    """Weights of a stack of cells, drawn as :class:`torch.nn.LSTM` draws them, U(−1/√n, 1/√n) for n hidden units.

    Biases are zero, but for the forget gate's, which is 1: a cell remembers until it has learned to forget
    (Jozefowicz et al., An Empirical Exploration of Recurrent Network Architectures, ICML 2015).

    Args:
        sizes: Number of inputs, then the number of hidden units of each cell.
        generator: Draws.

    Returns:
        For cell ``k``: ``k.input``, shape ``[4 n, inputs]``; ``k.hidden``, ``[4 n, n]``; ``k.bias``, ``[4 n]``. Gates
        stand in the order of torch: input, forget, candidate, output.
    """
    weights = {}
    for k, (inputs, n) in enumerate(pairwise(sizes)):
        bound = 1 / math.sqrt(n)
        weights[f"{k}.input"] = uniform((4 * n, inputs), bound, generator)
        weights[f"{k}.hidden"] = uniform((4 * n, n), bound, generator)
        weights[f"{k}.bias"] = torch.cat([torch.zeros(n), torch.ones(n), torch.zeros(2 * n)])
    return weights


def uniform(shape: Sequence[int], bound: float, generator: torch.Generator) -> Tensor:
    """Numbers between ``-bound`` and ``bound``."""
    return (2 * torch.rand(*shape, generator=generator) - 1) * bound


def lstm(weights: Tensors, inputs: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    r"""One time step of a stack of cells of equal size, each fed with the output of the one before.

    .. math::
        c' = \sigma(f) c + \sigma(i) \tanh g, \qquad h' = \sigma(o) \tanh c'

    Hochreiter and Schmidhuber, *Long Short-Term Memory* (1997), with the forget gate of Gers et al. (2000).

    Args:
        weights: As :func:`lstm_weights` returns them.
        inputs: Shape ``[N, inputs]``: the rows do not see each other.
        hidden: Outputs of the cells at the time step before. Shape ``[cells, N, n]``.
        cell: Their memories. Shape ``[cells, N, n]``.

    Returns:
        ``hidden`` and ``cell`` after it; the output of the stack is ``hidden[-1]``.
    """
    inputs, hidden, cell = (tensor.to(weights["0.bias"].dtype) for tensor in (inputs, hidden, cell))
    outputs, memories = [], []
    for k, (h, c) in enumerate(zip(hidden.unbind(), cell.unbind(), strict=True)):
        gates = inputs @ weights[f"{k}.input"].mT + h @ weights[f"{k}.hidden"].mT + weights[f"{k}.bias"]
        i, f, g, o = gates.chunk(4, dim=-1)
        memory = f.sigmoid() * c + i.sigmoid() * g.tanh()
        inputs = o.sigmoid() * memory.tanh()
        outputs.append(inputs)
        memories.append(memory)
    return torch.stack(outputs), torch.stack(memories)
