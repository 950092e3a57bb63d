"""TIFF's strips and tiles to stored samples.

OpenCV refuses most depths and numbers of bands, multiplies colours by alpha, and reads tiles that are wider than the
image wrongly. libtiff decompresses LZW and PackBits, through Pillow, which reports damage.
"""

# H×W pixels, C samples; R rows and W pixels of a strip or tile

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from fsf_core.errors import DecodeError
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
_UNPACKED_BYTES = 1 << 24
"""Bytes of memory in which samples of odd depths are unpacked."""


def is_read_here(directory: Directory) -> bool:
    """Return whether the samples can be read without libtiff's knowledge of colours and fax codes."""
    return (
        directory.one(Tag.COMPRESSION, _NONE) in _DECOMPRESSED_HERE
        and directory.colours != Colours.YCBCR
        and directory.one(Tag.FILL_ORDER, _MSB_FIRST) == _MSB_FIRST
    )


class _Piece(NamedTuple):
    """A strip or tile: where it is in the image and in the file."""

    band: int | None
    """Its only band; None for all."""
    top: int
    left: int
    rows: int
    columns: int
    offset: int
    size_bytes: int


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
    bits = directory.bits
    image_HWC = np.zeros((height_px, width_px, bands), np.uint8 if bits <= _BYTE or cut else np.uint16)
    pieces = [piece for piece in _pieces(directory) if piece.band is None or piece.band < bands]
    for piece, raw in zip(pieces, _decompressed(data, pieces, directory), strict=True):
        count = directory.samples if piece.band is None else 1
        block = _unpacked(raw, piece, count, directory)
        rows, columns = min(piece.rows, height_px - piece.top), min(piece.columns, width_px - piece.left)
        chosen = slice(0, bands) if piece.band is None else slice(piece.band, piece.band + 1)
        place = image_HWC[piece.top : piece.top + rows, piece.left : piece.left + columns, chosen]
        wanted = block[:rows, :columns, : place.shape[2]]
        place[:] = wanted >> _BYTE if cut else wanted
    return image_HWC


def _pieces(directory: Directory) -> Iterator[_Piece]:
    """Yield the strips or tiles in the order of the file.

    Raises:
        DecodeError: the directory lists fewer than the image has.
    """
    tags = directory.tags
    height_px, width_px = tags[Tag.HEIGHT][0], tags[Tag.WIDTH][0]
    tiled = Tag.TILE_OFFSETS in tags
    offsets = tags.get(Tag.TILE_OFFSETS if tiled else Tag.STRIP_OFFSETS, ())
    sizes = tags.get(Tag.TILE_BYTES if tiled else Tag.STRIP_BYTES, ())
    rows = directory.one(Tag.TILE_HEIGHT, 0) if tiled else min(directory.one(Tag.STRIP_ROWS, height_px), height_px)
    columns = directory.one(Tag.TILE_WIDTH, 0) if tiled else width_px
    planes: list[int | None] = [None]
    if directory.one(Tag.PLANAR, 1) == _PLANAR and directory.samples > 1:
        planes = [*range(directory.samples)]
    damaged = DecodeError("the tiff is damaged: its directory lists too few strips or tiles; copy it again")
    if not rows or not columns:
        raise damaged
    number = 0
    for band in planes:
        for top in range(0, height_px, rows):
            for left in range(0, width_px, columns):
                if number >= min(len(offsets), len(sizes) or len(offsets)):
                    raise damaged
                stored_rows = rows if tiled else min(rows, height_px - top)
                size_bytes = sizes[number] if sizes else 0
                yield _Piece(band, top, left, stored_rows, columns, offsets[number], size_bytes)
                number += 1


def _row_bytes(piece: _Piece, directory: Directory) -> int:
    """Return the bytes of a row of a strip or tile."""
    count = directory.samples if piece.band is None else 1
    return (piece.columns * count * directory.bits + 7) // 8


def _decompressed(data: bytes, pieces: Sequence[_Piece], directory: Directory) -> Iterator[NDArray[np.uint8]]:
    """Yield the bytes of every strip or tile, rows by bytes.

    Raises:
        DecodeError: the file is cut off or damaged.
    """
    compression = directory.one(Tag.COMPRESSION, _NONE)
    if compression in (_LZW, _PACK_BITS):
        for group in _groups(pieces, directory):
            yield from _by_libtiff([_stored(data, piece, directory) for piece in group], group, directory)
        return
    for piece in pieces:
        row_bytes = _row_bytes(piece, directory)
        wanted = piece.rows * row_bytes
        stored = _stored(data, piece, directory)
        raw: memoryview | bytes = _inflated(stored, wanted) if compression in _DEFLATE else stored
        if len(raw) < wanted:
            raise DecodeError(
                f"the tiff is cut off: a strip or tile has {len(raw)} bytes of {wanted}; copy it again from its source"
            )
        yield np.frombuffer(raw, np.uint8, wanted).reshape(piece.rows, row_bytes)


def _inflated(stored: memoryview, wanted: int) -> bytes:
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


def _stored(data: bytes, piece: _Piece, directory: Directory) -> memoryview:
    """Return the bytes of a strip or tile as they are in the file; of one without a size as many as its pixels take."""
    size_bytes = piece.size_bytes or piece.rows * _row_bytes(piece, directory)
    return memoryview(data)[piece.offset : piece.offset + size_bytes]


def _groups(pieces: Sequence[_Piece], directory: Directory) -> Iterator[list[_Piece]]:
    """Yield consecutive strips or tiles that can be the strips of one image: all but the last have as many rows."""
    group: list[_Piece] = []
    group_bytes = 0
    for piece in pieces:
        if group and (group[-1].rows != group[0].rows or piece.rows > group[0].rows or group_bytes > _GROUP_BYTES):
            yield group
            group, group_bytes = [], 0
        group.append(piece)
        group_bytes += piece.rows * _row_bytes(piece, directory)
    if group:
        yield group


def _by_libtiff(
    stored: Sequence[memoryview], group: Sequence[_Piece], directory: Directory
) -> Iterator[NDArray[np.uint8]]:
    """Decompress strips or tiles as the strips of an image of grey bytes in a TIFF of its own.

    Raises:
        DecodeError: the data are damaged.
    """
    row_bytes, rows = _row_bytes(group[0], directory), sum(piece.rows for piece in group)
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
        (Tag.WIDTH, 1, row_bytes), (Tag.HEIGHT, 1, rows), (Tag.BITS, 1, _BYTE),
        (Tag.COMPRESSION, 1, directory.one(Tag.COMPRESSION, _NONE)), (Tag.PHOTOMETRIC, 1, Colours.BLACK_IS_ZERO),
        (Tag.STRIP_OFFSETS, len(group), places[Tag.STRIP_OFFSETS]), (Tag.SAMPLES, 1, 1),
        (Tag.STRIP_ROWS, 1, group[0].rows), (Tag.STRIP_BYTES, len(group), places[Tag.STRIP_BYTES]),
    )  # fmt: skip
    body[:8] = b"II*\0" + struct.pack("<I", len(body))
    body += struct.pack("<H", len(tags))
    body += b"".join(struct.pack("<HHII", tag, 4, count, value) for tag, count, value in tags) + bytes(4)
    try:
        lines = np.asarray(TiffImagePlugin.TiffImageFile(io.BytesIO(body)))
    except (OSError, EOFError, SyntaxError, ValueError) as error:
        raise DecodeError("the tiff is damaged: its compressed data cannot be decoded; copy it again") from error
    top = 0
    for piece in group:
        yield lines[top : top + piece.rows]
        top += piece.rows


def _unpacked(raw: NDArray[np.uint8], piece: _Piece, count: int, directory: Directory) -> NDArray[Any]:
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
