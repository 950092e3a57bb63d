"""The first call of a model on a GPU, before its session counts as open: some libraries are loaded no earlier.

Without it, a missing cuDNN would be an error of every item. Knows sessions of onnxruntime by their methods.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsf_core.errors import FSFError
from fsf_core.model.runtime_messages import first_line

GUESSED_PX = 448
"""Sides of an image where the model takes any: a multiple of the usual strides and patches."""

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
          "tensor(uint8)": np.uint8, "tensor(int64)": np.int64, "tensor(int32)": np.int32}  # fmt: skip

_OF_THE_DRIVER = re.compile(
    r"cu(da|dnn|blas|fft|rand|solver|sparse)|nvrtc|nvinfer|tensorrt|dlopen|\.so\.\d", re.IGNORECASE
)
"""What errors of the card and its libraries name, and those of a shape or an operator do not."""


def warm_up(session: Any) -> None:
    """Run one black image, or as many as the graph fixes.

    Args:
        session: of onnxruntime.

    Raises:
        RuntimeError: the card or its libraries do not work. What else fails at sizes that are guessed is no error.
    """
    inputs = session.get_inputs()
    guessed = any(not isinstance(size, int) for each in inputs for size in each.shape[1:])
    try:
        session.run(None, {each.name: _black(each.type, each.shape) for each in inputs})
    except FSFError:  # a signal that arrived meanwhile
        raise
    except Exception as error:  # onnxruntime's exceptions share no base but this
        if guessed and not names_driver(str(error)):
            return
        raise RuntimeError(str(error)) from error


def names_driver(reason: str) -> bool:
    """Return whether an error is one of the card or its libraries.

    The place in onnxruntime's sources does not count: that of any operator on a GPU has `cuda` in it.
    """
    return any(_OF_THE_DRIVER.search(first_line(line)) for line in reason.splitlines())


def _black(type_name: str, shape: Sequence[Any]) -> NDArray[Any]:
    """Return zeros for an input; the size of class maps, which is one of integers, is not 0."""
    sizes = [size if isinstance(size, int) else GUESSED_PX if at else 1 for at, size in enumerate(shape)]
    dtype = _TYPES.get(type_name, np.float32)
    return np.full(sizes, 8 if dtype == np.int64 else 0, dtype)
