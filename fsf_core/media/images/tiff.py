"""TIFF's directory: size, what OpenCV refuses and why, and the damage that OpenCV passes over. Knows no pixels."""

import struct
import zlib
from enum import IntEnum
from types import MappingProxyType

from fsf_core.errors import DecodeError


class Tag(IntEnum):
    """The tags that are asked about."""

    SUBFILE_KIND = 254
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    STRIP_OFFSETS = 273
    STRIP_BYTES = 279
    TILE_OFFSETS = 324
    TILE_BYTES = 325
    SAMPLE_FORMAT = 339


_ASKED = frozenset(Tag)
_INTEGERS = MappingProxyType({1: "B", 3: "H", 4: "I", 16: "Q"})  # TIFF's type number to struct's letter
_BIG_TIFF = 43
_THUMBNAIL = 1
_FLOATING_POINT = 3
_MOST_BITS = 16
_DEFLATE = frozenset({8, 32946})
_UNREAD_COMPRESSIONS = MappingProxyType({34925: "LZMA", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL"})
_STEP_BYTES = 1 << 20
_MOST_BYTES_PER_PIXEL = 64  # 32 bands of 16 bits


def size(data: bytes) -> tuple[int, int]:
    """Height and width of the first page; 0 where the directory does not say.

    Raises:
        struct.error: the directory points outside the file.
    """
    tags = _read_tags(data)
    return tags.get(Tag.HEIGHT, (0,))[0], tags.get(Tag.WIDTH, (0,))[0]


def why_not(data: bytes) -> str | None:
    """What OpenCV will not read in this file, in words; None if nothing is known."""
    tags = _read_tags(data)
    if tags.get(Tag.SAMPLE_FORMAT, (1,))[0] == _FLOATING_POINT or tags.get(Tag.BITS, (8,))[0] > _MOST_BITS:
        return "its samples are floating-point or 32-bit, which have no agreed 8-bit form"
    compression = tags.get(Tag.COMPRESSION, (1,))[0]
    if compression in _UNREAD_COMPRESSIONS:
        return f"it is compressed with {_UNREAD_COMPRESSIONS[compression]}, which OpenCV does not read"
    return None


def check(data: bytes) -> None:
    """Refuse a raw file's thumbnail, and deflate data that fail: OpenCV 5.0 passes over libtiff's error.

    Raises:
        DecodeError: either of these.
    """
    tags = _read_tags(data)
    if tags.get(Tag.SUBFILE_KIND, (0,))[0] & _THUMBNAIL:
        raise DecodeError("the tiff begins with a thumbnail, as a camera's raw file does; convert it to JPEG or PNG")
    if tags.get(Tag.COMPRESSION, (1,))[0] not in _DEFLATE:
        return
    offsets = tags.get(Tag.STRIP_OFFSETS) or tags.get(Tag.TILE_OFFSETS, ())
    lengths = tags.get(Tag.STRIP_BYTES) or tags.get(Tag.TILE_BYTES, ())
    budget_bytes = tags[Tag.HEIGHT][0] * tags[Tag.WIDTH][0] * _MOST_BYTES_PER_PIXEL
    for offset, length in zip(offsets, lengths, strict=False):
        budget_bytes -= _inflate(data[offset : offset + length], budget_bytes)


def _inflate(piece: bytes, budget_bytes: int) -> int:
    """Inflate in steps and throw the result away, for zlib's checksum stands at the end; return how much it was."""
    inflate, rest, inflated_bytes = zlib.decompressobj(), piece, 0
    try:
        while rest and not inflate.eof:
            inflated_bytes += len(inflate.decompress(rest, _STEP_BYTES))
            rest = inflate.unconsumed_tail
            if inflated_bytes > budget_bytes:
                raise DecodeError("the tiff's compressed data hold more than its picture; save it anew as JPEG or PNG")
    except zlib.error as error:
        raise DecodeError(f"the tiff is damaged: its compressed data fail ({error}); copy it again") from error
    if not inflate.eof:
        raise DecodeError("the tiff is cut off inside its compressed data; copy it again from its source")
    return inflated_bytes


def _read_tags(data: bytes) -> dict[int, tuple[int, ...]]:
    """Numbers of the first page's directory, by tag; tags that are absent or empty are left out.

    Raises:
        struct.error: the directory points outside the file.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(f"{order}H", data, 2)[0] == _BIG_TIFF
    word, counter, first_at = ("Q", "Q", 8) if big else ("I", "H", 4)
    word_bytes = struct.calcsize(f"={word}")
    (directory,) = struct.unpack_from(order + word, data, first_at)
    (entries,) = struct.unpack_from(order + counter, data, directory)
    entry_bytes = 4 + 2 * word_bytes
    tags: dict[int, tuple[int, ...]] = {}
    for number in range(entries):
        entry = directory + struct.calcsize(f"={counter}") + number * entry_bytes
        tag, kind, count = struct.unpack_from(f"{order}HH{word}", data, entry)
        if tag not in _ASKED or tag in tags or kind not in _INTEGERS or not count:
            continue
        numbers, values_at = f"{order}{count}{_INTEGERS[kind]}", entry + 4 + word_bytes
        if struct.calcsize(numbers) > word_bytes:  # too long to stand here, so the offset of the values does
            (values_at,) = struct.unpack_from(order + word, data, values_at)
        tags[tag] = struct.unpack_from(numbers, data, values_at)
    return tags
