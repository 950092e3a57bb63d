"""Parquet files of a run: written whole with their checksum, read with one message for a damaged file."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from fsf_core import storage
from fsf_core.errors import DamagedPartError, FetchError, OutputError
from fsf_core.runs.staging import Staging

BUFFER_BYTES = 1 << 20
"""Read buffer of each column while a file is streamed; without one pyarrow holds the whole part, maybe gigabytes."""


def write_parquet(staging: Staging, path: str, table: pa.Table) -> dict[str, Any]:
    """Write a table as one file of an attempt.

    Args:
        staging: where the attempt writes.
        path: path of the file inside the folder of the attempt.
        table: the rows.

    Returns:
        path inside the run, rows, bytes and sha256 of the file.
    """
    columns = [name for name in table.column_names if name != "mask"]
    sink = pa.BufferOutputStream()
    # PNG streams do not compress and do not repeat, and their minimum and maximum are of no use.
    pyarrow.parquet.write_table(table, sink, compression="zstd", use_dictionary=columns, write_statistics=columns)
    data = sink.getvalue().to_pybytes()
    staging.write(path, data)
    return {
        "path": staging.path(path),
        "rows": table.num_rows,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def read_checked(run_uri: str, part: str, file: Mapping[str, Any]) -> pyarrow.parquet.ParquetFile:
    """Read a committed file whole, and compare its bytes with the receipt: for rows that are copied elsewhere.

    Args:
        run_uri: the run folder.
        part: name of the part, for the error.
        file: path, bytes and sha256 from the receipt.

    Raises:
        DamagedPartError: it is missing, or differs from the receipt.
    """
    uri = storage.join(run_uri, file["path"])
    do = "start the score command again, or run `fsf verify --repair`"
    try:
        data = storage.read_bytes(uri)
    except FetchError as error:
        raise DamagedPartError(part, f"{error}; it has a receipt: {do}") from error
    if hashlib.sha256(data).hexdigest() != file["sha256"]:
        raise DamagedPartError(part, f"{storage.redact(uri)} differs from its receipt; {do}")
    try:
        return pyarrow.parquet.ParquetFile(pa.BufferReader(data))
    except pa.ArrowException as error:
        raise DamagedPartError(part, f"{storage.redact(uri)} is no Parquet file; {do}") from error


@contextlib.contextmanager
def open_parquet(run_uri: str, path: str, *, streamed: bool = False) -> Iterator[pyarrow.parquet.ParquetFile]:
    """Open a committed file; read it with `use_threads=False`.

    A thread of Arrow's pool may still hold what it has read from the Python file as the process exits; releasing that
    then ends the process with SIGABRT, after all of its work (pyarrow 25, one exit in twenty of a busy machine).

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
