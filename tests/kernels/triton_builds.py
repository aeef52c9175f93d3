"""Triton's loops are compiled down to machine code for GPUs, which takes none. Run by ``test_gpu.py``."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from cockpit.kernels import gpu_loops

POINTERS = {"first": "*{}", "second": "*{}", "edges": "*{}", "owners": "*i64", "places": "*i32", "counts": "*i64"}
SHAPE = {"BINS": 128, "HEIGHT": 8, "WIDTH": 256}


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize("loop", ["bins_of_products", "exponents_of_products", "pairs_of_products"])
@pytest.mark.parametrize("capability", [80, 90])
def test_compiles_and_keeps_subnormal_numbers(capability: int, loop: str, outer: bool, precision: str) -> None:
    function, constants = getattr(gpu_loops, loop), {"OUTER": outer, **SHAPE}
    kinds = {name: POINTERS.get(name, "i32").format(precision) for name in function.arg_names}
    if "constexprs" in inspect.signature(ASTSource).parameters:
        source = ASTSource(function, kinds | dict.fromkeys(constants, "constexpr"), constexprs=constants)
    else:  # before Triton 3.3
        own = {name: kind for name, kind in kinds.items() if name not in constants}
        source = ASTSource(function, own, constants=constants)
    assert not gpu_loops.cached(function)
    built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"enable_fp_fusion": False})
    assert built.asm["cubin"]
    assert gpu_loops.cached(function)
    assert ".ftz" not in built.asm["ptx"], "subnormal products would count as zeros"
