"""The entropy-coded data of a baseline JPEG: every block is read, the coefficients of those that are wanted are kept.

A block that nobody wants costs little: a table says of the next bits how many whole symbols they hold, how many
coefficients those skip, and whether the block ends with them. The others are looked up symbol by symbol, with the value
behind it.

Nothing is decided about damage: what an intact picture does not have ends the decoding, and the caller takes another
decoder. No access is out of bounds for any data: the position is compared with the end at every minimum coded unit,
which holds at most `PAD_BYTES`.
"""

# A unit is a minimum coded unit of 1 to 6 blocks; a lane is one of 16 blocks whose coefficients are stored in turn

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fsf_core.machine_code.compiling import compiled, inlined

PAD_BYTES = 4096
LANES = 16
CHUNK = 64 * LANES
"""Coefficients of the blocks that are stored in turn."""
MAX_SUM = 5_900
"""Largest sum of absolute coefficients of a block, multiplied out, that is decoded here. Up to it the 16 bits that
libjpeg-turbo's vector code computes with hold every number between the inverse transform's two passes, which
are up to 4 · √2 · cos(π/16) times the sum; the blocks of a picture reach it only if they are black and white noise."""

_SKIP_BITS = 12
_FAST_BITS = 10
_END = 64
_CODE_BITS = 16
_LONGEST_MAGNITUDE = 15
_DRIFT = 1 << 20
_STEP = 64
_RESTART_0, _END_OF_IMAGE, _ESCAPE = 0xD0, 0xD9, 0xFF
_U3, _U4, _U8, _U15, _U32, _U56, _U63, _U64, _U255 = (np.uint64(n) for n in (3, 4, 8, 15, 32, 56, 63, 64, 255))
_SKIP_SHIFT, _FAST_SHIFT, _CODE_SHIFT = (np.uint64(64 - bits) for bits in (_SKIP_BITS, _FAST_BITS, _CODE_BITS))

_ZIGZAG = sorted(range(64), key=lambda at: (at // 8 + at % 8, at % 8 if (at // 8 + at % 8) % 2 == 0 else at // 8))
_PLACE = np.array(_ZIGZAG, np.uint64) * LANES
"""Where each coefficient of a block is in its chunk, from the block's lane on."""


class Codes(NamedTuple):
    """Huffman codes as tables, one code after the other."""

    of_component: NDArray[np.int64]
    """The number of its codes."""
    dc_symbol: NDArray[np.uint16]
    ac_symbol: NDArray[np.uint16]
    """By the next 16 bits: length << 8 | symbol; 0 where no code begins."""
    dc_fast: NDArray[np.int32]
    """By the next 10 bits: value << 16 | length with the value's bits; 0 where they do not hold both."""
    ac_fast: NDArray[np.int32]
    """By the next 10 bits: value << 16 | coefficients to go on << 8 | length with the value; 64 << 8 if unknown."""
    ac_skip: NDArray[np.uint16]
    """By the next 12 bits: coefficients to go on, and 64 more if the block ends, << 4 | length; 128 << 4 if unknown."""


class Coding(NamedTuple):
    """How the blocks of a picture are coded."""

    codes: Codes
    divisors: NDArray[np.int64]
    """Components × 64, in the order of the coefficients."""
    restart_units: int
    """Units between restart markers; 0 without them."""


class Order(NamedTuple):
    """The blocks of a unit, in the order in which they are stored."""

    component: NDArray[np.int64]
    column: NDArray[np.int64]
    """Where the block of the first unit is among the lanes."""
    across: NDArray[np.int64]
    """By how much that of the next unit is further."""
    units_across: int


class State(NamedTuple):
    """The state of decoding between two calls."""

    words: NDArray[np.uint64]
    """The next byte, 64 bits that were read ahead, and how many of them are left."""
    unit: NDArray[np.int64]
    """The next unit."""
    predictions: NDArray[np.int64]
    """DC of the last block of each component."""


@lru_cache(maxsize=8)
def make_codes(of_components: tuple[tuple[bytes, bytes], ...]) -> Codes:
    """Return the tables of the components' DC and AC codes, each of 16 counts and the symbols: 0.5 ms."""
    different = list(dict.fromkeys(of_components))
    dc_symbol, ac_symbol = (
        np.concatenate([_symbols(code) for code in codes]) for codes in zip(*different, strict=True)
    )
    made = Codes(
        np.array([different.index(codes) for codes in of_components], np.int64),
        dc_symbol,
        ac_symbol,
        np.zeros(len(different) << _FAST_BITS, np.int32),
        np.zeros(len(different) << _FAST_BITS, np.int32),
        np.zeros(len(different) << _SKIP_BITS, np.uint16),
    )
    _fill(made, len(different))
    return made


def _symbols(code: bytes) -> NDArray[np.uint16]:
    """Return the table from 16 bits to a symbol and its length."""
    table = np.zeros(1 << _CODE_BITS, np.uint16)
    at, symbols = 0, iter(code[16:])
    for length, count in enumerate(code[:16], 1):
        for symbol in (next(symbols) for _ in range(count)):
            step = 1 << (_CODE_BITS - length)
            table[at : at + step] = length << 8 | symbol
            at += step
    return table


@compiled
def unstuff(data: Any, start: int, restarts: bool, clean: Any, ends: Any) -> bool:  # noqa: C901, FBT001 # one pass
    """Copy the image data without the zeros behind bytes of ones, and without restart markers.

    Args:
        data: uint8, the file.
        start: where the image data begin.
        restarts: whether there may be restart markers.
        clean: uint8, `PAD_BYTES` longer than the image data can be; filled, with zeros behind them.
        ends: int64, filled with the place in clean where each stretch between markers ends.

    Returns:
        False if there are other markers than those expected and the end of the image.
    """
    at = start
    to = 0
    stretch = 0
    while at + 1 < data.size:
        if at + _STEP <= data.size:
            source = data[at : at + _STEP]
            target = clean[to : to + _STEP]
            highest = np.uint8(0)
            for i in range(_STEP):
                target[i] = source[i]
                highest = max(highest, source[i])
            same = _STEP
            if highest == _ESCAPE:
                same = 0
                while source[same] < _ESCAPE:
                    same += 1
            at += same
            to += same
            if same == _STEP:
                continue
        while at + 1 < data.size and data[at] < _ESCAPE:
            clean[to] = data[at]
            at += 1
            to += 1
        if at + 1 >= data.size:
            return False
        marker = data[at + 1]
        at += 2
        if marker == 0:
            clean[to] = _ESCAPE
            to += 1
        elif restarts and marker == _RESTART_0 + stretch % 8 and stretch < ends.size - 1:
            ends[stretch] = to
            stretch += 1
        elif marker == _END_OF_IMAGE and stretch == ends.size - 1:
            ends[stretch] = to
            clean[to : to + PAD_BYTES] = 0
            return True
        else:
            return False
    return False


@compiled
def _fill(codes: Codes, count: int) -> None:
    """Fill the fast tables from those of the symbols."""
    for n in range(count):
        for word in range(1 << _FAST_BITS):
            bits, value = _dc_value(np.uint64(word) << _FAST_SHIFT, codes.dc_symbol, np.uint64(n))
            if bits <= _FAST_BITS:
                codes.dc_fast[(n << _FAST_BITS) + word] = value << 16 | bits
            bits, ahead, value = _ac_value(np.uint64(word) << _FAST_SHIFT, codes.ac_symbol, np.uint64(n))
            if bits == 0 or bits > _FAST_BITS:
                codes.ac_fast[(n << _FAST_BITS) + word] = _END << 8
            else:
                codes.ac_fast[(n << _FAST_BITS) + word] = value << 16 | ahead << 8 | bits
        for word in range(1 << _SKIP_BITS):
            codes.ac_skip[(n << _SKIP_BITS) + word] = _skipped(np.uint64(word) << _SKIP_SHIFT, codes.ac_symbol, n)


@compiled
def _skipped(buffer: Any, symbols: Any, n: int) -> int:
    """Return the entry of ac_skip for the bits that a buffer begins with."""
    used = 0
    passed = 0
    while True:
        bits, ahead, _ = _ac_value(buffer << np.uint64(used), symbols, np.uint64(n))
        if bits == 0 or used + bits > _SKIP_BITS or (ahead < _END and passed + ahead >= _END):
            break
        used += bits
        passed += ahead
        if ahead == _END:
            break
    return passed << 4 | used if used > 0 else 128 << 4


@compiled
def _dc_value(buffer: Any, symbols: Any, n: Any) -> Any:
    """Return the bits of the next symbol with its value, and the value; 0 bits if no code begins here."""
    entry = np.int64(symbols[(n << np.uint64(_CODE_BITS)) + (buffer >> _CODE_SHIFT)])
    length = entry >> 8
    size = entry & 255
    return (length + size if entry > 0 else 0), _signed(buffer << np.uint64(length), size)


@compiled
def _ac_value(buffer: Any, symbols: Any, n: Any) -> Any:
    """Return the bits of the next symbol with its value, by how many coefficients it goes on, and the value.

    64 is to the end; 0 bits mean that no code begins here, or one without a meaning in a baseline JPEG.
    """
    entry = np.int64(symbols[(n << np.uint64(_CODE_BITS)) + (buffer >> _CODE_SHIFT)])
    length = entry >> 8
    size = entry & 15
    run = (entry & 255) >> 4
    if size == 0:
        if run == 0 and entry > 0:
            return length, _END, 0
        return (length if run == 15 else 0), 16, 0  # noqa: PLR2004 # sixteen zeros
    return length + size, run + 1, _signed(buffer << np.uint64(length), size)


@inlined
def _signed(buffer: Any, size: Any) -> Any:
    """Return the value of the first bits of a buffer (T.81, F.2.2.1): those that begin with 0 are negative."""
    if size == 0:
        return 0
    value = np.int64(buffer >> np.uint64(64 - size))
    return value if value >> (size - 1) else value + 1 - (1 << size)


@inlined
def _refill(clean: Any, at: Any, buffer: Any, left: Any) -> Any:
    """Return the next byte, the buffer with at least 56 bits, and how many it has."""
    # One load, as the compiler sees.
    word = (
        (np.uint64(clean[at]) << np.uint64(56))
        | (np.uint64(clean[at + np.uint64(1)]) << np.uint64(48))
        | (np.uint64(clean[at + np.uint64(2)]) << np.uint64(40))
        | (np.uint64(clean[at + np.uint64(3)]) << np.uint64(32))
        | (np.uint64(clean[at + np.uint64(4)]) << np.uint64(24))
        | (np.uint64(clean[at + np.uint64(5)]) << np.uint64(16))
        | (np.uint64(clean[at + np.uint64(6)]) << np.uint64(8))
        | np.uint64(clean[at + np.uint64(7)])
    )
    return at + ((_U63 - left) >> _U3), buffer | (word >> left), left | _U56


@inlined
def _skip_block(clean: Any, at: Any, buffer: Any, left: Any, codes: Codes, n: Any) -> Any:
    """Go past the AC coefficients of a block; the last value says whether they are intact."""
    table = n << np.uint64(_SKIP_BITS)
    k: Any = 1
    while True:
        at, buffer, left = _refill(clean, at, buffer, left)
        entry = np.uint64(0)
        then = np.int64(0)
        for _ in range(4):
            entry = np.uint64(codes.ac_skip[table + (buffer >> _SKIP_SHIFT)])
            then = k + np.int64(entry >> _U4)
            if then >= _END:
                break
            buffer <<= entry & _U15
            left -= entry & _U15
            k = then
        if then < _END:
            continue
        ends = entry >> _U4 >= _U64
        if (then == _END and not ends) or (ends and then < 2 * _END):
            return at, buffer << (entry & _U15), left - (entry & _U15), True
        # The block ends among these symbols, or the first of them is longer than the table.
        at, buffer, left = _refill(clean, at, buffer, left)
        bits, ahead, _ = _ac_value(buffer, codes.ac_symbol, n)
        buffer <<= np.uint64(bits)
        left -= np.uint64(bits)
        k += ahead
        if bits == 0 or k >= _END:
            return at, buffer, left, bits > 0 and (k == _END or ahead == _END)  # noqa: PLR1714 # compiled


@inlined
def _read_block(  # noqa: PLR0913, PLR0917 # the state of decoding, and the block's place
    clean: Any, at: Any, buffer: Any, left: Any, codes: Codes, n: Any, divisors: Any, dc: int, coefficients: Any,
    lane: Any,
) -> Any:  # fmt: skip
    """Store the coefficients of a block, multiplied out; the last value says whether they are intact and small."""
    table = n << np.uint64(_FAST_BITS)
    value = dc * divisors[0]
    coefficients[lane] = value
    total = abs(value)
    k: Any = 0
    while True:
        at, buffer, left = _refill(clean, at, buffer, left)
        entry = np.int64(0)
        then = np.int64(0)
        for _ in range(5):
            entry = np.int64(codes.ac_fast[table + (buffer >> _FAST_SHIFT)])
            then = k + ((entry >> 8) & 255)
            if then >= _END - 1:
                break
            buffer <<= np.uint64(entry & 255)
            left -= np.uint64(entry & 255)
            k = then
            value = (entry >> 16) * divisors[np.uint64(k)]
            total += abs(value)
            coefficients[lane + _PLACE[np.uint64(k)]] = value
        if then < _END - 1:
            continue
        at, buffer, left = _refill(clean, at, buffer, left)
        bits, ahead, value = _ac_value(buffer, codes.ac_symbol, n)
        buffer <<= np.uint64(bits)
        left -= np.uint64(bits)
        k += ahead
        if bits == 0 or k >= _END:
            return at, buffer, left, bits > 0 and ahead == _END and total <= MAX_SUM
        value *= divisors[np.uint64(k)]
        total += abs(value)
        coefficients[lane + _PLACE[np.uint64(k)]] = value
        if k == _END - 1:
            return at, buffer, left, total <= MAX_SUM


@compiled
def decode_units(  # noqa: C901 # one loop, whose state stays in registers
    clean: Any, ends: Any, coding: Coding, order: Order, state: State, starts: Any, lanes: Any, coefficients: Any
) -> bool:
    """Decode rows of units.

    Args:
        clean: uint8, of `unstuff`.
        ends: int64, of `unstuff`.
        coding: of the picture.
        order: of the picture.
        state: is advanced.
        starts: int64 rows × blocks of a unit: where the chunks of the block's row begin; -1 if it is not wanted.
        lanes: int64: where a block of a row is in its chunks, by `Order.column`; -1 if it is not wanted.
        coefficients: int16, zeros; filled.

    Returns:
        False if the data are damaged or unusual.
    """
    codes = coding.codes
    restart_units = coding.restart_units
    at = state.words[0]
    buffer = state.words[1]
    left = state.words[2]
    unit = state.unit[0]
    predictions = state.predictions
    total = np.uint64(ends[ends.size - 1] + 8)
    for row in range(starts.shape[0]):
        for x in range(order.units_across):
            if restart_units > 0 and unit > 0 and unit % restart_units == 0:
                end = ends[unit // restart_units - 1]
                if not _is_at(at, left, end):
                    return False
                at = np.uint64(end)
                buffer = np.uint64(0)
                left = np.uint64(0)
                predictions[:] = 0
            for block in range(order.component.size):
                n = order.component[block]
                code = np.uint64(codes.of_component[n])
                at, buffer, left = _refill(clean, at, buffer, left)
                entry = np.int64(codes.dc_fast[(code << np.uint64(_FAST_BITS)) + (buffer >> _FAST_SHIFT)])
                bits = entry & 255
                value = entry >> 16
                if bits == 0:
                    bits, value = _dc_value(buffer, codes.dc_symbol, code)
                    if bits == 0:
                        return False
                buffer <<= np.uint64(bits)
                left -= np.uint64(bits)
                predictions[n] += value
                lane = lanes[order.column[block] + x * order.across[block]]
                if starts[row, block] >= 0 and lane >= 0:
                    at, buffer, left, intact = _read_block(
                        clean, at, buffer, left, codes, code, coding.divisors[n], predictions[n], coefficients,
                        np.uint64(starts[row, block] + lane),
                    )  # fmt: skip
                else:
                    at, buffer, left, intact = _skip_block(clean, at, buffer, left, codes, code)
                if not intact:
                    return False
            unit += 1
            if at > total:
                return False
        # libjpeg refuses sums beyond 32 bits, which a row cannot reach from here.
        if np.abs(predictions).max() > _DRIFT:
            return False
    state.words[0] = at
    state.words[1] = buffer
    state.words[2] = left
    state.unit[0] = unit
    return True


@inlined
def _is_at(at: Any, left: Any, end: int) -> Any:
    """Return whether less than a byte is left before the end."""
    return 0 <= 8 * end - (8 * np.int64(at) - np.int64(left)) < 8  # noqa: PLR2004 # a byte


def new_state() -> State:
    """Return where every picture begins."""
    return State(np.zeros(3, np.uint64), np.zeros(1, np.int64), np.zeros(3, np.int64))


@compiled
def is_complete(state: State, ends: Any) -> Any:
    """Return whether the image data were read to their last byte."""
    return _is_at(state.words[0], state.words[2], ends[ends.size - 1])
