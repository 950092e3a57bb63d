"""Coefficients to samples: the inverse transform of blocks, for the rows that are wanted.

The integer arithmetic is that of libjpeg's accurate method (Loeffler, Ligtenberg and Moschytz 1989, with 13 bits of
fractions, and 2 bits more between the passes), so the samples are its samples.
"""

# Blocks are stored in chunks of 16, one lane each: 64 × 16 coefficients, and 8 × 16 samples of a row

from typing import Any

import numpy as np

from fsf_core.machine_code.compiling import compiled, inlined

_LANES = 16
_CHUNK = 64 * _LANES
_FRACTION_BITS = 13
_PASS_BITS = 2


def _fixed(factor: float) -> np.int32:
    """Return a factor in 1/8192."""
    return np.int32(round(factor * (1 << _FRACTION_BITS)))


# Sums and differences of √2 · cos(kπ/16), as the method factors them.
_EVEN, _EVEN_2, _EVEN_6 = _fixed(0.541196100), _fixed(0.765366865), _fixed(-1.847759065)
_ODD_7, _ODD_5, _ODD_3, _ODD_1 = _fixed(0.298631336), _fixed(2.053119869), _fixed(3.072711026), _fixed(1.501321110)
_ODD_71, _ODD_53 = _fixed(-0.899976223), _fixed(-2.562915447)
_ODD_73, _ODD_51, _ODD = _fixed(-1.961570560), _fixed(-0.390180644), _fixed(1.175875602)


@compiled
def invert(coefficients: Any, strips: Any, rows: Any, samples: Any) -> bool:
    """Transform rows of blocks, and set their coefficients to 0.

    Args:
        coefficients: int16, chunks.
        strips: int64 rows of blocks × 5: where its chunks begin, their number, the first of `rows` that is wanted of it
            and the first that is not any more, and where the samples of the first begin.
        rows: int64: the wanted rows of samples, each by its number in its block, 0 … 7.
        samples: uint8, filled: rows of chunks.

    Returns:
        False if a sample is so far out of range that libjpeg's builds differ.
    """
    between = np.empty((8, 8, _LANES), np.int32)
    outside = np.zeros(_LANES, np.int32)
    for strip in range(strips.shape[0]):
        start = strips[strip, 0]
        chunks = strips[strip, 1]
        first = strips[strip, 2]
        stop = strips[strip, 3]
        to = strips[strip, 4]
        for chunk in range(chunks):
            _columns(coefficients[start + chunk * _CHUNK : start + (chunk + 1) * _CHUNK], between)
            for row in range(first, stop):
                at = to + ((row - first) * chunks + chunk) * 8 * _LANES
                _row(between[rows[row]], samples[at : at + 8 * _LANES], outside)
    return not outside.any()


@compiled
def _columns(chunk: Any, between: Any) -> None:
    """Transform the columns of a chunk, and set it to 0."""
    for x in range(8):
        for i in range(_LANES):
            column = (
                np.int32(chunk[x * 16 + i]), np.int32(chunk[(8 + x) * 16 + i]), np.int32(chunk[(16 + x) * 16 + i]),
                np.int32(chunk[(24 + x) * 16 + i]), np.int32(chunk[(32 + x) * 16 + i]),
                np.int32(chunk[(40 + x) * 16 + i]), np.int32(chunk[(48 + x) * 16 + i]),
                np.int32(chunk[(56 + x) * 16 + i]),
            )  # fmt: skip
            a, b, c, d, e, f, g, h = _transform(column, np.int32(_FRACTION_BITS - _PASS_BITS))
            between[0, x, i] = a
            between[1, x, i] = b
            between[2, x, i] = c
            between[3, x, i] = d
            between[4, x, i] = e
            between[5, x, i] = f
            between[6, x, i] = g
            between[7, x, i] = h
    chunk[:] = 0


@compiled
def _row(line: Any, samples: Any, outside: Any) -> None:
    """Transform one row of the blocks of a chunk."""
    for i in range(_LANES):
        row = line[0, i], line[1, i], line[2, i], line[3, i], line[4, i], line[5, i], line[6, i], line[7, i]
        a, b, c, d, e, f, g, h = _transform(row, np.int32(_FRACTION_BITS + _PASS_BITS + 3))
        samples[i] = _clamped(a)
        samples[16 + i] = _clamped(b)
        samples[32 + i] = _clamped(c)
        samples[48 + i] = _clamped(d)
        samples[64 + i] = _clamped(e)
        samples[80 + i] = _clamped(f)
        samples[96 + i] = _clamped(g)
        samples[112 + i] = _clamped(h)
        outside[i] |= _beyond(a) | _beyond(b) | _beyond(c) | _beyond(d)
        outside[i] |= _beyond(e) | _beyond(f) | _beyond(g) | _beyond(h)


@inlined
def _beyond(value: Any) -> Any:
    """Return other than 0 for a sample out of the range of libjpeg's table, -512 … 511 around the middle."""
    return np.int32(np.int32(value + np.int32(512)) >> np.int32(10))


@inlined
def _clamped(value: Any) -> Any:
    """Return a sample, of 0 … 255."""
    return np.uint8(min(max(np.int32(value + np.int32(128)), np.int32(0)), np.int32(255)))


@inlined
def _transform(i: Any, bits: Any) -> Any:
    """Return the inverse transform of eight numbers, rounded by as many bits; all are int32."""
    # Every result is made int32 again: numba widens, and half as many numbers would fit into a vector.
    half = np.int32(np.int32(1) << np.int32(bits - np.int32(1)))
    shared = np.int32(np.int32(i[2] + i[6]) * _EVEN)
    far = np.int32(shared + np.int32(i[6] * _EVEN_6))
    near = np.int32(shared + np.int32(i[2] * _EVEN_2))
    total = np.int32(np.int32(np.int32(i[0] + i[4]) << np.int32(_FRACTION_BITS)) + half)
    difference = np.int32(np.int32(np.int32(i[0] - i[4]) << np.int32(_FRACTION_BITS)) + half)
    e0, e3 = np.int32(total + near), np.int32(total - near)
    e1, e2 = np.int32(difference + far), np.int32(difference - far)
    by_73, by_51 = np.int32(i[7] + i[3]), np.int32(i[5] + i[1])
    shared = np.int32(np.int32(by_73 + by_51) * _ODD)
    by_73 = np.int32(np.int32(by_73 * _ODD_73) + shared)
    by_51 = np.int32(np.int32(by_51 * _ODD_51) + shared)
    by_71 = np.int32(np.int32(i[7] + i[1]) * _ODD_71)
    by_53 = np.int32(np.int32(i[5] + i[3]) * _ODD_53)
    o0 = np.int32(np.int32(i[7] * _ODD_7) + np.int32(by_71 + by_73))
    o1 = np.int32(np.int32(i[5] * _ODD_5) + np.int32(by_53 + by_51))
    o2 = np.int32(np.int32(i[3] * _ODD_3) + np.int32(by_53 + by_73))
    o3 = np.int32(np.int32(i[1] * _ODD_1) + np.int32(by_71 + by_51))
    return (
        np.int32(np.int32(e0 + o3) >> bits), np.int32(np.int32(e1 + o2) >> bits),
        np.int32(np.int32(e2 + o1) >> bits), np.int32(np.int32(e3 + o0) >> bits),
        np.int32(np.int32(e3 - o0) >> bits), np.int32(np.int32(e2 - o1) >> bits),
        np.int32(np.int32(e1 - o2) >> bits), np.int32(np.int32(e0 - o3) >> bits),
    )  # fmt: skip
