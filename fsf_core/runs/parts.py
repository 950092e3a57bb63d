"""Writing parts: the files first, then the receipt that commits them."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import storage
from fsf_core.keys import part_name
from fsf_core.runs.item_means import with_means
from fsf_core.runs.ledger import Ledger, parse_receipt, receipt_path
from fsf_core.runs.parquet import write_parquet
from fsf_core.runs.reading import part_or_empty
from fsf_core.runs.records import Receipt, receipt_to_arrow
from fsf_core.runs.staging import Staging
from fsf_core.schema import PART_TABLES, UNITS, conform


def commit(staging: Staging, tables: Mapping[str, pa.Table], units: pa.Table) -> Receipt:
    """Commit units as one part of an attempt: write its files, then its receipt.

    The name follows from the units, and the receipt is created once: of several tries of a task, even concurrent ones,
    the first receipt counts with its own files, and no receipt ever describes other bytes.

    Args:
        staging: where the attempt writes.
        tables: rows by table name; an empty table, or a missing one of `schema.OPTIONAL`, writes no file.
            `failures` holds one row for every failed unit, in the order of the units.
        units: all units of these rows, schema UNITS.

    Returns:
        The receipt that counts.

    Raises:
        StorageError: a file cannot be written; without the receipt the part does not exist.
    """
    units = with_means(conform(units, UNITS), tables["masks"])
    failed_units = pc.sum(units.column("failed")).as_py() or 0
    assert tables["failures"].num_rows == failed_units
    part = part_name(staging.number, units.column("unit_key").to_pylist())
    existing = _find_staged(staging, part)
    if existing is not None:
        if all(storage.exists(storage.join(staging.run_uri, file["path"])) for file in existing.files.values()):
            return existing
        storage.remove(staging.uri(receipt_path(part)))
    masks = tables["masks"]
    receipt = Receipt(
        part=part,
        files={},
        frames=masks.num_rows,
        failed_units=failed_units,
        pixels=_pixels_by_class(tables["class_stats"]),
        units=units,
        timed_frames=masks.num_rows - masks.column("pts_s").null_count,
        attempt=staging.number,
        token=secrets.token_hex(4),
    )
    files = {
        name: write_parquet(staging, receipt.staged_path(name), table)
        for name, table in sorted(tables.items())
        if table.num_rows
    }
    receipt = replace(receipt, files=files)
    if staging.create(receipt_path(part), receipt_to_arrow(receipt)):
        return receipt
    return _read_staged(staging, part, partial(storage.read_bytes, staging.uri(receipt_path(part))))


def merge_parts(staging: Staging, ledger: Ledger, parts: Sequence[Receipt]) -> Receipt:
    """Replace several parts by one in the ledger.

    Args:
        staging: where the attempt writes.
        ledger: of the run.
        parts: parts without failed units, or parts of failed units only; failures are retried part by part.

    Raises:
        DamagedPartError: a file of a part differs from its receipt.
    """
    tables = {
        name: pa.concat_tables(
            [part_or_empty(ledger.uri, part, name, checked=True) for part in parts], promote_options="default"
        )
        for name in PART_TABLES
    }
    merged = commit(staging, tables, pa.concat_tables([part.units for part in parts]))
    for part in parts:
        ledger.drop(part.part)
    add_to(ledger, staging, merged)
    return merged


def add_to(ledger: Ledger, staging: Staging, receipt: Receipt) -> None:
    """Add a part that this process has just committed to a ledger."""
    sizes = {file["path"]: int(file["bytes"]) for file in receipt.files.values()}
    ledger.add(receipt.part, staging.path(receipt_path(receipt.part)), sizes)


def _find_staged(staging: Staging, part: str) -> Receipt | None:
    """Return the receipt of a staged part, or None if there is none; a store is asked once.

    Raises:
        OutputError: it is damaged.
        FetchError: it cannot be read.
    """
    data = storage.find_bytes(staging.uri(receipt_path(part)))
    return None if data is None else _read_staged(staging, part, lambda: data)


def _read_staged(staging: Staging, part: str, read: Callable[[], bytes]) -> Receipt:
    """Return the receipt of a staged part, with the paths of its files.

    Raises:
        OutputError: it is missing or damaged.
    """
    receipt = parse_receipt(staging.uri(receipt_path(part)), read)
    files = {name: {**file, "path": staging.path(receipt.staged_path(name))} for name, file in receipt.files.items()}
    return replace(receipt, files=files)


def _pixels_by_class(stats: pa.Table) -> tuple[int, ...]:
    """Sum the pixels of every class id, from 0 to the greatest one present."""
    if not stats.num_rows:
        return ()
    ids = stats.column("class_id").to_numpy()
    pixels = np.zeros(int(ids.max()) + 1, np.int64)
    np.add.at(pixels, ids, stats.column("pixels").to_numpy())
    return tuple(pixels.tolist())
