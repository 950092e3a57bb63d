"""Masks as tiled TIFF: written by rows, in bounded memory, and read by windows.

One page of 512×512 tiles in Deflate, class ids as indices of a palette (8 bits, up to 256 classes) or as grey (16
bits). The directory comes before the tiles, so that a reader of ranges needs one request to find them. The header is
written last: a file that was not finished is no TIFF.
"""

# K classes, H×W pixels

import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from fsf_core.errors import DecodeError
from fsf_core.media.images import tiff
from fsf_core.media.images.tiff import Colours, Tag
from fsf_core.media.rasters.georeference import Georeference
from fsf_core.media.rasters.tiff_windows import FileBytes, TiffWindows

TILE_PX = 512
_LEVEL = 6
_DEFLATE = 8
_SHORT, _LONG, _LONG8 = 3, 4, 16
_PALETTE_ENTRIES = 256
_CLASSIC_BYTES = (1 << 32) - 1
_TILE_OVERHEAD = 1024
"""Most bytes by which zlib enlarges a tile: 5 for every 16 KB, and its header."""


class MaskWriter:
    """Writes one mask, row block by row block. A context manager; an error in its block leaves no valid file."""

    def __init__(
        self,
        file: Path | BinaryIO,
        *,
        height_px: int,
        width_px: int,
        num_classes: int,
        palette_K3: NDArray[np.uint8],
        georeference: Georeference | None = None,
    ) -> None:
        """Prepare the file.

        Args:
            file: a local path, or a binary file that is writable and seekable, and empty.
            height_px: of the mask.
            width_px: of the mask.
            num_classes: class ids are below it; up to 256 they take 8 bits, otherwise 16.
            palette_K3: uint8 RGB of every class; not used above 256 classes.
            georeference: of the upright image.

        Raises:
            ValueError: a side is below 1, there are more than 65,536 classes, or not a colour for every one.
        """
        if min(height_px, width_px) < 1 or not 1 <= num_classes <= 1 << 16 or len(palette_K3) < num_classes:
            raise ValueError(
                f"found {width_px}x{height_px} pixels, {num_classes} classes and {len(palette_K3)} colours; expected "
                "at least one pixel, at most 65,536 classes and a colour for each"
            )
        self._stack = ExitStack()
        self._file: Any = self._stack.enter_context(file.open("wb")) if isinstance(file, Path) else file
        self._height, self._width, self._classes = height_px, width_px, num_classes
        self._type = np.dtype("<u1" if num_classes <= _PALETTE_ENTRIES else "<u2")
        self._across, down = -(-width_px // TILE_PX), -(-height_px // TILE_PX)
        self._band: NDArray[Any] = np.zeros((TILE_PX, self._across * TILE_PX), self._type)
        self._row = 0
        tiles = self._across * down
        largest = tiles * (TILE_PX * TILE_PX * self._type.itemsize + _TILE_OVERHEAD) + (1 << 20)
        self._big = largest > _CLASSIC_BYTES
        self._palette_K3, self._georeference = palette_K3, georeference
        self._offsets, self._sizes = np.zeros(tiles, np.uint64), np.zeros(tiles, np.uint64)
        self._tiles = 0
        self._at = len(self._head())
        self._file.write(bytes(self._at))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            with self._stack:
                self._finish()
            return
        with suppress(OSError):  # a full disk refuses to close the file too; the first error counts
            self._stack.close()

    def write(self, top_px: int, rows_HW: NDArray[Any]) -> None:
        """Write the next rows: H×W class ids, at the row after the last one that was written.

        Raises:
            ValueError: they do not follow the last rows, are not as wide as the mask, or hold other classes.
        """
        height, width = rows_HW.shape
        if top_px != self._row or width != self._width or top_px + height > self._height:
            raise ValueError(
                f"found rows {top_px} to {top_px + height} of {width} pixels; expected rows from {self._row} up to "
                f"{self._height} of {self._width} pixels"
            )
        if rows_HW.size and not 0 <= int(rows_HW.min()) <= int(rows_HW.max()) < self._classes:
            raise ValueError(f"found a class of {rows_HW.max()}, expected fewer than {self._classes} classes")
        while len(rows_HW):
            line = self._row % TILE_PX
            count = min(len(rows_HW), TILE_PX - line)
            self._band[line : line + count, : self._width] = rows_HW[:count]
            rows_HW, self._row = rows_HW[count:], self._row + count
            if self._row % TILE_PX == 0 or self._row == self._height:
                self._write_tiles()

    def _write_tiles(self) -> None:
        """Compress and write the tiles of the rows that were collected; rows below the mask are 0."""
        self._band[(self._row - 1) % TILE_PX + 1 :] = 0
        for left in range(0, self._band.shape[1], TILE_PX):
            data = zlib.compress(np.ascontiguousarray(self._band[:, left : left + TILE_PX]).data, _LEVEL)
            self._file.write(data)
            self._offsets[self._tiles], self._sizes[self._tiles] = self._at, len(data)
            self._at += len(data)
            self._tiles += 1

    def _finish(self) -> None:
        """Write the header and the directory.

        Raises:
            ValueError: rows are missing.
        """
        if self._row != self._height:
            raise ValueError(f"found {self._row} rows, expected {self._height}")
        self._file.seek(0)
        self._file.write(self._head())
        self._file.seek(0, 2)

    def _head(self) -> bytes:
        """Return header, directory and its values; of the same length at the beginning and at the end."""
        word, counter, field = ("Q", "Q", 8) if self._big else ("I", "H", 4)
        start = 16 if self._big else 8
        entries = sorted(self._entries())
        values_at = start + struct.calcsize(f"={counter}") + len(entries) * (4 + 2 * field) + field
        lines, values = b"", b""
        for tag, kind, count, content in entries:
            lines += struct.pack(f"<HH{word}", tag, kind, count)
            if len(content) <= field:
                lines += content.ljust(field, b"\0")
            else:
                lines += struct.pack(f"<{word}", values_at + len(values))
                values += content + bytes(-len(content) % 8)
        header = struct.pack("<2sHHHQ", b"II", 43, 8, 0, start) if self._big else struct.pack("<2sHI", b"II", 42, start)
        return header + struct.pack(f"<{counter}", len(entries)) + lines + bytes(field) + values

    def _entries(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield tag, type, count and bytes of every entry."""
        indexed = self._type.itemsize == 1
        longs, kind = ("<u8", _LONG8) if self._big else ("<u4", _LONG)
        shorts = {
            Tag.BITS: 8 * self._type.itemsize, Tag.COMPRESSION: _DEFLATE, Tag.SAMPLES: 1, Tag.PLANAR: 1,
            Tag.PHOTOMETRIC: Colours.PALETTE if indexed else Colours.BLACK_IS_ZERO, Tag.SAMPLE_FORMAT: 1,
            Tag.TILE_WIDTH: TILE_PX, Tag.TILE_HEIGHT: TILE_PX,
        }  # fmt: skip
        yield from ((int(tag), _SHORT, 1, struct.pack("<H", value)) for tag, value in shorts.items())
        sides = ((Tag.WIDTH, self._width), (Tag.HEIGHT, self._height))
        yield from ((int(tag), _LONG, 1, struct.pack("<I", value)) for tag, value in sides)
        for tag, values in ((Tag.TILE_OFFSETS, self._offsets), (Tag.TILE_BYTES, self._sizes)):
            yield int(tag), kind, len(values), values.astype(longs).tobytes()
        if indexed:
            table = np.zeros((3, _PALETTE_ENTRIES), "<u2")
            table[:, : self._classes] = self._palette_K3[: self._classes].T
            yield int(Tag.COLOUR_MAP), _SHORT, table.size, (table * 257).astype("<u2").tobytes()
        if self._georeference:
            yield from self._georeference.tags()


class MaskRaster:
    """A mask by windows of class ids.

    Attributes:
        height_px: of the mask.
        width_px: of the mask.
        dtype: of its class ids.
    """

    def __init__(self, windows: TiffWindows) -> None:
        self._windows = windows
        self.height_px, self.width_px, self.dtype = windows.height_px, windows.width_px, windows.dtype

    def read(self, top_px: int, left_px: int, height_px: int, width_px: int) -> NDArray[np.uint8 | np.uint16]:
        """Return the class ids of a window inside the mask, H×W.

        Raises:
            DecodeError: the file is damaged or cut off there.
        """
        return self._windows.read(top_px, left_px, height_px, width_px)[..., 0]


def read_mask(file: BinaryIO) -> MaskRaster:
    """Open a mask that `MaskWriter` has written; the file must stay open.

    Raises:
        DecodeError: it is none, or damaged.
    """
    source = FileBytes(file)
    try:
        directory = tiff.read_directory(source)
        if directory.samples != 1 or directory.bits not in {8, 16}:
            raise DecodeError(
                f"found a tiff of {directory.samples} samples of {directory.bits} bits, expected a mask of one sample "
                "of 8 or 16 bits"
            )
        return MaskRaster(TiffWindows(source, directory, 1, cut=False))
    except (struct.error, LookupError) as error:
        raise DecodeError("the mask is no TIFF, damaged, or was not written to its end; write it again") from error
