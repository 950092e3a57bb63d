"""The file of a choice: a list that `fsf score` takes, with rank, score and reason of each row.

Knows how text reaches CSV, JSON Lines and Parquet unchanged.
"""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from fsf_core import storage
from fsf_core.analysis.selection.candidates import columns_of, rows_of_masks
from fsf_core.analysis.selection.choose import Pick
from fsf_core.errors import ConfigError
from fsf_core.manifest.chosen import LISTS
from fsf_core.manifest.rows import LABEL_COLUMN
from fsf_core.manifest.suffixes import suffix_of
from fsf_core.runs import RunReader, read_fingerprint
from fsf_core.schema import is_own

OWN = pa.schema(
    [
        ("rank", pa.int64()),
        ("id", pa.string()),
        ("frame_index", pa.int64()),
        ("time_s", pa.float64()),
        ("uri", pa.string()),
        ("kind", pa.string()),
        ("score", pa.float64()),
        ("reason", pa.string()),
    ]
)
"""Columns of the file before those that the run's manifest passed through."""

SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")

FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that a spreadsheet computes instead of showing."""


def require_suffix(uri: str) -> str:
    """Return the ending of a file's name.

    Raises:
        ConfigError: it is none in which a choice can be written.
    """
    suffix = PurePosixPath(storage.without_query(uri)).suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(
            f"--out is {storage.redact(uri)}, expected a file that ends in {', '.join(SUFFIXES)}; rename it"
        )
    return suffix


def as_table(run: RunReader, picks: Sequence[Pick]) -> pa.Table:
    """Return the rows of a choice, with the columns that the run's manifest passed through.

    A column of one of the names in OWN is left out: it is that of an earlier choice.

    Raises:
        OutputError: a committed file is missing or damaged.
    """
    passed = [field for field in columns_of(run) if not is_own(field) and field.name not in OWN.names]
    keys = [(pick.item_id, pick.frame_index) for pick in picks]
    found = rows_of_masks(run, keys, ["uri", *(field.name for field in passed)])
    if LABEL_COLUMN in (field.name for field in passed):
        base = _folder_of_list(run)
        for row in found.values():
            row[LABEL_COLUMN] = row[LABEL_COLUMN] and storage.absolute(row[LABEL_COLUMN], base)
    rows = [
        {
            **found[key],
            "rank": rank,
            "id": pick.item_id,
            "frame_index": pick.frame_index,
            "time_s": pick.time_s,
            "kind": "image" if pick.time_s is None else "video",
            "score": pick.score,
            "reason": pick.reason,
        }
        for rank, (key, pick) in enumerate(zip(keys, picks, strict=True), 1)
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema([*OWN, *(field.remove_metadata() for field in passed)]))


def _folder_of_list(run: RunReader) -> str:
    """Return the folder that the relative addresses in the run's manifest count from."""
    address = str(read_fingerprint(run.uri).get("manifest", ""))
    return storage.parent(address) if suffix_of(address) in LISTS else address


def encode(table: pa.Table, suffix: str) -> bytes:
    """Return a table as a file of this ending."""
    if suffix == ".parquet":
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(table, buffer)
        return buffer.getvalue()
    rows = table.to_pylist()
    if suffix == ".csv":
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(table.column_names)
        writer.writerows([_cell(value) for value in row.values()] for row in rows)
        return text.getvalue().encode()
    return "".join(json.dumps(_without_nan(row), ensure_ascii=False, default=_plain) + "\n" for row in rows).encode()


def formula_cells(table: pa.Table) -> list[str]:
    """Return the texts that a spreadsheet would compute; they stay, because a quote before an id makes another one."""
    texts = [column for column in table.columns if pa.types.is_string(column.type)]
    return [text for column in texts for text in column.to_pylist() if text and text.startswith(FORMULA_SIGNS)]


def unlisted(table: pa.Table) -> list[str]:
    """Return the ids whose address no list can name: members of archives, cells of tables, and redacted ones."""
    rows = table.select(["id", "uri"]).to_pylist()
    return [
        row["id"]
        for row in rows
        if row["uri"].lower().startswith(("span://", "cell://")) or storage.is_redacted(row["uri"])
    ]


def _cell(value: Any) -> str:
    """Return a value as the text of a CSV cell."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return repr(value)
    return (
        json.dumps(value, ensure_ascii=False, default=_plain)
        if isinstance(value, bool | list | dict)
        else _plain(value)
    )


def _without_nan(value: Any) -> Any:
    """Return a value with null for what JSON has no number for: one NaN makes a file that other programs refuse."""
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> str:
    """Return a value without a form of its own in JSON as text."""
    return value.hex() if isinstance(value, bytes) else str(value)
