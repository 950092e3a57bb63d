"""CSV text cut into pieces of whole rows, strictly: a quote opens a cell at its start and closes it at its end.

Knows quotes, delimiters and line ends (LF, CR LF, CR). Converts no values.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

PIECE_BYTES = 4 << 20
"""Bytes that are parsed at once."""

MAX_ROW_BYTES = 64 << 20
"""Largest row; the search for the end of a quote stops there."""

_QUOTE, _LF, _CR = b'"'[0], b"\n"[0], b"\r"[0]

Offsets = NDArray[np.int64]


class RowError(Exception):
    """A row that is not CSV."""

    def __init__(self, data: bytes, at: int, quotes: Offsets, found: str) -> None:
        super().__init__(found)
        self.rows_before = _rows_before(data, at, quotes)
        """Rows of the piece before it."""
        self.line = lines_of(data[:at])
        """Lines of the piece before it."""


def pieces(first: bytes, read: Callable[[int], bytes], *, delimiter: str, quoted: bool) -> Iterator[bytes]:
    """Cut a text into pieces of whole rows.

    Args:
        first: the beginning of the text.
        read: returns about as many further bytes, none at the end.
        delimiter: between two cells of a row.
        quoted: whether quotes have a meaning.

    Raises:
        RowError: a quote is not closed, text follows a closing quote, or a row is too long.
    """
    data, size = first, PIECE_BYTES
    while True:
        new = read(size)
        data += new
        quotes = _quotes(data, delimiter) if quoted else _NO_QUOTES
        if not new:
            if len(quotes) % 2:
                raise RowError(data, _opening(quotes), quotes, "a quote opens and is never closed")
            if data:
                yield data
            return
        end = _last_end(data, quotes)
        if end:
            yield data[:end]
            data, size = data[end:], PIECE_BYTES
        elif len(data) > MAX_ROW_BYTES:
            found = "a quote opens and is not closed" if len(quotes) % 2 else "a row does not end"
            at = _opening(quotes) if len(quotes) % 2 else 0
            raise RowError(data, at, quotes, f"{found} within {MAX_ROW_BYTES >> 20} MiB")
        else:
            size = len(data)


def first_row_end(data: bytes, delimiter: str, *, quoted: bool) -> int:
    """Return where the first row of a piece ends, its line end included; empty lines before it belong to it."""
    quotes = _quotes(data, delimiter) if quoted else _NO_QUOTES
    begin = len(data) - len(data.lstrip(b"\r\n"))
    at = begin
    while True:
        ends = [end for end in (data.find(b"\n", at), data.find(b"\r", at)) if end >= 0]
        if not ends:
            return len(data)
        at = min(ends)
        inside = int(np.searchsorted(quotes, at))
        if inside % 2 == 0:
            return at + (2 if data[at : at + 2] == b"\r\n" else 1)
        if inside == len(quotes):
            return len(data)
        at = int(quotes[inside])


def lines_of(data: bytes) -> int:
    """Return the number of line ends, of the one kind that a file has."""
    return data.count(b"\n") or data.count(b"\r")


_NO_QUOTES: Offsets = np.empty(0, np.int64)


def _quotes(data: bytes, delimiter: str) -> Offsets:
    """Return the offsets of the quotes that open and close cells, by turns; those in the middle of a cell are text.

    Raises:
        RowError: text follows a closing quote.
    """
    if b'"' not in data:
        return _NO_QUOTES
    array = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(array == _QUOTE)
    borders = np.zeros(256, np.bool_)
    borders[[ord(delimiter), _LF, _CR, _QUOTE]] = True
    before = np.where(quotes > 0, array[quotes - 1], _LF)[0::2]
    after = np.where(quotes + 1 < len(array), array[np.minimum(quotes + 1, len(array) - 1)], _LF)[1::2]
    # In pairs: a doubled quote ends a cell and begins it again. Most files have no other quotes.
    if borders[before].all() and borders[after].all():
        return quotes
    return _quotes_one_by_one(data, quotes.tolist(), delimiter)


def _quotes_one_by_one(data: bytes, quotes: list[int], delimiter: str) -> Offsets:
    """Do the same where some quotes are text."""
    borders = {ord(delimiter), _LF, _CR}
    found: list[int] = []
    doubled = -1
    for at, following in zip(quotes, [*quotes[1:], -1], strict=True):
        if at == doubled:
            continue
        if len(found) % 2 == 0:
            if at == 0 or data[at - 1] in borders:
                found.append(at)
        elif following == at + 1:
            doubled = following
        elif at + 1 == len(data) or data[at + 1] in borders:
            found.append(at)
        else:
            raise RowError(data, at, np.array(found, np.int64), "text follows a closing quote")
    return np.array(found, np.int64)


def _opening(quotes: Offsets) -> int:
    """Return the offset of the quote that opens the last cell, which is not closed."""
    last = len(quotes) - 1
    while last > 0 and quotes[last - 1] == quotes[last] - 1:
        last -= 2
    return int(quotes[last])


def _last_end(data: bytes, quotes: Offsets) -> int:
    """Return where the last whole row ends, its line end included; 0 where none does."""
    for sign, stop in ((b"\n", len(data)), (b"\r", len(data) - 1)):  # an LF may follow the last CR
        at = data.rfind(sign, 0, stop)
        while at >= 0 and (inside := int(np.searchsorted(quotes, at))) % 2:
            at = data.rfind(sign, 0, int(quotes[inside - 1]))
        if at >= 0:
            return at + 1
    return 0


def _rows_before(data: bytes, at: int, quotes: Offsets) -> int:
    """Count the rows that end before an offset; empty lines are none."""
    array: NDArray[Any] = np.frombuffer(data[:at], np.uint8)
    ends = np.flatnonzero((array == _LF) | (array == _CR))
    ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
    ends = ends[ends > 0]
    return int(np.isin(array[ends - 1], (_LF, _CR), invert=True).sum())
