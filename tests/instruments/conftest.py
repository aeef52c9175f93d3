import pytest
import torch
from classifier import N


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(N, 5)
