"""Writing parts: the files first, then the receipt that commits them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import storage
from fsf_core.keys import part_name
from fsf_core.runs.folder import unpublish
from fsf_core.runs.parquet import write_parquet
from fsf_core.runs.reading import part_or_empty, read_receipt, receipt_uri
from fsf_core.runs.records import Receipt, receipt_to_arrow
from fsf_core.schema import TABLES, UNITS, conform


def commit(run_uri: str, tables: Mapping[str, pa.Table], units: pa.Table) -> Receipt:
    """Commit units as one part: write its files, then its receipt.

    The name follows from the units, so a retried task finds its part and leaves it. Only where fewer units failed this
    time is the part replaced, and then its receipt is removed first: no receipt ever describes other bytes.

    Args:
        run_uri: the run folder.
        tables: rows by table name; an empty table writes no file. `failures` holds one row for every failed unit, in
            the order of the units.
        units: all units of these rows, schema UNITS.

    Raises:
        StorageError: a file cannot be written; without the receipt the part does not exist.
    """
    units = conform(units, UNITS)
    failed_units = pc.sum(units.column("failed")).as_py() or 0
    assert tables["failures"].num_rows == failed_units
    part = part_name(units.column("unit_key").to_pylist())
    if storage.exists(receipt_uri(run_uri, part)):
        existing = read_receipt(run_uri, part)
        if existing.failed_units <= failed_units:
            return existing
        retract(run_uri, existing)
    files = {
        name: write_parquet(run_uri, f"{name}/{part}.parquet", table)
        for name, table in sorted(tables.items())
        if table.num_rows
    }
    receipt = Receipt(
        part=part,
        files=files,
        frames=tables["masks"].num_rows,
        failed_units=failed_units,
        pixels=_pixels_by_class(tables["class_stats"]),
        units=units,
        timed_frames=tables["masks"].num_rows - tables["masks"].column("pts_s").null_count,
    )
    storage.write_bytes(receipt_uri(run_uri, part), receipt_to_arrow(receipt), durable=True)
    return receipt


def merge_parts(run_uri: str, parts: Sequence[Receipt]) -> Receipt:
    """Replace several parts by one. If the process dies halfway units are in two parts, which `reconcile` mends.

    Args:
        run_uri: the run folder.
        parts: parts without failed units, or parts of failed units only; failures are retracted part by part.
    """
    tables = {
        name: pa.concat_tables([part_or_empty(run_uri, part, name) for part in parts], promote_options="default")
        for name in TABLES
    }
    merged = commit(run_uri, tables, pa.concat_tables([part.units for part in parts]))
    for part in parts:
        if part.part != merged.part:
            retract(run_uri, part)
    return merged


def retract(run_uri: str, receipt: Receipt) -> None:
    """Remove a part, receipt first: without it the part does not exist, even where its files remain."""
    unpublish(run_uri)
    storage.remove(receipt_uri(run_uri, receipt.part))
    for file in receipt.files.values():
        storage.remove(storage.join(run_uri, file["path"]))


def _pixels_by_class(stats: pa.Table) -> tuple[int, ...]:
    """Sum the pixels of every class id, from 0 to the greatest one present."""
    if not stats.num_rows:
        return ()
    ids = stats.column("class_id").to_numpy()
    pixels = np.zeros(int(ids.max()) + 1, np.int64)
    np.add.at(pixels, ids, stats.column("pixels").to_numpy())
    return tuple(pixels.tolist())
