"""How kernels are compiled, and how their arguments are prepared."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from fsf_core.machine_code.cache import cache_of, is_filled

_F = TypeVar("_F", bound=Callable[..., Any])
_T = TypeVar("_T", bound=np.generic)

_njit: Any = numba.njit  # its stubs lack some options


def compiled(function: _F) -> _F:
    """Compile on first call, cache the machine code on disk, run without the GIL.

    No fastmath: it lets the compiler reorder sums, and ties between classes would break differently from one processor
    to the next. error_model numpy: without a check for division by zero, divisions vectorise.
    """
    dispatcher: Any = numba.njit(nogil=True, error_model="numpy")(function)
    dispatcher._cache = cache_of(function)  # noqa: SLF001 # all that cache=True does; it cannot name another cache
    return cast("_F", dispatcher)


def inlined(function: _F) -> _F:
    """Compile into the compiled functions that call it, for calls in inner loops: an array is passed as seven words."""
    return cast("_F", numba.njit(nogil=True, error_model="numpy", forceinline=True)(function))


def inner(function: _F) -> _F:
    """Compile a function that allocates nothing, for calls by compiled ones of its file alone.

    References to arrays are not counted: the counters are atomic, and with two for each slice drawing a mask of 512×512
    takes 0.61 ms of CPU instead of 0.39 (`draw` in `python -m tests.bench.bench_masks`, an EPYC, 2026-11-28). There is
    no way in from Python, which takes longer to compile than most of these functions, and no cache of their own: they
    are part of the machine code of what calls them.
    """
    dispatcher = _njit(
        nogil=True, error_model="numpy", _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True
    )(function)  # fmt: skip
    return cast("_F", dispatcher)


def allocating(function: _F) -> _F:
    """Compile as `inner` does, but a function that allocates arrays."""
    dispatcher = _njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
    return cast("_F", dispatcher)


def _trailing_zeros(typing_context: Any, word: Any) -> Any:
    """Type and generate `trailing_zeros`."""
    del typing_context

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], cgutils.true_bit)

    return types.int64(word), generate


trailing_zeros: Any = intrinsic(_trailing_zeros)
"""In compiled functions: the number of zeros below the lowest one of a uint64 that is not 0."""


def is_compiled(function: Callable[..., Any]) -> bool:
    """Return whether the first call of a function of `compiled` is likely to find its machine code."""
    dispatcher: Any = function
    return bool(dispatcher.signatures) or is_filled(dispatcher._cache)  # noqa: SLF001


def as_input(array: NDArray[_T]) -> NDArray[_T]:
    """Return a contiguous, aligned, read-only view of an array, copied only if necessary.

    numba compiles one version per combination of these properties. Arrow's buffers are read-only and can start at any
    address, NumPy's arrays are writable and aligned; compiling a second version would take seconds during a run.
    """
    view = np.require(array, requirements=["C_CONTIGUOUS", "ALIGNED"]).view()
    view.flags.writeable = False
    return view
