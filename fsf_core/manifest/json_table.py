"""JSON files as lists: objects one after the other or in an array, every value as text. Read as a stream.

Text stays as it is, a number and a boolean as they are written, null is null, and an object or array is compact JSON.
"""

import contextlib
import gc
import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pyarrow as pa

from fsf_core import storage
from fsf_core.manifest.rows import BATCH_ROWS, ReadBatches, unreadable
from fsf_core.manifest.utf8 import TextReader

PIECE_BYTES = 1 << 20
"""Characters that are read at once, so that a long list is never in memory whole."""

MAX_HELD_BYTES = 64 << 20
"""Largest list that is held in memory, and not parsed again whenever it is read."""

MAX_ROW_CHARACTERS = 64 << 20
"""Largest row; the search for the end of an object stops there."""

_BLANK = re.compile(r"[ \t\r\n]*")

Row: TypeAlias = dict[str, Any]


def open_json(uri: str) -> ReadBatches:
    """Read a file once, and return a reader of its rows as text, whose first batch is empty and has its columns.

    Columns are those of all rows, in the order of their first ones; a row may lack some.

    Raises:
        ManifestError: it is not UTF-8 or UTF-16, or a row is no object.
    """
    names: dict[str, None] = {}
    held: list[pa.Table] = []
    held_bytes = 0
    for table in _tables(uri):
        names |= dict.fromkeys(table.column_names)
        held_bytes += table.nbytes
        if held_bytes <= MAX_HELD_BYTES:
            held.append(table)
    schema = pa.schema([(name, pa.string()) for name in names or ("uri",)])

    def read() -> Iterator[pa.Table]:
        yield schema.empty_table()
        for table in held if held_bytes <= MAX_HELD_BYTES else _tables(uri):
            columns = [table.column(name) if name in table.column_names else _nulls(table) for name in schema.names]
            yield pa.table(columns, schema=schema)

    return read


def _tables(uri: str) -> Iterator[pa.Table]:
    """Yield the rows of a file in the columns that they have."""
    first = 0
    for rows in _batches(uri):
        names = dict.fromkeys(itertools.chain.from_iterable(rows)) or ("uri",)  # a table without columns has no rows
        yield pa.table({name: _texts(uri, [row.get(name) for row in rows], first) for name in names})
        first += len(rows)


def _nulls(table: pa.Table) -> pa.Array:
    return pa.nulls(table.num_rows, pa.string())


class _Literal(str):
    """A number as it is written."""

    __slots__ = ()


class _Repeated:
    """An object that has a name twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs
        names = [name for name, _ in pairs]
        self.name = next(name for name in names if names.count(name) > 1)


def _object(pairs: list[tuple[str, Any]]) -> "Row | _Repeated":
    row = dict(pairs)
    return row if len(row) == len(pairs) else _Repeated(pairs)


_SCAN: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_Literal, parse_float=_Literal, parse_constant=_Literal
).scan_once  # type: ignore[attr-defined]
"""Returns the value that begins at an offset, and where it ends."""

_KINDS = {str: "text", _Literal: "a number", bool: "true or false", list: "an array", type(None): "null"}


def _batches(uri: str) -> Iterator[list[Row]]:
    """Yield rows, at most BATCH_ROWS at once."""
    with storage.open_binary(uri) as file:
        rows = _Rows(uri, TextReader(uri, file).read)
        while batch := rows.read():
            yield batch


class _Rows:
    """The rows of an open file."""

    def __init__(self, uri: str, read: Callable[[int], str]) -> None:
        self._uri, self._read = uri, read
        self._text, self._at, self._ended = "", 0, False
        self._lines = self._rows = 0
        self._in_array = self._more() and self._text[self._at] == "["
        if self._in_array:
            self._at += 1
            self._is_last = self._more() and self._text[self._at] == "]"

    def read(self) -> list[Row]:
        """Return the next rows; none at the end."""
        rows: list[Row] = []
        with _no_garbage_collection():
            while len(rows) < BATCH_ROWS and self._has_next():
                rows.append(self._row())
                self._rows += 1
        return rows

    def _has_next(self) -> bool:
        if not self._in_array:
            return self._more()
        if not self._is_last:
            return True
        self._at += 1
        if self._more():
            raise self._error("text follows the array, expected the end of the file")
        self._in_array = False
        return False

    def _row(self) -> Row:
        """Return the next object, and go on to what follows it."""
        value = self._value()
        if isinstance(value, _Repeated):
            raise self._error(f"the name {value.name!r} is there twice", "give every value a name of its own")
        if not isinstance(value, dict):
            raise self._error(f'{_KINDS[type(value)]} was found, expected an object such as {{"uri": "a.jpg"}}')
        if self._in_array:
            sign = self._text[self._at] if self._more() else ""
            if sign not in {",", "]"}:
                raise self._error("expected a comma or the end of the array after this row")
            self._is_last = sign == "]"
            self._at += sign == ","
        return value

    def _value(self) -> Any:
        """Return the next value; reads on where it does not end in what was read."""
        size = PIECE_BYTES
        while True:
            if not self._more():
                raise self._error("the file ends inside the array")
            try:
                value, end = _SCAN(self._text, self._at)
            except RecursionError:
                raise self._error("objects are nested too deep, expected fewer levels") from None
            except StopIteration as error:
                failed = ("a value was expected", int(error.value))
            except json.JSONDecodeError as error:
                failed = (error.msg[0].lower() + error.msg[1:], error.pos)
            else:
                if end < len(self._text) or self._ended or isinstance(value, dict | list):
                    self._at = end
                    return value
                failed = ("a value was expected", end)  # a number may go on
            if self._ended or len(self._text) - self._at > MAX_ROW_CHARACTERS:
                raise self._error(failed[0], line=self._text.count("\n", 0, failed[1]))
            self._extend(size)
            size *= 2

    def _more(self) -> bool:
        """Skip blanks; return whether anything follows."""
        while True:
            match = _BLANK.match(self._text, self._at)
            assert match
            self._at = match.end()
            if self._at < len(self._text):
                return True
            if self._ended:
                return False
            self._extend(PIECE_BYTES)

    def _extend(self, size: int) -> None:
        """Read on, and drop what was parsed."""
        more = self._read(size)
        self._ended = not more
        self._lines += self._text.count("\n", 0, self._at)
        self._text = self._text[self._at :] + more
        self._at = 0

    def _error(self, found: str, do: str = "repair or replace it", line: int | None = None) -> Exception:
        number = self._lines + (self._text.count("\n", 0, self._at) if line is None else line) + 1
        return unreadable(self._uri, f"{found} in row {self._rows} (the first is 0), line {number}", do)


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Pause the collection of cycles, which triples the time of parsing; parsed JSON has none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _texts(uri: str, values: list[Any], first: int) -> pa.Array:
    """Return the values of a column as text.

    Args:
        uri: the list, for messages.
        values: of the column.
        first: number of the first row.
    """
    try:
        return pa.array(values, pa.string())
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        values = [*map(_text, values)]
    except UnicodeEncodeError:
        pass
    for row, value in enumerate(values):
        if value is not None and not _is_unicode(value):
            raise unreadable(
                uri, f"half of a surrogate pair in row {first + row} (the first is 0), expected Unicode text"
            )
    return pa.array(values, pa.string())


def _is_unicode(value: Any) -> bool:
    try:
        return bool(_text(value).encode()) or True
    except UnicodeEncodeError:
        return False


def _text(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    """Return a value as compact JSON with its numbers as they were written."""
    if isinstance(value, _Literal):
        return str(value)
    if isinstance(value, dict | _Repeated):
        pairs = value.pairs if isinstance(value, _Repeated) else value.items()
        return "{" + ",".join(f"{json.dumps(name, ensure_ascii=False)}:{_json(inner)}" for name, inner in pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
