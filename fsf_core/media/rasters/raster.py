"""What an image that is read by windows offers, and a decoded image as one."""

# H×W pixels, C channels (blue, green, red)

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fsf_core.media.rasters.georeference import Georeference


class Raster(Protocol):
    """An image of any size, upright, that is read by windows. Its file must stay open."""

    @property
    def height_px(self) -> int:
        """Rows."""

    @property
    def width_px(self) -> int:
        """Columns."""

    @property
    def georeference(self) -> Georeference | None:
        """Where the upright image is on the ground; None if its file does not say."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user of the file may not expect; complete once all of it was read."""

    def read(self, top_px: int, left_px: int, height_px: int, width_px: int) -> NDArray[np.uint8]:
        """Return a window inside the image: uint8 H×W×3, BGR, contiguous.

        Windows of consecutive rows at full width are read with the least work. Each strip or tile is decoded once, as
        long as those of one window fit into the cache.

        Raises:
            DecodeError: the file is damaged or cut off there.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Whole:
    """A decoded image."""

    image_HWC: NDArray[np.uint8]
    georeference: Georeference | None
    notes: tuple[str, ...]

    @property
    def height_px(self) -> int:
        return len(self.image_HWC)

    @property
    def width_px(self) -> int:
        return int(self.image_HWC.shape[1])

    def read(self, top_px: int, left_px: int, height_px: int, width_px: int) -> NDArray[np.uint8]:
        return np.ascontiguousarray(self.image_HWC[top_px : top_px + height_px, left_px : left_px + width_px])


def whole(
    image_HWC: NDArray[np.uint8], *, georeference: Georeference | None = None, notes: Sequence[str] = ()
) -> Raster:
    """Return a decoded image, uint8 H×W×3 BGR, as a raster."""
    return _Whole(image_HWC, georeference, tuple(notes))
