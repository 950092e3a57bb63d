"""Publishing a finished run to Delta tables that many runs share: one atomic commit per table, idempotent.

Knows the committed tables and the library that writes Delta. Knows no images.
"""

import contextlib
import itertools
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

import pyarrow as pa

from fsf_core import storage
from fsf_core.errors import ConfigError, FSFError, OutputError, ResumableError, StorageError
from fsf_core.publish.delta_types import as_delta, delta_schema
from fsf_core.runs.folder import document_bytes, find_manifest, read_document, read_fingerprint, tables_of
from fsf_core.runs.ledger import receipts
from fsf_core.runs.reading import read_part
from fsf_core.schema import PART_TABLES, TABLES, with_columns

PUBLISHED = "delta.json"
"""File of a run that names the tables which hold its rows, and the attempt that was published last before."""

BATCH_ROWS = 4096
"""Rows per batch given to the writer; a mask has a few kilobytes."""

_STORAGE_OPTIONS = {"s3": {"conditional_put": "etag"}, "s3a": {"conditional_put": "etag"}}
"""A Delta commit is a file that only one of several writers may create; on S3 that takes conditional puts."""


def require_tables(
    folder: str,
    *,
    run_uri: str,
    extra: pa.Schema,
    items: Callable[[], Iterable[pa.Table]] = lambda: (),
    tables: Mapping[str, pa.Schema] = MappingProxyType(TABLES),
    option: str = "--delta",
) -> None:
    """Check that the rows of a run can be written to the Delta tables below a folder, before any work is done.

    Each table is opened, its columns are compared, and a write is begun and broken off before its first row. An empty
    table is created inside each table's folder and removed. Nothing is committed, and nothing stays behind.

    Args:
        folder: as for `publish_delta`.
        run_uri: the run.
        extra: pass-through columns of its manifest.
        items: returns the batches of its manifest, whose struct `extra` is read if a column is written in another type.
        tables: the tables of the run, those that exist by option included.
        option: what the folder was given with, for messages.

    Raises:
        ConfigError: deltalake is not installed, or the folder is part of a run.
        OutputError: a table cannot be written, or its columns do not fit.
        StorageError: the store refuses.
    """
    try:
        import deltalake  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"{option} needs the package deltalake; install the extra: pip install 'fsf[delta]'"
        ) from error
    state = "nothing was scored" if option == "--delta" else "nothing was published"
    place = storage.join(folder, "")
    if place.startswith(storage.join(run_uri, "")) or storage.exists(storage.join(folder, "run.json")):
        raise ConfigError(
            f"{option} is {storage.redact(folder)}, which is inside a run, expected a folder of its own: many runs "
            "share its tables; give another folder"
        )
    for name, schema in tables.items():
        rows = with_columns(schema, extra) if name == "masks" else schema
        uri = storage.join(folder, name)
        with _raised_as(OutputError, f"{storage.redact(uri)} cannot take the rows of this run", state):
            written = _rehearse(uri, _with_run_id(rows.empty_table(), "").schema)
            if name == "masks":
                _require_values(items, extra, written)


def publish_delta(run_uri: str, folder: str, *, recorded: bool = True) -> dict[str, int]:
    """Write the rows of a reconciled run to Delta tables of the same names below a folder.

    These are masks, class_stats and failures, and for a run with labels or regions the tables of these.

    Every table gets the column `run_id`. Existing rows of this run are replaced in the same commit: publishing twice
    equals publishing once, and readers see all rows of a run or none.

    Args:
        run_uri: the run.
        folder: parent folder of the tables, which are created where missing.
        recorded: whether the run notes which tables have its rows, as the nights of a series do; otherwise it stays as
            it is.

    Returns:
        Table name to the version of the table that holds the rows.

    Raises:
        ResumableError: a table cannot be written.
    """
    run_id = str(read_document(run_uri, "run.json")["run_id"])
    names = tables_of(read_fingerprint(run_uri))
    versions = {name: _replace_rows(run_uri, name, storage.join(folder, name), run_id) for name in names}
    if not recorded:
        return versions
    record = {"tables": storage.redact(folder), "attempt": _published_attempt(run_uri), "versions": versions}
    storage.write_bytes(storage.join(run_uri, PUBLISHED), document_bytes(record))
    return versions


def is_current(run_uri: str, folder: str) -> bool:
    """Return whether the tables of a folder have the rows of a finished run as it was published last."""
    if not storage.exists(storage.join(run_uri, PUBLISHED)):
        return False
    known = read_document(run_uri, PUBLISHED)
    return (known.get("tables"), known.get("attempt")) == (storage.redact(folder), _published_attempt(run_uri))


def _published_attempt(run_uri: str) -> int | None:
    return (find_manifest(run_uri) or {}).get("attempt")


def _replace_rows(run_uri: str, name: str, table_uri: str, run_id: str) -> int:
    """Replace the rows of a run in one Delta table; returns the new version."""
    from deltalake import DeltaTable, write_deltalake

    tables = _tables(run_uri, name, run_id)
    first = next(tables)
    options = _storage_options(table_uri)
    found = f"the rows of run {run_id} cannot be written to {storage.redact(table_uri)}"
    with _raised_as(ResumableError, found, "the run itself is complete"):
        schema = delta_schema(first.schema, _existing_schema(table_uri))
        written = (as_delta(table, schema) for table in itertools.chain([first], tables))
        batches = (batch for table in written for batch in table.to_batches(BATCH_ROWS))
        if not DeltaTable.is_deltatable(table_uri, storage_options=options):
            # An empty table first: of two jobs that create it one may fail, but neither overwrites the other's rows.
            write_deltalake(table_uri, schema.empty_table(), mode="ignore", storage_options=options)
        _overwrite(table_uri, pa.RecordBatchReader.from_batches(schema, batches), run_id)
        return int(DeltaTable(table_uri, storage_options=options).version())


def _overwrite(table_uri: str, rows: pa.RecordBatchReader, run_id: str) -> None:
    """Replace the rows of a run in an existing table in one commit; missing columns are added to it."""
    from deltalake import CommitProperties, write_deltalake

    write_deltalake(
        table_uri,
        rows,
        mode="overwrite",
        predicate=f"run_id = '{run_id}'",
        schema_mode="merge",
        storage_options=_storage_options(table_uri),
        commit_properties=CommitProperties(custom_metadata={"fsf_run_id": run_id}),
    )


def _require_values(items: Callable[[], Iterable[pa.Table]], extra: pa.Schema, written: pa.Schema) -> None:
    """Check that the values of the pass-through columns fit the types in which they are written.

    Raises:
        ValueError: one does not.
    """
    others = pa.schema([written.field(field.name) for field in extra if written.field(field.name).type != field.type])
    for batch in items() if len(others) else ():
        values = pa.Table.from_struct_array(batch.column("extra"))
        as_delta(values.select(others.names), others)


def _rehearse(table_uri: str, rows: pa.Schema) -> pa.Schema:
    """Do all of a write to a table but its rows and its commit; returns the columns that would be written.

    Raises:
        ValueError: the columns do not fit those of the table.
        Exception: what deltalake raises.
    """
    from deltalake import DeltaTable

    options = _storage_options(table_uri)
    existing = _existing_schema(table_uri)
    schema = delta_schema(rows, existing)
    probe = storage.join(table_uri, f".write-check-{secrets.token_hex(4)}")
    with storage.empty_folders_removed(table_uri):
        try:
            DeltaTable.create(probe, schema, storage_options=options)
        finally:
            with contextlib.suppress(StorageError):  # where nothing may be deleted, publishing works nevertheless
                storage.remove_folder(probe)
    if existing is None:
        return schema
    _require_fitting_columns(schema, existing)
    asked_for_rows = False

    def break_off(_: object) -> pa.RecordBatch:
        nonlocal asked_for_rows
        asked_for_rows = True
        raise InterruptedError

    try:
        _overwrite(table_uri, pa.RecordBatchReader.from_batches(schema, map(break_off, [None])), "rehearsal")
    except Exception:
        if not asked_for_rows:  # deltalake checks features and columns of the table first
            raise
    return schema


def _existing_schema(table_uri: str) -> pa.Schema | None:
    """Return the columns of a Delta table; None where there is none."""
    from deltalake import DeltaTable

    options = _storage_options(table_uri)
    if not DeltaTable.is_deltatable(table_uri, storage_options=options):
        return None
    return pa.schema(DeltaTable(table_uri, storage_options=options).schema())


def _require_fitting_columns(schema: pa.Schema, found: pa.Schema) -> None:
    """Check that the columns of a table hold every value of a run: deltalake casts 1.5 to the integer 1.

    Args:
        schema: the columns of the run.
        found: those of the table.

    Raises:
        ValueError: one does not.
    """
    from deltalake import Schema

    wanted = pa.schema(Schema.from_arrow(schema))
    for field in found:
        if field.name not in wanted.names:
            if not field.nullable:
                raise ValueError(f"its column {field.name!r} has no nulls and the run has no such column")
        elif not _holds(field.type, kind := wanted.field(field.name).type):
            raise ValueError(f"its column {field.name!r} is {field.type} and that of the run {kind}")


def _holds(old: pa.DataType, new: pa.DataType) -> bool:
    """Return whether a column holds the values of another type, integers beyond 2**53 in a float aside.

    Nested types of another kind, and fields of structs that one lacks, are left to deltalake.
    """
    if pa.types.is_nested(old) or pa.types.is_nested(new):
        return all(_holds(*types) for types in _inner_types(old, new))
    if old == new:
        return True
    if pa.types.is_string(old):
        return not pa.types.is_binary(new)
    if pa.types.is_integer(new) and pa.types.is_floating(old):
        return True
    same_kind = any(kind(old) and kind(new) for kind in (pa.types.is_integer, pa.types.is_floating))
    if same_kind:
        return bool(old.bit_width >= new.bit_width)
    return bool(pa.types.is_timestamp(old) and pa.types.is_temporal(new))


def _inner_types(old: pa.DataType, new: pa.DataType) -> Iterator[tuple[pa.DataType, pa.DataType]]:
    """Yield what two nested types of one kind have at the same place."""
    if pa.types.is_struct(old) and pa.types.is_struct(new):
        names = {field.name for field in old} & {field.name for field in new}
        yield from ((old.field(name).type, new.field(name).type) for name in names)
    elif pa.types.is_map(old) and pa.types.is_map(new):
        yield from ((old.key_type, new.key_type), (old.item_type, new.item_type))
    elif hasattr(old, "value_type") and hasattr(new, "value_type"):  # lists of any form
        yield old.value_type, new.value_type


@contextlib.contextmanager
def _raised_as(kind: type[FSFError], found: str, state: str) -> Iterator[None]:
    """Raise what deltalake raises as one type of error; some of it is a bare Exception with a backtrace of Rust.

    Raises:
        FSFError: found / expected / do.
    """
    try:
        yield
    except FSFError:
        raise
    except Exception as error:
        reason = storage.redact(" ".join(str(error).partition("\n   0: ")[0].split()))
        raise kind(
            f"{found}: {reason}; {state}: correct the address, the permissions or the columns, and start the same "
            "command again"
        ) from error


def _storage_options(table_uri: str) -> dict[str, str]:
    """Return deltalake's options for the store of a table."""
    endpoint = {"allow_http": "true"} if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://") else {}
    return _STORAGE_OPTIONS.get(storage.scheme(table_uri), {}) | endpoint


def _tables(run_uri: str, name: str, run_id: str) -> Iterator[pa.Table]:
    """Yield the rows part by part with the run's id; one empty table with the columns where there are no rows."""
    parts = (read_part(run_uri, receipt, name, checked=True) for receipt in receipts(run_uri) if name in receipt.files)
    for table in itertools.chain([next(parts, PART_TABLES[name].empty_table())], parts):
        yield _with_run_id(table, run_id)


def _with_run_id(table: pa.Table, run_id: str) -> pa.Table:
    """Return the rows as the Delta table has them: the run's id last, without metadata."""
    rows = table.replace_schema_metadata().drop_columns([*{"run_id"} & {*table.column_names}])
    return rows.append_column("run_id", pa.array([run_id] * len(rows), pa.string()))
