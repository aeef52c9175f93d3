"""What tests of the kernels share."""

from __future__ import annotations

import pytest

from cockpit.kernels import compiled


@pytest.fixture(params=["compiled", "torch", "without numba"])
def variant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way in which elements are counted: compiled loops, torch twins beside them, and in their absence."""
    if request.param == "compiled":
        pytest.importorskip("numba", reason="the compiled loops need the extra 'fast'")
    elif request.param == "torch":
        monkeypatch.setattr(compiled, "usable", lambda tensor: False)
    else:
        monkeypatch.setattr(compiled, "numba", None)
