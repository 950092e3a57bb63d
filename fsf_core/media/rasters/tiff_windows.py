"""The samples of a page of a TIFF by windows: only the strips or tiles of a window are read and decoded.

The samples are those of `media.images`, whose code decodes every strip or tile. What only OpenCV decodes (JPEG, YCbCr,
fax codes) is given to it as a small TIFF that consists of one strip or tile.
"""

# H×W pixels, C samples; R rows of a strip or tile

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fsf_core.errors import DecodeError, LimitError
from fsf_core.media.images import opencv, tiff_pixels, tiff_samples
from fsf_core.media.images.small_tiff import copied_entries, small_tiff
from fsf_core.media.images.tiff import Directory, Tag
from fsf_core.media.images.tiff_samples import Piece

CACHE_BYTES = 128 << 20
"""Decoded strips and tiles that are kept: two rows of tiles of 512×512 pixels are 92 MB at a width of 30,000."""
MAX_BLOCK_BYTES = 128 << 20
"""Largest strip or tile."""
MAX_DIRECTORY_BYTES = 16 << 20
"""Largest list of a directory: the places of 2 million tiles."""
MAX_BLOCKS = 2_000_000
_STEP_BYTES = 16 << 20
"""Decoded bytes of strips or tiles that are fetched and decoded together."""
_LINE_STEP_BYTES = 1 << 20
"""Uncompressed strips are read in parts of this size: one may hold a whole image."""
_FETCH_BYTES, _GAP_BYTES = 8 << 20, 64 << 10
"""Largest range that is read at once, and the largest unused part of it between two strips or tiles."""
_UNCOMPRESSED = 1


class FileBytes:
    """The bytes of an open file as `tiff.Source`: a slice reads."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)

    def __getitem__(self, span: slice, /) -> bytes:
        start, stop = span.start or 0, min(self.size, span.stop)
        if stop - start > MAX_DIRECTORY_BYTES:
            raise LimitError(
                f"the tiff lists {stop - start:,} bytes of places in a directory, the limit is "
                f"{MAX_DIRECTORY_BYTES:,}; save it with larger tiles"
            )
        return self.read(start, stop - start)

    def read(self, start: int, count: int) -> bytes:
        """Return up to `count` bytes, fewer where the file ends."""
        if start >= self.size or count <= 0:
            return b""
        self._file.seek(start)
        return self._file.read(min(count, self.size - start))


class _Cell(NamedTuple):
    """A place in the grid, with all planes of it."""

    row: int
    column: int


class TiffWindows:
    """A page's samples by windows.

    Attributes:
        grid: how the page is divided; uncompressed strips are divided further.
        by_opencv: whether OpenCV decodes to BGR; otherwise samples are as stored.
        bands: of the arrays that are returned.
        dtype: of these arrays.
    """

    def __init__(
        self,
        source: FileBytes,
        directory: Directory,
        bands: int,
        *,
        cut: bool,
        on_first: Callable[[NDArray[Any]], None] = lambda _: None,
    ) -> None:
        """Prepare to read the first bands, or the three of BGR where OpenCV decodes.

        Args:
            source: the file.
            directory: of the page.
            bands: how many of its bands to read.
            cut: keep only the upper byte of 16 bits.
            on_first: called with the samples of every strip or tile, H×W×bands, when it is decoded for the first time.

        Raises:
            DecodeError: the directory lists too few strips or tiles.
            LimitError: a strip or tile is too large, or there are too many.
        """
        self._source, self._directory, self._cut, self._on_first = source, directory, cut, on_first
        self.by_opencv = not tiff_samples.is_read_here(directory)
        self._copied = copied_entries(source, directory) if self.by_opencv else []
        self.bands = 3 if self.by_opencv else bands
        self.height_px, self.width_px = directory.tags[Tag.HEIGHT][0], directory.tags[Tag.WIDTH][0]
        self.grid = tiff_samples.grid_of(directory)
        self._lines = self._line_step()
        self._parts = -(-self.grid.rows // self._lines)
        self._down = (self.grid.down - 1) * self._parts + -(-self._last_rows() // self._lines)
        self.dtype = np.uint8 if self.by_opencv else tiff_samples.sample_type(directory.bits, cut=cut)
        self._seen = np.zeros((self._down, self.grid.across), bool)
        self._cache: OrderedDict[_Cell, NDArray[Any]] = OrderedDict()
        self._cached_bytes = 0
        self._require_size()

    def read(self, top_px: int, left_px: int, height_px: int, width_px: int) -> NDArray[Any]:
        """Return a window inside the page, H×W×bands.

        Raises:
            DecodeError: the file is damaged or cut off there.
        """
        window = np.empty((height_px, width_px, self.bands), self.dtype)
        for cell, block_HWC in self._blocks(self._cells(top_px, left_px, height_px, width_px)):
            top, left = self._top(cell.row) - top_px, cell.column * self.grid.columns - left_px
            rows, columns = block_HWC.shape[:2]
            into = window[max(0, top) : top + rows, max(0, left) : left + columns]
            into[:] = block_HWC[max(0, -top) :, max(0, -left) :][: into.shape[0], : into.shape[1]]
        return window

    # --- the grid ---

    def _line_step(self) -> int:
        """Return the rows of the parts that a strip is read in."""
        if self.grid.tiled or self.by_opencv or self._directory.one(Tag.COMPRESSION, _UNCOMPRESSED) != _UNCOMPRESSED:
            return self.grid.rows
        line_bytes = tiff_samples.row_bytes(self.grid.piece(0, 0, 0), self._directory)
        return min(self.grid.rows, max(1, _LINE_STEP_BYTES // line_bytes))

    def _last_rows(self) -> int:
        """Return the rows of the last strip, or of a tile."""
        grid = self.grid
        return grid.rows if grid.tiled else self.height_px - (grid.down - 1) * grid.rows

    def _require_size(self) -> None:
        """Refuse strips and tiles that would take too much memory.

        Raises:
            LimitError: one is too large, or there are too many.
        """
        rows, columns = min(self._lines, self.grid.rows), self.grid.columns
        block_bytes = max(rows * columns * self.bands * np.dtype(self.dtype).itemsize, self._stored_limit())
        if block_bytes > MAX_BLOCK_BYTES:
            kind = "tiles" if self.grid.tiled else "strips"
            raise LimitError(
                f"the tiff is stored in {kind} of {columns}x{rows} pixels, {block_bytes:,} bytes each; the limit is "
                f"{MAX_BLOCK_BYTES:,}; save it with tiles of 512x512 pixels"
            )
        if self._down * self.grid.across > MAX_BLOCKS:
            raise LimitError(
                f"the tiff is stored in {self._down * self.grid.across:,} strips or tiles, the limit is "
                f"{MAX_BLOCKS:,}; save it with tiles of 512x512 pixels"
            )

    def _stored_limit(self) -> int:
        """Return the most bytes that the pixels of a strip or tile take uncompressed."""
        piece = self.grid.piece(0, 0, 0)._replace(rows=self._lines)
        return self._lines * tiff_samples.row_bytes(piece, self._directory)

    def _top(self, row: int) -> int:
        """Return the first row of pixels of a row of cells."""
        strip, part = divmod(row, self._parts)
        return strip * self.grid.rows + part * self._lines

    def _row_of(self, y: int) -> int:
        """Return the row of cells that holds a row of pixels."""
        strip, line = divmod(y, self.grid.rows)
        return strip * self._parts + line // self._lines

    def _cells(self, top_px: int, left_px: int, height_px: int, width_px: int) -> list[_Cell]:
        """Return the cells of a window, row by row."""
        rows = range(self._row_of(top_px), self._row_of(top_px + height_px - 1) + 1)
        columns = range(left_px // self.grid.columns, (left_px + width_px - 1) // self.grid.columns + 1)
        return [_Cell(row, column) for row in rows for column in columns]

    def _pieces(self, cell: _Cell) -> list[Piece]:
        """Return the strips or tiles of a cell, one for every plane that is read.

        Raises:
            DecodeError: a strip is shorter than its rows.
        """
        grid, (strip, part) = self.grid, divmod(cell.row, self._parts)
        planes = len(grid.planes) if self.by_opencv else min(len(grid.planes), self.bands)
        pieces = [grid.piece(plane, strip, cell.column) for plane in range(planes)]
        return pieces if self._parts == 1 else [self._part_of(piece, part) for piece in pieces]

    def _part_of(self, piece: Piece, part: int) -> Piece:
        """Return some rows of an uncompressed strip."""
        line_bytes = tiff_samples.row_bytes(piece, self._directory)
        if piece.size_bytes:
            tiff_samples.require_bytes(piece.size_bytes, piece.rows * line_bytes)
        first = part * self._lines
        rows = min(self._lines, piece.rows - first)
        return piece._replace(
            top=piece.top + first, rows=rows, offset=piece.offset + first * line_bytes, size_bytes=rows * line_bytes
        )

    # --- decoding ---

    def _blocks(self, cells: Sequence[_Cell]) -> Iterator[tuple[_Cell, NDArray[Any]]]:
        """Yield every cell with its samples inside the page, from the cache or decoded."""
        missing = []
        for cell in cells:
            if cell in self._cache:
                self._cache.move_to_end(cell)
                yield cell, self._cache[cell]
            else:
                missing.append(cell)
        step = max(1, _STEP_BYTES // max(1, self._stored_limit() * len(self.grid.planes)))
        for start in range(0, len(missing), step):
            for cell, block_HWC in self._decoded(missing[start : start + step]):
                if not self._seen[cell]:
                    self._seen[cell] = True
                    self._on_first(block_HWC)
                self._keep(cell, block_HWC)
                yield cell, block_HWC

    def _keep(self, cell: _Cell, block_HWC: NDArray[Any]) -> None:
        """Put decoded samples into the cache, in place of those used least recently."""
        self._cache[cell] = block_HWC
        self._cached_bytes += block_HWC.nbytes
        while self._cached_bytes > CACHE_BYTES:
            self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes

    def _decoded(self, cells: Sequence[_Cell]) -> Iterator[tuple[_Cell, NDArray[Any]]]:
        """Fetch and decode some cells."""
        pieces = [self._pieces(cell) for cell in cells]
        stored = self._fetched([piece for group in pieces for piece in group])
        if self.by_opencv:
            for cell, group in zip(cells, pieces, strict=True):
                yield cell, self._by_opencv(cell, group, [stored[piece] for piece in group])
            return
        flat = [piece for group in pieces for piece in group]
        samples = tiff_samples.decompressed(flat, stored.__getitem__, self._directory)
        for cell, group in zip(cells, pieces, strict=True):
            block_HWC = np.empty((*self._shape(cell), self.bands), self.dtype)
            top, left = self._top(cell.row), cell.column * self.grid.columns
            for piece in group:
                inside = piece._replace(top=piece.top - top, left=piece.left - left)
                tiff_samples.place_block(next(samples), inside, block_HWC, cut=self._cut)
            yield cell, block_HWC

    def _shape(self, cell: _Cell) -> tuple[int, int]:
        """Return rows and columns of a cell inside the page."""
        strip = cell.row // self._parts
        end = min(self.height_px, (strip + 1) * self.grid.rows)
        rows = min(self._lines, end - self._top(cell.row))
        return rows, min(self.grid.columns, self.width_px - cell.column * self.grid.columns)

    def _fetched(self, pieces: Sequence[Piece]) -> dict[Piece, bytes]:
        """Read strips or tiles, neighbours in the file at once."""
        sizes = {piece: self._size_in_file(piece) for piece in pieces}
        ordered = sorted(sizes, key=lambda piece: piece.offset)
        stored: dict[Piece, bytes] = {}
        while len(stored) < len(ordered):
            group = [ordered[len(stored)]]
            start, end = group[0].offset, group[0].offset + sizes[group[0]]
            for piece in ordered[len(stored) + 1 :]:
                stop = max(end, piece.offset + sizes[piece])
                if piece.offset > end + _GAP_BYTES or stop - start > _FETCH_BYTES:
                    break
                group.append(piece)
                end = stop
            data = self._source.read(start, end - start)
            for piece in group:
                stored[piece] = data[piece.offset - start : piece.offset - start + sizes[piece]]
        return stored

    def _size_in_file(self, piece: Piece) -> int:
        """Return how many bytes to read of a strip or tile: no more than a bad compressor would make of it."""
        limit = 2 * piece.rows * tiff_samples.row_bytes(piece, self._directory) + _GAP_BYTES
        return min(tiff_samples.stored_bytes(piece, self._directory), limit)

    def _by_opencv(self, cell: _Cell, pieces: Sequence[Piece], stored: Sequence[bytes]) -> NDArray[np.uint8]:
        """Decode the strip or tile of a cell as a TIFF of its own.

        Raises:
            DecodeError: it is cut off or damaged.
        """
        for piece, content in zip(pieces, stored, strict=True):
            if piece.size_bytes:
                tiff_samples.require_bytes(len(content), self._size_in_file(piece))
        rows, columns = pieces[0].rows, pieces[0].columns
        data = small_tiff(self._directory, self._copied, (rows, columns), (rows, columns), stored)
        image_HWC = opencv.decode(data, "tiff", reason=tiff_pixels.refusal(self._directory))
        if image_HWC.shape != (rows, columns, 3):
            raise DecodeError("the tiff is damaged: a strip or tile has another size than declared; copy it again")
        height_px, width_px = self._shape(cell)
        return np.ascontiguousarray(image_HWC[:height_px, :width_px])
