"""JPEG through libjpeg-turbo directly: OpenCV's pixels, faster, and damage is an error.

OpenCV prints libjpeg's warnings to stderr and returns the image, damaged or not; here a warning about image data is an
error. Knows JPEG; knows no limits.
"""

import re
import struct
from collections.abc import Callable, Iterator
from enum import IntEnum
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from simplejpeg import decode_jpeg

from fsf_core.errors import DecodeError
from fsf_core.media.images import opencv

# H×W pixels, C channels (blue, green, red)

Pixels = NDArray[np.uint8]


class Marker(IntEnum):
    """The second byte of the JPEG markers that are used here."""

    STUFFED_ZERO = 0x00
    HUFFMAN_TABLES = 0xC4
    JPEG_EXTENSION = 0xC8
    ARITHMETIC_CODING = 0xCC
    START_OF_IMAGE = 0xD8
    END_OF_IMAGE = 0xD9
    START_OF_SCAN = 0xDA
    APP1 = 0xE1
    FRAME_JPEG_LS = 0xF7
    FILL = 0xFF


_FRAMES = {*range(0xC0, 0xD0), Marker.FRAME_JPEG_LS} - {
    Marker.HUFFMAN_TABLES,
    Marker.JPEG_EXTENSION,
    Marker.ARITHMETIC_CODING,
}
_WITHOUT_PAYLOAD = {*range(0xD0, 0xD9), Marker.STUFFED_ZERO, Marker.FILL}
_PADDED = "extraneous bytes before marker 0xd9"
_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+")
_DAMAGED = ("Premature end", "Corrupt JPEG data", "Inconsistent progression")
_NO_NAME = "Could not determine subsampling level of JPEG image"


class Segment(NamedTuple):
    """One segment of a JPEG's header."""

    marker: int
    start: int
    """Offset of the marker's 0xFF."""
    end: int
    """Offset of the first byte after the payload."""


def size(data: bytes) -> tuple[int, int]:
    """Return height and width from the frame header.

    Raises:
        DecodeError: there is no frame header before the image data.
        struct.error: the file ends inside it.
    """
    for segment in _segments(data):
        if segment.marker in _FRAMES:
            height_px, width_px = struct.unpack_from(">HH", data, segment.start + 5)
            return height_px, width_px
    raise DecodeError("the jpeg has no frame header before its image data; it is damaged, copy it again")


def decode(data: bytes, *, honour_exif: bool) -> Pixels:
    """Decode to uint8 H×W×3, BGR.

    Raises:
        DecodeError: the image is cut off, damaged, or of a kind that neither decoder reads.
    """
    image_HWC = _decode_as_stored(data)
    if not honour_exif:
        return image_HWC
    exif = b"".join(
        data[segment.start : segment.end]
        for segment in _segments(data)
        if segment.marker == Marker.APP1 and data[segment.start + 4 : segment.start + 8] == b"Exif"
    )
    return _orientation_of(exif)(image_HWC) if exif else image_HWC


def _segments(data: bytes) -> Iterator[Segment]:
    """Yield the header's segments up to and including the start of the first scan, skipping stray bytes between them.

    Raises:
        DecodeError: the header ends early.
    """
    at = 2
    while True:
        start = data.find(b"\xff", at)
        marker = data[start + 1] if 0 <= start < len(data) - 1 else None
        if marker in _WITHOUT_PAYLOAD:
            at = start + 1
            continue
        if marker == Marker.END_OF_IMAGE:
            raise DecodeError("the jpeg ends before its image data; it is damaged, copy it again")
        if marker is None or start + 4 > len(data):
            raise DecodeError(f"the jpeg is cut off inside its header ({len(data)} bytes); copy it again")
        at = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        yield Segment(marker, start, at)
        if marker == Marker.START_OF_SCAN:
            return


def _decode_as_stored(data: bytes) -> Pixels:
    """Decode without applying EXIF. Surplus bytes around intact image data are ignored, because cameras write them."""
    try:
        return _turbo(data)
    except ValueError as error:
        warning = str(error)
    if warning.endswith(_PADDED):
        # Padding after complete image data. Of 700 bit flips that libjpeg noticed, 7 looked like this.
        return _turbo(data, strict=False)
    clean = _without_stray_bytes(data)
    if len(clean) < len(data):
        return _decode_as_stored(clean)
    shown = _NUMBER.sub("N", warning)  # its numbers are bytes of the file
    if warning.startswith(_DAMAGED):
        raise DecodeError(f"the jpeg is cut off or damaged ({shown}); copy it again from its source")
    # Subsamplings that TurboJPEG's API has no name for, and headers that libjpeg only warns about.
    reason = None if warning.endswith(_NO_NAME) else shown
    return opencv.decode(data, "jpeg", honour_exif=False, reason=reason)


def _turbo(data: bytes, *, strict: bool = True) -> Pixels:
    """Decode grey, YCbCr, RGB, CMYK or YCCK to BGR.

    Raises:
        ValueError: libjpeg's error, or its first warning if strict.
    """
    image_HWC: Pixels = decode_jpeg(data, "BGR", strict=strict)
    return image_HWC


def _without_stray_bytes(data: bytes) -> bytes:
    """Return the JPEG without the bytes between its header segments."""
    segments = list(_segments(data))
    return data[:2] + b"".join(data[s.start : s.end] for s in segments) + data[segments[-1].end :]


def _transposed(image_HWC: Pixels) -> Pixels:
    """Swap rows and columns."""
    return np.asarray(cv2.transpose(image_HWC), np.uint8)


def _flipped(image_HWC: Pixels, axis: int) -> Pixels:
    """Mirror along one axis or both."""
    return np.asarray(cv2.flip(image_HWC, axis), np.uint8)


_UP_DOWN, _LEFT_RIGHT, _BOTH = 0, 1, -1  # OpenCV's axes
_ORIENTATIONS: tuple[Callable[[Pixels], Pixels], ...] = (  # EXIF orientations 1 to 8
    lambda image_HWC: image_HWC,
    lambda image_HWC: _flipped(image_HWC, _LEFT_RIGHT),
    lambda image_HWC: _flipped(image_HWC, _BOTH),
    lambda image_HWC: _flipped(image_HWC, _UP_DOWN),
    _transposed,
    lambda image_HWC: _flipped(_transposed(image_HWC), _LEFT_RIGHT),
    lambda image_HWC: _flipped(_transposed(image_HWC), _BOTH),
    lambda image_HWC: _flipped(_transposed(image_HWC), _UP_DOWN),
)


def _orientation_of(exif: bytes) -> Callable[[Pixels], Pixels]:
    """Return the transform that OpenCV applies for an EXIF block, found by decoding a small image that carries it.

    Malformed blocks are common, and which of them still count is OpenCV's decision, not the standard's.

    Raises:
        DecodeError: OpenCV does not decode an image with this block.
    """
    encoded, stored_HWC = _probe_image()
    carrier = np.frombuffer(encoded[:2] + exif + encoded[2:], np.uint8)
    seen_HWC = np.asarray(cv2.imdecode(carrier, cv2.IMREAD_COLOR))
    for orient in _ORIENTATIONS:
        if np.array_equal(orient(stored_HWC), seen_HWC):
            return orient
    raise DecodeError("the jpeg's EXIF block cannot be read; remove it (exiftool -EXIF= FILE) or copy the file again")


@cache
def _probe_image() -> tuple[bytes, Pixels]:
    """Return a JPEG of 16×8 pixels that differs in each of the eight orientations, and its pixels."""
    encoded = cv2.imencode(".jpg", np.arange(8 * 16, dtype=np.uint8).reshape(8, 16))[1].tobytes()
    return encoded, _turbo(encoded)
