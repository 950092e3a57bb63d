"""The compressed rows of a PNG: classes packed into bits, filtered, in a zlib stream. Knows no colours.

A class map is long runs, and consecutive rows are nearly equal: after PNG's filter Up most bytes are 0. The stream
needs only literals and repeats of the byte before, zlib's strategy Z_RLE, which gave the smallest masks of all
strategies tried. It is written here because its bytes are promised: they depend on the classes alone, while igzip's
differ between generations of processors and zlib's between builds. Filter and stream of smooth to speckled maps of 4
classes on one core of an EPYC, 2026-11-27:

  pixels          512x512          1920x1080        4000x3000
  this          0.14-0.78 ms      0.5-2.9 ms       1.8-7.3 ms
  zlib 1.2.13   0.11-0.52 ms      0.8-2.2 ms       4.9-8.0 ms

Compiling it costs 2.7 s of CPU, once per installation.
"""

# H×W pixels; runs of bytes; symbols are RFC 1951's: literals 0..255, end of block 256, match lengths 257..285

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsf_core.machine_code.compiling import as_input, compiled

_SYMBOLS = 286
_END = 256
_LONGEST_SYMBOL = 285
_SHORTEST_MATCH = 3
_LONGEST_MATCH = 258
_LONGEST_CODE = 15
_WORD_BITS = 32
_ADLER = 65521


def _match_table() -> NDArray[np.int64]:
    """Return symbol, number of extra bits and their value for every match length 0..258 (RFC 1951, 3.2.5)."""
    table = np.zeros((_LONGEST_MATCH + 1, 3), np.int64)
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
    runs, adler = _scan(padded, padded.view(np.uint64), size_bytes, counts)
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


@compiled
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


@compiled
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
def _scan(data: Any, words: Any, size: int, counts: Any) -> Any:
    """Split the data into runs and count the symbols that they need.

    Returns:
        Every run as length << 8 | byte, and the Adler-32 of the data, updated once per run.
    """
    runs = np.empty(4096, np.int64)
    found = 0
    low = np.int64(1)
    high = np.int64(0)
    counts[_END] = 1
    i = 0
    while i < size:
        value = np.int64(data[i])
        n = 1 if i + 1 < size and data[i + 1] != data[i] else _run_length(data, words, i, size)
        if n == 1:
            counts[value] += 1
            low += value
            high += low
        else:
            matches, rest = _split_run(n)
            counts[value] += 1 if rest >= _SHORTEST_MATCH else 1 + rest
            counts[_LONGEST_SYMBOL] += matches
            if rest >= _SHORTEST_MATCH:
                counts[_MATCH[rest, 0]] += 1
            high += n * low + value * (n * (n + 1) // 2 % _ADLER)
            low += n * value
        if low > 1 << 30 or high > 1 << 46:  # rarely: a division per run would cost more than the rest of the loop
            low %= _ADLER
            high %= _ADLER
        if found == runs.size:
            longer = np.empty(2 * found, np.int64)
            for j in range(found):  # a slice assignment adds seconds of compilation
                longer[j] = runs[j]
            runs = longer
        runs[found] = n << 8 | value
        found += 1
        i += n
    return runs[:found], high % _ADLER << 16 | low % _ADLER


@compiled
def _run_length(data: Any, words: Any, start: int, size: int) -> int:
    """Count the consecutive bytes equal to the one at start, eight per step."""
    value = data[start]
    i = start + 1
    while i < size and i & 7 and data[i] == value:
        i += 1
    if i < size and not i & 7:
        pattern = np.uint64(value) * np.uint64(0x0101010101010101)
        w = i >> 3
        whole = size >> 3
        while w < whole and words[w] == pattern:
            w += 1
        i = w << 3
        while i < size and data[i] == value:
            i += 1
    return i - start


@compiled
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


@compiled
def _huffman(weights: Any, lengths: Any) -> int:
    """Write the depth of every symbol in the Huffman tree; return the greatest."""
    weight = np.zeros(2 * _SYMBOLS, np.int64)
    parent = np.zeros(2 * _SYMBOLS, np.int64)
    depth = np.zeros(2 * _SYMBOLS, np.int64)
    free = np.empty(_SYMBOLS, np.int64)
    n = 0
    for s in range(_SYMBOLS):
        weight[s] = weights[s]
        if weights[s] > 0:
            free[n] = s
            n += 1
    root = _SYMBOLS - 1
    while n > 1:  # at most 286 symbols: a linear search for the two lightest costs microseconds
        root += 1
        for _ in range(2):
            lightest = 0
            for j in range(1, n):
                if weight[free[j]] < weight[free[lightest]]:
                    lightest = j
            parent[free[lightest]] = root
            weight[root] += weight[free[lightest]]
            n -= 1
            free[lightest] = free[n]
        free[n] = root
        n += 1
    for node in range(root - 1, _SYMBOLS - 1, -1):
        depth[node] = depth[parent[node]] + 1
    deepest = 0
    for s in range(_SYMBOLS):
        lengths[s] = depth[parent[s]] + 1 if weights[s] > 0 else 0
        deepest = max(deepest, lengths[s])
    return deepest


@compiled
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


@compiled
def _put(words: Any, at: int, waiting: int, held: int, value: int, bits: int) -> Any:
    """Append at most 31 bits; `held` bits wait in `waiting` for a whole word, `at` words are written."""
    waiting |= value << held
    held += bits
    if held >= _WORD_BITS:
        words[at] = waiting & 0xFFFFFFFF
        at += 1
        waiting >>= _WORD_BITS
        held -= _WORD_BITS
    return at, waiting, held


@compiled
def _put_tables(words: Any, lengths: Any) -> Any:
    """Write the header of the only block, its type and code lengths; return the state of `_put`."""
    at, waiting, held = _put(words, 0, 0, 0, 0b101, 3)  # the last block, dynamic codes
    at, waiting, held = _put(words, at, waiting, held, _SYMBOLS - 257, 5)
    at, waiting, held = _put(words, at, waiting, held, 0, 5)  # one distance code
    at, waiting, held = _put(words, at, waiting, held, _META_ORDER.size - 4, 4)
    for i in range(_META_ORDER.size):
        at, waiting, held = _put(words, at, waiting, held, _META_LENGTHS[_META_ORDER[i]], 3)
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
    at, waiting, held = _put_tables(words, lengths)
    for i in range(runs.size):
        value = runs[i] & 255
        code = codes[value]
        bits = lengths[value]
        at, waiting, held = _put(words, at, waiting, held, code, bits)
        if runs[i] >> 8 > 1:
            matches, rest = _split_run(runs[i] >> 8)
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
    at, waiting, held = _put(words, at, waiting, held, codes[_END], lengths[_END])
    words[at] = waiting
    return int(4 * at + (held + 7) // 8)
