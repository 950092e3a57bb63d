"""Items that lie inside other files: members of tar archives, and pictures in the cells of Parquet tables.

Gives each a URI of its own, which any worker can open: `span://OFFSET+LENGTH/FILE` is read by storage, and
`cell://GROUP.ROW/COLUMN/FILE` here. Knows the two formats; knows no manifest.
"""

import io
import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.parquet

from fsf_core import storage
from fsf_core.errors import DecodeError, FetchError
from fsf_core.options import SCHEMES

CELL_ROWS = 16
"""Cells that are decoded at once; of pictures, that is some megabytes."""

_CELL = re.compile(r"cell://(\d+)\.(\d+)/([^/]+)/(.+)", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A file in an archive."""

    name: str
    uri: str

    @property
    def key(self) -> str:
        """What the files of one sample have in common: the path up to the first dot of the name (WebDataset)."""
        path = PurePosixPath(self.name)
        return str(path.with_name(path.name.split(".", 1)[0] or path.name))


def tar_members(uri: str) -> Iterator[Member]:
    """The files of an uncompressed archive in their order; only headers are read.

    Raises:
        FetchError: it cannot be opened.
        OSError: it is no tar archive, or cut short.
    """
    with storage.open_binary(uri) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    if member.isreg() and not member.issparse():
                        yield Member(name=member.name, uri=storage.byte_range(uri, member.offset_data, member.size))
        except tarfile.TarError as error:
            raise OSError(f"no tar archive: {error}") from error


def image_columns(schema: pa.Schema) -> list[str]:
    """Columns that hold files: binary, or Hugging Face's struct of bytes and path."""
    return [field.name for field in schema if _holds_bytes(field.type)]


def cell_uris(uri: str, column: str, group: int, rows: int) -> pa.Array:
    """The URIs of the cells of one row group."""
    return pa.array([f"cell://{group}.{row}/{quote(column, safe='')}/{uri}" for row in range(rows)], pa.string())


def open_prefetched(uris: Sequence[str], *, schemes: tuple[str, ...]) -> Iterator[storage.Opener]:
    """As storage.open_prefetched, for cells too."""
    if not any(map(_CELL.match, uris)):
        yield from storage.open_prefetched(uris, schemes=schemes)
        return
    cells = _Cells(schemes)
    try:
        for uri in uris:
            yield partial(cells.open, uri)
    finally:
        cells.close()


@contextmanager
def open_item(uri: str) -> Iterator[BinaryIO]:
    """One item as a file, wherever it lies.

    Raises:
        FetchError: it cannot be opened.
    """
    cells = _Cells(SCHEMES)
    try:
        with cells.open(uri) as file:
            yield file
    finally:
        cells.close()


class _Cells:
    """Cells in the order of their rows; a row group is read on and on, and held nowhere whole."""

    def __init__(self, schemes: tuple[str, ...]) -> None:
        self._schemes = schemes
        self._group: tuple[str, str, int] | None = None
        self._file: AbstractContextManager[BinaryIO] = nullcontext(io.BytesIO())
        self._rest: Iterator[Any] = iter(())
        self._next = 0

    def open(self, uri: str) -> AbstractContextManager[BinaryIO]:
        """The bytes of one cell as a file.

        Raises:
            FetchError: the table cannot be read, or the cell is empty.
        """
        match = _CELL.fullmatch(uri)
        if match is None:
            storage.require_scheme(uri, self._schemes)
            return storage.open_binary(uri)
        group, row, column, inner = int(match[1]), int(match[2]), unquote(match[3]), match[4]
        storage.require_scheme(inner, self._schemes)
        try:
            if self._group != (inner, column, group) or row < self._next:
                self._begin(inner, column, group)
            while self._next <= row:
                found = next(self._rest)
                self._next += 1
        except (pa.ArrowException, OSError, KeyError, IndexError, StopIteration) as error:
            self.close()
            raise FetchError(
                f"row {row} of row group {group} of {storage.redact(inner)} cannot be read: {error}; "
                "the table is another than the manifest's: start a new run"
            ) from error
        if isinstance(found, dict):
            found = found["bytes"]
        if not found:
            raise DecodeError(
                f"the cell of {column!r} is empty, expected the bytes of a picture; fill it or leave it out"
            )
        return nullcontext(io.BytesIO(found))

    def close(self) -> None:
        """Let the table go."""
        self._rest = iter(())
        self._file.__exit__(None, None, None)
        self._file, self._group = nullcontext(io.BytesIO()), None

    def _begin(self, inner: str, column: str, group: int) -> None:
        self.close()
        self._file = storage.open_binary(inner)
        table = pyarrow.parquet.ParquetFile(self._file.__enter__(), pre_buffer=False, buffer_size=1 << 20)
        batches = table.iter_batches(batch_size=CELL_ROWS, row_groups=[group], columns=[column], use_threads=False)
        self._rest = (cell.as_py() for batch in batches for cell in batch.column(0))
        self._group, self._next = (inner, column, group), 0


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return "bytes" in [field.name for field in kind] and _holds_bytes(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
