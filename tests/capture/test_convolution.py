"""Rows of convolution kernels, in every way that they are formed, against one sample's gradient at a time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cockpit.capture.individual.convolution import ConvolutionGradients, Geometry, zeros_around
from cockpit.capture.individual.workspace import Workspace

CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
SAMPLES = 19

# Input, kernel, stride, dilation, groups.
FEW = [
    ((3, 8), (4, 3, 3), (1,), (1,), 1),
    ((4, 7, 6), (6, 2, 3, 2), (2, 1), (1, 2), 2),
    ((2, 4, 3, 4), (4, 1, 2, 2, 1), (1, 1, 2), (1, 1, 1), 2),
]
MANY = [
    ((3, 300), (4, 3, 5), (2,), (3,), 1),
    ((3, 17, 18), (5, 3, 3, 4), (1, 1), (1, 1), 1),
    ((4, 30, 26), (6, 2, 3, 2), (2, 1), (1, 2), 2),  # a stride that leaves the last row unused
    ((6, 15, 15), (6, 1, 3, 3), (1, 1), (1, 1), 6),
    ((2, 7, 8, 9), (4, 1, 2, 2, 3), (1, 1, 1), (1, 2, 1), 2),
]


@pytest.mark.parametrize(("shape", "kernel", "stride", "dilation", "groups"), FEW + MANY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("limit", [1, 1 << 28], ids=["one at a time", "all at once"])
@pytest.mark.parametrize("kept", [False, True])
def test_rows_are_the_gradients_of_single_samples(shape, kernel, stride, dilation, groups, dtype, limit, kept) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(SAMPLES, *shape, generator=generator, dtype=torch.float64)
    weight = torch.randn(kernel, generator=generator, dtype=torch.float64, requires_grad=True)
    outputs = CONVOLVE[len(stride)](inputs, weight, stride=stride, padding=1, dilation=dilation, groups=groups)
    deltas = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
    truth = torch.stack(
        [torch.autograd.grad(outputs[n], weight, deltas[n], retain_graph=True)[0].flatten() for n in range(SAMPLES)]
    )
    geometry = Geometry(weight.shape, stride, dilation, groups)
    gradients = ConvolutionGradients(inputs.to(dtype), deltas.to(dtype), geometry, zeros_around([1] * len(stride)))
    buffer = torch.full((SAMPLES, weight.numel()), torch.nan, dtype=dtype)
    if kept:
        gradients.keep(buffer)
    formed = torch.cat([rows.clone() for _, rows in gradients.rows(Workspace(limit))])
    tolerance = {"rtol": 1e-7, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(formed.double(), truth, **tolerance)
    if kept:
        torch.testing.assert_close(buffer.double(), truth, **tolerance)
