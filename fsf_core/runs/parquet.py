"""Parquet files of a run: written whole with their checksum, read with one message for a damaged file."""

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from fsf_core import storage
from fsf_core.errors import FetchError, OutputError

BUFFER_BYTES = 1 << 20
"""Read buffer of each column while a file is streamed; without one pyarrow holds the whole part, maybe gigabytes."""


def write_parquet(run_uri: str, path: str, table: pa.Table) -> dict[str, Any]:
    """Write a table as one file of the run.

    Args:
        run_uri: the run folder.
        path: path of the file inside the run.
        table: the rows.

    Returns:
        path, rows, bytes and sha256 of the file: its entry in receipts and in manifest.json.
    """
    columns = [name for name in table.column_names if name != "mask"]
    sink = pa.BufferOutputStream()
    # PNG streams do not compress and do not repeat, and their minimum and maximum are of no use.
    pyarrow.parquet.write_table(table, sink, compression="zstd", use_dictionary=columns, write_statistics=columns)
    data = sink.getvalue().to_pybytes()
    storage.write_bytes(storage.join(run_uri, path), data, durable=True)
    return {"path": path, "rows": table.num_rows, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@contextlib.contextmanager
def open_parquet(run_uri: str, path: str, *, streamed: bool = False) -> Iterator[pyarrow.parquet.ParquetFile]:
    """Open a committed file.

    Args:
        run_uri: the run folder.
        path: path of the file inside the run.
        streamed: read BUFFER_BYTES of a column at a time instead of whole columns.

    Raises:
        OutputError: it is missing or damaged; raised for errors inside the block too.
    """
    uri = storage.join(run_uri, path)
    try:
        with storage.open_binary(uri) as file:
            yield pyarrow.parquet.ParquetFile(file, buffer_size=BUFFER_BYTES if streamed else 0, pre_buffer=False)
    except (FetchError, pa.ArrowException, OSError) as error:
        raise OutputError(
            f"{storage.redact(uri)} has a receipt but cannot be read: {error}; run `fsf verify`"
        ) from error
