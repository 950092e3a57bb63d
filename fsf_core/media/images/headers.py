"""The size of an image, read from its header, so that a decompression bomb is refused before it takes memory.

Knows where each format stores its size. Knows no pixels and no limits.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from fsf_core.errors import DecodeError
from fsf_core.media.images import jpeg, kinds, tiff

HEAD_BYTES = 4096
"""First bytes that identify a file and contain any text header."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageHeader:
    """Format and size that an image's header declares."""

    format: str
    """From `sniff`."""
    height_px: int
    """Rows as stored, before any EXIF orientation."""
    width_px: int
    """Columns as stored, before any EXIF orientation."""


def read_header(data: bytes) -> ImageHeader:
    """Read format and size without decoding.

    Raises:
        DecodeError: the bytes are no image, one of an unsupported format, or end inside the header.
    """
    if not data:
        raise DecodeError(
            "the file is empty (0 bytes), but an image or a video was expected; copy it again from its source"
        )
    head = bytes(data[:HEAD_BYTES])
    name = kinds.sniff(head)
    if name is None:
        raise DecodeError(
            f"found {kinds.describe(head)} ({len(data)} bytes), not an image or a video; replace the file or remove it "
            "from the manifest"
        )
    if name in kinds.NOT_DECODED:
        raise DecodeError(f"found {kinds.NOT_DECODED[name]}, which is not supported; convert it to JPEG or PNG")
    try:
        height_px, width_px = _SIZES[name](data)
    except (struct.error, IndexError) as error:
        raise DecodeError(f"the {name} is cut off inside its header ({len(data)} bytes); copy it again") from error
    if height_px < 1 or width_px < 1:
        raise DecodeError(f"the {name} declares {width_px}x{height_px} pixels; it is damaged, copy it again")
    return ImageHeader(format=name, height_px=height_px, width_px=width_px)


def _png_size(data: bytes) -> tuple[int, int]:
    """Return height and width; so do all functions of _SIZES."""
    width_px, height_px = struct.unpack_from(">II", data, 16)
    return (height_px, width_px) if data[12:16] == b"IHDR" else (0, 0)


def _webp_size(data: bytes) -> tuple[int, int]:
    """Read the extended, lossless or lossy header."""
    if data[12:16] == b"VP8X":  # two 24-bit numbers, each one less than the side
        width_low, width_high, height_low, height_high = struct.unpack_from("<HBHB", data, 24)
        return 1 + height_low + (height_high << 16), 1 + width_low + (width_high << 16)
    if data[12:16] == b"VP8L":  # two 14-bit numbers, likewise
        bits = int(struct.unpack_from("<I", data, 21)[0])
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    width_px, height_px = struct.unpack_from("<HH", data, 26)  # the upper two bits are a display scale
    return height_px & 0x3FFF, width_px & 0x3FFF


def _bmp_size(data: bytes) -> tuple[int, int]:
    """Read the 16-bit sides of the oldest header, or the 32-bit ones of the others."""
    os2 = int.from_bytes(data[14:18], "little") == 12  # noqa: PLR2004  # length of the oldest header
    width_px, height_px = struct.unpack_from("<HH" if os2 else "<ii", data, 18)
    return abs(height_px), width_px  # a negative height means top row first


def _gif_size(data: bytes) -> tuple[int, int]:
    """Read the logical screen descriptor."""
    width_px, height_px = struct.unpack_from("<HH", data, 6)
    return height_px, width_px


def _jp2_size(data: bytes) -> tuple[int, int]:
    """Read the size segment of the codestream."""
    codestream = data.find(b"\xff\x4f\xff\x51")  # its start, followed by its size segment
    right, bottom, left, top = struct.unpack_from(">IIII", data, codestream + 8 if codestream >= 0 else len(data))
    return bottom - top, right - left


def _avif_size(data: bytes) -> tuple[int, int]:
    """Read the largest of the spatial extents."""
    # Every item (image, tiles, alpha, thumbnail) has its own extent; the image's is the largest.
    extents = [struct.unpack_from(">II", data, found.end() + 4) for found in re.finditer(b"ispe", data[: 1 << 16])]
    width_px, height_px = max(extents, key=lambda extent: extent[0] * extent[1], default=(0, 0))
    return height_px, width_px


_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_PNM = re.compile(rb"P[1-6]" + _GAP + rb"(?P<width>\d{1,9})" + _GAP + rb"(?P<height>\d{1,9})\s")
_PAM = re.compile(
    rb"P7(?=.*?\nWIDTH\s+(?P<width>\d{1,9})\s)(?=.*?\nHEIGHT\s+(?P<height>\d{1,9})\s).*?\nENDHDR", re.DOTALL
)
_HDR = re.compile(rb"#\?.*?\n-Y\s+(?P<height>\d{1,9})\s+\+X\s+(?P<width>\d{1,9})\s", re.DOTALL)


def _size_in_text(*patterns: re.Pattern[bytes]) -> Callable[[bytes], tuple[int, int]]:
    """Return a size reader for formats whose header is text."""

    def size(data: bytes) -> tuple[int, int]:
        head = bytes(data[:HEAD_BYTES])
        found = next((match for pattern in patterns if (match := pattern.match(head))), None)
        return (int(found["height"]), int(found["width"])) if found else (0, 0)

    return size


_SIZES: MappingProxyType[str, Callable[[bytes], tuple[int, int]]] = MappingProxyType(
    {
        "jpeg": jpeg.size,
        "png": _png_size,
        "webp": _webp_size,
        "bmp": _bmp_size,
        "tiff": tiff.size,
        "gif": _gif_size,
        "jp2": _jp2_size,
        "avif": _avif_size,
        "pnm": _size_in_text(_PNM, _PAM),
        "hdr": _size_in_text(_HDR),
    }
)
"""Per supported format: a function from the bytes to (height_px, width_px)."""
