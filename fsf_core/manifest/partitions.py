"""Folders of Parquet files, whose folder names may be columns (split=test/day=2026-11-01/)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import unquote

import pyarrow as pa

from fsf_core import storage
from fsf_core.errors import ManifestError
from fsf_core.manifest import row_filter
from fsf_core.manifest.parquet_table import read_parquet
from fsf_core.manifest.rows import Read
from fsf_core.manifest.suffixes import suffix_of

Part = tuple[str, str, Mapping[str, str]]
"""A Parquet file, its path in the folder, and the columns that folders stand for: split=test/day=2026-11-01/."""


def parquet_parts(uri: str) -> list[Part]:
    """List the Parquet files below a folder, with the columns that their folders stand for."""
    entries = [entry for entry in storage.list_files(uri) if suffix_of(entry.relative) in {".parquet", ".pq"}]
    return [(entry.uri, entry.relative, _folder_columns(entry.relative)) for entry in entries]


def _folder_columns(relative: str) -> dict[str, str]:
    pairs = (name.partition("=") for name in relative.split("/")[:-1] if "=" in name)
    given = {name: unquote(value) for name, _, value in pairs if not name.startswith("_")}
    return {name: value for name, value in given.items() if value != "__HIVE_DEFAULT_PARTITION__"}  # Hive's null


def partitioned(parts: Sequence[Part], condition: row_filter.Condition | None) -> Read:
    """The rows of all files in name order; a file whose folders rule it out is not opened."""
    kinds = _folder_types([columns for *_, columns in parts])
    chosen = [part for part in parts if _may_hold(part[2], kinds, condition)]

    def read() -> Iterator[pa.Table]:
        schema: pa.Schema | None = None
        for uri, relative, columns in chosen or parts[:1]:
            for table in read_parquet(uri, f"{relative.rpartition('.')[0]}/"):
                for name, kind in kinds.items():
                    value = pa.scalar(columns.get(name)).cast(kind)
                    if name not in table.column_names:
                        table = table.append_column(name, pa.repeat(value, table.num_rows))  # noqa: PLW2901
                if schema is None:
                    schema = table.schema.remove_metadata()
                elif table.num_rows == 0:
                    continue
                yield _like(table, schema, uri)
            if not chosen:
                return

    return read


def _like(table: pa.Table, schema: pa.Schema, uri: str) -> pa.Table:
    """The table in the columns of the first file; one that it lacks is null."""
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    over = [name for name in table.column_names if name not in schema.names]
    if over:
        raise ManifestError(
            f"{storage.redact(uri)} has the columns {over}, which the files before it lack; give all files one schema"
        )
    return pa.table(columns, schema=schema)


def _folder_types(parts: Sequence[Mapping[str, str]]) -> dict[str, pa.DataType]:
    """Whole numbers where all values are; text otherwise."""
    names = [*dict.fromkeys(name for columns in parts for name in columns)]
    values = {name: [columns[name] for columns in parts if name in columns] for name in names}
    whole = {name: all(re.fullmatch(r"-?(0|[1-9]\d{0,17})", value) for value in values[name]) for name in names}
    return {name: pa.int64() if whole[name] else pa.string() for name in names}


def _may_hold(
    columns: Mapping[str, str], kinds: Mapping[str, pa.DataType], condition: row_filter.Condition | None
) -> bool:
    """Whether no part of the condition that speaks of folders alone rules the file out."""
    known = [
        each for each in (row_filter.conjuncts(condition) if condition else ()) if row_filter.columns(each) <= {*kinds}
    ]
    row = pa.table({name: pa.array([columns.get(name)]).cast(kind) for name, kind in kinds.items()}) if known else None
    return row is None or all(row.filter(row_filter.expression(each, row.schema)).num_rows for each in known)
