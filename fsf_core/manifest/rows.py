"""What every reader of a list shares: the columns and the size of a batch, and how values become one."""

import contextlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa

from fsf_core import storage
from fsf_core.errors import ManifestError
from fsf_core.manifest.suffixes import suffix_of

T = TypeVar("T")

BATCH_ROWS = 65_536
"""Most items in one batch."""

NAMES_SHOWN = 5
"""Most names that an error message lists."""

OWN_COLUMNS = ("id", "uri", "kind")
"""Columns of a table that describe the item; all others are passed through."""

LABEL_COLUMN = "label_uri"
"""Column of a table that is passed through, and names the label of the item."""

ITEM_SCHEMA = pa.schema([("item_id", pa.string()), ("uri", pa.string()), ("kind", pa.string())])
"""First columns of every batch of items; a struct `extra` with the pass-through columns may follow, and then where the
list names labels `label_uri`, the absolute address of the label, null for an item without one."""

NO_EXTRA = pa.schema([])

ReadBatches = Callable[[], Iterator[pa.Table]]
"""Reads a list from its first row; every call gives the same rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextColumns:
    """Which columns of a list are text as it is written."""

    names: frozenset[str]
    empty_is_null: bool
    """Whether an empty cell has no value: in CSV, which has no other way to say so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemReader:
    """How to read the items of a list, and what is known of it before they are read."""

    read: ReadBatches
    extra: pa.Schema = NO_EXTRA
    """Pass-through columns."""
    texts: TextColumns | None = None
    """Which columns are text as it is written; None for a list that has types of its own, or no columns."""
    explain_repeated: Callable[[str], str] | None = None
    """Returns what to do about an id that occurs more than once; without it, the list has a column of ids."""


@contextlib.contextmanager
def as_manifest_error(uri: str) -> Iterator[None]:
    """Raise the errors of a damaged file as ManifestError, without what they quote of it."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise unreadable(uri, _reason(error)) from None


def unreadable(uri: str, reason: str, do: str = "repair or replace it") -> ManifestError:
    """Return the error of a list that cannot be read.

    Args:
        uri: the list, or the part of it that is meant.
        reason: what was found, and what was expected.
        do: what to do about it.
    """
    kind = f"{suffix_of(uri)} list".lstrip()
    return ManifestError(f"{storage.redact(uri)} is not a readable {kind}: {reason}; {do}")


def _reason(error: Exception) -> str:
    """Return the message of an error on one line, without the rows and values that Arrow and Python quote."""
    if isinstance(error, UnicodeDecodeError):
        return f"{error.reason} at byte {error.start}, expected {error.encoding.upper()}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    message = " ".join(str(error).split())  # Arrow's have several lines
    return re.sub(r"'.*'", "'…'", re.sub(r"(Expected \d+ columns, got \d+):.*", r"\1", message))


def slices(table: pa.Table) -> Iterator[pa.Table]:
    """Cut a table into batches of at most BATCH_ROWS rows."""
    for start in range(0, table.num_rows, BATCH_ROWS):
        yield table.slice(start, BATCH_ROWS)


def batched(values: Iterable[T]) -> Iterator[list[T]]:
    """Group values into lists of at most BATCH_ROWS."""
    rest = iter(values)
    while batch := list(itertools.islice(rest, BATCH_ROWS)):
        yield batch


def ids_from_names(uri: str, names: Iterable[str]) -> pa.Array:
    """Convert names of files to Arrow text.

    Args:
        uri: the list, for the message.
        names: any, in order.

    Raises:
        ManifestError: a name is not UTF-8; Arrow text is.
    """
    try:
        return pa.array(list(names), pa.string())
    except UnicodeEncodeError as error:
        raise ManifestError(
            f"{storage.redact(uri)} holds {error.object!a}, expected names in UTF-8; rename the file"
        ) from error
