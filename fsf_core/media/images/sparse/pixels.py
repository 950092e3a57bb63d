"""Samples to pixels at the crossings of some rows and columns: chroma enlarged as libjpeg does by default, then BGR."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fsf_core.machine_code.compiling import compiled, inlined

_FRACTION_BITS = 16


def _scaled(factor: float) -> NDArray[np.int32]:
    """Return the products of a factor and chroma -128 … 127, in 1/65536."""
    return (np.arange(-128, 128) * int(factor * (1 << _FRACTION_BITS) + 0.5)).astype(np.int32)


_HALF = 1 << (_FRACTION_BITS - 1)
_RED_BY_CR = (_scaled(1.402) + _HALF) >> _FRACTION_BITS
_BLUE_BY_CB = (_scaled(1.772) + _HALF) >> _FRACTION_BITS
_GREEN_BY_CR, _GREEN_BY_CB = -_scaled(0.71414), _HALF - _scaled(0.34414)


class Line(NamedTuple):
    """The wanted rows, or columns, of a picture, and where their samples are."""

    place: NDArray[np.int64]
    """Where a pixel's bytes are in the picture, from that of the first row or column on."""
    luma: NDArray[np.int64]
    near: NDArray[np.int64]
    """Of the chroma samples, the one that covers the pixel."""
    far: NDArray[np.int64]
    """The next on the pixel's side of it; that one again where chroma is not subsampled, and at the edge."""
    bias: NDArray[np.int64]
    """What is added before a sum of sixteenths is rounded down."""


@compiled
def paint(samples: Any, chroma: int, apart: int, rows: Line, columns: Line, pixels: Any) -> None:
    """Write BGR at the crossings of rows and columns.

    Args:
        samples: uint8.
        chroma: samples of a row of chroma; 0 for a grey picture.
        apart: samples from a place in the first chroma to the same one in the second.
        rows: places of rows.
        columns: places of columns, from those of the row on.
        pixels: uint8, the bytes of a picture.
    """
    sums = np.empty((2, max(chroma, 1)), np.int32)
    cb_sums, cr_sums = sums[0], sums[1]
    for y in range(rows.place.size):
        near = samples[rows.near[y] :]
        far = samples[rows.far[y] :]
        for x in range(chroma):
            cb_sums[x] = np.int32(3) * np.int32(near[x]) + np.int32(far[x])
        near = near[apart:]
        far = far[apart:]
        for x in range(chroma):
            cr_sums[x] = np.int32(3) * np.int32(near[x]) + np.int32(far[x])
        line = samples[rows.luma[y] :]
        pixel = pixels[rows.place[y] :]
        for x in range(columns.place.size):
            luma = np.int32(line[np.uint64(columns.luma[x])])
            at = np.uint64(columns.place[x])
            if chroma == 0:
                pixel[at] = luma
                pixel[at + np.uint64(1)] = luma
                pixel[at + np.uint64(2)] = luma
                continue
            near_x = np.uint64(columns.near[x])
            far_x = np.uint64(columns.far[x])
            bias = rows.bias[y] + columns.bias[x]
            cb = np.uint64((3 * cb_sums[near_x] + cb_sums[far_x] + bias) >> 4)
            cr = np.uint64((3 * cr_sums[near_x] + cr_sums[far_x] + bias) >> 4)
            pixel[at] = _clamped(luma + _BLUE_BY_CB[cb])
            pixel[at + np.uint64(1)] = _clamped(luma + ((_GREEN_BY_CB[cb] + _GREEN_BY_CR[cr]) >> _FRACTION_BITS))
            pixel[at + np.uint64(2)] = _clamped(luma + _RED_BY_CR[cr])


@inlined
def _clamped(value: Any) -> Any:
    """Return a byte, of 0 … 255."""
    return np.uint8(min(max(value, 0), 255))
