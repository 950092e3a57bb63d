"""Parquet files as lists, including those that hold images in their cells."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from fsf_core import storage
from fsf_core.errors import ManifestError
from fsf_core.manifest import members, row_filter
from fsf_core.manifest.parquet_types import as_plain, plain_schema
from fsf_core.manifest.rows import BATCH_ROWS, slices


def read_parquet(
    uri: str,
    *,
    id_prefix: str = "",
    condition: row_filter.Condition | None = None,
    list_schema: pa.Schema | None = None,
    image_column: str | None = None,
) -> Iterator[pa.Table]:
    """Yield the rows of a file, after an empty table with its columns.

    A file with one column of images and none named `uri` gives the URI of each cell instead of the image.

    Args:
        uri: the file.
        id_prefix: what the row numbers follow that are the ids of images without any.
        condition: row groups that cannot hold a match are skipped; the rows of the others are not filtered.
        list_schema: the columns of the list that the file is part of; without it, its own.
        image_column: of the images, where there are several or a column `uri`.

    Raises:
        ManifestError: it is unclear which column holds the images.
    """
    with storage.open_binary(uri) as file:
        fragment = _fragment(file) if condition is not None else None
        table = pyarrow.parquet.ParquetFile(file, metadata=fragment.metadata if fragment is not None else None)
        schema = plain_schema(table.schema_arrow)
        column = _cell_column(uri, schema, image_column)
        yield (schema if column is None else _cells_schema(schema, column)).empty_table()
        # By now the caller has checked that the condition fits the columns.
        groups = [*range(table.num_row_groups)]
        if condition is not None:
            groups = _matching_groups(fragment, condition, table.schema_arrow, list_schema or schema)
        if column is not None:
            yield from _cells(uri, table, column, groups, id_prefix)
            return
        for batch in table.iter_batches(batch_size=BATCH_ROWS, row_groups=groups, use_threads=False):
            yield as_plain(pa.Table.from_batches([batch]), schema)


def items_schema(uri: str, image_column: str | None = None) -> pa.Schema:
    """Return the columns of a file as read_parquet yields them.

    Raises:
        ManifestError: it is unclear which column holds the images.
    """
    with storage.open_binary(uri) as file:
        schema = plain_schema(pyarrow.parquet.ParquetFile(file).schema_arrow).remove_metadata()
    column = _cell_column(uri, schema, image_column)
    return schema if column is None else _cells_schema(schema, column)


def may_list_items(uri: str, image_column: str | None = None) -> bool:
    """Return whether a file has a column of addresses or of images."""
    with storage.open_binary(uri) as file:
        schema = plain_schema(pyarrow.parquet.ParquetFile(file).schema_arrow)
    images = members.image_columns(schema)
    lists = any(members.holds_lists_of_bytes(field.type) for field in schema)
    return image_column in images or "uri" in schema.names or bool(images) or lists


def _cell_column(uri: str, schema: pa.Schema, chosen: str | None) -> str | None:
    """Return the column whose cells are the items; None for a table of addresses.

    Raises:
        ManifestError: the chosen column has no images, or there are several columns or lists of images and no `uri`.
    """
    images, name = members.image_columns(schema), storage.redact(uri)
    if chosen is not None:
        if chosen not in images:
            raise ManifestError(
                f"{name} has the columns of images {images}, and --image-column is {chosen!r}; name one of them, or "
                "leave the option out"
            )
        return chosen
    if "uri" in schema.names:
        return None
    if len(images) > 1:
        raise ManifestError(
            f"{name} has the columns of images {images}, expected one named `uri` or one column of images; pass "
            f"--image-column {images[0]} or another"
        )
    lists = [field.name for field in schema if members.holds_lists_of_bytes(field.type)]
    if lists and not images:
        raise ManifestError(
            f"{name} has lists of images in {lists}, of its columns {schema.names}, expected one image in a row; give "
            f"each image a row, for example with DuckDB: SELECT unnest({lists[0]}) AS image"
        )
    return images[0] if images else None


def _fragment(file: Any) -> Any:
    import pyarrow.dataset  # 0.24 s of CPU, which only lists with a condition need

    return pyarrow.dataset.ParquetFileFormat().make_fragment(file)


def _matching_groups(
    fragment: Any, condition: row_filter.Condition, schema: pa.Schema, list_schema: pa.Schema
) -> list[int]:
    """Return the row groups that may hold a match by their statistics.

    Columns of floating point are ignored: minimum and maximum say nothing about NaN, which is unequal to every number
    (Arrow 25 prunes `x != 1` on [1, NaN]). So are columns that the list has in another type, or from its folders, and
    views, which are read as plain types.
    """
    usable = {
        field.name
        for field in schema
        if field.name in list_schema.names
        and list_schema.field(field.name).type == field.type
        and not pa.types.is_floating(getattr(field.type, "value_type", field.type))
    }
    known = [part for part in row_filter.conjuncts(condition) if row_filter.columns(part) <= usable]
    for part in known:
        fragment = fragment.subset(row_filter.expression(part, schema))
    return [group.id for group in fragment.row_groups]


def _cells_schema(schema: pa.Schema, column: str) -> pa.Schema:
    """Return the columns beside the images, which take the place of a column `uri`."""
    others = pa.schema([field for field in schema if field.name not in {column, "uri"}])
    others = others.append(pa.field("uri", pa.string()))
    return others if "id" in schema.names else others.append(pa.field("id", pa.string()))


def _cells(
    uri: str, table: pyarrow.parquet.ParquetFile, column: str, groups: Sequence[int], id_prefix: str
) -> Iterator[pa.Table]:
    """Yield row groups without the images, which are not read."""
    others = [name for name in table.schema_arrow.names if name not in {column, "uri"}]
    counts = [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]
    starts = [0, *itertools.accumulate(counts)]
    for group in groups:
        rows, first = counts[group], starts[group]
        batch = table.read_row_group(group, columns=others, use_threads=False)
        batch = as_plain(batch, plain_schema(batch.schema))
        batch = batch.append_column("uri", members.cell_uris(uri, column, group, rows))
        if "id" not in others:
            ids = pa.array([f"{id_prefix}{first + row}" for row in range(rows)], pa.string())
            batch = batch.append_column("id", ids)
        yield from slices(batch)
