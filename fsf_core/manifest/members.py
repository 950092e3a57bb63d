"""Items inside other files: images in the cells of Parquet tables, and members of tar archives.

A cell has a URI that every worker can open here: `cell://GROUP.ROW/COLUMN/FILE`. That of a member is
`span://OFFSET+LENGTH!NAME/FILE`, which storage reads. Knows no manifest.
"""

import io
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, BinaryIO
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from fsf_core import storage
from fsf_core.errors import DecodeError, FetchError

CELL_ROWS = 16
"""Cells that are decoded at once: some megabytes of images."""

_MARK = secrets.token_hex(16)
"""What cells' URIs begin with until their list is normalized: no list can name it, and it leaves no process."""

_CELL = re.compile(r"cell://(\d+)\.(\d+)/([^/]+)/(.+)", re.DOTALL)


def image_columns(schema: pa.Schema) -> list[str]:
    """Return the columns that hold files: binary, or Hugging Face's struct of bytes and path. Knows no view types."""
    return [field.name for field in schema if _holds_bytes(field.type)]


def holds_lists_of_bytes(kind: pa.DataType) -> bool:
    """Return whether a column holds several files in a cell."""
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return lists and _holds_bytes(kind.value_type)


def cell_uris(uri: str, column: str, group: int, rows: int) -> pa.Array:
    """Return the URIs of the cells of one row group, marked as this program's own for `trusted`."""
    name = quote(column, safe="")
    return pa.array([f"{_MARK}cell://{group}.{row}/{name}/{uri}" for row in range(rows)], pa.string())


def trusted(uri: str) -> str:
    """Return the URI of a row of a table: a cell's if `cell_uris` made it, and otherwise never a part of a file."""
    return uri.removeprefix(_MARK) if uri.startswith(_MARK) else storage.as_listed(uri)


def names_part(uris: pa.Array) -> pa.Array:
    """Return which URIs of a table may change in `trusted`."""
    return pc.or_(pc.starts_with(uris, _MARK), pc.match_substring_regex(uris, "^(?i:span|cell)://"))


def open_prefetched(uris: Sequence[str], access: storage.Access) -> Iterator[storage.Opener]:
    """Do what storage.open_prefetched does, for cells too."""
    if not any(map(_CELL.match, uris)):
        yield from storage.open_prefetched(uris, access)
        return
    cells = _CellReader(access)
    try:
        for uri in uris:
            yield partial(cells.open, uri)
    finally:
        cells.close()


@contextmanager
def open_item(uri: str, access: storage.Access | None = None) -> Iterator[BinaryIO]:
    """Open one item for reading: a file, or a part of one.

    Args:
        uri: of a row of a manifest, or of a run.
        access: which addresses may be opened; without it, any.

    Raises:
        FetchError: it cannot be opened.
        DecodeError: its cell is empty.
    """
    cells = _CellReader(access)
    try:
        with cells.open(uri) as file:
            yield file
    finally:
        cells.close()


class _CellReader:
    """Reads cells in the order of their rows, so that a row group is streamed and never in memory whole."""

    def __init__(self, access: storage.Access | None) -> None:
        self._access = access
        self._group: tuple[str, str, int] | None = None
        self._file: AbstractContextManager[BinaryIO] = nullcontext(io.BytesIO())
        self._rest: Iterator[Any] = iter(())
        self._next = 0

    def open(self, uri: str) -> AbstractContextManager[BinaryIO]:
        """Open one cell, or any other URI, for reading.

        Raises:
            FetchError: the file cannot be read, or its address is not allowed.
            DecodeError: the cell is empty.
        """
        match = _CELL.fullmatch(uri)
        if match is None:
            return storage.open_binary(uri, self._access)
        group, row, column, inner = int(match[1]), int(match[2]), unquote(match[3]), match[4]
        try:
            if self._group != (inner, column, group) or row < self._next:
                self._begin(inner, column, group)
            while self._next <= row:
                cell = next(self._rest)
                self._next += 1
        except (pa.ArrowException, OSError, KeyError, IndexError, StopIteration) as error:
            self.close()
            # Without its message, which may quote what the table holds.
            raise FetchError(
                f"row {row} of row group {group} of {storage.redact(inner)} cannot be read ({type(error).__name__}); "
                "the table has changed since the manifest was read: start a new run"
            ) from None
        data, path = (cell["bytes"], cell.get("path")) if isinstance(cell, dict) else (cell, None)
        if data is None and path:
            address = storage.absolute(path, storage.parent(inner))
            return storage.open_binary(storage.as_listed(address), self._access)
        if not data:
            raise DecodeError(
                f"the cell of {column!r} is empty, expected the bytes of an image; fill it or leave it out"
            )
        return nullcontext(io.BytesIO(data))

    def close(self) -> None:
        """Close the table."""
        self._rest = iter(())
        self._file.__exit__(None, None, None)
        self._file, self._group = nullcontext(io.BytesIO()), None

    def _begin(self, inner: str, column: str, group: int) -> None:
        self.close()
        self._file = storage.open_binary(inner, self._access)
        table = pyarrow.parquet.ParquetFile(self._file.__enter__(), pre_buffer=False, buffer_size=1 << 20)
        batches = table.iter_batches(batch_size=CELL_ROWS, row_groups=[group], columns=[column], use_threads=False)
        self._rest = (cell.as_py() for batch in batches for cell in batch.column(0))
        self._group, self._next = (inner, column, group), 0


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return "bytes" in [field.name for field in kind] and _holds_bytes(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
