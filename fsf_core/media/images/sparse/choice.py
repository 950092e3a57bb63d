"""Whether a picture is worth the decoder of few pixels. Knows sizes and counts, no formats."""

import sys
from dataclasses import dataclass

from fsf_core.media.images.sparse.grid import Grid

MIN_PIXELS = 3_000_000
"""Of 1920×1080 the ordinary decoder takes as long."""
_MIN_SHARE = 10
"""Pixels for each one that is wanted: for an input of 512×512 12 megapixels have 11, and gain a tenth."""
_LOADING_PX = 260_000_000
_IMPORTING_PX = 500_000_000
"""Pixels of pictures whose gain, 1.4 ms a megapixel, pays for loading the compiled loops, 0.4 s of CPU, and for
importing numba before, 0.3 s."""
_REFUSALS = 16


def is_worth(height_px: int, width_px: int, grid: Grid) -> bool:
    """Return whether few enough pixels of a picture are wanted; measured on one core of an EPYC, 2026-11-28."""
    return height_px * width_px >= max(MIN_PIXELS, _MIN_SHARE * grid.rows.size * grid.columns.size)


@dataclass
class Trial:
    """What a process has met so far: it loads the loops when pictures before would have paid for it."""

    seen_px: int = 0
    lead: int = 0
    """Pictures that were decoded, less those that were refused: a camera whose pictures are all refused costs no more
    than a few of them."""

    def is_due(self, pixels: int) -> bool:
        """Return whether to try a picture with this number of pixels."""
        if self.lead <= -_REFUSALS:
            return False
        self.seen_px += pixels
        return self.seen_px > (_LOADING_PX if "numba" in sys.modules else _IMPORTING_PX)

    def count(self, *, decoded: bool) -> None:
        """Count a picture that was tried."""
        self.lead = min(self.lead + 1, _REFUSALS) if decoded else self.lead - 1


TRIAL = Trial()
"""Of this process."""
