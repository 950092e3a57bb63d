"""What every decoder of a format returns."""

# H×W pixels, C channels (blue, green, red)

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


class Stored(NamedTuple):
    """Pixels as a file stores them, and what has to be known of them."""

    image_HWC: Pixels
    orientation: int = 1
    """EXIF's number, 1 to 8, of how the stored pixels are turned to be upright."""
    notes: tuple[str, ...] = ()
    """What the user of the file may not expect."""


def first_of(count: int, kind: str) -> tuple[str, ...]:
    """Return the note that only the first of several pages or frames is decoded; none if there is no other."""
    return (f"first of {count:,} {kind}",) if count > 1 else ()


def transparency(alpha: NDArray[np.uint8] | NDArray[np.uint16]) -> tuple[str, ...]:
    """Return the note that transparent pixels have the colours that are stored for them; none if all are opaque."""
    return transparency_note(transparent(alpha), alpha.size)


def transparent(alpha: NDArray[np.uint8] | NDArray[np.uint16]) -> int:
    """Return how many pixels are not opaque."""
    return int(np.count_nonzero(alpha != np.iinfo(alpha.dtype).max))


def transparency_note(count: int, pixels: int) -> tuple[str, ...]:
    """Return the note of `transparency` for a number of transparent pixels of all."""
    if not count:
        return ()
    return (f"alpha was not applied: {count:,} of {pixels:,} pixels are transparent, at least in part",)
