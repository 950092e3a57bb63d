"""Batches of items as every kind of list gives them, and what all readers share."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import storage
from fsf_core.errors import ManifestError
from fsf_core.manifest import row_filter

# fmt: on
KINDS = ("image", "video")

BATCH_ROWS = 65_536

NAMES_SHOWN = 5

OWN_COLUMNS = ("id", "uri", "kind")

NO_EXTRA = pa.schema([])

ROWS = pa.schema([("item_id", pa.string()), ("uri", pa.string()), ("kind", pa.string())])
"""The columns that every batch of items begins with; a struct `extra` with the other columns may follow."""

Read = Callable[[], Iterator[pa.Table]]

Reader = tuple[Read, pa.Schema, int]
"""How to read the list, its pass-through columns, and how many files were left out."""


def matching(read: Read, chosen: pc.Expression) -> Read:
    """Return a reader of the rows for which an expression holds."""
    return lambda: (table.filter(chosen) for table in read())


def filtered(read: Read, condition: row_filter.Condition | None) -> Read:
    """A list without columns of its own, where a condition may ask for id, uri and kind."""
    if condition is None:
        return read
    named = pa.schema([field.with_name(name) for field, name in zip(ROWS, OWN_COLUMNS, strict=True)])
    chosen = row_filter.expression(condition, named)
    return lambda: (table.rename_columns([*OWN_COLUMNS]).filter(chosen).rename_columns(ROWS.names) for table in read())


def slices(table: pa.Table) -> Iterator[pa.Table]:
    """Cut a table into batches of at most BATCH_ROWS rows."""
    for start in range(0, table.num_rows, BATCH_ROWS):
        yield table.slice(start, BATCH_ROWS)


Each = TypeVar("Each")


def batched(rows: Iterable[Each]) -> Iterator[list[Each]]:
    """Group values into lists of at most BATCH_ROWS."""
    rest = iter(rows)
    while some := list(itertools.islice(rest, BATCH_ROWS)):
        yield some


def id_array(uri: str, names: Iterable[str]) -> pa.Array:
    """Ids as Arrow text, which is UTF-8; names of files need not be."""
    try:
        return pa.array(list(names), pa.string())
    except UnicodeEncodeError as error:
        raise ManifestError(
            f"{storage.redact(uri)} holds {error.object!a}, expected names in UTF-8; rename the file"
        ) from error
