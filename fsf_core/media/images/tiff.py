"""TIFF's directory: size, features that OpenCV does not support, and damage that it ignores. Knows no pixels."""

import struct
import zlib
from enum import IntEnum
from types import MappingProxyType

from fsf_core.errors import DecodeError


class Tag(IntEnum):
    """The tags that are read."""

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


_READ_TAGS = frozenset(Tag)
_INTEGERS = MappingProxyType({1: "B", 3: "H", 4: "I", 16: "Q"})  # TIFF's type number to struct's letter
_BIG_TIFF = 43
_THUMBNAIL = 1
_FLOATING_POINT = 3
_MAX_BITS = 16
_DEFLATE = frozenset({8, 32946})
_UNSUPPORTED_COMPRESSIONS = MappingProxyType({34925: "LZMA", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL"})
_STEP_BYTES = 1 << 20
_MAX_BYTES_PER_PIXEL = 64  # 32 bands of 16 bits


def size(data: bytes) -> tuple[int, int]:
    """Return height and width of the first page; 0 if the directory does not contain them.

    Raises:
        struct.error: the directory points outside the file.
    """
    tags = _read_tags(data)
    return tags.get(Tag.HEIGHT, (0,))[0], tags.get(Tag.WIDTH, (0,))[0]


def unsupported_feature(data: bytes) -> str | None:
    """Describe what OpenCV does not support in this file, for a message; None if nothing is known."""
    tags = _read_tags(data)
    if tags.get(Tag.SAMPLE_FORMAT, (1,))[0] == _FLOATING_POINT or tags.get(Tag.BITS, (8,))[0] > _MAX_BITS:
        return "its samples are floating-point or 32-bit, which have no standard conversion to 8 bits"
    compression = tags.get(Tag.COMPRESSION, (1,))[0]
    if compression in _UNSUPPORTED_COMPRESSIONS:
        return f"it is compressed with {_UNSUPPORTED_COMPRESSIONS[compression]}, which OpenCV does not read"
    return None


def check(data: bytes) -> None:
    """Refuse a raw file's thumbnail, and damaged deflate data, where OpenCV 5.0 ignores libtiff's error.

    Raises:
        DecodeError: the file is one of these.
    """
    tags = _read_tags(data)
    if tags.get(Tag.SUBFILE_KIND, (0,))[0] & _THUMBNAIL:
        raise DecodeError("the tiff begins with a thumbnail, as a camera's raw file does; convert it to JPEG or PNG")
    if tags.get(Tag.COMPRESSION, (1,))[0] not in _DEFLATE:
        return
    offsets = tags.get(Tag.STRIP_OFFSETS) or tags.get(Tag.TILE_OFFSETS, ())
    lengths = tags.get(Tag.STRIP_BYTES) or tags.get(Tag.TILE_BYTES, ())
    budget_bytes = tags[Tag.HEIGHT][0] * tags[Tag.WIDTH][0] * _MAX_BYTES_PER_PIXEL
    for offset, length in zip(offsets, lengths, strict=False):
        budget_bytes -= _inflate(data[offset : offset + length], budget_bytes)


def _inflate(piece: bytes, budget_bytes: int) -> int:
    """Inflate in steps to verify zlib's checksum, which comes last; return the number of inflated bytes.

    Raises:
        DecodeError: the data are damaged, cut off, or larger than the budget.
    """
    inflate, rest, inflated_bytes = zlib.decompressobj(), piece, 0
    try:
        while rest and not inflate.eof:
            inflated_bytes += len(inflate.decompress(rest, _STEP_BYTES))
            rest = inflate.unconsumed_tail
            if inflated_bytes > budget_bytes:
                raise DecodeError("the tiff's compressed data are larger than its image; save it again as JPEG or PNG")
    except zlib.error as error:
        raise DecodeError(
            f"the tiff is damaged: its compressed data cannot be inflated ({error}); copy it again"
        ) from error
    if not inflate.eof:
        raise DecodeError("the tiff is cut off inside its compressed data; copy it again from its source")
    return inflated_bytes


def _read_tags(data: bytes) -> dict[int, tuple[int, ...]]:
    """Return the values of the first page's directory by tag; absent and empty tags are left out.

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
        if tag not in _READ_TAGS or tag in tags or kind not in _INTEGERS or not count:
            continue
        numbers, values_at = f"{order}{count}{_INTEGERS[kind]}", entry + 4 + word_bytes
        if struct.calcsize(numbers) > word_bytes:  # too long for the entry, which then holds their offset
            (values_at,) = struct.unpack_from(order + word, data, values_at)
        tags[tag] = struct.unpack_from(numbers, data, values_at)
    return tags
