"""Publishing a finished run to Delta tables that many runs share: one atomic commit per table, idempotent.

Knows the committed tables and the library that writes Delta. Knows no images.
"""

import itertools
import os
from collections.abc import Iterator

import pyarrow as pa

from fsf_core import storage
from fsf_core.errors import ConfigError, OutputError
from fsf_core.runs.folder import read_document
from fsf_core.runs.reading import read_part, receipts
from fsf_core.schema import TABLES

BATCH_ROWS = 4096
"""Rows per batch given to the writer; a mask has a few kilobytes."""

_STORAGE_OPTIONS = {"s3": {"conditional_put": "etag"}, "s3a": {"conditional_put": "etag"}}
"""A Delta commit is a file that only one of several writers may create; on S3 that takes conditional puts."""


def require_delta() -> None:
    """Refuse --delta before any work is done where the library is missing.

    Raises:
        ConfigError: deltalake is not installed.
    """
    try:
        import deltalake  # noqa: F401
    except ImportError as error:
        raise ConfigError("--delta needs the package deltalake; install the extra: pip install 'fsf[delta]'") from error


def publish_delta(run_uri: str, folder: str) -> dict[str, int]:
    """Write the rows of a reconciled run to the Delta tables masks, class_stats and failures below a folder.

    Every table gets the column `run_id`. Existing rows of this run are replaced in the same commit: publishing twice
    equals publishing once, and readers see all rows of a run or none.

    Args:
        run_uri: the run.
        folder: parent folder of the tables, which are created where missing.

    Returns:
        Table name to the version of the table that holds the rows.

    Raises:
        OutputError: a table cannot be written, or its columns do not fit.
    """
    run_id = str(read_document(run_uri, "run.json")["run_id"])
    return {name: _replace_rows(run_uri, name, storage.join(folder, name), run_id) for name in TABLES}


def _replace_rows(run_uri: str, name: str, table_uri: str, run_id: str) -> int:
    """Replace the rows of a run in one Delta table; returns the new version."""
    from deltalake import CommitProperties, DeltaTable, write_deltalake
    from deltalake.exceptions import DeltaError

    tables = _tables(run_uri, name, run_id)
    first = next(tables)
    batches = (batch for table in itertools.chain([first], tables) for batch in table.to_batches(BATCH_ROWS))
    options = _STORAGE_OPTIONS.get(storage.scheme(table_uri), {}) | _endpoint_options()
    try:
        schema = first.schema
        if not DeltaTable.is_deltatable(table_uri, storage_options=options):
            # An empty table first: of two jobs that create it one may fail, but neither overwrites the other's rows.
            write_deltalake(table_uri, schema.empty_table(), mode="ignore", storage_options=options)
        write_deltalake(
            table_uri,
            pa.RecordBatchReader.from_batches(schema, batches),
            mode="overwrite",
            predicate=f"run_id = '{run_id}'",
            schema_mode="merge",
            storage_options=options,
            commit_properties=CommitProperties(custom_metadata={"fsf_run_id": run_id}),
        )
        return int(DeltaTable(table_uri, storage_options=options).version())
    except (DeltaError, pa.ArrowException, OSError, ValueError) as error:
        reason = storage.redact(" ".join(str(error).split()))
        raise OutputError(
            f"the rows of run {run_id} cannot be written to {storage.redact(table_uri)}: {reason}; the run itself is "
            "complete: correct the address, the permissions or the columns, and start the same command again"
        ) from error


def _endpoint_options() -> dict[str, str]:
    """Return the options that allow an S3 endpoint without TLS, where one is configured."""
    return {"allow_http": "true"} if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://") else {}


def _tables(run_uri: str, name: str, run_id: str) -> Iterator[pa.Table]:
    """Yield the rows part by part with the run's id; one empty table with the columns where there are no rows."""
    parts = (read_part(run_uri, receipt, name) for receipt in receipts(run_uri) if name in receipt.files)
    for table in itertools.chain([next(parts, TABLES[name].empty_table())], parts):
        rows = table.replace_schema_metadata().drop_columns([*{"run_id"} & {*table.column_names}])
        yield rows.append_column("run_id", pa.array([run_id] * len(rows), pa.string()))
