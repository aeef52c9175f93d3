import pytest
from loop import Loop

from cockpit import Cockpit


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def begin(tmp_path, loop):
    """``begin(**options)`` makes a cockpit on ``loop`` in ``tmp_path / "run"``, and the end of the test closes it."""
    made = []

    def cockpit(other=None, **options):
        on = loop if other is None else other
        made.append(Cockpit(on.model, on.optimizer, **{"run": tmp_path / "run", "track": 1, **options}))
        return made[-1]

    yield cockpit
    for one in made:
        one.close()
