"""Which way up a video is: its display matrix as one of the eight orientations that EXIF numbers.

FFmpeg reads the matrix from MP4 and MOV (tkhd), from Matroska (projection) and from H.264 and H.265 (SEI messages). The
first frame decides for all: a SEI message is at keyframes only, and holds until the next one.
"""

import math
import struct
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from av.sidedata.sidedata import Type

if TYPE_CHECKING:
    import av

UPRIGHT = 1

_TOLERANCE_DEG = 1.0  # as in ffmpeg's autorotate

# Per orientation: whether rows become columns, and then which axes are reversed.
_STEPS: dict[int, tuple[bool, tuple[int, ...]]] = {
    1: (False, ()),
    2: (False, (1,)),
    3: (False, (0, 1)),
    4: (False, (0,)),
    5: (True, ()),
    6: (True, (1,)),
    7: (True, (0, 1)),
    8: (True, (0,)),
}
_NUMBERS = {steps: number for number, steps in _STEPS.items()}


def read_orientation(frame: "av.VideoFrame") -> tuple[int, float]:
    """Return the orientation that a frame's display matrix asks for, and the rest of the angle.

    Returns:
        The number that EXIF gives the orientation, 1 to 8, and the clockwise degrees by which the matrix turns beyond
        it, 0 for all files but few. A frame without a matrix, or with one of no direction, is upright.
    """
    side_data: Any = frame.side_data
    # Of two matrices, the first is the container's and the other the pictures' own.
    matrix = next((data for data in side_data if data.type == Type.DISPLAYMATRIX), None)
    return (UPRIGHT, 0.0) if matrix is None else orientation_of(struct.unpack("=9i", bytes(matrix)[:36]))


def orientation_of(matrix: tuple[int, ...]) -> tuple[int, float]:
    """Return the orientation of a display matrix, and the rest of the angle, as read_orientation.

    A pixel at (x, y) is shown at (a·x + c·y, b·x + d·y), for the matrix (a, b, _, c, d, _, …) of ISO/IEC 14496-12
    §8.3.2. The direction of its first row decides whether there is a right angle, the signs of all four decide which
    of the eight it is.
    """
    a, b, _, c, d = matrix[:5]
    if not (a or b) or not (c or d):
        return UPRIGHT, 0.0
    angle_deg = math.degrees(math.atan2(b, a))
    rest_deg = angle_deg - 90 * round(angle_deg / 90)
    if abs(rest_deg) >= _TOLERANCE_DEG:
        return UPRIGHT, angle_deg
    transposed = abs(b) > abs(a)
    rows, columns = (b < 0, c < 0) if transposed else (d < 0, a < 0)
    reversed_axes = tuple(axis for axis, is_reversed in enumerate((rows, columns)) if is_reversed)
    return _NUMBERS[transposed, reversed_axes], 0.0


def shown_size(height_px: int, width_px: int, orientation: int) -> tuple[int, int]:
    """Return rows and columns as shown of a picture that is stored with this height and width."""
    return (width_px, height_px) if _STEPS[orientation][0] else (height_px, width_px)


def shown_aspect(pixel_aspect: Fraction | None, orientation: int) -> Fraction:
    """Return the width of a pixel over its height as shown; pixels are square where a file does not state it."""
    if not pixel_aspect or pixel_aspect < 0:
        return Fraction(1)
    return 1 / pixel_aspect if _STEPS[orientation][0] else pixel_aspect
