"""Whether a picture is worth the decoder of few pixels. Knows sizes and counts, no formats."""

import sys
from dataclasses import dataclass

from fsf_core.media.images.sparse.grid import Grid

MIN_PIXELS = 3_000_000
"""Of 1920×1080 the ordinary decoder takes as long."""
_MIN_SHARE = 10
"""Pixels for each one that is wanted: for an input of 512×512 12 megapixels have 11, and gain a tenth."""
_IMPORTING_PX = 500_000_000
_COMPILING_PX = 3_500_000_000
"""Pixels of pictures whose gain, 1.4 ms a megapixel, pays for importing numba, 0.7 s of CPU with its first loop, and
for compiling these loops, 5.2 s. Where they are compiled and numba is there already, as in processes that make masks,
loading them costs 0.03 s (2-core EPYC, 2026-11-28)."""
_REFUSALS = 16


def is_worth(height_px: int, width_px: int, grid: Grid) -> bool:
    """Return whether few enough pixels of a picture are wanted; measured on one core of an EPYC, 2026-11-28."""
    return height_px * width_px >= max(MIN_PIXELS, _MIN_SHARE * grid.rows.size * grid.columns.size)


@dataclass
class Trial:
    """What a process has met so far: it gets the loops ready when the pictures before would have paid for it."""

    seen_px: int = 0
    lead: int = 0
    """Pictures that were decoded, less those that were refused: a camera whose pictures are all refused costs no more
    than a few of them."""

    def is_due(self, pixels: int) -> bool:
        """Return whether to try a picture with this number of pixels."""
        if self.lead <= -_REFUSALS:
            return False
        self.seen_px += pixels
        return self.seen_px > _price_px()

    def count(self, *, decoded: bool) -> None:
        """Count a picture that was tried."""
        self.lead = min(self.lead + 1, _REFUSALS) if decoded else self.lead - 1


def _price_px() -> int:
    """Return the pixels of pictures whose gain pays for what the first decoding costs."""
    if "numba" not in sys.modules:
        return _IMPORTING_PX
    from fsf_core.machine_code.compiling import is_compiled
    from fsf_core.media.images.sparse.bits import decode_units

    return 0 if is_compiled(decode_units) else _COMPILING_PX


TRIAL = Trial()
"""Of this process."""
