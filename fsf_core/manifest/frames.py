"""Lists that `fsf select` wrote: rows of frames become one row of their item, because a job scores whole items.

Reads no files.
"""

from collections.abc import Collection, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsf_core.keys import item_keys
from fsf_core.manifest.rows import ReadBatches

FRAME = "frame_index"
"""Column of the frames' indices; it is not passed through, because the table masks has its own."""

_COLUMNS = frozenset(("rank", "reason", FRAME))
"""Columns that such a list has in any case."""


def not_passed(names: Collection[str]) -> frozenset[str]:
    """Return the columns of a list that rows of items do not keep: none, unless `fsf select` wrote it."""
    return frozenset((FRAME,)) if _COLUMNS.issubset(names) else frozenset()


def one_row_per_item(read: ReadBatches, schema: pa.Schema) -> ReadBatches:
    """Return a reader that keeps the first of all rows with the same id and uri, of a list that `fsf select` wrote.

    Rows of the same id with another uri stay, and are refused as repeated ids. Memory: 16 bytes per row.
    """
    if not not_passed(schema.names):
        return read

    def rows() -> Iterator[pa.Table]:
        seen: set[bytes] = set()
        for table in read():
            kept = np.zeros(table.num_rows, bool)
            for at, key in enumerate(_keys(table)):
                kept[at] = key not in seen
                seen.add(key)
            yield table.filter(pa.array(kept))

    return rows


def _keys(table: pa.Table) -> list[bytes]:
    """Return a key of the id and uri of each row."""
    parts = [
        pc.fill_null(table.column(name).cast(pa.string()), "") for name in ("id", "uri") if name in table.column_names
    ]
    joined = pc.binary_join_element_wise(*parts, "\0") if len(parts) > 1 else parts[0]
    return [bytes(key) for key in item_keys(joined.to_pylist())]
