"""TIFF's stored samples to 8-bit BGR.

Samples are read here, since OpenCV refuses most depths and numbers of bands, multiplies colours by alpha, and reads
tiles that are wider than the image wrongly. libtiff decompresses LZW and PackBits; what it alone knows (JPEG, CCITT,
YCbCr) OpenCV decodes.
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
from fsf_core.media.images import opencv, tiff
from fsf_core.media.images.stored import Pixels, Stored, first_of, transparency
from fsf_core.media.images.tiff import Colours, Directory, Tag

_NONE, _LZW, _DEFLATE, _PACK_BITS = 1, 5, frozenset({8, 32946}), 32773
_DECOMPRESSED_HERE = frozenset({_NONE, _LZW, _PACK_BITS, *_DEFLATE})
_MSB_FIRST = 1
_PLANAR = 2
_HORIZONTAL = 2
_BYTE, _WORD = 8, 16
_ALPHA_KINDS = frozenset({1, 2})  # premultiplied or not
_COLOURS, _INKS = 3, 4
_STEP_BYTES = 1 << 20
_UNPACKED_BYTES = 1 << 24
"""Bytes of memory in which samples of odd depths are unpacked."""


def decode(data: bytes) -> Stored:
    """Decode the first page to uint8 H×W×3, BGR.

    Raises:
        DecodeError: the file is cut off or damaged, or of a kind that is not supported.
    """
    directory = tiff.read_directory(data)
    notes = first_of(directory.pages, "pages")
    if not _is_read_here(directory):
        image_HWC = opencv.decode(tiff.without_orientation(data), "tiff", reason=_reason(directory))
        return Stored(image_HWC, directory.orientation, notes)
    used = _INKS if directory.colours == Colours.SEPARATED else _COLOURS if directory.colours == Colours.RGB else 1
    if directory.samples < used:
        raise DecodeError(
            f"the tiff has {directory.samples} samples in a pixel, expected at least {used} for its colour model; save "
            "it again as JPEG or PNG"
        )
    alpha = used if directory.one(Tag.EXTRA_SAMPLES, 0) in _ALPHA_KINDS and directory.samples > used else None
    samples_HWC = _read_samples(data, directory, used if alpha is None else used + 1)
    levels_HWC, scaled = _as_levels(samples_HWC[..., :used], directory)
    if alpha is not None:
        notes += transparency(_stretched(samples_HWC[..., alpha], _bits(directory)))
    elif directory.samples > used:
        notes += (f"{'band 1' if used == 1 else f'bands 1 to {used}'} of {directory.samples} were scored",)
    return Stored(levels_HWC, directory.orientation, notes + scaled)


def _is_read_here(directory: Directory) -> bool:
    """Return whether the samples can be read without libtiff's knowledge of colours and fax codes."""
    return (
        directory.one(Tag.COMPRESSION, _NONE) in _DECOMPRESSED_HERE
        and directory.colours != Colours.YCBCR
        and directory.one(Tag.FILL_ORDER, _MSB_FIRST) == _MSB_FIRST
    )


def _reason(directory: Directory) -> str:
    """Describe a page that OpenCV decodes, in case that it does not."""
    return (
        f"it is cut off, damaged, or of a kind that OpenCV does not read ({_bits(directory)} bits, "
        f"{directory.samples} samples in a pixel, PhotometricInterpretation {directory.colours}, Compression "
        f"{directory.one(Tag.COMPRESSION, _NONE)})"
    )


def _bits(directory: Directory) -> int:
    return directory.one(Tag.BITS, 1)


# --- samples to colours ----------------------------------------------------------------------------------------------


def _as_levels(samples_HWC: NDArray[Any], directory: Directory) -> tuple[Pixels, tuple[str, ...]]:
    """Return samples as BGR levels, with the note of what white is where the file declares it."""
    colours, bits = directory.colours, _bits(directory)
    if colours == Colours.PALETTE:
        return _from_palette(samples_HWC[..., 0], directory), ()
    limits = _declared_limits(samples_HWC, directory)
    note: tuple[str, ...] = ()
    if limits is None:
        levels_HWC = _stretched(samples_HWC, bits)
    else:
        bands = [
            _between(samples_HWC[..., k], *limits[min(k, len(limits) - 1)], bits) for k in range(samples_HWC.shape[2])
        ]
        levels_HWC = np.stack(bands, axis=-1)
        shown = ", ".join(f"{low} to {high}" for low, high in dict.fromkeys(limits))
        note = (f"samples from MinSampleValue to MaxSampleValue ({shown}) were scaled to 0 to 255",)
    if colours == Colours.WHITE_IS_ZERO:
        levels_HWC = 255 - levels_HWC
    if colours == Colours.SEPARATED:
        light_HW = 255 - levels_HWC[..., 3:].astype(np.uint16)
        levels_HWC = ((255 - levels_HWC[..., :3].astype(np.uint16)) * light_HW // 255).astype(np.uint8)
    if levels_HWC.shape[2] == 1:
        return np.repeat(levels_HWC, _COLOURS, axis=2), note
    return np.ascontiguousarray(levels_HWC[..., ::-1]), note


def _stretched(samples: NDArray[Any], bits: int) -> Pixels:
    """Return samples of a depth as 8 bits: the upper byte of 16, and from black to white for others."""
    if bits == _BYTE:
        return np.asarray(samples, np.uint8)
    if bits == _WORD:
        return np.asarray(samples >> _BYTE, np.uint8)
    return _between(samples, 0, (1 << bits) - 1, bits)


def _between(samples: NDArray[Any], low: int, high: int, bits: int) -> Pixels:
    """Return samples as 8 bits, where `low` is 0 and `high` is 255."""
    steps = np.arange(1 << bits, dtype=np.float64)
    levels = np.rint((steps - low) * 255 / (high - low)).clip(0, 255).astype(np.uint8)
    return np.asarray(levels[samples])


def _declared_limits(samples_HWC: NDArray[Any], directory: Directory) -> list[tuple[int, int]] | None:
    """Return MinSampleValue and MaxSampleValue of each band; None where they are the format's, or cannot be true."""
    whitest = (1 << _bits(directory)) - 1
    highs, lows = directory.tags.get(Tag.MAX_SAMPLE, (whitest,)), directory.tags.get(Tag.MIN_SAMPLE, (0,))
    bands = samples_HWC.shape[2]
    limits = [(low, high) for low, high in zip(_per_band(lows, bands), _per_band(highs, bands), strict=True)]
    if all(limit == (0, whitest) for limit in limits) or any(not low < high <= whitest for low, high in limits):
        return None
    greatest = samples_HWC.reshape(-1, bands).max(axis=0).tolist()
    return limits if all(value <= high for value, (_, high) in zip(greatest, limits, strict=True)) else None


def _per_band(values: tuple[int, ...], bands: int) -> tuple[int, ...]:
    """Return a value for each band; one value counts for all."""
    return values[:bands] if len(values) >= bands else values[:1] * bands


def _from_palette(indices_HW: NDArray[Any], directory: Directory) -> Pixels:
    """Return the colours of a palette's indices.

    Raises:
        DecodeError: the palette is too short.
    """
    entries = 1 << _bits(directory)
    values: NDArray[Any] = np.asarray(directory.tags.get(Tag.COLOUR_MAP, ()), np.uint16)
    if len(values) < _COLOURS * entries:
        raise DecodeError(
            f"the tiff is damaged: its palette has {len(values)} values of {_COLOURS * entries}; copy it again"
        )
    table = values[: _COLOURS * entries].reshape(_COLOURS, entries)[::-1].T
    if table.max() >= 1 << _BYTE:  # some writers use 8 bits for a palette
        table = table >> _BYTE
    return np.ascontiguousarray(table.astype(np.uint8)[indices_HW])


# --- bytes to samples ------------------------------------------------------------------------------------------------


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


def _read_samples(data: bytes, directory: Directory, bands: int) -> NDArray[Any]:
    """Return the first bands, H×W×bands, unsigned.

    Raises:
        DecodeError: the file is cut off or damaged.
    """
    height_px, width_px = directory.tags[Tag.HEIGHT][0], directory.tags[Tag.WIDTH][0]
    bits = _bits(directory)
    image_HWC = np.zeros((height_px, width_px, bands), np.uint8 if bits <= _BYTE else np.uint16)
    pieces = [piece for piece in _pieces(directory) if piece.band is None or piece.band < bands]
    for piece, raw in zip(pieces, _decompressed(data, pieces, directory), strict=True):
        count = directory.samples if piece.band is None else 1
        block = _unpacked(raw, piece, count, directory)
        rows, columns = min(piece.rows, height_px - piece.top), min(piece.columns, width_px - piece.left)
        chosen = slice(0, bands) if piece.band is None else slice(piece.band, piece.band + 1)
        place = image_HWC[piece.top : piece.top + rows, piece.left : piece.left + columns, chosen]
        place[:] = block[:rows, :columns, : place.shape[2]]
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
    return (piece.columns * count * _bits(directory) + 7) // 8


def _decompressed(data: bytes, pieces: Sequence[_Piece], directory: Directory) -> Iterator[NDArray[np.uint8]]:
    """Yield the bytes of every strip or tile, rows by bytes.

    Raises:
        DecodeError: the file is cut off or damaged.
    """
    compression = directory.one(Tag.COMPRESSION, _NONE)
    for piece in pieces:
        row_bytes = _row_bytes(piece, directory)
        wanted = piece.rows * row_bytes
        stored = data[piece.offset : piece.offset + (piece.size_bytes or wanted)]
        if compression == _NONE:
            raw = stored
        elif compression in _DEFLATE:
            raw = _inflated(stored, wanted)
        else:
            raw = _by_libtiff(stored, compression, piece.rows, row_bytes)
        if len(raw) < wanted:
            raise DecodeError(
                f"the tiff is cut off: a strip or tile has {len(raw)} bytes of {wanted}; copy it again from its source"
            )
        yield np.frombuffer(raw, np.uint8, wanted).reshape(piece.rows, row_bytes)


def _inflated(stored: bytes, wanted: int) -> bytes:
    """Inflate in steps, to the end: zlib's checksum comes last.

    Raises:
        DecodeError: the data are damaged, cut off, or much larger than their strip or tile.
    """
    inflate, rest, pieces, size_bytes = zlib.decompressobj(), stored, [], 0
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


def _by_libtiff(stored: bytes, compression: int, rows: int, row_bytes: int) -> bytes:
    """Decompress a strip or tile as an image of grey bytes in a TIFF of its own.

    Raises:
        DecodeError: the data are damaged.
    """
    tags = (
        (Tag.WIDTH, row_bytes), (Tag.HEIGHT, rows), (Tag.BITS, _BYTE), (Tag.COMPRESSION, compression),
        (Tag.PHOTOMETRIC, Colours.BLACK_IS_ZERO), (Tag.STRIP_OFFSETS, 8), (Tag.SAMPLES, 1), (Tag.STRIP_ROWS, rows),
        (Tag.STRIP_BYTES, len(stored)),
    )  # fmt: skip
    padded = stored + bytes(len(stored) % 2)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    whole = b"II*\0" + struct.pack("<I", 8 + len(padded)) + padded + struct.pack("<H", len(tags)) + entries + bytes(4)
    try:
        image = TiffImagePlugin.TiffImageFile(io.BytesIO(whole))
        return image.tobytes()
    except (OSError, EOFError, SyntaxError, ValueError) as error:
        raise DecodeError("the tiff is damaged: its compressed data cannot be decoded; copy it again") from error


def _unpacked(raw: NDArray[np.uint8], piece: _Piece, count: int, directory: Directory) -> NDArray[Any]:
    """Return the samples of a strip or tile, R×W×count."""
    bits, numbers = _bits(directory), piece.columns * count
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
