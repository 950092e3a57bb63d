"""JPEG through libjpeg-turbo directly: the pixels of OpenCV, faster, and damage is told from a good picture.

OpenCV prints libjpeg's warnings to stderr and returns the picture, torn or not; here a warning about picture data is an
error. Knows JPEG; knows no limits.
"""

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
    """The second byte of a JPEG marker, where it matters here."""

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
_DAMAGED = ("Premature end", "Corrupt JPEG data", "Inconsistent progression")
_NO_NAME = "Could not determine subsampling level of JPEG image"


class Segment(NamedTuple):
    """One piece of a JPEG's header."""

    marker: int
    start: int
    """Offset of the marker's 0xFF."""
    end: int
    """Offset behind the payload."""


def size(data: bytes) -> tuple[int, int]:
    """Height and width from the frame header.

    Raises:
        DecodeError: there is none before the picture data.
        struct.error: the file ends inside it.
    """
    for segment in _segments(data):
        if segment.marker in _FRAMES:
            height_px, width_px = struct.unpack_from(">HH", data, segment.start + 5)
            return height_px, width_px
    raise DecodeError("the jpeg has no frame header before its picture data; it is damaged, copy it again")


def decode(data: bytes, *, honour_exif: bool) -> Pixels:
    """Decode to uint8, H×W×3, blue green red.

    Raises:
        DecodeError: the picture is cut off, damaged, or of a kind that neither decoder reads.
    """
    image_HWC = _decode_as_stored(data)
    if not honour_exif:
        return image_HWC
    exif = b"".join(
        data[segment.start : segment.end]
        for segment in _segments(data)
        if segment.marker == Marker.APP1 and data[segment.start + 4 : segment.start + 8] == b"Exif"
    )
    return _turn_by(exif)(image_HWC) if exif else image_HWC


def _segments(data: bytes) -> Iterator[Segment]:
    """The header's segments, the start of the first scan included; stray bytes between them are passed over."""
    at = 2
    while True:
        start = data.find(b"\xff", at)
        marker = data[start + 1] if 0 <= start < len(data) - 1 else None
        if marker in _WITHOUT_PAYLOAD:
            at = start + 1
            continue
        if marker == Marker.END_OF_IMAGE:
            raise DecodeError("the jpeg ends before its picture data; it is damaged, copy it again")
        if marker is None or start + 4 > len(data):
            raise DecodeError(f"the jpeg is cut off inside its header ({len(data)} bytes); copy it again")
        at = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        yield Segment(marker, start, at)
        if marker == Marker.START_OF_SCAN:
            return


def _decode_as_stored(data: bytes) -> Pixels:
    """Decode without turning. Surplus bytes around intact picture data are forgiven, for cameras leave them."""
    try:
        return _turbo(data)
    except ValueError as error:
        complaint = str(error)
    if complaint.endswith(_PADDED):
        # The end is padded and every pixel was there before. Of 700 bit flips that libjpeg noticed, 7 looked like this.
        return _turbo(data, strict=False)
    tidy = _without_stray_bytes(data)
    if len(tidy) < len(data):
        return _decode_as_stored(tidy)
    if complaint.startswith(_DAMAGED):
        raise DecodeError(f"the jpeg is cut off or damaged ({complaint}); copy it again from its source")
    # Samplings that TurboJPEG's interface has no name for, and headers that libjpeg only frowns at.
    reason = None if complaint.endswith(_NO_NAME) else complaint
    return opencv.decode(data, "jpeg", honour_exif=False, reason=reason)


def _turbo(data: bytes, *, strict: bool = True) -> Pixels:
    """Decode grey, YCbCr, RGB, CMYK or YCCK to BGR; strict raises libjpeg's warnings as ValueError."""
    image_HWC: Pixels = decode_jpeg(data, "BGR", strict=strict)
    return image_HWC


def _without_stray_bytes(data: bytes) -> bytes:
    """The same JPEG without what lies between its header segments."""
    segments = list(_segments(data))
    return data[:2] + b"".join(data[s.start : s.end] for s in segments) + data[segments[-1].end :]


def _transposed(image_HWC: Pixels) -> Pixels:
    return np.asarray(cv2.transpose(image_HWC), np.uint8)


def _flipped(image_HWC: Pixels, axis: int) -> Pixels:
    return np.asarray(cv2.flip(image_HWC, axis), np.uint8)


_UP_DOWN, _LEFT_RIGHT, _BOTH = 0, 1, -1  # OpenCV's axes
_TURNS: tuple[Callable[[Pixels], Pixels], ...] = (  # EXIF orientations 1 to 8
    lambda image_HWC: image_HWC,
    lambda image_HWC: _flipped(image_HWC, _LEFT_RIGHT),
    lambda image_HWC: _flipped(image_HWC, _BOTH),
    lambda image_HWC: _flipped(image_HWC, _UP_DOWN),
    _transposed,
    lambda image_HWC: _flipped(_transposed(image_HWC), _LEFT_RIGHT),
    lambda image_HWC: _flipped(_transposed(image_HWC), _BOTH),
    lambda image_HWC: _flipped(_transposed(image_HWC), _UP_DOWN),
)


def _turn_by(exif: bytes) -> Callable[[Pixels], Pixels]:
    """How OpenCV turns a picture that carries this EXIF block, found by showing it the block on a small picture.

    Malformed blocks are common, and which of them still count is OpenCV's decision, not the standard's.
    """
    encoded, upright_HWC = _small_picture()
    carrier = np.frombuffer(encoded[:2] + exif + encoded[2:], np.uint8)
    seen_HWC = np.asarray(cv2.imdecode(carrier, cv2.IMREAD_COLOR))
    for turn in _TURNS:
        if np.array_equal(turn(upright_HWC), seen_HWC):
            return turn
    raise DecodeError("the jpeg's EXIF block cannot be read; remove it (exiftool -EXIF= FILE) or copy the file again")


@cache
def _small_picture() -> tuple[bytes, Pixels]:
    """A JPEG of 16×8 pixels that looks different each of the eight ways, and its pixels."""
    encoded = cv2.imencode(".jpg", np.arange(8 * 16, dtype=np.uint8).reshape(8, 16))[1].tobytes()
    return encoded, _turbo(encoded)
