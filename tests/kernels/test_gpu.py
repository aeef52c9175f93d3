"""The way of CUDA tensors: to Triton's loops where these can be compiled, else to the torch twins, and never silently.

What Triton compiles for is settled when it is imported, so its loops are tested in processes of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch
from patience import LONG

from cockpit import kernels
from cockpit.kernels import compiled, exponents, gpu, histogram
from cockpit.kernels.histogram import Edges
from cockpit.kernels.pairs import Partners

ROWS, ONES, EDGES = torch.linspace(-1, 1, 60).view(3, 20), torch.ones(3), Edges.uniform(-0.5, 0.5, 7)
RUN = gpu._run


def passes(tests: str, **environment: str) -> None:
    """Runs tests in a process of their own."""
    if find_spec("triton") is None:
        pytest.skip("Triton is not installed; the extra 'test' brings it on Linux on x86-64")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        str(Path(__file__).with_name(tests)),
    ]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=4 * LONG)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.slow
def test_triton_counts_as_its_twins_do_in_the_interpreter() -> None:
    passes("triton_counts.py", TRITON_INTERPRET="1")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_triton_counts_as_its_twins_do_on_a_gpu() -> None:
    passes("triton_counts.py", TRITON_INTERPRET="0")


def test_triton_compiles_for_gpus() -> None:
    passes("triton_builds.py", TRITON_INTERPRET="0")


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Takes tensors for CUDA ones, and Triton for one that finds no compiler; which loops it was to launch."""
    names: list[str] = []

    def run(name: str, *_: object) -> None:
        names.append(name)
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(compiled, "usable", lambda tensor: False)
    monkeypatch.setattr(gpu, "_on_gpu", lambda tensor: True)
    monkeypatch.setattr(gpu, "_installed", lambda: True)
    monkeypatch.setattr(gpu, "_given_up", False)
    monkeypatch.setattr(gpu, "_run", run)
    return names


@pytest.fixture
def compiled_before(launched: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Takes loops that do nothing for Triton's; which of them an earlier process has left on disk."""
    names: set[str] = set()

    class Loop:
        def __init__(self, name: str) -> None:
            self.name = name

        def __getitem__(self, grid: tuple[int]) -> Callable[..., None]:
            return lambda *arguments, **shape: launched.append(self.name)

    loops = ModuleType("gpu_loops")
    for name in ("bins_of_products", "exponents_of_products", "pairs_of_products"):
        setattr(loops, name, Loop(name))
    loops.cached = lambda loop: loop.name in names  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cockpit.kernels.gpu_loops", loops)
    monkeypatch.setattr(kernels, "gpu_loops", loops, raising=False)
    monkeypatch.setattr(gpu, "_run", RUN)
    monkeypatch.setattr(gpu, "_announced", False)
    gpu._announce_compilation.cache_clear()
    yield names
    gpu._announce_compilation.cache_clear()


def count_all() -> None:
    for _ in range(2):
        gpu.count_rows(ROWS, ONES, EDGES)
        gpu.count_exponents(ROWS, ONES, -4, 4)


def test_the_first_compilation_is_announced_once(
    launched: list[str], compiled_before: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    compiled_before.add("bins_of_products")
    count_all()
    assert capsys.readouterr().err == (
        "cockpit: compiling its loops for this GPU, once on this machine (some seconds)\n"
    )
    gpu.pair_rows(ROWS, ONES, EDGES, Partners.of(ROWS[0], EDGES))
    assert capsys.readouterr().err == ""
    assert launched == ["bins_of_products", "exponents_of_products"] * 2 + ["pairs_of_products"]


def test_loops_that_are_compiled_already_are_not_announced(
    launched: list[str], compiled_before: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    compiled_before |= {"bins_of_products", "exponents_of_products"}
    count_all()
    assert capsys.readouterr().err == ""
    assert len(launched) == 4


def test_where_triton_fails_the_twin_counts_and_one_warning_says_so(launched: list[str]) -> None:
    with pytest.warns(RuntimeWarning, match="RuntimeError: Failed to find C compiler.*plain PyTorch"):
        first = histogram.count_rows(ROWS, ONES, EDGES)
    second = exponents.count_rows(ROWS, ONES)  # another warning would be an error
    assert launched == ["bins_of_products"]
    assert first.equal(histogram.count_rows_torch(ROWS, ONES, EDGES))
    assert second.equal(exponents.count_rows_torch(ROWS, ONES))


def test_where_warnings_are_errors_it_is_said_without_one(
    launched: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counts = histogram.count_rows(ROWS, ONES, EDGES)
    assert "Failed to find C compiler" in capsys.readouterr().err
    assert counts.equal(histogram.count_rows_torch(ROWS, ONES, EDGES))


def test_what_triton_is_not_for_goes_to_the_twin(launched: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    narrow, many = Edges.uniform(100, 100 + 1e-6, 3), Edges.uniform(-1, 1, 2000)
    for rows, edges in ((ROWS.half(), EDGES), (ROWS, narrow), (ROWS, many)):
        assert histogram.count_rows(rows, ONES, edges).equal(histogram.count_rows_torch(rows, ONES, edges))
    assert gpu.count_outer(ROWS, ROWS.double(), EDGES) is None
    monkeypatch.setattr(gpu, "_installed", lambda: False)
    assert gpu.count_rows(ROWS, ONES, EDGES) is None
    assert launched == []


def test_tensors_in_main_memory_never_go_to_triton(launched: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert gpu.count_rows(ROWS, ONES, EDGES) is None


def test_edges_are_brought_to_a_device_once() -> None:
    edges = Edges.uniform(-1, 1, 4)
    for dtype in (torch.float32, torch.float64):
        like = torch.zeros(1, dtype=dtype)
        assert edges.open_ended(like) is edges.open_ended(like)
        assert edges.inner(like).equal(torch.tensor([-0.5, 0.0, 0.5], dtype=dtype))
        assert edges.open_ended(like).dtype == dtype


@pytest.mark.parametrize(
    ("low", "high", "bins", "left"), [(-1, 1, 100, 49), (-1, 1, 3, 0), (0, 1, 7, 0), (-3, -1, 10, 8), (1, 3, 2, 0)]
)
def test_the_bins_around_zero(low: float, high: float, bins: int, left: int) -> None:
    assert Edges.uniform(low, high, bins).around_zero == left
