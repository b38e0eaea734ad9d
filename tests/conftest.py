"""What all tests share: NumPy generators with fixed seeds."""

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20190213)
