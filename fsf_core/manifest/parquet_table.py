"""Parquet files as lists, including those that hold images in their cells."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from fsf_core import storage
from fsf_core.manifest import members, row_filter
from fsf_core.manifest.rows import BATCH_ROWS, slices


def read_parquet(
    uri: str,
    *,
    id_prefix: str = "",
    condition: row_filter.Condition | None = None,
    list_schema: pa.Schema | None = None,
) -> Iterator[pa.Table]:
    """Yield the rows of a file, after an empty table with its columns.

    A file with one column of images and none named `uri` gives the URI of each cell instead of the image.

    Args:
        uri: the file.
        id_prefix: what the row numbers follow that are the ids of images without any.
        condition: row groups that cannot hold a match are skipped; the rows of the others are not filtered.
        list_schema: the columns of the list that the file is part of; without it, its own.
    """
    with storage.open_binary(uri) as file:
        fragment = _fragment(file) if condition is not None else None
        table = pyarrow.parquet.ParquetFile(file, metadata=fragment.metadata if fragment is not None else None)
        schema = table.schema_arrow
        images = [] if "uri" in schema.names else members.image_columns(schema)
        column = images[0] if len(images) == 1 else None
        yield (schema if column is None else _cells_schema(schema, column)).empty_table()
        # By now the caller has checked that the condition fits the columns.
        groups = [*range(table.num_row_groups)]
        if condition is not None:
            groups = _matching_groups(fragment, condition, schema, list_schema or schema)
        if column is not None:
            yield from _cells(uri, table, column, groups, id_prefix)
            return
        for batch in table.iter_batches(batch_size=BATCH_ROWS, row_groups=groups):
            yield pa.Table.from_batches([batch])


def _fragment(file: Any) -> Any:
    import pyarrow.dataset  # 0.24 s of CPU, which only lists with a condition need

    return pyarrow.dataset.ParquetFileFormat().make_fragment(file)


def _matching_groups(
    fragment: Any, condition: row_filter.Condition, schema: pa.Schema, list_schema: pa.Schema
) -> list[int]:
    """Return the row groups that may hold a match by their statistics.

    Columns of floating point are ignored: minimum and maximum say nothing about NaN, which is unequal to every number
    (Arrow 25 prunes `x != 1` on [1, NaN]). So are columns that the list has in another type, or from its folders.
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
    others = schema.remove(schema.get_field_index(column)).append(pa.field("uri", pa.string()))
    return others if "id" in schema.names else others.append(pa.field("id", pa.string()))


def _cells(
    uri: str, table: pyarrow.parquet.ParquetFile, column: str, groups: Sequence[int], id_prefix: str
) -> Iterator[pa.Table]:
    """Yield row groups without the images, which are not read."""
    others = [name for name in table.schema_arrow.names if name != column]
    counts = [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]
    starts = [0, *itertools.accumulate(counts)]
    for group in groups:
        rows, first = counts[group], starts[group]
        batch = table.read_row_group(group, columns=others)
        batch = batch.append_column("uri", members.cell_uris(uri, column, group, rows))
        if "id" not in others:
            ids = pa.array([f"{id_prefix}{first + row}" for row in range(rows)], pa.string())
            batch = batch.append_column("id", ids)
        yield from slices(batch)
