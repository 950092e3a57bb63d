"""Memory of the tables between the stages, used again once nothing refers to it. Knows no columns.

The system hands memory out page by page, and fills each page with zeros. Arrow's allocator gives pages back after some
milliseconds, so tables of some 10 MB paid for them again and again: 0.15 to 0.3 ms a frame of 4 classes on a grid of
224×224 (2-core EPYC, 2026-11-28).
"""

import sys
import threading

import numpy as np
from numpy.typing import NDArray

MAX_BUFFERS = 4
"""Inputs and outputs of the table in work, and those of the one before, which its consumer still holds."""

MAX_KEPT_BYTES = 64 << 20
"""A larger buffer is freed when nothing refers to it."""

_probe = [np.empty(1, np.uint8)]
_REFERENCES_OF_UNUSED = sys.getrefcount(_probe[0])
"""Of an array that only a list refers to, in an expression like the one below."""


class KeptBuffers:
    """Buffers that are lent to arrays, and lent again when the last of these is gone.

    Every view of a buffer, Arrow's too, refers to the array that owns it. Several threads may call it.
    """

    def __init__(self) -> None:
        self._kept: list[NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def take(self, size_bytes: int) -> NDArray[np.uint8]:
        """Return this number of bytes, with any content; nothing else uses them while a view of them exists."""
        if not 0 < size_bytes <= MAX_KEPT_BYTES:
            return np.empty(size_bytes, np.uint8)
        with self._lock:
            unused = [at for at in range(len(self._kept)) if sys.getrefcount(self._kept[at]) == _REFERENCES_OF_UNUSED]
            large_enough = [at for at in unused if self._kept[at].size >= size_bytes]
            if large_enough:
                return self._kept[min(large_enough, key=lambda at: self._kept[at].size)][:size_bytes]
            if len(self._kept) >= MAX_BUFFERS and unused:
                del self._kept[unused[0]]
            buffer = np.empty(size_bytes, np.uint8)
            if len(self._kept) < MAX_BUFFERS:
                self._kept.append(buffer)
            return buffer[:]
