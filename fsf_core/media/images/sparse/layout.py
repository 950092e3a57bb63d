"""Which blocks, samples and pixels of a baseline JPEG are computed for the wanted pixels, and where each is stored."""

# A unit is a minimum coded unit; blocks of a row are stored in chunks of 16, a lane each

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from fsf_core.media.images import exif
from fsf_core.media.images.sparse import bits, pixels
from fsf_core.media.images.sparse.grid import Grid, Indices

_BAND = 8
"""Rows of units whose coefficients are stored before they are transformed: 1 MB for 12 megapixels."""
_LINE = 8 * bits.LANES
"""Samples of a row of a chunk."""


class Shape(NamedTuple):
    """What a picture's blocks depend on."""

    height_px: int
    width_px: int
    samplings: tuple[tuple[int, int], ...]
    """Blocks of each component in a unit, across and down."""


class _Axis(NamedTuple):
    """Wanted rows, or columns, of a picture as it is stored."""

    number: Indices
    place: Indices
    """Offset of each in the bytes of the upright picture."""


class _Plane(NamedTuple):
    """The wanted samples of one component."""

    rows: Indices
    """Ascending."""
    slots: Indices
    """By block of a row of blocks: its number among the wanted ones; -1 if it is not."""
    chunks: int
    """Of a row of blocks."""
    start: int
    """Where the samples begin among those of all components."""

    @property
    def end(self) -> int:
        """Return where the samples of the next component begin."""
        return self.start + self.rows.size * self.chunks * _LINE

    def at_rows(self, index: Indices) -> Indices:
        """Return where rows of samples begin."""
        return np.asarray(self.start + np.searchsorted(self.rows, index) * (self.chunks * _LINE), np.int64)

    def at_columns(self, index: Indices) -> Indices:
        """Return where columns of samples are, from the beginning of a row on."""
        slots = self.slots[index >> 3]
        return np.asarray((slots // bits.LANES * 8 + (index & 7)) * bits.LANES + slots % bits.LANES, np.int64)

    def lanes(self) -> Indices:
        """Return where the blocks of a row are in its chunks; -1 for those that are not wanted."""
        return np.where(self.slots < 0, -1, self.slots // bits.LANES * bits.CHUNK + self.slots % bits.LANES)


class Layout(NamedTuple):
    """Where everything is that is computed for the wanted pixels of a picture."""

    upright_hw: tuple[int, int]
    rows: pixels.Line
    columns: pixels.Line
    chroma: int
    """Samples of a row of chroma; 0 for a grey picture."""
    apart: int
    """Samples between those of the two chromas."""
    order: bits.Order
    lanes: Indices
    """As `bits.decode_units` takes them."""
    bands: list[tuple[Indices, Indices]]
    """Of rows of units from the top on: where the blocks' coefficients begin, as `bits.decode_units` takes it, and the
    strips, as `samples.invert` takes them."""
    block_rows: Indices
    """Every wanted row of samples by its number in its block."""
    coefficients: int
    """Of the largest band."""
    samples: int
    """Of all components."""


@lru_cache(maxsize=8)
def make_layout(shape: Shape, grid: Grid, orientation: int) -> Layout:
    """Return the layout of what the pixels of a grid need: 1 ms, once for the pictures of a camera.

    Args:
        shape: of the picture as stored.
        grid: wanted pixels of the upright picture.
        orientation: EXIF's number, 1 to 8, of how the stored pixels are turned to be upright; any other is none.
    """
    rows, columns, upright_hw = _axes(shape, grid, orientation)
    across, down = shape.samplings[0]
    both = across > 1 and down > 1
    near_y, far_y, bias_y = _chroma(rows.number, down, -(-shape.height_px // down), (0, 0) if both else (4, 8))
    near_x, far_x, bias_x = _chroma(columns.number, across, -(-shape.width_px // across), (8, 7) if both else (4, 8))
    planes = _planes(shape, (rows.number, near_y, far_y), (columns.number, near_x, far_x))
    luma, chroma = planes[0], planes[min(1, len(planes) - 1)]
    bands = list(_bands(shape, planes))
    return Layout(
        upright_hw=upright_hw,
        rows=pixels.Line(rows.place, luma.at_rows(rows.number), chroma.at_rows(near_y), chroma.at_rows(far_y), bias_y),
        columns=pixels.Line(
            columns.place, luma.at_columns(columns.number), chroma.at_columns(near_x), chroma.at_columns(far_x), bias_x
        ),
        chroma=chroma.chunks * _LINE if len(planes) > 1 else 0,
        apart=chroma.end - chroma.start,
        order=_order(shape, planes),
        lanes=np.concatenate([plane.lanes() for plane in planes]),
        bands=bands,
        block_rows=np.concatenate([plane.rows & 7 for plane in planes]),
        coefficients=max(int(strips[:, 1].sum()) for _, strips in bands) * bits.CHUNK,
        samples=planes[-1].end,
    )


def _axes(shape: Shape, grid: Grid, orientation: int) -> tuple[_Axis, _Axis, tuple[int, int]]:
    """Return the wanted rows and columns as stored, and the upright height and width."""
    turn = exif.turn_of(orientation)
    stored_hw = (shape.height_px, shape.width_px)
    height_px, width_px = stored_hw[::-1] if turn.transposed else stored_hw
    rows = _Axis(height_px - 1 - grid.rows if turn.rows_reversed else grid.rows, grid.rows * (3 * width_px))
    columns = _Axis(width_px - 1 - grid.columns if turn.columns_reversed else grid.columns, grid.columns * 3)
    return (columns, rows, (height_px, width_px)) if turn.transposed else (rows, columns, (height_px, width_px))


def _chroma(index: Indices, factor: int, size: int, bias: tuple[int, int]) -> tuple[Indices, Indices, Indices]:
    """Return the near and the far sample of chroma, and the bias, for rows or columns of pixels; see `pixels.Line`.

    Args:
        index: the rows or columns.
        factor: pixels of a sample along the axis, 1 or 2.
        size: samples along the axis.
        bias: at even and at odd places.
    """
    if factor == 1:
        return index, index, np.zeros_like(index)
    odd = index & 1
    near = index >> 1
    return near, np.clip(near - 1 + 2 * odd, 0, size - 1), np.where(odd, bias[1], bias[0])


def _planes(shape: Shape, rows: tuple[Indices, ...], columns: tuple[Indices, ...]) -> list[_Plane]:
    """Return the planes of the components, for the rows and columns of luma, and the near and far ones of chroma."""
    planes = list[_Plane]()
    for number, (across, _) in enumerate(shape.samplings):
        chosen = slice(1, None) if number else slice(1)
        wanted = np.unique(np.concatenate(columns[chosen]) >> 3)
        slots = np.full(_units(shape)[1] * across, -1, np.int64)
        slots[wanted] = np.arange(wanted.size)
        start = planes[-1].end if planes else 0
        planes.append(_Plane(np.unique(np.concatenate(rows[chosen])), slots, -(-wanted.size // bits.LANES), start))
    return planes


def _units(shape: Shape) -> tuple[int, int]:
    """Return the rows and columns of units."""
    across, down = shape.samplings[0]
    return -(-shape.height_px // (8 * down)), -(-shape.width_px // (8 * across))


def _blocks(shape: Shape) -> Iterator[tuple[int, int, int]]:
    """Yield the blocks of a unit: component, column and row in the unit."""
    for number, (across, down) in enumerate(shape.samplings):
        for y in range(down):
            for x in range(across):
                yield number, x, y


def _order(shape: Shape, planes: list[_Plane]) -> bits.Order:
    """Return the order of the blocks in a unit."""
    before = np.cumsum([0] + [plane.slots.size for plane in planes])
    blocks = [(number, before[number] + x, shape.samplings[number][0]) for number, x, _ in _blocks(shape)]
    component, column, across = np.array(blocks, np.int64).T.copy()
    return bits.Order(component, column, across, _units(shape)[1])


def _bands(shape: Shape, planes: list[_Plane]) -> Iterator[tuple[Indices, Indices]]:
    """Yield the bands, as in `Layout.bands`."""
    strips = np.concatenate([_strips(shape, planes, number) for number in range(len(planes))])
    units_down, _ = _units(shape)
    for top in range(0, units_down, _BAND):
        mine = strips[(strips[:, 0] >= top) & (strips[:, 0] < top + _BAND)]
        unit_row, number, y, chunks = mine[:, :4].T
        start = np.cumsum(chunks * bits.CHUNK) - chunks * bits.CHUNK
        starts = np.full((min(_BAND, units_down - top), len(list(_blocks(shape)))), -1, np.int64)
        for at, (component, _, row) in enumerate(_blocks(shape)):
            here = (number == component) & (y == row)
            starts[unit_row[here] - top, at] = start[here]
        yield starts, np.column_stack([start, mine[:, 3:]])


def _strips(shape: Shape, planes: list[_Plane], number: int) -> Indices:
    """Return the wanted rows of blocks of a component: row of units, component, row in the unit, then as `invert`."""
    plane, down = planes[number], shape.samplings[number][1]
    blocks, first = np.unique(plane.rows >> 3, return_index=True)
    before = sum(each.rows.size for each in planes[:number])
    each = np.ones_like(blocks)
    stop = before + np.append(first[1:], plane.rows.size)
    to = plane.at_rows(plane.rows[first])
    return np.column_stack(
        [blocks // down, each * number, blocks % down, each * plane.chunks, before + first, stop, to]
    )
