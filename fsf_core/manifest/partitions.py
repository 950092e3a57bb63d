"""Folders of Parquet files, whose folder names may be columns (split=test/day=2026-11-01/)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import unquote

import pyarrow as pa

from fsf_core import storage
from fsf_core.errors import ManifestError
from fsf_core.manifest import row_filter
from fsf_core.manifest.parquet_table import items_schema, read_parquet
from fsf_core.manifest.parquet_types import common_type
from fsf_core.manifest.rows import ReadBatches, as_manifest_error

FOOTERS_IN_FLIGHT = 16
"""Parquet footers that are read from a store at once."""


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


def read_table_files(
    files: Sequence[TableFile], condition: row_filter.Condition | None, *, image_column: str | None = None
) -> ReadBatches:
    """Return a reader of the rows of all files in name order.

    Args:
        files: of one folder, at least one.
        condition: a file whose folders rule it out is not opened, and row groups are skipped as in read_parquet;
            the remaining rows are not filtered.
        image_column: as for read_parquet.

    Raises:
        ManifestError: a file has other columns than the first, or a column has types that no type holds.
    """
    types = _folder_types([file.folder_values for file in files])
    chosen = [file for file in files if _may_match(file.folder_values, types, condition)]
    schema = _list_schema(chosen or files[:1], types, image_column)

    def read() -> Iterator[pa.Table]:
        yield schema.empty_table()
        for file in chosen:
            id_prefix = f"{file.relative.rpartition('.')[0]}/"
            with as_manifest_error(file.uri):
                for rows in read_parquet(
                    file.uri, id_prefix=id_prefix, condition=condition, list_schema=schema, image_column=image_column
                ):
                    if rows.num_rows:
                        yield _conform(_with_folder_columns(rows, file.folder_values, types), schema)

    return read


def _list_schema(files: Sequence[TableFile], types: Mapping[str, pa.DataType], image_column: str | None) -> pa.Schema:
    """Return the columns of the first file, each in the type that holds its values in all files, and the folders'.

    Raises:
        ManifestError: a file has other columns, or there is no such type.
    """
    with ThreadPoolExecutor(1 if storage.is_local(files[0].uri) else FOOTERS_IN_FLIGHT) as pool:
        schemas = pool.map(lambda file: _file_schema(file, image_column), files)
        merged = next(schemas)
        first_with = dict.fromkeys(merged.names, files[0].uri)
        for file, schema in zip(files[1:], schemas, strict=True):
            if schema != merged:
                merged = _merge(merged, schema, file.uri, first_with)
    return pa.schema([*merged, *(pa.field(name, kind) for name, kind in types.items() if name not in merged.names)])


def _file_schema(file: TableFile, image_column: str | None) -> pa.Schema:
    with as_manifest_error(file.uri):
        return items_schema(file.uri, image_column)


def _merge(merged: pa.Schema, schema: pa.Schema, uri: str, first_with: dict[str, str]) -> pa.Schema:
    """Return the columns of a list with the types that also hold the values of one more file.

    Args:
        merged: of the files before it.
        schema: of the file.
        uri: the file.
        first_with: column to the file whose type it has; updated.

    Raises:
        ManifestError: the file has other columns, or there is no such type.
    """
    additional = [name for name in schema.names if name not in merged.names]
    if additional:
        raise ManifestError(
            f"{storage.redact(uri)} has the columns {additional}, which the files before it lack; give all files one "
            "schema"
        )
    for at, field in enumerate(merged):
        if field.name not in schema.names or schema.field(field.name).type == field.type:
            continue
        kind = schema.field(field.name).type
        common = common_type(field.name, field.type, kind)
        if common is None:
            raise ManifestError(
                f"{storage.redact(uri)} has the column {field.name!r} as {kind}, {first_with[field.name]} has it as "
                f"{field.type}, and no type holds both; write it in one type"
            )
        if common != field.type:
            first_with[field.name] = uri
            merged = merged.set(at, field.with_type(common))
    return merged


def _with_folder_columns(table: pa.Table, values: Mapping[str, str], types: Mapping[str, pa.DataType]) -> pa.Table:
    """Append the columns of the folders that the file itself lacks."""
    for name, kind in types.items():
        if name not in table.column_names:
            value = pa.scalar(values.get(name)).cast(kind)
            table = table.append_column(name, pa.repeat(value, table.num_rows))
    return table


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Cast a table to the columns of the list; a column that it lacks is null."""
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
