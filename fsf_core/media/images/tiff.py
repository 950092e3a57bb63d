"""TIFF's directories: size, pages, how pixels are stored, and what is not supported. Knows no pixels."""

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from fsf_core.errors import DecodeError, LimitError

Tags = dict[int, tuple[int, ...]]


class Source(Protocol):
    """The bytes of a file: in memory, or read when they are asked for. Slices end where the file does."""

    def __getitem__(self, span: slice, /) -> bytes: ...


class Tag(IntEnum):
    """The tags that are read."""

    SUBFILE_KIND = 254
    OLD_SUBFILE_KIND = 255
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES = 277
    STRIP_ROWS = 278
    STRIP_BYTES = 279
    MIN_SAMPLE = 280
    MAX_SAMPLE = 281
    PLANAR = 284
    PREDICTOR = 317
    COLOUR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_BYTES = 325
    INK_SET = 332
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339


class Colours(IntEnum):
    """Values of PHOTOMETRIC that are read."""

    WHITE_IS_ZERO = 0
    BLACK_IS_ZERO = 1
    RGB = 2
    PALETTE = 3
    SEPARATED = 5
    YCBCR = 6


_READ_TAGS = frozenset(Tag)
_INTEGERS = MappingProxyType({1: "B", 3: "H", 4: "I", 16: "Q"})  # TIFF's type number to struct's letter
_VALUE_BYTES = MappingProxyType(
    {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
)
_BIG_TIFF = 43
_THUMBNAIL, _MASK = 1, 4
_OLD_THUMBNAIL = 2
_MAX_PAGES = 100_000
_UNSIGNED = frozenset({1, 4})  # 4: undefined, which readers take for unsigned
_SAMPLE_FORMATS = MappingProxyType({2: "signed", 3: "floating-point", 5: "complex integers", 6: "complex"})
_OTHER_COLOURS = MappingProxyType(
    {
        4: "transparency mask",
        8: "CIELab",
        9: "ICCLab",
        10: "ITULab",
        32803: "colour filter array (a camera's raw data)",
        32844: "LogL",
        32845: "LogLuv",
        34892: "linear raw",
    }
)
_CMYK = 1
_COMPRESSIONS = MappingProxyType({34925: "LZMA", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL"})
_BYTE_BITS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Directory:
    """A page: how its samples are stored."""

    tags: Tags
    order: str
    """Byte order, for struct and NumPy: < or >."""
    pages: int
    """Pages of the file, without thumbnails and masks; 1 where they were not counted."""
    at: int
    """Where it is in the file."""

    def one(self, tag: Tag, default: int) -> int:
        """Return the first value of a tag, or the default of the format."""
        return self.tags.get(tag, (default,))[0]

    @property
    def orientation(self) -> int:
        """EXIF's number; others than 1 to 8 count as 1."""
        return self.one(Tag.ORIENTATION, 1)

    @property
    def bits(self) -> int:
        """Bits of a sample."""
        return self.one(Tag.BITS, 1)

    @property
    def samples(self) -> int:
        """Bands of a pixel."""
        return self.one(Tag.SAMPLES, 1)

    @property
    def colours(self) -> int:
        """PHOTOMETRIC; where it is absent, what the number of bands suggests."""
        return self.one(Tag.PHOTOMETRIC, Colours.RGB if self.samples > 2 else Colours.BLACK_IS_ZERO)  # noqa: PLR2004


def size(data: Source) -> tuple[int, int]:
    """Return height and width of the first page; 0 if the directory does not contain them.

    Raises:
        struct.error: the directory points outside the file.
    """
    tags, _ = _read_tags(data, _first_directory(data))
    return tags.get(Tag.HEIGHT, (0,))[0], tags.get(Tag.WIDTH, (0,))[0]


def read_directory(data: Source, page_at: int | None = None) -> Directory:
    """Read the directory of a page.

    Args:
        data: the file.
        page_at: where the directory is, of `pages`; None for the first one, for which the pages are counted.

    Raises:
        DecodeError: the page is a thumbnail, or of a kind that is not supported.
        struct.error: it points outside the file.
    """
    at = _first_directory(data) if page_at is None else page_at
    tags, after = _read_tags(data, at)
    if tags.get(Tag.SUBFILE_KIND, (0,))[0] & _THUMBNAIL:
        raise DecodeError("the tiff begins with a thumbnail, as a camera's raw file does; convert it to JPEG or PNG")
    directory = Directory(
        tags=tags, order=_order(data), pages=1 + (sum(_further_pages(data, after)) if page_at is None else 0), at=at
    )
    reason = _unsupported_feature(directory)
    if reason:
        raise DecodeError(f"the tiff cannot be decoded: {reason}; save it again as JPEG or PNG")
    return directory


def _unsupported_feature(directory: Directory) -> str | None:
    """Describe what is not supported in this page; None if all of it is."""
    compression = directory.one(Tag.COMPRESSION, 1)
    if compression in _COMPRESSIONS:
        return f"it is compressed with {_COMPRESSIONS[compression]}, which is not supported"
    return _unsupported_samples(directory) or _unsupported_colours(directory)


def _unsupported_samples(directory: Directory) -> str | None:
    """Describe the kind of number that a sample is, if it is not supported."""
    kinds = {*directory.tags.get(Tag.SAMPLE_FORMAT, (1,))} - _UNSIGNED
    bits = directory.tags.get(Tag.BITS, (1,))
    if kinds:
        kind = min(kinds)
        name = _SAMPLE_FORMATS.get(kind, "of an unknown kind")
        return f"its samples are {name} (SampleFormat {kind}), which have no standard conversion to 8 bits"
    if max(bits) > 2 * _BYTE_BITS:
        return f"its samples have {max(bits)} bits, which have no standard conversion to 8 bits"
    if min(bits) != max(bits) or not min(bits):
        return f"its samples have {', '.join(map(str, bits[:8]))} bits, expected the same number in each"
    return None


def _unsupported_colours(directory: Directory) -> str | None:
    """Describe the colour model, if it is not supported."""
    if directory.colours not in Colours.__members__.values():
        name = _OTHER_COLOURS.get(directory.colours, "unknown")
        return f"its colour model is {name} (PhotometricInterpretation {directory.colours}), which is not supported"
    if directory.colours == Colours.SEPARATED and directory.one(Tag.INK_SET, _CMYK) != _CMYK:
        return "its inks are others than cyan, magenta, yellow and black (InkSet), which is not supported"
    bits = directory.one(Tag.BITS, 1)
    if directory.colours == Colours.YCBCR and bits != _BYTE_BITS:
        return f"its colour model is YCbCr with {bits} bits, expected 8"
    return None


RawEntry = tuple[int, int, int, bytes]
"""Tag, type, count and bytes of an entry, in the byte order of the file."""


def raw_entries(data: Source, directory: int, wanted: Collection[int]) -> Iterator[RawEntry]:
    """Yield the entries of a directory that are wanted; others, which may hold a gigabyte of layers, are not read.

    Raises:
        struct.error: the directory points outside the file.
    """
    for tag, kind, count, at in _entries(data, directory):
        if tag in wanted:
            yield tag, kind, count, data[at : at + count * _VALUE_BYTES.get(kind, 0)]


def beginning_with(data: bytes, directory: int) -> bytes:
    """Return the file with another directory as the first one."""
    word, _, first_at = _form(data)
    changed = bytearray(data)
    struct.pack_into(_order(data) + word, changed, first_at, directory)
    return bytes(changed)


def without_orientation(data: bytes) -> bytes:
    """Return the file with orientation 1 in its first directory, for a decoder that turns pixels."""
    order = _order(data)
    for tag, kind, _, at in _entries(data, _first_directory(data)):
        if tag == Tag.ORIENTATION and kind in _INTEGERS:
            changed = bytearray(data)
            struct.pack_into(order + _INTEGERS[kind], changed, at, 1)
            return bytes(changed)
    return data


def _further_pages(data: Source, at: int) -> Iterator[bool]:
    """Yield for every directory after the first one whether it is a page, as far as they can be read."""
    seen: set[int] = set()
    while at and at not in seen and len(seen) < _MAX_PAGES:
        seen.add(at)
        try:
            tags, following = _read_tags(data, at, only=_KIND_TAGS)
        except struct.error:
            return
        yield _is_page(tags)
        at = following


_KIND_TAGS = frozenset({Tag.SUBFILE_KIND, Tag.OLD_SUBFILE_KIND})


def _is_page(tags: Tags) -> bool:
    """Return whether a directory is a page, and neither a thumbnail nor a mask."""
    kind, old_kind = (tags.get(tag, (0,))[0] for tag in (Tag.SUBFILE_KIND, Tag.OLD_SUBFILE_KIND))
    return not kind & (_THUMBNAIL | _MASK) and old_kind != _OLD_THUMBNAIL


class PageEntry(NamedTuple):
    """Where the directory of a page is, and the size that it declares; 0 where it does not."""

    at: int
    height_px: int
    width_px: int


def pages(data: Source) -> Iterator[PageEntry]:
    """Yield the pages in their order, without thumbnails and masks; the first directory counts in any case.

    Raises:
        DecodeError: the chain of directories is cut off or damaged there; after the pages before.
        LimitError: there are too many.
        struct.error: the file ends inside its header.
    """
    at, seen = _first_directory(data), set[int]()
    while at:
        if at in seen:
            raise DecodeError("the tiff is damaged: its pages are linked in a circle; copy it again")
        if len(seen) >= _MAX_PAGES:
            raise LimitError(f"the tiff has more than {_MAX_PAGES:,} pages, which is the limit; divide it")
        try:
            tags, following = _read_tags(data, at, only=_KIND_TAGS | {Tag.HEIGHT, Tag.WIDTH})
        except struct.error as error:
            raise DecodeError(
                f"the tiff is cut off or damaged: directory {len(seen)}, counted from 0, is outside the file; copy it "
                "again from its source"
            ) from error
        if not seen or _is_page(tags):
            yield PageEntry(at, tags.get(Tag.HEIGHT, (0,))[0], tags.get(Tag.WIDTH, (0,))[0])
        seen.add(at)
        at = following


def _order(data: Source) -> str:
    return "<" if data[:2] == b"II" else ">"


def _unpack(form: str, data: Source, at: int) -> tuple[Any, ...]:
    """Return the values at an offset.

    Raises:
        struct.error: they are outside the file.
    """
    return struct.unpack(form, data[at : at + struct.calcsize(form)])


def _form(data: Source) -> tuple[str, str, int]:
    """Return struct's letters of offsets and of the number of entries, and where the first offset is."""
    big = _unpack(f"{_order(data)}H", data, 2)[0] == _BIG_TIFF
    return ("Q", "Q", 8) if big else ("I", "H", 4)


def _first_directory(data: Source) -> int:
    """Return the offset of the first directory."""
    word, _, first_at = _form(data)
    return int(_unpack(_order(data) + word, data, first_at)[0])


def _entries(data: Source, directory: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield tag, type and count of every entry of a directory, and where its values are.

    Raises:
        struct.error: the directory points outside the file.
    """
    order, (word, counter, _) = _order(data), _form(data)
    word_bytes = struct.calcsize(f"={word}")
    (entries,) = _unpack(order + counter, data, directory)
    for number in range(entries):
        entry = directory + struct.calcsize(f"={counter}") + number * (4 + 2 * word_bytes)
        tag, kind, count = _unpack(f"{order}HH{word}", data, entry)
        values_at = entry + 4 + word_bytes
        if count * _VALUE_BYTES.get(kind, 0) > word_bytes:
            (values_at,) = _unpack(order + word, data, values_at)  # too long for the entry
        yield tag, kind, count, values_at


def _read_tags(data: Source, directory: int, *, only: frozenset[int] = _READ_TAGS) -> tuple[Tags, int]:
    """Return the values of a directory by tag, and the offset of the next one; absent and empty tags are left out.

    Raises:
        struct.error: the directory points outside the file.
    """
    order, (word, counter, _) = _order(data), _form(data)
    tags: Tags = {}
    for tag, kind, count, at in _entries(data, directory):
        if tag in only and tag not in tags and kind in _INTEGERS and count:
            tags[tag] = _unpack(f"{order}{count}{_INTEGERS[kind]}", data, at)
    (entries,) = _unpack(order + counter, data, directory)
    end = directory + struct.calcsize(f"={counter}") + entries * (4 + 2 * struct.calcsize(f"={word}"))
    try:
        return tags, int(_unpack(order + word, data, end)[0])
    except struct.error:
        return tags, 0  # some writers leave the last link out
