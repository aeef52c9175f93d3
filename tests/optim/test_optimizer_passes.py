"""In how many passes the rules are applied makes no difference."""

import pytest
import torch
from torch import nn
from twins import PAIRS, batches, farthest, network, train, twins

from cockpit.optim import ScaledAdam, ScaledRMSprop, ScaledSGD, passes

FUSED = [name for name, (scaled, _, _) in PAIRS.items() if scaled is not ScaledRMSprop]


@pytest.mark.parametrize("name", FUSED)
def test_fused_kernels_do_what_single_operations_do(name):
    scaled, _, settings = PAIRS[name]

    def change(step, optimizer):
        optimizer.param_groups[0]["scale"] = 1.5 ** (step % 5)

    found = []
    for fused in (True, False):
        model = network()
        optimizer = scaled(model.parameters(), scale=1.0, **{**settings, "fused": fused})
        found.append(train(model, optimizer, batches(20), after_step=change))
    assert farthest(*found) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FUSED)
def test_powers_of_two_change_no_bit_of_torchs_fused_optimizers(name, dtype):
    scaled, plain, settings = PAIRS[name]
    mine, theirs = twins(network(dtype))
    data, settings = batches(30, dtype), {**settings, "fused": True}
    first = train(mine, scaled(mine.parameters(), scale=2.0**16, **settings), data)
    second = train(theirs, plain(theirs.parameters(), **settings), data)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_parts_that_fit_into_a_cache_are_the_whole_in_any_size(pair, monkeypatch):
    scaled, _, settings = pair
    settings = settings if scaled is ScaledRMSprop else {**settings, "fused": False}
    found = []
    for block in (1 << 16, 5, 1):
        monkeypatch.setattr(passes, "BLOCK", block)
        model = network()
        found.append(train(model, scaled(model.parameters(), scale=0.37, **settings), batches(8)))
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(*found, strict=True))


@pytest.mark.parametrize("numels", [[], [1], [3, 4, 100, 2, 0], [10, 10, 10], [64]])
def test_parts_cover_every_element_once(numels, monkeypatch):
    monkeypatch.setattr(passes, "BLOCK", 10)
    tensors = [torch.zeros(n) for n in numels]
    twice = [torch.zeros(n) for n in numels]
    for some, others in passes.blocks(tensors, twice):
        assert sum(part.numel() for part in some) <= 10 + max(numels[0], 10)
        for a, b in zip(some, others, strict=True):
            assert a.shape == b.shape
            a += 1
            b += 1
    assert all(bool((t == 1).all()) for t in (*tensors, *twice))


@pytest.mark.parametrize("kind", [ScaledSGD, ScaledAdam, ScaledRMSprop])
@pytest.mark.parametrize("fused", [True, False])
def test_gradients_may_lie_in_memory_otherwise_than_their_parameters(kind, fused):
    plain = {ScaledSGD: torch.optim.SGD, ScaledAdam: torch.optim.Adam, ScaledRMSprop: torch.optim.RMSprop}[kind]
    options = {} if kind is ScaledRMSprop else {"fused": fused}
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(4, 3, 5, 5, generator=generator, dtype=torch.float64)
    mine = [nn.Parameter(start.clone(memory_format=f)) for f in (torch.contiguous_format, torch.channels_last)]
    theirs = [nn.Parameter(start.clone()) for _ in mine]
    optimizers = kind(mine, lr=0.1, scale=3.0, **options), plain(theirs, lr=0.1)
    for layout in (torch.channels_last, torch.contiguous_format):
        gradient = torch.randn(4, 3, 5, 5, generator=generator, dtype=torch.float64)
        for a, b in zip(mine, theirs, strict=True):
            a.grad, b.grad = (3.0 * gradient).contiguous(memory_format=layout), gradient
        optimizers[0].gradients_are_scaled()
        for optimizer in optimizers:
            optimizer.step()
    assert farthest([p.detach() for p in mine], [p.detach() for p in theirs]) < 1e-12


@pytest.mark.parametrize("kind", [ScaledSGD, ScaledAdam, ScaledRMSprop])
def test_one_group_may_hold_parameters_of_several_precisions(kind):
    plain = {ScaledSGD: torch.optim.SGD, ScaledAdam: torch.optim.Adam, ScaledRMSprop: torch.optim.RMSprop}[kind]
    dtypes = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 2e-2, torch.float16: 5e-3}
    generator = torch.Generator().manual_seed(0)
    mine = [nn.Parameter(torch.randn(5, generator=generator).to(dtype)) for dtype in dtypes]
    theirs = [nn.Parameter(p.detach().clone()) for p in mine]
    optimizers = kind(mine, lr=0.01, scale=2.0**9), plain(theirs, lr=0.01)
    for _ in range(3):
        for a, b in zip(mine, theirs, strict=True):
            b.grad = torch.randn(5, generator=generator).to(b.dtype)
            a.grad = b.grad * 2.0**9
        optimizers[0].gradients_are_scaled()
        for optimizer in optimizers:
            optimizer.step()
    for a, b, tolerance in zip(mine, theirs, dtypes.values(), strict=True):
        assert farthest([a], [b]) < tolerance
