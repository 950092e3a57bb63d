"""Before the four stages: what an earlier run found of items that have not changed becomes parts of this run.

Knows the rows of a run and how a source is told to be the same. Decodes nothing and calls no model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import runs, storage
from fsf_core.errors import FetchError, ItemError, OutputError
from fsf_core.manifest import members
from fsf_core.options import SameBy
from fsf_core.schema import MASKS, TABLES, conform, with_columns
from fsf_core.stages.write import WriteSettings, Written


@dataclass(frozen=True, kw_only=True)
class ReuseSettings:
    """What a carry task needs to know."""

    earlier_uri: str
    """The run that is carried from; it has the bundle and the options of this one."""
    same_by: SameBy
    """sha256 reads every source whole; version asks its store for size and time, or its etag."""
    schemes: tuple[str, ...]
    """URI schemes that may be opened."""
    write: WriteSettings


def reuse_items(rows: pa.Table, parts: Sequence[str], settings: ReuseSettings) -> tuple[int, Written]:
    """Commit the rows of items that have not changed, one part for each part of the earlier run.

    Args:
        rows: item_id, uri, and `extra` where the manifest has columns: items of which every unit lies in the parts.
        parts: names of parts of the earlier run.
        settings: as it says.

    Returns:
        How many items were carried, and what was committed. The others are left to be scored: they have changed, cannot
        be read, or the earlier run does not say what it read.

    Raises:
        OutputError: the earlier run cannot be read.
        StorageError: this run cannot be written.
    """
    receipts = [runs.read_receipt(settings.earlier_uri, part) for part in parts]
    known = _known(receipts, rows.column("item_id"), settings)
    same = {row["item_id"]: row for row in rows.to_pylist() if _is_same(row, known.get(row["item_id"]), settings)}
    if not same:
        return 0, Written(frames=0, units=0, failed_units=0)
    committed = [_carry_part(receipt, same, settings) for receipt in receipts]
    frames, units = (sum(getattr(one, name) for one in committed) for name in ("frames", "units"))
    return len(same), Written(frames=frames, units=units, failed_units=0)


def _known(receipts: Sequence[runs.Receipt], item_ids: pa.ChunkedArray, settings: ReuseSettings) -> dict[str, Any]:
    """What the earlier run says of the sources of these items: item id to sha256 or version."""
    column = f"item_{settings.same_by}"
    found: dict[str, Any] = {}
    for receipt in receipts:
        part = runs.read_part(settings.earlier_uri, receipt, "masks", ["item_id", column])
        chosen = part.filter(pc.is_in(part.column("item_id"), item_ids.combine_chunks()))
        found |= dict(zip(*(chosen.column(name).to_pylist() for name in ("item_id", column)), strict=True))
    return found


def _is_same(row: Mapping[str, Any], known: str | None, settings: ReuseSettings) -> bool:
    """Whether the source is what it was; one that cannot be read is not, and its stage will say why."""
    if known is None:
        return False
    try:
        storage.require_scheme(row["uri"], settings.schemes)
        with members.open_item(row["uri"]) as file:
            if settings.same_by == "version":
                return storage.etag_or_mtime(file) == known
            return storage.sha256_of(file) == known
    except (ItemError, OSError):
        return False


def _carry_part(receipt: runs.Receipt, same: Mapping[str, Mapping[str, Any]], settings: ReuseSettings) -> Written:
    wanted = pa.array([*same], pa.string())
    units = _chosen(receipt.units, wanted)
    if not units.num_rows:
        return Written(frames=0, units=0, failed_units=0)
    tables = {name: schema.empty_table() for name, schema in TABLES.items()}
    for name in receipt.files:
        tables[name] = _chosen(runs.read_part(settings.earlier_uri, receipt, name), wanted)
    for path in filter(None, tables["masks"].column("overlay").to_pylist()):
        _carry_overlay(path, settings)
    tables["masks"] = _of_this_run(tables["masks"], same, settings.write)
    runs.commit(settings.write.run_uri, tables, units)
    return Written(frames=tables["masks"].num_rows, units=units.num_rows, failed_units=0)


def _chosen(table: pa.Table, item_ids: pa.Array) -> pa.Table:
    return table.filter(pc.is_in(table.column("item_id"), item_ids))


def _of_this_run(masks: pa.Table, same: Mapping[str, Mapping[str, Any]], settings: WriteSettings) -> pa.Table:
    """The rows with what this run's manifest says of their items: where they lie, and its own columns."""
    schema = with_columns(MASKS, settings.extra)
    rows = [same[item_id] for item_id in masks.column("item_id").to_pylist()]
    fresh: dict[str, pa.Array] = {
        "uri": pa.array([storage.redact(row["uri"]) for row in rows], pa.string()),
        "run_id": pa.array([settings.run_id] * len(rows), pa.string()),
    }
    for field in settings.extra:
        fresh[field.name] = pa.array([row["extra"][field.name] for row in rows], field.type)
    kept = masks.select([name for name in MASKS.names if name not in fresh])
    for name, values in fresh.items():
        kept = kept.append_column(name, values)
    return conform(kept, schema)


def _carry_overlay(path: str, settings: ReuseSettings) -> None:
    try:
        data = storage.read_bytes(storage.join(settings.earlier_uri, path))
    except FetchError as error:
        raise OutputError(f"{error}; score without --reuse, or without --overlays") from error
    storage.write_bytes(storage.join(settings.write.run_uri, path), data)
