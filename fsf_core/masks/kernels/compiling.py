"""How the inner loops are compiled, and what they are given. Knows nothing of what they compute."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

_F = TypeVar("_F", bound=Callable[..., Any])
_T = TypeVar("_T", bound=np.generic)


def compiled(function: _F) -> _F:
    """Compile on first call, keep the machine code on disk, run without the GIL.

    fastmath stays off: it would let the compiler reorder sums, and ties between classes would fall differently from
    one processor to the next. error_model numpy: a division needs no check for zero, which would keep it from SIMD.
    """
    try:
        return cast("_F", numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:
        # Neither this folder nor the user's cache folder can be written (a read-only image without a home):
        # every process then compiles for itself, which costs seconds and changes nothing else.
        return cast("_F", numba.njit(nogil=True, error_model="numpy")(function))


def as_input(array: NDArray[_T]) -> NDArray[_T]:
    """A contiguous, aligned, read-only view of an array, or of a copy where it must be one.

    numba compiles once for each of these properties: bytes from Arrow are read-only and may lie anywhere, arrays from
    NumPy are neither, and a second version would take seconds in the middle of a run.
    """
    view = np.require(array, requirements=["C_CONTIGUOUS", "ALIGNED"]).view()
    view.flags.writeable = False
    return view
