"""A network read off its graph as one layer after the other, to be run once more layer by layer.

The graph says what was computed, whether modules or functions did, and which elements dropout left. The user's own
modules are not called: the layers are twins of theirs, on the same memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cockpit.capture.graph.nodes import LEAF, Node, is_hook, kind, require_plain_memory, saved
from cockpit.capture.unavailable import Unavailable

_CONVOLUTIONS: dict[tuple[int, bool], Callable[..., nn.Module]] = {
    (1, False): nn.Conv1d,
    (2, False): nn.Conv2d,
    (3, False): nn.Conv3d,
    (1, True): nn.ConvTranspose1d,
    (2, True): nn.ConvTranspose2d,
    (3, True): nn.ConvTranspose3d,
}

_SAME_ELEMENTS = frozenset(("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Alias", "Clone"))


class Rearranging(nn.Module):
    """An operation without parameters that is piecewise linear, sample by sample.

    Args:
        function: The operation.
        factor: What its result is multiplied with, shape ``[N, …]``; ``None`` for nothing.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], factor: Tensor | None = None) -> None:
        super().__init__()
        self.function, self.factor = function, factor

    def forward(self, x: Tensor) -> Tensor:
        """Of some of the samples, if the factor is of the same."""
        y = self.function(x)
        return y if self.factor is None else y * self.factor

    def of_samples(self, part: slice) -> Rearranging:
        """The same for a part of the batch."""
        return Rearranging(self.function, None if self.factor is None else self.factor[part])


@dataclass(frozen=True)
class Link:
    """One layer.

    Args:
        layer: What computes it, by itself.
        parameters: Its parameters as the model has them, by the names that they have in the layer.
        size: Numbers that it puts out for a sample.
    """

    layer: nn.Module
    parameters: dict[str, Tensor]
    size: int


@dataclass(frozen=True)
class Chain:
    """Layers, the first first.

    Args:
        links: The layers.
        inputs: What the first was given, shape ``[N, …]``.
    """

    links: list[Link]
    inputs: Tensor


def chain_of(output: Tensor, samples: int) -> Chain:
    """Reads the layers that made an output.

    Args:
        output: Attached to the graph, shape ``[N, …]``.
        samples: ``N``.

    Raises:
        Unavailable: If they do not stand one after the other, if one of them is not known, or if they do not give the
            same output.
    """
    links: list[Link] = []
    node, inputs = output.grad_fn, None
    while node is not None:
        if is_hook(node) and len(node.next_functions) == 1:
            node = node.next_functions[0][0]
            continue
        shape = torch.Size(node._input_metadata[0].shape)
        if len(shape) < 2 or shape[0] != samples:
            raise Unavailable(f"'{node.name()}' puts out no leading batch axis")
        layer, parameters, place, inputs = _READERS.get(kind(node), _unknown)(node)
        links.append(Link(layer, parameters, shape[1:].numel()))
        node = node.next_functions[place][0]
    if inputs is None:
        raise Unavailable("the first layer's input was not kept")
    tensors = [id(p) for link in links for p in link.parameters.values()]
    if len(set(tensors)) < len(tensors):
        raise Unavailable("a parameter is used in several layers")
    chain = Chain(links[::-1], inputs)
    _require_same(chain, output.detach())
    return chain


def _require_same(chain: Chain, output: Tensor) -> None:
    with torch.no_grad():
        again = chain.inputs
        for link in chain.links:
            again = link.layer(again)
    near = 64 * torch.finfo(output.dtype).eps ** 0.75
    if again.shape != output.shape or not torch.allclose(again, output, rtol=near, atol=near, equal_nan=True):
        raise Unavailable("the layers read off the graph put out something else than the model did")


_Read = tuple[nn.Module, dict[str, Tensor], int, Tensor | None]
"""The layer, its parameters, which operand comes from the layer before, and its value where it was kept."""


def _unknown(node: Node) -> _Read:
    raise Unavailable(f"'{node.name()}' is no layer that stands in a row")


def _leaf(node: Node) -> Tensor | None:
    """The parameter at the end of an edge."""
    if node is None or node.name() != LEAF:
        return None
    variable: Tensor = node.variable
    return variable


def _with(layer: nn.Module, parameters: dict[str, Tensor]) -> nn.Module:
    """Gives a layer parameters of its own on the memory of the model's."""
    for name, tensor in parameters.items():
        layer._parameters[name] = nn.Parameter(tensor.detach())
    return layer


def _linear(node: Node) -> _Read:
    biased = kind(node) == "Addmm"
    turned = node.next_functions[-1][0]
    weight = _leaf(turned.next_functions[0][0]) if turned is not None and kind(turned) == "T" else None
    bias = _leaf(node.next_functions[0][0]) if biased else None
    if weight is None or (biased and (bias is None or node._saved_alpha != 1 or node._saved_beta != 1)):
        raise Unavailable(f"'{node.name()}' is no layer whose parameters are all trained")
    parameters = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=biased, device="meta")
    (inputs,) = saved(node, "mat1" if biased else "self")
    return _with(layer, parameters), parameters, int(biased), inputs


def _convolution(node: Node) -> _Read:
    weight, bias = (_leaf(following) for following, _ in node.next_functions[1:])
    biased = any(node._saved_bias_sym_sizes_opt or ())
    if weight is None or biased != (bias is not None):
        raise Unavailable(f"'{node.name()}' is no layer whose parameters are all trained")
    transposed, groups = node._saved_transposed, node._saved_groups
    settings: dict[str, Any] = {"output_padding": tuple(node._saved_output_padding)} if transposed else {}
    channels = (weight.shape[0], weight.shape[1] * groups)
    layer = _CONVOLUTIONS[weight.dim() - 2, transposed](
        *(channels if transposed else channels[::-1]),
        tuple(weight.shape[2:]),
        stride=tuple(node._saved_stride),
        padding=tuple(node._saved_padding),
        dilation=tuple(node._saved_dilation),
        groups=groups,
        bias=biased,
        device="meta",
        **settings,
    )
    parameters = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    (inputs,) = saved(node, "input")
    return _with(layer, parameters), parameters, 0, inputs


def _elu(node: Node) -> _Read:
    alpha, scale = node._saved_alpha, node._saved_scale
    if node._saved_input_scale != 1:
        return _unknown(node)
    if scale == 1:
        return nn.ELU(alpha), {}, 0, None
    (probe,) = F.selu(torch.ones(1, dtype=torch.float64)).tolist()
    return (nn.SELU(), {}, 0, None) if abs(scale - probe) < 1e-6 else _unknown(node)


def _rearranging(function: Callable[[Tensor], Tensor]) -> _Read:
    return Rearranging(function), {}, 0, None


def _reshaped(node: Node) -> _Read:
    shape = tuple(node._input_metadata[0].shape[1:])
    return _rearranging(lambda x: x.reshape(len(x), *shape))


def _mean(node: Node) -> _Read:
    dims = [dim - (1 << 64) if dim >= 1 << 63 else dim for dim in node._saved_dim]
    if 0 in dims or not dims:
        return _unknown(node)
    return _rearranging(lambda x: x.mean(dims, node._saved_keepdim))


def _max_pool(node: Node) -> _Read:
    geometry = (node._saved_kernel_size, node._saved_stride, node._saved_padding, node._saved_dilation)
    ceil = node._saved_ceil_mode
    return _rearranging(lambda x: F.max_pool2d(x, *geometry, ceil_mode=ceil))


def _average_pool(node: Node) -> _Read:
    settings = (node._saved_kernel_size, node._saved_stride, node._saved_padding, node._saved_ceil_mode)
    more = (node._saved_count_include_pad, node._saved_divisor_override)
    return _rearranging(lambda x: F.avg_pool2d(x, *settings, *more))


def _padded(node: Node) -> _Read:
    pad = list(node._saved_pad)
    return _rearranging(lambda x: F.pad(x, pad))


def _hardtanh(node: Node) -> _Read:
    low, high = node._saved_min_val, node._saved_max_val
    return _rearranging(lambda x: F.hardtanh(x, low, high))


def _masked(node: Node) -> _Read:
    """Dropout, among others: what is multiplied with a constant."""
    attached = [place for place, (following, _) in enumerate(node.next_functions) if following is not None]
    if len(attached) != 1:
        return _unknown(node)
    require_plain_memory([node])
    factor = node._saved_other if attached[0] == 0 else node._saved_self
    shape = torch.Size(node._input_metadata[0].shape)
    if not isinstance(factor, Tensor):
        return _unknown(node)
    spread = factor.detach().to(node._input_metadata[0].dtype).expand(shape)
    return Rearranging(lambda x: x.expand(len(x), *shape[1:]), spread), {}, attached[0], None


_READERS: dict[str, Callable[[Node], _Read]] = {
    "Addmm": _linear,
    "Mm": _linear,
    "Convolution": _convolution,
    "Tanh": lambda node: (nn.Tanh(), {}, 0, None),
    "Sigmoid": lambda node: (nn.Sigmoid(), {}, 0, None),
    "LogSigmoid": lambda node: (nn.LogSigmoid(), {}, 0, None),
    "Relu": lambda node: (nn.ReLU(), {}, 0, None),
    "LeakyRelu": lambda node: (nn.LeakyReLU(node._saved_negative_slope), {}, 0, None),
    "Elu": _elu,
    "Hardtanh": _hardtanh,
    "MaxPool2DWithIndices": _max_pool,
    "AvgPool2D": _average_pool,
    "Mean": _mean,
    "ConstantPadNd": _padded,
    "Mul": _masked,
    **dict.fromkeys(_SAME_ELEMENTS, _reshaped),
}
