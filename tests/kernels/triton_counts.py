"""Triton's loops and their torch twins agree to the last element. Run by ``test_gpu.py``, in a process of its own.

With ``TRITON_INTERPRET=1`` the loops run in Triton's interpreter, on tensors in main memory; else on a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_exponents import numbers as any_magnitudes
from test_histogram import AWKWARD, PRECISIONS, RANGES, numbers
from torch import Tensor

from cockpit.kernels import compiled, exponents, gpu, histogram, pairs
from cockpit.kernels.exponents import HIGHEST, LOWEST
from cockpit.kernels.histogram import Edges
from cockpit.kernels.pairs import Partners

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
SHAPES = [(1, 1), (3, 600), (300, 1), (130, 17), (9, 256), (9, 257), (2, 0)]
"""Around the height and the width of tiles."""
np.seterr(all="ignore")  # the interpreter computes with NumPy, which remarks on overflows


@pytest.fixture(autouse=True)
def _not_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "usable", lambda tensor: False)
    if INTERPRETED:
        monkeypatch.setattr(gpu, "_on_gpu", lambda tensor: True)


def assert_same(found: Tensor | None, twin: Tensor) -> None:
    assert found is not None, "Triton did not run"
    assert found.dtype == torch.int64
    assert found.device == twin.device
    torch.testing.assert_close(found, twin, rtol=0, atol=0)


def test_the_first_loop_of_a_process_is_announced_where_it_is_compiled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(gpu, "_announced", False)
    gpu._announce_compilation.cache_clear()
    assert gpu.count_rows(normal(3, 4), normal(3), Edges.uniform(-1, 1, 5)) is not None
    assert ("compiling its loops" in capsys.readouterr().err) is not INTERPRETED


def drawn(data: st.DataObject, precision: str, *shape: int, like: Callable = numbers) -> Tensor:
    dtype, width = PRECISIONS[precision]
    values = data.draw(like(width, int(np.prod(shape))))
    return torch.tensor(values, dtype=dtype, device=DEVICE).view(shape)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).to(DEVICE) * 0.3


def partners(theta: Tensor) -> Partners:
    return Partners.of(theta, Edges.uniform(-0.5, 0.5, 5))


precisions, sizes, spans = st.sampled_from(sorted(PRECISIONS)), st.integers(1, 9), st.sampled_from(RANGES)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), precision=precisions, N=st.integers(1, 3), m=sizes, span=spans)
def test_any_rows(data: st.DataObject, precision: str, N: int, m: int, span: tuple[float, float, int]) -> None:
    rows, factors = drawn(data, precision, N, m), drawn(data, precision, N)
    edges = Edges.uniform(*span)
    assert_same(gpu.count_rows(rows, factors, edges), histogram.count_rows_torch(rows, factors, edges))
    of = partners(drawn(data, precision, m))
    assert_same(gpu.pair_rows(rows, factors, edges, of), pairs.pair_rows_torch(rows, factors, edges, of))


@settings(max_examples=25, deadline=None)
@given(data=st.data(), precision=precisions, N=st.integers(1, 3), m=sizes, outputs=sizes, span=spans)
def test_any_outer_products(
    data: st.DataObject, precision: str, N: int, m: int, outputs: int, span: tuple[float, float, int]
) -> None:
    inputs, deltas = drawn(data, precision, N, m), drawn(data, precision, N, outputs)
    edges = Edges.uniform(*span)
    assert_same(gpu.count_outer(inputs, deltas, edges), histogram.count_outer_torch(inputs, deltas, edges))
    of = partners(drawn(data, precision, outputs, m))
    assert_same(gpu.pair_outer(inputs, deltas, edges, of), pairs.pair_outer_torch(inputs, deltas, edges, of))


@settings(max_examples=25, deadline=None)
@given(data=st.data(), precision=precisions, N=st.integers(1, 3), m=sizes, outputs=sizes)
def test_any_exponents(data: st.DataObject, precision: str, N: int, m: int, outputs: int) -> None:
    rows, factors = (drawn(data, precision, *shape, like=any_magnitudes) for shape in ((N, m), (N,)))
    found = gpu.count_exponents(rows, factors, LOWEST, HIGHEST)
    assert_same(found, exponents.count_rows_torch(rows, factors))
    deltas = drawn(data, precision, N, outputs, like=any_magnitudes)
    found = gpu.count_outer_exponents(rows, deltas, LOWEST, HIGHEST)
    assert_same(found, exponents.count_outer_torch(rows, deltas))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("span", [*RANGES, (-1.0, 1.0, 1000), (1e6, 1e6 + 100, 20), (-0.3, 700.0, 31)], ids=str)
def test_edges_are_hit_exactly_and_missed_by_one_step(precision: str, span: tuple[float, float, int]) -> None:
    dtype, _ = PRECISIONS[precision]
    edges = Edges.uniform(*span)
    on_edges = torch.as_tensor(edges.values).to(dtype)
    beside = [torch.nextafter(on_edges, on_edges + s) for s in (-1, 1)]
    line = torch.cat([on_edges, *beside, torch.tensor(AWKWARD, dtype=dtype)]).to(DEVICE).unsqueeze(0)
    one = torch.ones(1, dtype=dtype, device=DEVICE)
    twin = histogram.count_rows_torch(line, one, edges)
    assert_same(gpu.count_rows(line, one, edges), twin)
    assert_same(gpu.count_outer(line, one.unsqueeze(1), edges), twin)
    of = partners(normal(line.numel(), dtype=dtype))
    assert_same(gpu.pair_rows(line, one, edges, of), pairs.pair_rows_torch(line, one, edges, of))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_powers_of_two_open_their_bins(precision: str) -> None:
    dtype, _ = PRECISIONS[precision]
    powers = 2.0 ** torch.arange(-140, 127, dtype=torch.float64).to(dtype)
    line = torch.cat([powers, *(torch.nextafter(powers, powers * s) for s in (0, 2))]).to(DEVICE).unsqueeze(0)
    signs = torch.tensor([[1.0, -1.0]], dtype=dtype, device=DEVICE)
    assert_same(gpu.count_outer_exponents(line, signs, LOWEST, HIGHEST), exponents.count_outer_torch(line, signs))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("programs", [2, 1024])
def test_rows_of_any_length(shape: tuple[int, int], programs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_PROGRAMS", programs)
    rows, factors, edges = normal(*shape), normal(shape[0], seed=1), Edges.uniform(-0.2, 0.1, 30)
    assert_same(gpu.count_rows(rows, factors, edges), histogram.count_rows_torch(rows, factors, edges))
    found = gpu.count_exponents(rows, factors, LOWEST, HIGHEST)
    assert_same(found, exponents.count_rows_torch(rows, factors))
    of = partners(normal(shape[1], seed=2))
    assert_same(gpu.pair_rows(rows, factors, edges, of), pairs.pair_rows_torch(rows, factors, edges, of))


@pytest.mark.parametrize("outputs_and_inputs", SHAPES, ids=str)
def test_layers_of_any_size(outputs_and_inputs: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_PROGRAMS", 5)
    outputs, m = outputs_and_inputs
    inputs, deltas, edges = normal(3, m).relu(), normal(3, outputs, seed=1), Edges.uniform(-0.05, 0.05, 30)
    assert_same(gpu.count_outer(inputs, deltas, edges), histogram.count_outer_torch(inputs, deltas, edges))
    found = gpu.count_outer_exponents(inputs, deltas, LOWEST, HIGHEST)
    assert_same(found, exponents.count_outer_torch(inputs, deltas))
    of = partners(normal(outputs, m, seed=2))
    assert_same(gpu.pair_outer(inputs, deltas, edges, of), pairs.pair_outer_torch(inputs, deltas, edges, of))


def test_looked_up_rows_stand_beside_their_owners() -> None:
    rows, factors, edges = normal(40, 7), normal(40, seed=1), Edges.uniform(-0.1, 0.1, 9)
    owners = torch.randint(0, 6, (40,), generator=torch.Generator().manual_seed(2)).to(DEVICE)
    of = partners(normal(6, 7, seed=3))
    twin = pairs.pair_lookups_torch(rows, factors, owners, edges, of)
    assert_same(gpu.pair_lookups(rows, factors, owners, edges, of), twin)


def test_tensors_that_are_not_contiguous() -> None:
    rows, factors, edges = normal(40, 60).t()[::2], normal(60, seed=1)[::2], Edges.uniform(-0.1, 0.1, 9)
    assert_same(gpu.count_rows(rows, factors, edges), histogram.count_rows_torch(rows, factors, edges))


def test_every_entry_point_goes_to_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the interpreter these are no CUDA tensors: they are only taken for such."""
    inputs, deltas, factors, edges = normal(4, 20), normal(4, 6), normal(4), Edges.uniform(-0.1, 0.1, 9)
    of, alone, owners = partners(normal(6, 20)), partners(normal(20)), torch.arange(4, device=DEVICE)
    calls: list[tuple[object, str, tuple[object, ...]]] = [
        (histogram, "count_rows", (inputs, factors, edges)),
        (histogram, "count_outer", (inputs, deltas, edges)),
        (exponents, "count_rows", (inputs, factors)),
        (exponents, "count_outer", (inputs, deltas)),
        (pairs, "pair_rows", (inputs, factors, edges, alone)),
        (pairs, "pair_lookups", (inputs, factors, owners, edges, of)),
        (pairs, "pair_outer", (inputs, deltas, edges, of)),
    ]
    for module, name, arguments in calls:
        twin = getattr(module, f"{name}_torch")(*arguments)
        with monkeypatch.context() as without_twin:
            without_twin.delattr(module, f"{name}_torch")
            assert_same(getattr(module, name)(*arguments), twin)
