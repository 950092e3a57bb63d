"""The size of an image, read from its header, so that a decompression bomb is refused before it takes memory.

Knows where each format stores its size. Knows no pixels and no limits.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from fsf_core.errors import DecodeError
from fsf_core.media.images import avif, bmp, jp2, jpeg, kinds, pnm, tiff

HEAD_BYTES = 4096
"""First bytes that identify a file and contain any text header."""
_READ = (
    "JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF, JPEG 2000, PNM; MP4, MOV, MKV, WebM, AVI, TS, MPG, FLV, WMV, Ogg, MXF, "
    "GXF, WTV, NUT, IVF, DV, Y4M, bare H.264, H.265 and MPEG streams"
)


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
        found = kinds.describe(head)
        known = f" that is read ({_READ})" if found == kinds.UNKNOWN else ""
        raise DecodeError(
            f"found {found} ({len(data)} bytes), not an image or a video{known}; replace the file or remove it from "
            "the manifest"
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


def _gif_size(data: bytes) -> tuple[int, int]:
    """Read the logical screen descriptor."""
    width_px, height_px = struct.unpack_from("<HH", data, 6)
    return height_px, width_px


_TURNED_HDR = re.compile(rb"\n[-+][XY]\s+\d{1,9}\s+[-+][XY]\s+\d{1,9}\s")
_HDR = re.compile(rb"#\?.*?\n-Y\s+(?P<height>\d{1,9})\s+\+X\s+(?P<width>\d{1,9})\s", re.DOTALL)


def _hdr_size(data: bytes) -> tuple[int, int]:
    """Read the line of the resolution."""
    head = bytes(data[:HEAD_BYTES])
    found = _HDR.match(head)
    if not found and _TURNED_HDR.search(head):
        raise DecodeError("the hdr is stored in another order than rows from the top (-Y +X); save it again as PNG")
    return (int(found["height"]), int(found["width"])) if found else (0, 0)


_SIZES: MappingProxyType[str, Callable[[bytes], tuple[int, int]]] = MappingProxyType(
    {
        "jpeg": jpeg.size,
        "png": _png_size,
        "webp": _webp_size,
        "bmp": bmp.size,
        "tiff": tiff.size,
        "gif": _gif_size,
        "jp2": jp2.size,
        "avif": avif.size,
        "pnm": pnm.size,
        "hdr": _hdr_size,
    }
)
"""Per supported format: a function from the bytes to (height_px, width_px)."""
