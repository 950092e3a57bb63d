"""Memory for images that are decoded one after the other. Knows no formats."""

import numpy as np
from numpy.typing import NDArray

MAX_KEPT_BYTES = 64 << 20
"""A larger image gets memory of its own, which is freed with it."""


class Room:
    """Lends the same memory to every image.

    The C library takes 32 MB and more from the system each time, page by page: a JPEG of 4000×3000 is decoded and
    resized in 33.3 ms of CPU so, and in 29.4 in a room (one core of an EPYC, 2026-11-28). Smaller images, whose memory
    it keeps itself, take as long in either.
    """

    def __init__(self) -> None:
        self._kept = np.empty(0, np.uint8)

    def lend(self, size_bytes: int) -> NDArray[np.uint8]:
        """Return this number of bytes, with any content; they are the caller's until the next call."""
        if size_bytes > MAX_KEPT_BYTES:
            return np.empty(size_bytes, np.uint8)
        if self._kept.size < size_bytes:
            self._kept = np.empty(0, np.uint8)  # freed before more is taken
            self._kept = np.empty(size_bytes, np.uint8)
        return self._kept[:size_bytes]
