"""Writing parts: the files first, then the receipt that makes them exist."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from fsf_core import storage
from fsf_core.keys import part_name
from fsf_core.runs.folder import unpublish
from fsf_core.runs.reading import part_or_empty, read_receipt, receipt_uri
from fsf_core.runs.records import Receipt, receipt_to_arrow
from fsf_core.schema import TABLES, UNITS, conform


def commit(run_uri: str, tables: Mapping[str, pa.Table], units: pa.Table) -> Receipt:
    """Write one part: its files first, then the receipt that makes them exist.

    The name follows from the units, so a task that is done again finds its part there and leaves it. Only where fewer
    units failed this time is the part replaced, and then its receipt goes first: no receipt ever describes other bytes.

    Args:
        run_uri: the run folder.
        tables: rows by table name; an empty table writes no file. `failures` holds one row for every failed unit, in
            the order of the units.
        units: the units that these rows are all of, schema UNITS.

    Raises:
        StorageError: a file cannot be written; without the receipt the part does not exist.
    """
    units = conform(units, UNITS)
    failed_units = pc.sum(units.column("failed")).as_py() or 0
    assert tables["failures"].num_rows == failed_units
    part = part_name(units.column("unit_key").to_pylist())
    if storage.exists(receipt_uri(run_uri, part)):
        there = read_receipt(run_uri, part)
        if there.failed_units <= failed_units:
            return there
        retract(run_uri, there)
    files = {name: _write_table(run_uri, name, part, table) for name, table in sorted(tables.items()) if table.num_rows}
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


def merge_parts(run_uri: str, several: Sequence[Receipt]) -> Receipt:
    """One part in place of several. Killed in between, the run holds units twice, and settle removes them.

    Args:
        run_uri: the run folder.
        several: parts of good units, or parts of failed ones; never both, for failures are taken back part by part.
    """
    tables = {
        name: pa.concat_tables([part_or_empty(run_uri, each, name) for each in several], promote_options="default")
        for name in TABLES
    }
    joined = commit(run_uri, tables, pa.concat_tables([each.units for each in several]))
    for each in several:
        if each.part != joined.part:
            retract(run_uri, each)
    return joined


def retract(run_uri: str, receipt: Receipt) -> None:
    """The receipt goes first: from then on the part does not exist, whatever happens to its files."""
    unpublish(run_uri)
    storage.remove(receipt_uri(run_uri, receipt.part))
    for facts in receipt.files.values():
        storage.remove(storage.join(run_uri, facts["path"]))


def _write_table(run_uri: str, name: str, part: str, table: pa.Table) -> dict[str, Any]:
    small = [column for column in table.column_names if column != "mask"]
    sink = pa.BufferOutputStream()
    # PNG streams neither compress nor repeat, and their minimum and maximum help nobody.
    pyarrow.parquet.write_table(table, sink, compression="zstd", use_dictionary=small, write_statistics=small)
    data = sink.getvalue().to_pybytes()
    path = f"{name}/{part}.parquet"
    storage.write_bytes(storage.join(run_uri, path), data, durable=True)
    return {"path": path, "rows": table.num_rows, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _pixels_by_class(stats: pa.Table) -> tuple[int, ...]:
    if not stats.num_rows:
        return ()
    ids = stats.column("class_id").to_numpy()
    pixels = np.zeros(int(ids.max()) + 1, np.int64)
    np.add.at(pixels, ids, stats.column("pixels").to_numpy())
    return tuple(pixels.tolist())
