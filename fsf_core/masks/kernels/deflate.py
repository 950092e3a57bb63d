"""The compressed rows of a PNG: classes packed into bits, filtered, in a zlib stream. Knows no colours.

A class map is long runs, and consecutive rows are nearly equal: after PNG's filter Up most bytes are 0. The stream
needs only literals and repeats of the byte before, zlib's strategy Z_RLE, which gave the smallest masks of all
strategies tried. It is written here because its bytes are promised: they depend on the classes alone, while igzip's
differ between generations of processors and zlib's between builds. Filter and stream of smooth to speckled maps of 4
classes on one core of an EPYC, 2026-11-28 (zlib: 2026-11-27):

  pixels          512x512          1920x1080        4000x3000
  this          0.08-0.33 ms      0.3-1.2 ms       1.3-3.5 ms
  zlib 1.2.13   0.11-0.52 ms      0.8-2.2 ms       4.9-8.0 ms

Compiling it costs 3.6 s of CPU, once per installation (2-core EPYC, 2026-11-28).
"""

# H×W pixels; runs of bytes; symbols are RFC 1951's: literals 0..255, end of block 256, match lengths 257..285

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsf_core.machine_code.compiling import allocating, as_input, compiled, inner, trailing_zeros

_SYMBOLS = 286
_END = 256
_LONGEST_SYMBOL = 285
_SHORTEST_MATCH = 3
_LONGEST_MATCH = 258
_LONGEST_CODE = 15
_WORD_BITS = 32
_ADLER = 65521
_POSITION_BITS = 9

# What is known between two steps of the scan.
_FOUND, _START, _LOW, _HIGH = range(4)

# As a literal, numba would compile what is called with it once more.
_ZERO: Any = np.int64(0)

# Bytes that are split into runs at a time, in whole words.
_STEP = 4096


def _match_table() -> NDArray[np.int64]:
    """Return symbol, number of extra bits and their value for every match length 0..258 (RFC 1951, 3.2.5)."""
    table = np.zeros((_LONGEST_MATCH + 1, 3), np.int64)
    table[:_SHORTEST_MATCH, 0] = _SYMBOLS  # none: bytes of their own
    length = _SHORTEST_MATCH
    for i, extra_bits in enumerate([0] * 8 + [bits for bits in range(1, 6) for _ in range(4)]):
        for value in range(1 << extra_bits):
            table[length] = _END + 1 + i, extra_bits, value
            length += 1
    table[_LONGEST_MATCH] = _LONGEST_SYMBOL, 0, 0  # the longest has a symbol of its own
    return table


_MATCH = _match_table()

# Code lengths of the code-length alphabet: five bits for the rare 13, 14, 15 and 17, four for the rest, 16 unused.
# A fixed choice, complete as RFC 1951 requires; the optimal one would save some 20 bytes per mask.
_META_LENGTHS = np.array([4] * 13 + [5, 5, 5] + [0, 5, 4], np.int64)
_META_ORDER = np.array([16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15], np.int64)

# Of the only block, with the bits of each number: the last one, dynamic codes; number of literal and length codes, one
# distance code, number of code-length codes; their lengths.
_HEADER = np.array(
    [
        *((1, 1), (2, 2), (_SYMBOLS - 257, 5), (0, 5), (len(_META_ORDER) - 4, 4)),
        *((length, 3) for length in _META_LENGTHS[_META_ORDER]),
    ],
    np.int64,
)


def compress_rows(class_map_HW: NDArray[np.uint8] | NDArray[np.uint16], bits: int) -> bytes:
    """Return the content of a PNG's IDAT chunk.

    Args:
        class_map_HW: classes below 2**bits, which is not checked.
        bits: bits per pixel: 1, 2, 4, 8 or 16.

    Returns:
        A zlib stream (RFC 1950) of rows with filter Up, the first pixel in the highest bits.
    """
    height, width = class_map_HW.shape
    row_bytes = 1 + (width * bits + 7) // 8
    size_bytes = height * row_bytes
    padded = np.empty(-(-size_bytes // 8) * 8, np.uint8)  # whole words of 8 bytes for the scan
    _filter_rows(as_input(class_map_HW), bits, padded[:size_bytes].reshape(height, row_bytes))
    return _compress(padded, size_bytes)


def _compress(padded: NDArray[np.uint8], size_bytes: int) -> bytes:
    """Compress the first size_bytes of padded, whose size is a multiple of 8, into a zlib stream."""
    counts = np.zeros(_SYMBOLS, np.int64)
    runs, adler = _scan(padded, size_bytes, counts)
    lengths = np.zeros(_SYMBOLS, np.int64)
    _code_lengths(counts, lengths)
    # A match has one distance bit and at most five extra bits; the tables take at most 350 bytes.
    bound_bytes = int((counts * lengths).sum() + 6 * counts[_END:].sum()) // 8 + 400
    words = np.empty(bound_bytes // 4 + 2, np.uint32)
    used_bytes = _emit(runs, lengths, words)
    # The stream starts with the low bits, so its words are little-endian on every machine.
    return b"\x78\x01" + words.astype("<u4", copy=False).tobytes()[:used_bytes] + int(adler).to_bytes(4, "big")


@compiled
def _filter_rows(class_map_HW: Any, bits: int, rows: Any) -> None:
    """Pack every row and write its filter number and its byte-wise difference from the row above."""
    above = np.zeros(rows.shape[1] - 1, np.uint8)
    packed = np.zeros(rows.shape[1] - 1, np.uint8)
    for y in range(class_map_HW.shape[0]):
        _pack(class_map_HW[y], bits, packed)
        rows[y, 0] = 2
        target = rows[y, 1:]
        for i in range(packed.size):
            target[i] = packed[i] - above[i]
        above, packed = packed, above


@inner
def _pack(row: Any, bits: int, packed: Any) -> None:  # noqa: C901 # one branch per depth
    """Pack a row of classes into bits, the first class highest."""
    # One expression per byte: a loop over the pixels of a byte is six times slower.
    whole = row.size * bits // 8
    if bits == 16:  # noqa: PLR2004 # the depths of PNG
        for i in range(row.size):
            packed[2 * i] = row[i] >> 8
            packed[2 * i + 1] = row[i] & 255
    elif bits == 8:  # noqa: PLR2004
        for i in range(whole):
            packed[i] = row[i]
    elif bits == 4:  # noqa: PLR2004
        for i in range(whole):
            packed[i] = row[2 * i] << 4 | row[2 * i + 1]
    elif bits == 2:  # noqa: PLR2004
        for i in range(whole):
            x = 4 * i
            packed[i] = row[x] << 6 | row[x + 1] << 4 | row[x + 2] << 2 | row[x + 3]
    else:
        for i in range(whole):
            x = 8 * i
            packed[i] = (
                (row[x] << 7 | row[x + 1] << 6 | row[x + 2] << 5 | row[x + 3] << 4)
                | (row[x + 4] << 3 | row[x + 5] << 2 | row[x + 6] << 1 | row[x + 7])
            )  # fmt: skip
    if whole < packed.size:
        _pack_last_byte(row, 8 // bits, packed)


@inner
def _pack_last_byte(row: Any, per_byte: int, packed: Any) -> None:
    """Pack the classes of a last byte that they do not fill."""
    last = np.int64(0)
    for i in range(per_byte):
        x = per_byte * (packed.size - 1) + i
        last <<= 8 // per_byte
        if x < row.size:
            last |= np.int64(row[x])
    packed[packed.size - 1] = last


@compiled
def _scan(data: Any, size: int, counts: Any) -> Any:
    """Split the data into runs and count the symbols that they need.

    Returns:
        Every run as length << 8 | byte, and the Adler-32 of the data.
    """
    runs = np.empty(4 * _STEP, np.int64)
    ends = np.empty(_STEP, np.uint8)
    tally = np.zeros(_SYMBOLS + 1, np.int64)
    state = np.zeros(4, np.int64)
    state[_LOW] = 1
    for first in range(0, size, _STEP):
        if state[_FOUND] + _STEP > runs.size:
            longer = np.empty(2 * runs.size, np.int64)
            for j in range(state[_FOUND]):  # a slice assignment adds seconds of compilation
                longer[j] = runs[j]
            runs = longer
        _mark_ends(data, first, size, ends)
        _add_runs(data, first, ends.view(np.uint64), tally, runs, state)
    for s in range(_SYMBOLS):
        counts[s] = tally[s]
    counts[_END] = 1
    return runs[: state[_FOUND]], state[_HIGH] % _ADLER << 16 | state[_LOW] % _ADLER


@inner
def _mark_ends(data: Any, first: int, size: int, ends: Any) -> None:
    """Write 1 for each byte that the next one differs from, for a step of the data; the last byte ends its run."""
    n = min(_STEP, size - first)
    here = data[first : first + n - 1]
    after = data[first + 1 : first + n]
    for i in range(n - 1):
        ends[i] = here[i] != after[i]
    ends[n - 1] = first + n == size or data[first + n - 1] != data[first + n]
    for i in range(n, _STEP):
        ends[i] = 0


@inner
def _add_runs(data: Any, first: int, words: Any, tally: Any, runs: Any, state: Any) -> None:
    """Add the runs that end in a step of the data.

    Args:
        data: all bytes.
        first: position of the step.
        words: from `_mark_ends`.
        tally: symbols by number, and one more that is none, added to.
        runs: output, behind those that were found before.
        state: runs found, first byte of the run that goes on, and the sums of the checksum, which are reduced once in a
            while: a division per run costs more than the rest.
    """
    found, start, low, high = state[_FOUND], state[_START], state[_LOW], state[_HIGH]
    for w in range(words.size):
        ends = words[w]
        while ends != 0:
            end = first + 8 * w + (trailing_zeros(ends) >> 3) + 1
            ends &= ends - np.uint64(1)
            n = end - start
            value = np.int64(data[start])
            start = end
            runs[found] = n << 8 | value
            found += 1
            rest = n - 1
            if rest >= _LONGEST_MATCH:
                matches, rest = _split_run(n)
                tally[_LONGEST_SYMBOL] += matches
            tally[value] += 1 + (rest if rest < _SHORTEST_MATCH else 0)
            tally[_MATCH[rest, 0]] += 1
            high += n * low + value * (n * (n + 1) // 2 % _ADLER)
            low += n * value
            if low > 1 << 30 or high > 1 << 46:
                low %= _ADLER
                high %= _ADLER
    state[_FOUND], state[_START], state[_LOW], state[_HIGH] = found, start, low, high


@inner
def _split_run(n: int) -> Any:
    """Return how many of the longest matches a run has after its first byte, and how many bytes remain."""
    matches = (n - 1) // _LONGEST_MATCH
    return matches, n - 1 - matches * _LONGEST_MATCH


@compiled
def _code_lengths(counts: Any, lengths: Any) -> None:
    """Write Huffman code lengths of the symbols that occur, none above 15 bits."""
    weights = counts.copy()
    while _huffman(weights, lengths) > _LONGEST_CODE:
        for s in range(_SYMBOLS):
            if weights[s] > 0:
                weights[s] = (weights[s] >> 1) + 1  # flatter weights give a flatter tree; rare, costs a few bytes


@allocating
def _huffman(weights: Any, lengths: Any) -> int:
    """Write the depth of every symbol in the Huffman tree; return the greatest."""
    weight = np.zeros(2 * _SYMBOLS, np.int64)
    parent = np.zeros(2 * _SYMBOLS, np.int64)
    depth = np.zeros(2 * _SYMBOLS, np.int64)
    free = np.empty(_SYMBOLS, np.int64)
    light = np.empty(_SYMBOLS, np.int64)
    n = 0
    for s in range(_SYMBOLS):
        weight[s] = weights[s]
        if weights[s] > 0:
            free[n] = s
            n += 1
    root = _SYMBOLS - 1
    for j in range(n):
        light[j] = weight[free[j]]
    while n > 1:  # at most 286 symbols: a linear search for the two lightest costs microseconds
        root += 1
        for _ in range(2):
            lightest = _first_lightest(light[:n])
            parent[free[lightest]] = root
            weight[root] += light[lightest]
            n -= 1
            free[lightest] = free[n]
            light[lightest] = light[n]
        free[n] = root
        light[n] = weight[root]
        n += 1
    for node in range(root - 1, _SYMBOLS - 1, -1):
        depth[node] = depth[parent[node]] + 1
    deepest = 0
    for s in range(_SYMBOLS):
        lengths[s] = depth[parent[s]] + 1 if weights[s] > 0 else 0
        deepest = max(deepest, lengths[s])
    return deepest


@inner
def _first_lightest(light: Any) -> Any:
    """Return the first position of the smallest weight."""
    least = light[0] << _POSITION_BITS
    for j in range(light.size):  # without a branch, so that it is vectorised
        least = min(least, light[j] << _POSITION_BITS | j)
    return least & ((1 << _POSITION_BITS) - 1)


@allocating
def _codes(lengths: Any) -> Any:
    """Return the canonical codes of these lengths, bit-reversed as the stream stores them (RFC 1951, 3.2.2)."""
    of_length = np.zeros(_LONGEST_CODE + 1, np.int64)
    for s in range(lengths.size):
        of_length[lengths[s]] += 1
    of_length[0] = 0
    following = np.zeros(_LONGEST_CODE + 1, np.int64)
    for bits in range(1, _LONGEST_CODE + 1):
        following[bits] = (following[bits - 1] + of_length[bits - 1]) << 1
    codes = np.zeros(lengths.size, np.int64)
    for s in range(lengths.size):
        code = following[lengths[s]]
        following[lengths[s]] += 1
        for _ in range(lengths[s]):
            codes[s] = codes[s] << 1 | code & 1
            code >>= 1
    return codes


@inner
def _put(words: Any, at: int, waiting: int, held: int, value: int, bits: int) -> Any:
    """Append at most 32 bits; `held` bits wait in `waiting` for a whole word, `at` words are written."""
    waiting |= value << held
    held += bits
    words[at] = waiting & 0xFFFFFFFF  # written again until it is whole: cheaper than a branch
    whole = held >> 5
    at += whole
    waiting >>= whole << 5
    held &= _WORD_BITS - 1
    return at, waiting, held


@allocating
def _put_tables(words: Any, lengths: Any) -> Any:
    """Write the header of the only block, its type and code lengths; return the state of `_put`."""
    at, waiting, held = _ZERO, _ZERO, _ZERO
    for i in range(len(_HEADER)):
        at, waiting, held = _put(words, at, waiting, held, _HEADER[i, 0], _HEADER[i, 1])
    codes = _codes(_META_LENGTHS)
    s = 0
    while s < lengths.size:
        zeros = 0
        while s + zeros < lengths.size and lengths[s + zeros] == 0 and zeros < 138:  # noqa: PLR2004 # RFC 1951, 3.2.7
            zeros += 1
        if zeros >= 11:  # noqa: PLR2004 # symbol 18: 11..138 zeros
            symbol, extra, extra_bits, step = 18, zeros - 11, 7, zeros
        elif zeros >= 3:  # noqa: PLR2004 # symbol 17: 3..10 zeros
            symbol, extra, extra_bits, step = 17, zeros - 3, 3, zeros
        else:
            symbol, extra, extra_bits, step = lengths[s], 0, 0, 1
        bits = _META_LENGTHS[symbol]
        at, waiting, held = _put(words, at, waiting, held, codes[symbol] | extra << bits, bits + extra_bits)
        s += step
    return _put(words, at, waiting, held, codes[1], _META_LENGTHS[1])  # the one distance code has one bit


@compiled
def _emit(runs: Any, lengths: Any, words: Any) -> int:
    """Write the block; return its size in bytes."""
    codes = _codes(lengths)
    zeros_N2 = np.zeros((_LONGEST_MATCH + 2, 2), np.int64)
    _combine_zeros(codes, lengths, zeros_N2)
    at, waiting, held = _put_tables(words, lengths)
    at, waiting, held = _put_runs(words, at, waiting, held, runs, codes, lengths, zeros_N2)
    at, waiting, held = _put(words, at, waiting, held, codes[_END], lengths[_END])
    words[at] = waiting
    return int(4 * at + (held + 7) // 8)


@inner
def _combine_zeros(codes: Any, lengths: Any, zeros_N2: Any) -> None:
    """Write code and bits of every short run of zeros as a whole, where they have at most 32 bits; else 0 bits."""
    if lengths[0] == 0:
        return
    for n in range(1, _LONGEST_MATCH + 2):
        rest = n - 1
        code, bits = codes[0], lengths[0]
        if rest >= _SHORTEST_MATCH:
            symbol = _MATCH[rest, 0]
            code |= (codes[symbol] | _MATCH[rest, 2] << lengths[symbol]) << bits
            bits += lengths[symbol] + _MATCH[rest, 1] + 1
        else:
            for _ in range(rest):
                code |= codes[0] << bits
                bits += lengths[0]
        if bits <= _WORD_BITS:
            zeros_N2[n, 0] = code
            zeros_N2[n, 1] = bits


@inner
def _put_runs(
    words: Any, at: int, waiting: int, held: int, runs: Any, codes: Any, lengths: Any, zeros_N2: Any
) -> Any:  # fmt: skip
    """Append the runs; return the state of `_put`."""
    for i in range(runs.size):
        value = runs[i] & 255
        n = runs[i] >> 8
        if value == 0 and n < zeros_N2.shape[0] and zeros_N2[n, 1] > 0:
            at, waiting, held = _put(words, at, waiting, held, zeros_N2[n, 0], zeros_N2[n, 1])
            continue
        code = codes[value]
        bits = lengths[value]
        at, waiting, held = _put(words, at, waiting, held, code, bits)
        if n > 1:
            matches, rest = _split_run(n)
            for _ in range(matches):  # one bit more than the code: distance code 0
                at, waiting, held = _put(
                    words, at, waiting, held, codes[_LONGEST_SYMBOL], lengths[_LONGEST_SYMBOL] + 1
                )  # fmt: skip
            if rest >= _SHORTEST_MATCH:
                symbol = _MATCH[rest, 0]
                code = codes[symbol] | _MATCH[rest, 2] << lengths[symbol]
                at, waiting, held = _put(words, at, waiting, held, code, lengths[symbol] + _MATCH[rest, 1] + 1)
            else:
                for _ in range(rest):
                    at, waiting, held = _put(words, at, waiting, held, code, bits)
    return at, waiting, held
