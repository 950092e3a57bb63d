"""Parquet files as lists, those that hold pictures in their cells included."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet

from fsf_core import storage
from fsf_core.manifest import members
from fsf_core.manifest.rows import BATCH_ROWS, slices


def read_parquet(uri: str, name: str = "") -> Iterator[pa.Table]:
    """The rows of a file; where it holds pictures and no addresses, with the address of each cell instead.

    Args:
        uri: the file.
        name: stands before the row numbers that are the ids of pictures without any.
    """
    with storage.open_binary(uri) as file:
        parts = pyarrow.parquet.ParquetFile(file)
        schema = parts.schema_arrow
        pictures = [] if "uri" in schema.names else members.picture_columns(schema)
        if len(pictures) == 1:
            yield from _cells(uri, parts, pictures[0], name)
            return
        yield schema.empty_table()
        for batch in parts.iter_batches(batch_size=BATCH_ROWS):
            yield pa.Table.from_batches([batch])


def _cells(uri: str, parts: pyarrow.parquet.ParquetFile, column: str, name: str) -> Iterator[pa.Table]:
    """Row groups without the pictures, which are not read."""
    others = [each for each in parts.schema_arrow.names if each != column]
    before = 0
    if not parts.num_row_groups:
        yield pa.table({"uri": pa.array([], pa.string())})
    for group in range(parts.num_row_groups):
        rows = parts.metadata.row_group(group).num_rows
        table = parts.read_row_group(group, columns=others).append_column(
            "uri", members.cell_uris(uri, column, group, rows)
        )
        if "id" not in others:
            ids = pa.array([f"{name}{before + row}" for row in range(rows)], pa.string())
            table = table.append_column("id", ids)
        if group == 0:
            yield table.slice(0, 0)
        yield from slices(table)
        before += rows
