"""Reuse of an earlier run: its rows of unchanged items are committed as parts of this run, before the four stages.

Knows the rows of a run and how to recognise an unchanged source. Decodes nothing and calls no model.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import runs, storage
from fsf_core.errors import FetchError, ItemError, OutputError
from fsf_core.manifest import LABEL_COLUMN, members
from fsf_core.options import SameBy
from fsf_core.schema import MASKS, TABLES, UNITS, conform, is_own, with_columns
from fsf_core.stages.write import WriteSettings

COPY_BYTES = 1 << 22
"""Bytes of a mask that are copied at a time."""

log = logging.getLogger("fsf")


@dataclass(frozen=True, kw_only=True)
class ReuseSettings:
    """Settings of a reuse task."""

    earlier_uri: str
    """The earlier run; scored with the bundle and options of this one."""
    same_by: SameBy
    """sha256 reads every source whole; version asks its store for size and time, or the etag."""
    access: storage.Access
    """Which addresses may be opened."""
    write: WriteSettings


def reuse_items(rows: pa.Table, parts: Sequence[str], ledger: runs.Ledger, settings: ReuseSettings) -> int:
    """Commit the rows of unchanged items, one part per part of the earlier run.

    Args:
        rows: item_id, uri, row_digest, `extra` where the manifest has columns, and `label_uri` where it names labels;
            all units of these items are in `parts`.
        parts: names of parts of the earlier run.
        ledger: of the earlier run.
        settings: settings of the task.

    Returns:
        The number of items reused. The others are to be scored: they or their labels have changed, cannot be read, or
        the earlier run has no record of their source or label, or has lost or damaged their rows.

    Raises:
        StorageError: this run cannot be written.
    """
    receipts = [*ledger.receipts(parts)]
    if len(receipts) < len(parts):
        return 0
    try:
        return _reuse_unchanged(rows, receipts, settings)
    except OutputError as error:
        log.warning("event=reuse_failed run=%s error=%r", storage.redact(settings.earlier_uri), str(error))
        return 0


def _reuse_unchanged(rows: pa.Table, receipts: Sequence[runs.Receipt], settings: ReuseSettings) -> int:
    """Commit the rows of unchanged items; returns their number.

    Raises:
        OutputError: a file of the earlier run is missing, or differs from its receipt.
    """
    recorded = _recorded_sources(receipts, rows.column("item_id"), settings)
    unchanged = {
        row["item_id"]: row
        for row in rows.to_pylist()
        if row["item_id"] in recorded and _is_unchanged(row, recorded[row["item_id"]], settings)
    }
    if unchanged:
        # All are read before the first is committed: a damaged one leaves no item half reused.
        tables = [_read_tables(receipt, settings.earlier_uri) for receipt in receipts]
        for receipt, whole in zip(receipts, tables, strict=True):
            _reuse_part(receipt, whole, unchanged, settings)
    return len(unchanged)


def _read_tables(receipt: runs.Receipt, earlier_uri: str) -> dict[str, pa.Table]:
    """Read all tables of a part, after comparing their bytes with the receipt."""
    return {name: runs.read_part(earlier_uri, receipt, name, checked=True) for name in receipt.files}


@dataclass(kw_only=True, slots=True)
class _Recorded:
    """What the earlier run recorded of an item."""

    source: str | None
    """Its sha256 or version."""
    is_video: bool
    is_labelled: bool = False
    """Whether a frame has a label."""
    label_sha256: str | None = None
    """Of the label of its last frame."""


def _recorded_sources(
    receipts: Sequence[runs.Receipt], item_ids: pa.ChunkedArray, settings: ReuseSettings
) -> dict[str, _Recorded]:
    """Return what the earlier run recorded, by item id."""
    names = ["item_id", f"item_{settings.same_by}", "pts_s", "label_ignored_px", "label_sha256"]
    recorded: dict[str, _Recorded] = {}
    for receipt in receipts:
        part = runs.read_part(settings.earlier_uri, receipt, "masks", names)
        chosen = part.filter(pc.is_in(part.column("item_id"), item_ids.combine_chunks()))
        for item_id, source, pts_s, ignored_px, sha256 in zip(*map(pa.ChunkedArray.to_pylist, chosen), strict=True):
            known = recorded.setdefault(item_id, _Recorded(source=source, is_video=pts_s is not None))
            known.source, known.label_sha256 = source, sha256
            known.is_labelled = known.is_labelled or ignored_px is not None
    return recorded


def _is_unchanged(row: Mapping[str, Any], recorded: _Recorded, settings: ReuseSettings) -> bool:
    """Return whether source and label are as recorded; False if one cannot be read, which the decode stage reports."""
    if recorded.source is None:
        return False
    try:
        if not _has_same_label(row.get(LABEL_COLUMN), recorded, settings):
            return False
        with members.open_item(row["uri"], settings.access) as file:
            if settings.same_by == "version":
                return storage.etag_or_mtime(file) == recorded.source
            return storage.file_sha256(file) == recorded.source
    except (ItemError, OSError):
        return False


def _has_same_label(uri: str | None, recorded: _Recorded, settings: ReuseSettings) -> bool:
    """Return whether an item has the label that was counted, byte for byte, or had none and has none now.

    A labelled video is scored again: its labels are many files, or one that would have to be read whole.
    """
    if uri is None or not recorded.is_labelled:
        return uri is None and not recorded.is_labelled
    if recorded.is_video or recorded.label_sha256 is None:
        return False
    with storage.open_binary(uri, settings.access) as file:
        return storage.file_sha256(file) == recorded.label_sha256


def _reuse_part(
    receipt: runs.Receipt,
    whole: Mapping[str, pa.Table],
    unchanged: Mapping[str, Mapping[str, Any]],
    settings: ReuseSettings,
) -> None:
    """Commit the rows of unchanged items of one part."""
    item_ids = pa.array([*unchanged], pa.string())
    units = _of_items(receipt.units, item_ids)
    if not units.num_rows:
        return
    tables = {name: schema.empty_table() for name, schema in TABLES.items()}
    for name, table in whole.items():
        tables[name] = _of_items(table, item_ids)
    for path in filter(None, tables["masks"].column("overlay").to_pylist()):
        _copy_overlay(path, settings)
    masks = tables["masks"]
    columns = (pc.struct_field(masks.column("mask"), "path"), masks.column("height_px"), masks.column("width_px"))
    for path, height_px, width_px in zip(*map(pa.ChunkedArray.to_pylist, columns), strict=True):
        if path:
            _copy_mask(path, settings, height_px=height_px, width_px=width_px)
    tables["masks"] = _relabelled(tables["masks"], unchanged, settings.write)
    digests = [unchanged[item_id]["row_digest"] for item_id in units.column("item_id").to_pylist()]
    at = units.column_names.index("row_digest")
    units = units.set_column(at, UNITS.field("row_digest"), pa.array(digests, UNITS.field("row_digest").type))
    runs.commit(settings.write.staging, tables, units)


def _of_items(table: pa.Table, item_ids: pa.Array) -> pa.Table:
    """Return the rows of these items."""
    return table.filter(pc.is_in(table.column("item_id"), item_ids))


def _relabelled(masks: pa.Table, unchanged: Mapping[str, Mapping[str, Any]], settings: WriteSettings) -> pa.Table:
    """Return the rows with this run's id, and the uri and pass-through columns of its manifest.

    Pass-through columns of the earlier run stay behind, also one that has the name of a column of this version.
    """
    schema = with_columns(MASKS, settings.extra)
    rows = [unchanged[item_id] for item_id in masks.column("item_id").to_pylist()]
    fresh: dict[str, pa.Array] = {
        "uri": pa.array([storage.redact(row["uri"]) for row in rows], pa.string()),
        "run_id": pa.array([settings.run_id] * len(rows), pa.string()),
    }
    for field in settings.extra:
        fresh[field.name] = pa.array([row["extra"][field.name] for row in rows], field.type)
    for field in MASKS:
        if field.nullable and not is_own(masks.schema.field(field.name)):
            fresh[field.name] = pa.nulls(len(rows), field.type)
    kept = masks.select([name for name in MASKS.names if name not in fresh])
    for name, values in fresh.items():
        kept = kept.append_column(name, values)
    return conform(kept, schema)


def _copy_overlay(path: str, settings: ReuseSettings) -> None:
    """Copy an overlay from the earlier run.

    Raises:
        OutputError: the earlier run lacks it.
    """
    try:
        data = storage.read_bytes(storage.join(settings.earlier_uri, path))
    except FetchError as error:
        raise OutputError(f"{error}; score without --reuse, or without --overlays") from error
    settings.write.staging.replace(path, data)


def _copy_mask(path: str, settings: ReuseSettings, *, height_px: int, width_px: int) -> None:
    """Copy a mask that is a TIFF from the earlier run, in pieces, and check the copy.

    Raises:
        OutputError: the earlier run lacks it, or it is damaged there.
    """
    source = storage.join(settings.earlier_uri, path)
    target = storage.join(settings.write.staging.run_uri, path)
    with settings.write.staging.replacing(path) as local:
        try:
            with (
                storage.open_binary(source) as file,
                storage.as_storage_error(target, "written"),
                local.open("wb") as copy,
            ):
                while piece := file.read(COPY_BYTES):
                    copy.write(piece)
        except FetchError as error:
            raise OutputError(f"{error}; score without --reuse") from error
        problem = runs.find_mask_problem(str(local.parent), local.name, height_px=height_px, width_px=width_px)
        if problem:
            raise OutputError(f"{storage.redact(source)} is damaged: {problem}; score without --reuse")
