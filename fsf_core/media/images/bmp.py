"""BMP whose pixels are bit fields, in any order and width; OpenCV decodes the others."""

# H×W pixels, C channels (blue, green, red)

import struct

import numpy as np

from fsf_core.errors import DecodeError
from fsf_core.media.images import opencv
from fsf_core.media.images.stored import Pixels, Stored, transparency

_PIXELS_AT = 10
_HEADER_AT = 14
_OS2_HEADERS = frozenset({12, 16, 64})
"""Sizes of headers in which the compression means something else, or is absent."""
_MASKS_AT = 54
"""The same place behind a header of 40 bytes and inside the longer ones."""
_ALPHA_HEADER_BYTES = 56
_PLAIN, _BIT_FIELDS, _ALPHA_BIT_FIELDS = 0, 3, 6
_HIGH_COLOUR, _TRUE_COLOUR = 16, 32
_555 = (0x7C00, 0x3E0, 0x1F)


def size(data: bytes) -> tuple[int, int]:
    """Return height and width: 16-bit numbers in the oldest header, 32-bit ones in the others."""
    oldest = int.from_bytes(data[14:18], "little") == 12  # noqa: PLR2004  # length of the oldest header
    width_px, height_px = struct.unpack_from("<HH" if oldest else "<ii", data, 18)
    return abs(height_px), width_px  # a negative height means top row first


def decode(data: bytes) -> Stored:
    """Decode to uint8 H×W×3, BGR.

    Raises:
        DecodeError: the file is cut off or damaged.
    """
    (header_bytes,) = struct.unpack_from("<I", data, _HEADER_AT)
    if header_bytes in _OS2_HEADERS or len(data) < _MASKS_AT:
        return Stored(opencv.decode(data, "bmp"))
    bits, compression = struct.unpack_from("<HI", data, 28)
    if compression in (_BIT_FIELDS, _ALPHA_BIT_FIELDS) and bits in (_HIGH_COLOUR, _TRUE_COLOUR):
        masks = _masks(data, bits, with_alpha=compression == _ALPHA_BIT_FIELDS or header_bytes >= _ALPHA_HEADER_BYTES)
    elif compression == _PLAIN and bits == _HIGH_COLOUR:
        masks = _555  # OpenCV shows their white as 248
    else:
        return Stored(opencv.decode(data, "bmp"))
    words_HW = _words(data, bits)
    channels = [_channel(words_HW, mask) for mask in masks]
    notes = transparency(channels[3]) if channels[3:] and masks[3] else ()
    return Stored(np.dstack(channels[2::-1]), notes=notes)


def _masks(data: bytes, bits: int, *, with_alpha: bool) -> tuple[int, ...]:
    """Return the masks of red, green and blue, and of alpha where the header has one.

    Raises:
        DecodeError: they overlap, have gaps, are all empty, or wider than a pixel.
    """
    masks: tuple[int, ...] = struct.unpack_from(f"<{3 + with_alpha}I", data, _MASKS_AT)
    contiguous = all(not (mask >> _shift(mask)) & ((mask >> _shift(mask)) + 1) for mask in masks)
    overlapping = sum(masks) != masks[0] | masks[1] | masks[2] | (masks[3] if masks[3:] else 0)
    if not any(masks[:3]) or not contiguous or overlapping or max(masks) >> bits:
        shown = ", ".join(f"{mask:#x}" for mask in masks)
        raise DecodeError(
            f"the bmp has the bit fields {shown}, expected one contiguous field for each of red, green and blue; save "
            "it again as PNG"
        )
    return masks


def _words(data: bytes, bits: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint32]]:
    """Return the pixels as numbers, top row first.

    Raises:
        DecodeError: the file ends before.
    """
    height_px, width_px = size(data)
    (start,) = struct.unpack_from("<I", data, _PIXELS_AT)
    row_bytes = -(-width_px * bits // 32) * 4
    end = start + row_bytes * height_px
    if len(data) < end:
        raise DecodeError(f"the bmp is cut off: {len(data)} bytes found, {end} expected; copy it again")
    rows = np.frombuffer(data, np.uint8, end - start, start).reshape(height_px, row_bytes)
    words_HW = rows.view(f"<u{bits // 8}")[:, :width_px]
    (signed_height,) = struct.unpack_from("<i", data, 22)
    return words_HW if signed_height < 0 else words_HW[::-1]


def _channel(words_HW: np.ndarray[tuple[int, int], np.dtype[np.uint32]], mask: int) -> Pixels:
    """Return one field, stretched to 0 … 255; black where the mask is empty."""
    if not mask:
        return np.zeros(words_HW.shape, np.uint8)
    values_HW = (words_HW & mask) >> _shift(mask)
    greatest = mask >> _shift(mask)
    if greatest >= 1 << 16:
        return np.asarray(values_HW >> greatest.bit_length() - 8, np.uint8)
    levels = np.rint(np.arange(greatest + 1) * 255 / greatest).astype(np.uint8)
    return np.asarray(levels[values_HW])


def _shift(mask: int) -> int:
    """Return the number of zeros below a mask's lowest bit."""
    return (mask & -mask).bit_length() - 1 if mask else 0
