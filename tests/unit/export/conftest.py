"""Inputs that tests of ONNX files share."""

import numpy as np
import pytest


@pytest.fixture(name="batch_NCHW", scope="package")
def noise():
    return np.random.default_rng(0).random((3, 3, 224, 224), np.float32)
