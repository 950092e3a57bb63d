"""EXIF orientation: one rule for all formats. Knows blocks of EXIF and how pixels are turned; knows no formats."""

# H×W pixels, C channels (blue, green, red)

import struct
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from simplejpeg import decode_jpeg

from fsf_core.errors import DecodeError
from fsf_core.media.images.stored import Pixels

PREFIX = b"Exif\0\0"
_BLOCK_BYTES = 65_000
"""Largest block that is looked at; the first directory is at its beginning. A JPEG segment holds 65,533 bytes."""
_UP_DOWN, _LEFT_RIGHT, _BOTH = 0, 1, -1  # OpenCV's axes
_FLIPS = {2: _LEFT_RIGHT, 3: _BOTH, 4: _UP_DOWN, 6: _LEFT_RIGHT, 7: _BOTH, 8: _UP_DOWN}
_ORIENTATION = 0x112
_LONG = 4
_FIRST_TRANSPOSED = 5
_LAST = 8


class Turn(NamedTuple):
    """How stored pixels become upright ones: transposed first, where that is needed, then reversed."""

    transposed: bool
    rows_reversed: bool
    columns_reversed: bool


def turn_of(orientation: int) -> Turn:
    """Return how pixels of an orientation are turned upright; a number other than 1 to 8 is no orientation."""
    axis = _FLIPS.get(orientation)
    transposed = _FIRST_TRANSPOSED <= orientation <= _LAST
    return Turn(transposed, axis in (_UP_DOWN, _BOTH), axis in (_LEFT_RIGHT, _BOTH))


def upright(image_HWC: Pixels, orientation: int) -> Pixels:
    """Turn stored pixels upright, as EXIF defines orientations 1 to 8; any other number is no orientation."""
    if _FIRST_TRANSPOSED <= orientation <= _LAST:
        image_HWC = np.asarray(cv2.transpose(image_HWC), np.uint8)
    axis = _FLIPS.get(orientation)
    return image_HWC if axis is None else np.asarray(cv2.flip(image_HWC, axis), np.uint8)


def stored_window(
    window: tuple[int, int, int, int], orientation: int, upright_hw: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return the window of stored pixels that `upright` turns into a window of the upright image.

    Args:
        window: top, left, height and width.
        orientation: of the image.
        upright_hw: height and width of the whole upright image.
    """
    top, left, height, width = window
    axis = _FLIPS.get(orientation)
    if axis in (_UP_DOWN, _BOTH):
        top = upright_hw[0] - top - height
    if axis in (_LEFT_RIGHT, _BOTH):
        left = upright_hw[1] - left - width
    return (left, top, width, height) if _FIRST_TRANSPOSED <= orientation <= _LAST else (top, left, height, width)


def orientation_of(block: bytes, name: str) -> int:
    """Return the orientation of a block of EXIF, with or without its prefix; as for `orientation_of_segments`."""
    payload = (block if block.startswith(PREFIX) else PREFIX + block)[:_BLOCK_BYTES]
    return orientation_of_segments(struct.pack(">BBH", 0xFF, 0xE1, len(payload) + 2) + payload, name)


def orientation_of_segments(segments: bytes, name: str) -> int:
    """Return the orientation, 1 to 8, of EXIF in a JPEG's segments, found by decoding a small image that carries them.

    Malformed blocks are common, and which of them still count is OpenCV's decision, not the standard's.

    Args:
        segments: with their markers.
        name: format of the image, for the message.

    Raises:
        DecodeError: OpenCV does not decode an image with these segments.
    """
    encoded, stored_HWC = _probe_image()
    carrier = np.frombuffer(encoded[:2] + segments + encoded[2:], np.uint8)
    seen_HWC = np.asarray(cv2.imdecode(carrier, cv2.IMREAD_COLOR))
    for number in range(1, _LAST + 1):
        if np.array_equal(upright(stored_HWC, number), seen_HWC):
            return number if number > 1 else _long_orientation(segments)
    raise DecodeError(
        f"the {name}'s EXIF block cannot be read; remove it (exiftool -EXIF= FILE) or copy the file again"
    )


def _long_orientation(segments: bytes) -> int:
    """Return an orientation that is written as a long number, which OpenCV ignores; 1 if there is none."""
    block = segments[segments.find(PREFIX) + len(PREFIX) :]
    order = ">" if block.startswith(b"MM") else "<"
    try:
        (at,) = struct.unpack_from(f"{order}I", block, 4)
        (entries,) = struct.unpack_from(f"{order}H", block, at)
        for number in range(entries):
            tag, kind, count = struct.unpack_from(f"{order}HHI", block, at + 2 + 12 * number)
            if (tag, kind, count) == (_ORIENTATION, _LONG, 1):
                return int(struct.unpack_from(f"{order}I", block, at + 10 + 12 * number)[0])
    except struct.error:
        pass  # a damaged block says nothing of orientation
    return 1


@cache
def _probe_image() -> tuple[bytes, Pixels]:
    """Return a JPEG of 16×8 pixels that differs in each of the eight orientations, and its pixels."""
    encoded = cv2.imencode(".jpg", np.arange(8 * 16, dtype=np.uint8).reshape(8, 16))[1].tobytes()
    return encoded, decode_jpeg(encoded, "BGR", strict=True)
