"""One page, strip or tile of a TIFF as a TIFF of its own, for OpenCV, which decodes the first page of a file."""

import io
import struct
from collections.abc import Sequence

from fsf_core.media.images import tiff
from fsf_core.media.images.tiff import Directory, Tag
from fsf_core.media.images.tiff_samples import grid_of, require_bytes, slice_of

_COPIED = frozenset(
    {
        Tag.BITS, Tag.COMPRESSION, Tag.PHOTOMETRIC, Tag.FILL_ORDER, Tag.SAMPLES, Tag.MIN_SAMPLE, Tag.MAX_SAMPLE,
        Tag.PLANAR, Tag.PREDICTOR, Tag.COLOUR_MAP, Tag.INK_SET, Tag.EXTRA_SAMPLES, Tag.SAMPLE_FORMAT,
        292, 293,  # options of fax codes
        347,  # JPEG's tables
        529, 530, 531, 532,  # YCbCr's coefficients, subsampling, position and range
    }
)  # fmt: skip
_LONG = 4
_OLD_JPEG = 6


def is_old_jpeg(directory: Directory) -> bool:
    """Return whether strips refer to tables elsewhere in the file, so that none can be decoded alone."""
    return directory.one(Tag.COMPRESSION, 1) == _OLD_JPEG


def page_alone(data: bytes, directory: Directory) -> bytes:
    """Return a page as the first of its file, without its orientation.

    Raises:
        DecodeError: the directory lists too few strips or tiles, or one is cut off.
    """
    if is_old_jpeg(directory):
        return tiff.without_orientation(tiff.beginning_with(data, directory.at))
    grid = grid_of(directory)
    pieces = [
        grid.piece(plane, row, column)
        for plane in range(len(grid.planes))
        for row in range(grid.down)
        for column in range(grid.across)
    ]
    stored = [slice_of(memoryview(data), piece, directory=directory) for piece in pieces]
    for piece, content in zip(pieces, stored, strict=True):
        require_bytes(len(content), piece.size_bytes)
    image_hw = (directory.tags[Tag.HEIGHT][0], directory.tags[Tag.WIDTH][0])
    return small_tiff(directory, copied_entries(data, directory), image_hw, (grid.rows, grid.columns), stored)


def copied_entries(source: tiff.Source, directory: Directory) -> list[tiff.RawEntry]:
    """Return the entries of a page that say how its samples are stored, but for sizes and places."""
    return [*tiff.raw_entries(source, directory.at, _COPIED)]


def small_tiff(
    directory: Directory,
    copied: Sequence[tiff.RawEntry],
    image_hw: tuple[int, int],
    block_hw: tuple[int, int],
    stored: Sequence[bytes | memoryview],
) -> bytes:
    """Return a TIFF of strips or tiles as a page stores them, in the byte order of its file.

    Args:
        directory: of the page.
        copied: of `copied_entries`.
        image_hw: height and width of the TIFF that is returned.
        block_hw: rows and columns of its strips or tiles.
        stored: these, as they are in the file, those of all planes.
    """
    order, tiled = directory.order, Tag.TILE_OFFSETS in directory.tags
    body = io.BytesIO()
    body.write((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))

    def placed(content: bytes | memoryview) -> int:
        body.write(bytes(body.tell() % 2))
        at = body.tell()
        body.write(content)
        return at

    def longs(*values: int) -> bytes:
        return struct.pack(f"{order}{len(values)}I", *values)

    offsets = [placed(piece) for piece in stored]
    entries = [*copied]
    sides = [(Tag.HEIGHT, image_hw[0]), (Tag.WIDTH, image_hw[1])]
    blocks = (
        [(Tag.TILE_HEIGHT, block_hw[0]), (Tag.TILE_WIDTH, block_hw[1])] if tiled else [(Tag.STRIP_ROWS, block_hw[0])]
    )
    entries += [(tag, _LONG, 1, longs(value)) for tag, value in (*sides, *blocks)]
    places, sizes = (Tag.TILE_OFFSETS, Tag.TILE_BYTES) if tiled else (Tag.STRIP_OFFSETS, Tag.STRIP_BYTES)
    entries += [
        (places, _LONG, len(stored), longs(*offsets)), (sizes, _LONG, len(stored), longs(*map(len, stored))),
    ]  # fmt: skip
    lines = []
    for tag, kind, count, content in sorted(entries):
        field = content.ljust(4, b"\0") if len(content) <= 4 else longs(placed(content))  # noqa: PLR2004 - bytes of a field
        lines.append(struct.pack(f"{order}HHI", tag, kind, count) + field)
    at = placed(struct.pack(f"{order}H", len(lines)) + b"".join(lines) + bytes(4))
    body.seek(4)
    body.write(longs(at))
    return body.getvalue()
