"""Folders of Parquet files, whose folder names may be columns (split=test/day=2026-11-01/)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import pyarrow as pa

from fsf_core import storage
from fsf_core.errors import ManifestError
from fsf_core.manifest import row_filter
from fsf_core.manifest.parquet_table import read_parquet
from fsf_core.manifest.rows import ReadBatches, as_manifest_error


@dataclass(frozen=True, kw_only=True, slots=True)
class TableFile:
    """A Parquet file of a folder."""

    uri: str
    relative: str
    """Path below the folder, with forward slashes."""
    folder_values: Mapping[str, str]
    """Column to value, from the names of its folders: split=test/day=2026-11-01/."""


def table_file(entry: storage.Entry) -> TableFile:
    """Read the columns in the path of a Parquet file; Hive's null partition has none."""
    pairs = (name.partition("=") for name in entry.relative.split("/")[:-1] if "=" in name)
    values = {name: unquote(value) for name, _, value in pairs if not name.startswith("_")}
    values = {name: value for name, value in values.items() if value != "__HIVE_DEFAULT_PARTITION__"}
    return TableFile(uri=entry.uri, relative=entry.relative, folder_values=values)


def read_table_files(files: Sequence[TableFile], condition: row_filter.Condition | None) -> ReadBatches:
    """Return a reader of the rows of all files in name order.

    Args:
        files: of one folder, at least one.
        condition: a file whose folders rule it out is not opened, and row groups are skipped as in read_parquet;
            the remaining rows are not filtered.
    """
    types = _folder_types([file.folder_values for file in files])
    chosen = [file for file in files if _may_match(file.folder_values, types, condition)]

    def read() -> Iterator[pa.Table]:
        schema: pa.Schema | None = None
        for file in chosen or files[:1]:
            id_prefix = f"{file.relative.rpartition('.')[0]}/"
            with as_manifest_error(file.uri):
                for rows in read_parquet(file.uri, id_prefix=id_prefix, condition=condition, list_schema=schema):
                    table = _with_folder_columns(rows, file.folder_values, types)
                    if schema is None:
                        schema = table.schema.remove_metadata()
                    elif table.num_rows == 0:
                        continue
                    yield _conform(table, schema, file.uri)
                    if not chosen:
                        return  # the columns alone

    return read


def _with_folder_columns(table: pa.Table, values: Mapping[str, str], types: Mapping[str, pa.DataType]) -> pa.Table:
    """Append the columns of the folders that the file itself lacks."""
    for name, kind in types.items():
        if name not in table.column_names:
            value = pa.scalar(values.get(name)).cast(kind)
            table = table.append_column(name, pa.repeat(value, table.num_rows))
    return table


def _conform(table: pa.Table, schema: pa.Schema, uri: str) -> pa.Table:
    """Cast a table to the columns of the first file; a column that it lacks is null.

    Raises:
        ManifestError: it has columns that the first file lacks.
    """
    additional = [name for name in table.column_names if name not in schema.names]
    if additional:
        raise ManifestError(
            f"{storage.redact(uri)} has the columns {additional}, which the files before it lack; give all files one "
            "schema"
        )
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _folder_types(files: Sequence[Mapping[str, str]]) -> dict[str, pa.DataType]:
    """Return int64 for columns whose values are all whole numbers, text for the others."""
    names = [*dict.fromkeys(name for values in files for name in values)]
    texts = {name: [values[name] for values in files if name in values] for name in names}
    whole = {name: all(re.fullmatch(r"-?(0|[1-9]\d{0,17})", text) for text in texts[name]) for name in names}
    return {name: pa.int64() if whole[name] else pa.string() for name in names}


def _may_match(
    values: Mapping[str, str], types: Mapping[str, pa.DataType], condition: row_filter.Condition | None
) -> bool:
    """Return whether a file may hold a match, by the parts of the condition on folders alone."""
    parts = row_filter.conjuncts(condition) if condition else ()
    known = [part for part in parts if row_filter.columns(part) <= {*types}]
    if not known:
        return True
    row = pa.table({name: pa.array([values.get(name)]).cast(kind) for name, kind in types.items()})
    return all(row.filter(row_filter.expression(part, row.schema)).num_rows for part in known)
