"""A finished run as rows of Delta tables, which many runs share: one atomic commit a table, and never twice.

Knows the committed tables and the library that writes Delta. Knows no pictures.
"""

import itertools
import os
from collections.abc import Iterator

import pyarrow as pa

from fsf_core import runs, storage
from fsf_core.errors import ConfigError, OutputError
from fsf_core.schema import TABLES

BATCH_ROWS = 4096
"""Rows that are handed over at once; a mask has some kilobytes."""

_OPTIONS = {"s3": {"conditional_put": "etag"}, "s3a": {"conditional_put": "etag"}}
"""A commit of Delta is a file that only one of several writers can create; S3 must be told to see to that."""


def require_delta() -> None:
    """Refuse before any work is done whose result could not be published.

    Raises:
        ConfigError: the library is not installed.
    """
    try:
        import deltalake  # noqa: F401
    except ImportError as error:
        raise ConfigError("--delta needs the package deltalake; install the extra: pip install 'fsf[delta]'") from error


def publish_delta(run_uri: str, folder: str) -> dict[str, int]:
    """Put the rows of a settled run into the Delta tables masks, class_stats and failures below a folder.

    Every table gets the column `run_id`. Rows that it has of this run are replaced in the same commit, so publishing
    twice equals publishing once, and readers see all rows of a run or none.

    Args:
        run_uri: the run.
        folder: where the tables lie, or will lie.

    Returns:
        Table name to the version of the table that holds the rows.

    Raises:
        OutputError: a table cannot be written, or its columns do not fit.
    """
    run_id = str(runs.read_json(run_uri, "run.json")["run_id"])
    return {name: _replace(run_uri, name, storage.join(folder, name), run_id) for name in TABLES}


def _replace(run_uri: str, name: str, table_uri: str, run_id: str) -> int:
    from deltalake import CommitProperties, DeltaTable, write_deltalake
    from deltalake.exceptions import DeltaError

    tables = _tables(run_uri, name, run_id)
    first = next(tables)
    batches = (batch for table in itertools.chain([first], tables) for batch in table.to_batches(BATCH_ROWS))
    options = _OPTIONS.get(storage.scheme(table_uri), {}) | _endpoint()
    try:
        schema = first.schema
        if not DeltaTable.is_deltatable(table_uri, storage_options=options):
            # An empty table first: of two jobs that make it, one may fail, but neither overwrites the other's rows.
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
        said = storage.redact(" ".join(str(error).split()))
        raise OutputError(
            f"{storage.redact(table_uri)} cannot take the rows of run {run_id}: {said}; the run itself is whole: "
            "correct the address, the rights or the columns, and start the same command again"
        ) from error


def _endpoint() -> dict[str, str]:
    """Leave to talk to an endpoint without TLS, where one was given."""
    return {"allow_http": "true"} if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://") else {}


def _tables(run_uri: str, name: str, run_id: str) -> Iterator[pa.Table]:
    """The rows part by part; an empty table that shows the columns where there are none."""
    held = (runs.read_part(run_uri, each, name) for each in runs.receipts(run_uri) if name in each.files)
    for table in itertools.chain([next(held, TABLES[name].empty_table())], held):
        plain = table.replace_schema_metadata().drop_columns([*{"run_id"} & {*table.column_names}])
        yield plain.append_column("run_id", pa.array([run_id] * len(plain), pa.string()))
