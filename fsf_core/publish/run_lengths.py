"""Run lengths of regions in the encodings of other programs: COCO, CVAT, Label Studio. Knows arrays only."""

# H×W pixels of a frame, h×w pixels of a region's box

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Counts = NDArray[np.int64]

BRUSH_WORD_BITS = 8
BRUSH_SIZES = (3, 4, 8, 16)
"""Bits of the four kinds of lengths in Label Studio's brush strokes; each block says which kind its length is of."""

BRUSH_CHANNELS = 4
"""Label Studio stores a stroke as the red, green, blue and alpha of every pixel."""

OPAQUE = 128
"""Alpha from which on a pixel is inside a stroke."""

_CHARACTER_BITS, _FIRST_CHARACTER, _MORE = 5, 48, 32


def coco_counts(region_hw: Bools, *, top_px: int, left_px: int, height_px: int, width_px: int) -> Counts:
    """Return COCO's run lengths of a region: column by column, background first.

    Args:
        region_hw: the region in its box.
        top_px: row of the box in the frame.
        left_px: column of the box in the frame.
        height_px: rows of the frame.
        width_px: columns of the frame.
    """
    height = region_hw.shape[0]
    columns = np.zeros((region_hw.shape[1], height + 1), np.int8)
    columns[:, :height] = region_hw.T
    steps = np.diff(columns.ravel(), prepend=np.int8(0))
    starts, ends = (
        (left_px + at // (height + 1)) * height_px + top_px + at % (height + 1)
        for at in (np.flatnonzero(steps == 1), np.flatnonzero(steps == -1))
    )
    # A run that ends a column of the frame goes on where the next one begins with a run.
    apart = starts[1:] != ends[:-1]
    starts, ends = starts[np.concatenate([[True], apart])], ends[np.concatenate([apart, [True]])]
    edges = np.empty(2 * len(starts), np.int64)
    edges[0::2], edges[1::2] = starts, ends
    counts = np.diff(edges, prepend=0)
    rest = height_px * width_px - int(ends[-1])
    return np.append(counts, rest) if rest else counts


def compress_counts(counts: Counts) -> str:
    """Return COCO's compressed form of run lengths.

    From the fourth on, a length is stored as the difference from the one before the last. A number becomes groups of
    five bits, the lowest first, each a character from "0" on; 32 is added while more follow, and the sign is that of
    the last group's highest bit.
    """
    numbers = counts.copy()
    numbers[3:] -= counts[1:-2]
    groups, present = [], []
    going = np.ones(len(numbers), np.bool_)
    while going.any():
        low = numbers & 31
        numbers >>= _CHARACTER_BITS
        present.append(going)
        going = going & np.where(low & 16, numbers != -1, numbers != 0)
        groups.append(low + np.where(going, _MORE, 0) + _FIRST_CHARACTER)
    characters = np.stack(groups, axis=1)[np.stack(present, axis=1)]
    return characters.astype(np.uint8).tobytes().decode("ascii")


def row_counts(region_hw: Bools) -> Counts:
    """Return the run lengths of a region in its box, row by row and background first, as CVAT has them."""
    flat = np.ascontiguousarray(region_hw).ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]]))
    return np.concatenate([[0], counts]) if flat[0] else counts


def brush_bytes(mask_HW: Bools) -> bytes:
    """Return a mask as a brush stroke of Label Studio: its packed run lengths, bit by bit.

    32 bits: the number of values, four a pixel. 5 bits: bits of a value, less one. Four times 4 bits: bits of each kind
    of length, less one. Then blocks: 1 bit, set for a run; 2 bits, the kind of length; the length, less one; the value.
    """
    counts = row_counts(mask_HW)
    values = np.where(np.arange(len(counts)) % 2, 255, 0)
    values, lengths = values[counts > 0], counts[counts > 0] * BRUSH_CHANNELS
    blocks = -(-lengths // (1 << BRUSH_SIZES[-1]))
    values, last = np.repeat(values, blocks), np.cumsum(blocks) - 1
    sizes = np.full(len(values), 1 << BRUSH_SIZES[-1], np.int64)
    sizes[last] = lengths - (blocks - 1) * (1 << BRUSH_SIZES[-1])
    kinds = np.searchsorted([1 << bits for bits in BRUSH_SIZES], sizes)
    bits = np.asarray(BRUSH_SIZES)[kinds]
    codes = ((((4 | kinds) << bits) | (sizes - 1)) << BRUSH_WORD_BITS) | values
    widths = 3 + bits + BRUSH_WORD_BITS
    head = _bits(np.array([mask_HW.size * BRUSH_CHANNELS]), np.array([32]))
    head = np.concatenate([head, _bits(np.array([BRUSH_WORD_BITS - 1]), np.array([5]))])
    head = np.concatenate([head, _bits(np.array(BRUSH_SIZES) - 1, np.full(len(BRUSH_SIZES), 4))])
    return np.packbits(np.concatenate([head, _bits(codes, widths)])).tobytes()


def brush_mask(data: bytes, shape: tuple[int, int]) -> Bools:
    """Return the mask of a brush stroke of Label Studio, in the form that `brush_bytes` describes.

    Args:
        data: the stroke; blocks of values that are no runs occur too, where it was drawn by hand.
        shape: rows and columns of the picture.

    Returns:
        Where the alpha of the stroke is at least one half: the edge of a brush is soft.

    Raises:
        ValueError: it ends early, or is of a picture of another size.
    """
    end, at = 8 * len(data), 0

    def read(bits: int) -> int:
        nonlocal at
        at += bits
        if at > end:
            raise ValueError(f"it ends after {len(data)} bytes, expected more")
        window = int.from_bytes(data[(at - bits) // 8 : -(-at // 8)])
        return (window >> (-at % 8)) & ((1 << bits) - 1)

    size = read(32)
    if size != shape[0] * shape[1] * BRUSH_CHANNELS:
        raise ValueError(f"it has {size} values, expected {BRUSH_CHANNELS} for each of {shape[1]}×{shape[0]} pixels")
    word_bits = read(5) + 1
    length_bits = [read(4) + 1 for _ in BRUSH_SIZES]
    values = np.empty(size, np.uint8)
    start = 0
    while start < size:
        is_run = read(1)
        stop = min(start + 1 + read(length_bits[read(2)]), size)
        values[start:stop] = read(word_bits) if is_run else [read(word_bits) for _ in range(start, stop)]
        start = stop
    return np.asarray(values.reshape(*shape, BRUSH_CHANNELS)[..., -1] >= OPAQUE, np.bool_)


def _bits(numbers: Counts, widths: Counts) -> NDArray[np.uint8]:
    """Return the lowest bits of each number, the highest of them first."""
    width = int(widths.max())
    shifts = np.arange(width - 1, -1, -1)
    bits = (numbers[:, None] >> shifts) & 1
    return bits[shifts < widths[:, None]].astype(np.uint8)
