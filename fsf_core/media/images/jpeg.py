"""JPEG through libjpeg-turbo directly: OpenCV's pixels, faster, and damage is an error.

OpenCV prints libjpeg's warnings to stderr and returns the image, damaged or not; here a warning about image data is an
error. Knows JPEG; knows no limits.
"""

import re
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from simplejpeg import decode_jpeg

from fsf_core.errors import DecodeError
from fsf_core.media.images import exif, opencv
from fsf_core.media.images.sparse import choice
from fsf_core.media.images.sparse.grid import Wanted
from fsf_core.media.images.sparse.header import read_baseline
from fsf_core.media.images.stored import Pixels, Stored, first_of

# H×W pixels, C channels (blue, green, red)


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
    APP2 = 0xE2
    FRAME_JPEG_LS = 0xF7
    FILL = 0xFF


_FRAMES = {*range(0xC0, 0xD0), Marker.FRAME_JPEG_LS} - {
    Marker.HUFFMAN_TABLES,
    Marker.JPEG_EXTENSION,
    Marker.ARITHMETIC_CODING,
}
_WITHOUT_PAYLOAD = {*range(0xD0, 0xD9), Marker.STUFFED_ZERO, Marker.FILL}
_END = b"\xff\xd9"
# Of a JPEG's beginning: a long needle is found faster, in 0.5 % of the time that decoding takes; times of recording are
# further behind.
_HEAD_BYTES = 20
_PADDED = "extraneous bytes before marker 0xd9"
_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+")
_DAMAGED = ("Premature end", "Corrupt JPEG data", "Inconsistent progression")
_NO_NAME = "Could not determine subsampling level of JPEG image"

_MULTI_PICTURE = b"MPF\0"
_ENTRIES = 0xB002
_ENTRY_BYTES = 16
_KIND_MASK = 0xFFFFFF
_PREVIEWS = frozenset({0x010001, 0x010002})
_GAIN_MAP = b"hdrgm:Version"
"""XMP of photos that carry a map of brightness for HDR displays as their second picture."""


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


def decode(data: bytes, memory: Pixels | None = None) -> Stored:
    """Decode to uint8 H×W×3, BGR.

    Args:
        data: the whole file.
        memory: bytes for the pixels, which an intact image of a usual kind is decoded into; new ones without it.

    Raises:
        DecodeError: the image is cut off, damaged, or of a kind that neither decoder reads.
    """
    image_HWC = _decode_as_stored(data, memory)
    return Stored(image_HWC, *_remarks(data))


def is_large(height_px: int, width_px: int) -> bool:
    """Return whether `decode_wanted` may be faster for pictures of this size."""
    return height_px * width_px >= choice.MIN_PIXELS


def decode_wanted(data: bytes, wanted: Wanted, *, honour_exif: bool) -> tuple[Pixels | None, tuple[str, ...]]:
    """Decode the wanted pixels of a large picture, as `decode` decodes them all, in half the time.

    Args:
        data: the whole file.
        wanted: what is wanted of the picture, upright if EXIF is honoured, else as stored.
        honour_exif: turn the picture upright.

    Returns:
        The picture in that orientation, of any content where it is not wanted, valid until this thread's next call,
        and notes; None if `decode` has to decide: too much is wanted, or the picture is unusual or damaged.
    """
    nothing = None, ()
    baseline = read_baseline(data)
    if baseline is None:
        return nothing
    try:
        orientation, notes = _remarks(data)
    except (DecodeError, struct.error, IndexError):
        return nothing
    orientation = orientation if honour_exif else 1
    sides = (baseline.height_px, baseline.width_px)
    height_px, width_px = sides[::-1] if exif.turn_of(orientation).transposed else sides
    grid = wanted(height_px, width_px)
    if grid is None or not choice.is_worth(height_px, width_px, grid) or not choice.TRIAL.is_due(height_px * width_px):
        return nothing
    from fsf_core.media.images.sparse.decode import decode as decode_sparsely

    try:
        image_HWC = decode_sparsely(data, baseline, grid, orientation)
    except MemoryError:
        return nothing
    choice.TRIAL.count(decoded=image_HWC is not None)
    return image_HWC, notes


def _remarks(data: bytes) -> tuple[int, tuple[str, ...]]:
    """Return EXIF's orientation, and what the user of the file may not expect.

    Raises:
        DecodeError: the header ends early, or the EXIF block cannot be read.
    """
    exif_segments, pictures = b"", 0
    for segment in _segments(data):
        payload = data[segment.start + 4 : segment.end]
        if segment.marker == Marker.APP1 and payload.startswith(b"Exif"):
            exif_segments += data[segment.start : segment.end]
        elif segment.marker == Marker.APP2 and payload.startswith(_MULTI_PICTURE):
            pictures = _pictures(payload[len(_MULTI_PICTURE) :])
    if pictures > 1 and _GAIN_MAP in data[: segment.end]:
        pictures -= 1  # a map of brightness is no picture
    if not pictures:  # JPEG after JPEG, as cameras stream them: each begins like the first
        pictures = 1 + data.count(_END + data[:_HEAD_BYTES])
    orientation = exif.orientation_of_segments(exif_segments, "jpeg") if exif_segments else 1
    return orientation, first_of(pictures, "pictures")


def _pictures(multi_picture: bytes) -> int:
    """Return the number of pictures, without previews, that the index of a Multi-Picture file (CIPA DC-007) lists."""
    order = "<" if multi_picture[:2] == b"II" else ">"
    try:
        (at,) = struct.unpack_from(f"{order}I", multi_picture, 4)
        (entries,) = struct.unpack_from(f"{order}H", multi_picture, at)
        for number in range(entries):
            tag, _, size, place = struct.unpack_from(f"{order}HHII", multi_picture, at + 2 + 12 * number)
            if tag == _ENTRIES:
                kinds = [
                    struct.unpack_from(f"{order}I", multi_picture, place + start)[0] & _KIND_MASK
                    for start in range(0, size, _ENTRY_BYTES)
                ]
                return sum(kind not in _PREVIEWS for kind in kinds)
    except struct.error:
        pass  # a damaged index leaves the picture before it as it is
    return 1


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


def _decode_as_stored(data: bytes, memory: Pixels | None = None) -> Pixels:
    """Decode without applying EXIF. Surplus bytes around intact image data are ignored, because cameras write them."""
    try:
        return _turbo(data, memory)
    except ValueError as error:
        warning = str(error)
    if memory is not None:  # which may be what is wrong
        return _decode_as_stored(data)
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
    return opencv.decode(data, "jpeg", reason=reason)


def _turbo(data: bytes, memory: Pixels | None = None, *, strict: bool = True) -> Pixels:
    """Decode grey, YCbCr, RGB, CMYK or YCCK to BGR.

    Raises:
        ValueError: libjpeg's error, or its first warning if strict; the memory is too small.
    """
    image_HWC: Pixels = decode_jpeg(data, "BGR", strict=strict, buffer=memory)
    return image_HWC


def _without_stray_bytes(data: bytes) -> bytes:
    """Return the JPEG without the bytes between its header segments."""
    segments = list(_segments(data))
    return data[:2] + b"".join(data[s.start : s.end] for s in segments) + data[segments[-1].end :]
