import pytest
from script import Script


@pytest.fixture
def script():
    return Script()
