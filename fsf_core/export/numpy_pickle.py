"""NumPy's numbers and arrays in a pickle, read without NumPy's own unpickling.

NumPy rebuilds arrays in C from whatever type and bytes a pickle claims; a forged type could turn bytes into pointers.
Here plain Python reads the type, and only bytes of plain numbers and text become arrays. Knows no torch and no files.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KINDS = "biufcSU"
"""Kinds of NumPy types that hold no objects: booleans, numbers, text."""


class NumpyObjectError(ValueError):
    """A pickle holds something of NumPy that is no plain number, text or array of them."""


class _Type:
    """A type of NumPy as a pickle describes it."""

    def __init__(self, name: object, *_: object) -> None:
        if not isinstance(name, str) or np.dtype(name).kind not in _KINDS:
            raise NumpyObjectError(f"NumPy's type {name!r}")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the byte order, and nothing else that a pickle may claim of a type."""
        order = state[1]
        if order not in {"<", ">", "|", "="}:
            raise NumpyObjectError(f"a NumPy type of byte order {order!r}")
        self.dtype = self.dtype.newbyteorder(order)


class PickledArray:
    """An array as a pickle describes it; `array` is a copy of its bytes in this machine's order."""

    array: NDArray[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Make the array of (version, shape, type, whether columns come first, bytes)."""
        _, shape, kind, by_columns, data = state
        if not isinstance(kind, _Type) or not isinstance(data, bytes):
            raise NumpyObjectError("a NumPy array of objects")
        array = np.frombuffer(data, kind.dtype).reshape(shape, order="F" if by_columns else "C")
        self.array = array.astype(kind.dtype.newbyteorder("="))


def _reconstruct(kind: object, *_: object) -> PickledArray:
    if kind is not PickledArray:
        raise NumpyObjectError("a subclass of NumPy's arrays")
    return PickledArray()


def _scalar(kind: object, data: object) -> object:
    """Return a NumPy number as one of Python's."""
    if not isinstance(kind, _Type) or not isinstance(data, bytes):
        raise NumpyObjectError("a NumPy object")
    return np.frombuffer(data, kind.dtype)[0].item()


def _empty() -> bytes:
    """Return what a call of bytes without arguments does: the content of an empty array."""
    return b""


SAFE_GLOBALS: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    (_Type, "numpy.dtype"),
    (PickledArray, "numpy.ndarray"),
    (_empty, "builtins.bytes"),
    *((_reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]
"""Replacements of what NumPy calls so, for torch.serialization.safe_globals."""
