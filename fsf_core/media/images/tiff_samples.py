"""TIFF's strips and tiles to stored samples.

OpenCV refuses most depths and numbers of bands, multiplies colours by alpha, and reads tiles that are wider than the
image wrongly. libtiff decompresses LZW and PackBits, through Pillow, which reports damage.
"""

# H×W pixels, C samples; R rows and W pixels of a strip or tile

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile, TiffImagePlugin

from fsf_core.errors import DecodeError, LimitError
from fsf_core.media.images.tiff import Colours, Directory, Tag

_NONE, _LZW, _DEFLATE, _PACK_BITS = 1, 5, frozenset({8, 32946}), 32773
_DECOMPRESSED_HERE = frozenset({_NONE, _LZW, _PACK_BITS, *_DEFLATE})
_MSB_FIRST = 1
_PLANAR = 2
_HORIZONTAL = 2
_BYTE, _WORD = 8, 16
_STEP_BYTES = 1 << 20
_GROUP_BYTES = 1 << 25
"""Decompressed bytes of strips or tiles that libtiff is given together."""
_LARGEST_BYTES = 1 << 30
"""Decompressed bytes of a strip or tile that libtiff is given; 100 megapixels of 16-bit RGB are 0.6 GB."""
_UNPACKED_BYTES = 1 << 24
"""Bytes of memory in which samples of odd depths are unpacked."""


def is_read_here(directory: Directory) -> bool:
    """Return whether the samples can be read without libtiff's knowledge of colours and fax codes."""
    return (
        directory.one(Tag.COMPRESSION, _NONE) in _DECOMPRESSED_HERE
        and directory.colours != Colours.YCBCR
        and directory.one(Tag.FILL_ORDER, _MSB_FIRST) == _MSB_FIRST
    )


class Piece(NamedTuple):
    """A strip or tile: where it is in the image and in the file."""

    band: int | None
    """Its only band; None for all."""
    top: int
    left: int
    rows: int
    columns: int
    offset: int
    size_bytes: int
    """0 where the file does not say."""


Fetch = Callable[[Piece], memoryview | bytes]
"""Returns the bytes of a strip or tile as they are in the file, fewer where it ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """How a page is divided into strips or tiles."""

    height_px: int
    tiled: bool
    rows: int
    """Of a tile, and of every strip but the last."""
    columns: int
    down: int
    """Strips or tiles from top to bottom."""
    across: int
    planes: tuple[int | None, ...]
    """The bands that are stored apart; None alone for all together."""
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]

    def piece(self, plane: int, row: int, column: int) -> Piece:
        """Return one strip or tile, by its position in `planes`, `down` and `across`."""
        number = (plane * self.down + row) * self.across + column
        top, size_bytes = row * self.rows, self.sizes[number] if self.sizes else 0
        rows = self.rows if self.tiled else min(self.rows, self.height_px - top)
        return Piece(
            self.planes[plane], top, column * self.columns, rows, self.columns, self.offsets[number], size_bytes
        )


def grid_of(directory: Directory) -> Grid:
    """Return how the page is divided.

    Raises:
        DecodeError: the directory lists fewer strips or tiles than the image has.
    """
    tags = directory.tags
    height_px, width_px = tags[Tag.HEIGHT][0], tags[Tag.WIDTH][0]
    tiled = Tag.TILE_OFFSETS in tags
    offsets = tags.get(Tag.TILE_OFFSETS if tiled else Tag.STRIP_OFFSETS, ())
    sizes = tags.get(Tag.TILE_BYTES if tiled else Tag.STRIP_BYTES, ())
    rows = directory.one(Tag.TILE_HEIGHT, 0) if tiled else min(directory.one(Tag.STRIP_ROWS, height_px), height_px)
    columns = directory.one(Tag.TILE_WIDTH, 0) if tiled else width_px
    separate = directory.one(Tag.PLANAR, 1) == _PLANAR and directory.samples > 1
    planes: tuple[int | None, ...] = (*range(directory.samples),) if separate else (None,)
    down, across = (-(-height_px // rows), -(-width_px // columns)) if rows and columns else (0, 0)
    if not down or len(planes) * down * across > min(len(offsets), len(sizes) or len(offsets)):
        raise DecodeError("the tiff is damaged: its directory lists too few strips or tiles; copy it again")
    return Grid(
        height_px=height_px, tiled=tiled, rows=rows, columns=columns, down=down, across=across, planes=planes,
        offsets=offsets, sizes=sizes,
    )  # fmt: skip


def read_samples(data: bytes, directory: Directory, bands: int, *, cut: bool) -> NDArray[Any]:
    """Return the first bands, H×W×bands, unsigned.

    Args:
        data: the file.
        directory: of the page.
        bands: how many of its bands to read.
        cut: keep only the upper byte of 16 bits, which takes half the memory.

    Raises:
        DecodeError: the file is cut off or damaged.
    """
    height_px, width_px = directory.tags[Tag.HEIGHT][0], directory.tags[Tag.WIDTH][0]
    image_HWC = np.zeros((height_px, width_px, bands), sample_type(directory.bits, cut=cut))
    grid = grid_of(directory)
    pieces = [
        grid.piece(plane, row, column)
        for plane in range(min(len(grid.planes), bands))
        for row in range(grid.down)
        for column in range(grid.across)
    ]
    fetch = partial(slice_of, memoryview(data), directory=directory)
    for piece, block in zip(pieces, decompressed(pieces, fetch, directory), strict=True):
        place_block(block, piece, image_HWC, cut=cut)
    return image_HWC


def sample_type(bits: int, *, cut: bool) -> type[np.uint8 | np.uint16]:
    """Return the type of samples of a depth; with `cut`, only the upper byte of 16 bits is kept."""
    return np.uint8 if bits <= _BYTE or cut else np.uint16


def place_block(block_RWC: NDArray[Any], piece: Piece, image_HWC: NDArray[Any], *, cut: bool) -> None:
    """Write the samples of a strip or tile to their place in an image, as far as they are inside it."""
    bands = image_HWC.shape[2]
    chosen = slice(0, bands) if piece.band is None else slice(piece.band, piece.band + 1)
    place = image_HWC[piece.top : piece.top + piece.rows, piece.left : piece.left + piece.columns, chosen]
    wanted = block_RWC[: place.shape[0], : place.shape[1], : place.shape[2]]
    place[:] = wanted >> _BYTE if cut else wanted


def row_bytes(piece: Piece, directory: Directory) -> int:
    """Return the bytes of a row of a strip or tile."""
    count = directory.samples if piece.band is None else 1
    return (piece.columns * count * directory.bits + 7) // 8


def decompressed(pieces: Sequence[Piece], fetch: Fetch, directory: Directory) -> Iterator[NDArray[Any]]:
    """Yield the samples of every strip or tile, R×W×C: of its only band, or of all bands.

    Raises:
        DecodeError: the file is cut off or damaged.
        LimitError: a strip or tile is too large.
    """
    for piece, raw in zip(pieces, _rows_of_bytes(pieces, fetch, directory), strict=True):
        yield _unpacked(raw, piece, directory.samples if piece.band is None else 1, directory)


def _rows_of_bytes(pieces: Sequence[Piece], fetch: Fetch, directory: Directory) -> Iterator[NDArray[np.uint8]]:
    """Yield the bytes of every strip or tile, rows by bytes; errors as for `decompressed`."""
    compression = directory.one(Tag.COMPRESSION, _NONE)
    if compression in (_LZW, _PACK_BITS):
        for group in _groups(pieces, directory):
            yield from _by_libtiff([fetch(piece) for piece in group], group, directory)
        return
    for piece in pieces:
        line_bytes = row_bytes(piece, directory)
        wanted = piece.rows * line_bytes
        stored = fetch(piece)
        raw: memoryview | bytes = _inflated(stored, wanted) if compression in _DEFLATE else stored
        require_bytes(len(raw), wanted)
        yield np.frombuffer(raw, np.uint8, wanted).reshape(piece.rows, line_bytes)


def _inflated(stored: memoryview | bytes, wanted: int) -> bytes:
    """Inflate in steps, to the end: zlib's checksum comes last.

    Raises:
        DecodeError: the data are damaged, cut off, or much larger than their strip or tile.
    """
    inflate, pieces, size_bytes = zlib.decompressobj(), list[bytes](), 0
    rest: memoryview | bytes = stored
    try:
        while rest and not inflate.eof:
            pieces.append(inflate.decompress(rest, _STEP_BYTES))
            size_bytes += len(pieces[-1])
            rest = inflate.unconsumed_tail
            if size_bytes > wanted + _STEP_BYTES:
                raise DecodeError("the tiff's compressed data are larger than its image; save it again as JPEG or PNG")
    except zlib.error as error:
        raise DecodeError(
            f"the tiff is damaged: its compressed data cannot be inflated ({error}); copy it again"
        ) from error
    if not inflate.eof:
        raise DecodeError("the tiff is cut off inside its compressed data; copy it again from its source")
    return b"".join(pieces)


def stored_bytes(piece: Piece, directory: Directory) -> int:
    """Return how many bytes of the file a strip or tile has; of one without a size as many as its pixels take.

    Raises:
        DecodeError: the file does not hold it.
    """
    if not piece.offset:
        raise DecodeError(
            "the tiff is sparse: a strip or tile of it is not stored, and its colour is unknown; write it "
            "whole (gdal_translate -co SPARSE_OK=FALSE)"
        )
    return piece.size_bytes or piece.rows * row_bytes(piece, directory)


def require_bytes(found: int, wanted: int) -> None:
    """Refuse a strip or tile that is cut off; libjpeg and the fax codes would make up what is missing.

    Raises:
        DecodeError: there are fewer bytes than wanted.
    """
    if found < wanted:
        raise DecodeError(
            f"the tiff is cut off: a strip or tile has {found} bytes of {wanted}; copy it again from its source"
        )


def slice_of(data: memoryview, piece: Piece, *, directory: Directory) -> memoryview:
    """Return a strip or tile of a file in memory."""
    return data[piece.offset : piece.offset + stored_bytes(piece, directory)]


def _groups(pieces: Sequence[Piece], directory: Directory) -> Iterator[list[Piece]]:
    """Yield consecutive strips or tiles that can be the strips of one image: all but the last have as many rows."""
    group: list[Piece] = []
    group_bytes = 0
    for piece in pieces:
        if group and (group[-1].rows != group[0].rows or piece.rows > group[0].rows or group_bytes > _GROUP_BYTES):
            yield group
            group, group_bytes = [], 0
        group.append(piece)
        group_bytes += piece.rows * row_bytes(piece, directory)
    if group:
        yield group


class _Lines(TiffImagePlugin.TiffImageFile):
    """An image of bytes without Pillow's limit, which 60 megapixels of RGB in one strip exceed."""

    def load_prepare(self) -> None:
        """Allocate the memory."""
        ImageFile.ImageFile.load_prepare(self)


def _by_libtiff(
    stored: Sequence[memoryview | bytes], group: Sequence[Piece], directory: Directory
) -> Iterator[NDArray[np.uint8]]:
    """Decompress strips or tiles as the strips of an image of grey bytes in a TIFF of its own.

    Raises:
        DecodeError: the data are damaged.
        LimitError: a strip or tile is too large.
    """
    line_bytes, rows = row_bytes(group[0], directory), sum(piece.rows for piece in group)
    if line_bytes * rows > _LARGEST_BYTES:
        raise LimitError(
            f"the tiff has strips or tiles of {line_bytes * max(piece.rows for piece in group):,} bytes, expected at "
            f"most {_LARGEST_BYTES:,}; save it again in smaller ones"
        )
    body = bytearray(8)
    offsets = []
    for strip in stored:
        offsets.append(len(body))
        body += strip
        body += bytes(len(strip) % 2)
    places = {}
    for tag, values in ((Tag.STRIP_OFFSETS, offsets), (Tag.STRIP_BYTES, [len(strip) for strip in stored])):
        places[tag] = values[0] if len(values) == 1 else len(body)
        body += struct.pack(f"<{len(values)}I", *values)
    tags = (
        (Tag.WIDTH, 1, line_bytes), (Tag.HEIGHT, 1, rows), (Tag.BITS, 1, _BYTE),
        (Tag.COMPRESSION, 1, directory.one(Tag.COMPRESSION, _NONE)), (Tag.PHOTOMETRIC, 1, Colours.BLACK_IS_ZERO),
        (Tag.STRIP_OFFSETS, len(group), places[Tag.STRIP_OFFSETS]), (Tag.SAMPLES, 1, 1),
        (Tag.STRIP_ROWS, 1, group[0].rows), (Tag.STRIP_BYTES, len(group), places[Tag.STRIP_BYTES]),
    )  # fmt: skip
    body[:8] = b"II*\0" + struct.pack("<I", len(body))
    body += struct.pack("<H", len(tags))
    body += b"".join(struct.pack("<HHII", tag, 4, count, value) for tag, count, value in tags) + bytes(4)
    try:
        lines = np.asarray(_Lines(io.BytesIO(body)))
    except (OSError, EOFError, SyntaxError, ValueError) as error:
        raise DecodeError("the tiff is damaged: its compressed data cannot be decoded; copy it again") from error
    top = 0
    for piece in group:
        yield lines[top : top + piece.rows]
        top += piece.rows


def _unpacked(raw: NDArray[np.uint8], piece: Piece, count: int, directory: Directory) -> NDArray[Any]:
    """Return the samples of a strip or tile, R×W×count."""
    bits, numbers = directory.bits, piece.columns * count
    if bits == _BYTE:
        samples: NDArray[Any] = raw[:, :numbers]
    elif bits == _WORD:
        samples = raw.view(f"{directory.order}u2")[:, :numbers]
    else:
        samples = _unpacked_bits(raw, numbers, bits)
    samples = samples.reshape(len(raw), piece.columns, count)
    if directory.one(Tag.PREDICTOR, 1) == _HORIZONTAL and bits in (_BYTE, _WORD):
        kind = np.uint8 if bits == _BYTE else np.uint16
        samples = np.add.accumulate(samples.astype(kind), axis=1, dtype=kind)
    return samples


def _unpacked_bits(raw: NDArray[np.uint8], numbers: int, bits: int) -> NDArray[Any]:
    """Return samples of other than 8 and 16 bits, which are packed with the most significant bit first."""
    word_bits = _BYTE if bits < _BYTE else _WORD
    samples = np.empty((len(raw), numbers), np.uint8 if bits < _BYTE else np.uint16)
    step = max(1, _UNPACKED_BYTES // (numbers * word_bits))
    for top in range(0, len(raw), step):
        lines = np.unpackbits(raw[top : top + step], axis=1)[:, : numbers * bits].reshape(-1, numbers, bits)
        words = np.zeros((len(lines), numbers, word_bits), np.uint8)
        words[..., word_bits - bits :] = lines
        packed = np.packbits(words, axis=-1)
        samples[top : top + step] = packed[..., 0] if word_bits == _BYTE else packed.view(">u2")[..., 0]
    return samples
