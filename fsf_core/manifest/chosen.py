"""Lists that choose items and frames, as `fsf select` writes them: the columns id and frame_index."""

from collections.abc import Iterator

import pyarrow as pa

from fsf_core import storage
from fsf_core.errors import FetchError, ManifestError, StorageError
from fsf_core.manifest.csv_table import read_csv
from fsf_core.manifest.frames import FRAME
from fsf_core.manifest.json_table import open_json
from fsf_core.manifest.open import open_manifest
from fsf_core.manifest.parquet_table import read_parquet
from fsf_core.manifest.rows import as_manifest_error, unreadable
from fsf_core.manifest.suffixes import TABLE_SUFFIXES, suffix_of

LISTS = frozenset((".csv", ".tsv", ".jsonl", ".ndjson", ".json", *TABLE_SUFFIXES))
"""Endings of lists with columns."""

MAX_FRAMES = 2**53
"""Above it, a double does not hold every whole number."""

Chosen = tuple[str, int | None]
"""Item id, and index of a frame; None for the whole item."""


def read_chosen(uri: str) -> list[Chosen]:
    """Read the items and frames that a list names, in its order.

    Args:
        uri: a table with a column id (or item_id, or uri) and, where frames are meant, frame_index; or any other list
            that can be scored.

    Raises:
        ManifestError: it cannot be read, or a row has no id or no number of a frame.
    """
    uri = storage.absolute(uri)
    suffix = suffix_of(uri)
    try:
        with as_manifest_error(uri):
            return _read(uri, suffix)
    except (FetchError, StorageError) as error:
        raise ManifestError(str(error)) from error


def _read(uri: str, suffix: str) -> list[Chosen]:
    if storage.is_folder(uri) or suffix not in LISTS:
        batches = open_manifest(uri).batches()
        return [(str(item_id), None) for batch in batches for item_id in batch.column("item_id").to_pylist()]
    return [row for table in _tables(uri, suffix) for row in _rows(uri, table)]


def _tables(uri: str, suffix: str) -> Iterator[pa.Table]:
    if suffix in TABLE_SUFFIXES:
        return read_parquet(uri)
    return read_csv(uri, quoted=suffix == ".csv") if suffix in {".csv", ".tsv"} else open_json(uri)()


def _rows(uri: str, table: pa.Table) -> Iterator[Chosen]:
    name = next((name for name in ("id", "item_id", "uri") if name in table.column_names), None)
    if name is None:
        raise unreadable(
            uri, f"it has the columns {table.column_names}, expected one named id or uri", "rename the column of ids"
        )
    for used in (name, FRAME):
        if (count := table.column_names.count(used)) > 1:
            raise unreadable(uri, f"{count} columns are named {used}, expected one", "rename or remove the others")
    ids = table.column(name).cast(pa.string()).to_pylist()
    frames = table.column(FRAME).to_pylist() if FRAME in table.column_names else [None] * len(ids)
    for item_id, frame in zip(ids, frames, strict=True):
        if not item_id:
            raise unreadable(uri, f"the column {name} is empty in a row, expected an id", "fill it, or remove the row")
        yield storage.redact(item_id) if name == "uri" else item_id, _frame(uri, frame)


def _frame(uri: str, value: object) -> int | None:
    if value is None or value == "":
        return None
    try:
        number = float(str(value))  # pandas writes a column with gaps as 7.0
    except ValueError:
        number = -1.0
    if not (0 <= number < MAX_FRAMES and number.is_integer()):
        raise unreadable(
            uri, f"{FRAME} is {value!r} in a row, expected the index of a frame, or nothing", "correct the column"
        )
    return int(number)
