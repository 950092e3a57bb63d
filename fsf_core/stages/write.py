"""Last stage: masked units to committed parts of the run.

Complete and failed units are committed as separate parts, so that failures alone can be retracted and retried.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import runs, storage
from fsf_core.keys import file_stem, item_key, unit_key
from fsf_core.schema import CLASS_STATS, FAILURES, MASKS, OPTIONAL, UNITS, conform, with_columns

LABEL_FACTS = ("label_sha256", "label_ignored_px")
"""Columns of masks about the label of a frame; units have a list of each where the manifest names labels."""

TEXT_BYTES = 1 << 30
"""Most text of one column in one piece: Arrow counts it in 31 bits, and a part may have millions of regions."""


@dataclass(frozen=True, kw_only=True)
class WriteSettings:
    """Settings of a write task."""

    staging: runs.Staging
    """Where the attempt writes."""
    run_id: str
    bundle_sha256: str
    class_names: tuple[str, ...]
    extra: pa.Schema
    """Pass-through columns of the manifest."""


def write(table: pa.Table, settings: WriteSettings) -> list[runs.Receipt]:
    """Commit units as parts: one of the complete ones, one of the failed ones; returns the receipts.

    Args:
        table: units as the mask stage returns them; a column that has the name of an optional table holds the rows of
            that table, a list per unit.
        settings: settings of the stage.

    Raises:
        StorageError: the run folder cannot be written; units without a receipt are scored again.
    """
    failed = pc.is_valid(table.column("error_type"))
    return [
        _commit(chosen.sort_by([("item_id", "ascending"), ("segment", "ascending")]), settings)
        for chosen in (table.filter(pc.invert(failed)), table.filter(failed))
        if chosen.num_rows
    ]


def _commit(table: pa.Table, settings: WriteSettings) -> runs.Receipt:
    """Write the overlays of units, then commit their rows as one part."""
    optional = [name for name in OPTIONAL if name in table.column_names]
    rows = table.drop_columns(optional).to_pylist()
    overlays = [_write_overlays(row, settings.staging) for row in rows]
    tables = {
        "masks": _masks_table(rows, overlays, settings),
        "class_stats": _class_stats_table(rows, settings),
        "failures": _failures_table(rows),
        **{name: _optional_table(table, name, settings) for name in optional},
    }
    return runs.commit(settings.staging, tables, _units_table(rows))


def _masks_table(
    rows: Sequence[Mapping[str, Any]], overlays: list[list[str | None]], settings: WriteSettings
) -> pa.Table:
    """Return one row per frame."""
    schema = with_columns(MASKS, settings.extra)
    found = [
        {
            **(row.get("extra") or {}),
            **frame,
            "item_id": row["item_id"],
            "uri": storage.redact(row["uri"]),
            "mask": {"bytes": png, "path": path},
            "overlay": overlay,
            "item_sha256": row["item_sha256"],
            "item_version": row["item_version"],
            "run_id": settings.run_id,
            "bundle_sha256": settings.bundle_sha256,
            "notes": row["notes"],
            **label,
        }
        for row, drawn in zip(rows, overlays, strict=True)
        for frame, png, path, overlay, label in zip(
            row["frames"], row["masks"], _mask_paths(row), drawn, _labels_of(row), strict=True
        )
    ]
    return conform(pa.Table.from_pylist(found, schema=schema), schema)


def _mask_paths(row: Mapping[str, Any]) -> list[str | None]:
    """Return the path of the mask of every frame as TIFF inside the run; None where it has none."""
    return row.get("mask_paths") or [None] * len(row["frames"])


def _labels_of(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what masks records of the label of every frame; nothing where the manifest names none."""
    names = [name for name in LABEL_FACTS if name in row]
    return [{name: row[name][at] for name in names} for at in range(len(row["frames"]))]


def _optional_table(table: pa.Table, name: str, settings: WriteSettings) -> pa.Table:
    """Return the rows that units carry for a table that exists by option."""
    lists = table.column(name).combine_chunks()
    found = pa.Table.from_struct_array(pc.list_flatten(lists))
    units = pc.list_parent_indices(lists)
    found = found.append_column("item_id", _take_text(table.column("item_id"), units))
    found = found.append_column("segment", table.column("segment").take(units))
    if "class_id" in found.column_names:
        names = pa.chunked_array([settings.class_names], pa.string())
        found = found.append_column("class_name", _take_text(names, found.column("class_id")))
    return conform(found, OPTIONAL[name])


def _take_text(texts: pa.ChunkedArray, indices: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the text at each index, in pieces of at most TEXT_BYTES."""
    rows = max(1, TEXT_BYTES // max(1, pc.max(pc.binary_length(texts)).as_py() or 0))
    starts = range(0, len(indices), rows)
    pieces = [texts.take(indices.slice(start, rows)) for start in starts]
    return pa.chunked_array([chunk for piece in pieces for chunk in piece.chunks], texts.type)


def _class_stats_table(rows: Sequence[Mapping[str, Any]], settings: WriteSettings) -> pa.Table:
    """Return K rows per frame, classes in order."""
    classes = len(settings.class_names)
    item_ids = [row["item_id"] for row in rows for _ in row["frames"]]
    indices = [frame["frame_index"] for row in rows for frame in row["frames"]]

    def flat(name: str) -> np.ndarray[Any, Any]:
        return np.asarray([value for row in rows for value in row[name]])

    pixels = flat("pixels").reshape(-1, classes).astype(np.int64)
    totals = np.maximum(pixels.sum(1, keepdims=True), 1)
    probability = flat("mean_probability").astype(np.float64)
    found = pa.table(
        {
            "item_id": pa.array(np.repeat(np.asarray(item_ids, object), classes), pa.string()),
            "frame_index": np.repeat(np.asarray(indices, np.int64), classes),
            "class_id": np.tile(np.arange(classes, dtype=np.int32), len(item_ids)),
            "class_name": pa.array(list(settings.class_names) * len(item_ids), pa.string()),
            "pixels": pixels.reshape(-1),
            "ratio": (pixels / totals).reshape(-1),
            "components": flat("components").astype(np.int64),
            "largest_component_px": flat("largest_component_px").astype(np.int64),
            "mean_probability": pa.array(probability, pa.float64(), mask=np.isnan(probability)),
        }
    )
    return conform(found, CLASS_STATS)


def _failures_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return one row per failed unit."""
    found = [
        {
            "item_id": row["item_id"],
            "uri": storage.redact(row["uri"]),
            "stage": row["failed_stage"],
            "frame_index": row["failed_frame"],
            "error_type": row["error_type"],
            "error_message": row["error_message"],
            "attempts": row["attempt"],
        }
        for row in rows
        if row["error_type"] is not None
    ]
    return conform(pa.Table.from_pylist(found, schema=FAILURES), FAILURES)


def _units_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return the units of the part's receipt."""
    found = [
        {
            "unit_key": unit_key(row["item_id"], row["segment"]),
            "item_key": item_key(row["item_id"]),
            "item_id": row["item_id"],
            "segment": row["segment"],
            "segments": row["segments"],
            "frames": len(row["frames"]),
            "first_frame": row["frames"][0]["frame_index"] if row["frames"] else 0,
            "last_frame": row["frames"][-1]["frame_index"] if row["frames"] else 0,
            "failed": row["error_type"] is not None,
            "row_digest": row["row_digest"],
        }
        for row in rows
    ]
    return pa.Table.from_pylist(found, schema=UNITS)


def _write_overlays(row: Mapping[str, Any], staging: runs.Staging) -> list[str | None]:
    """Write overlays; return their paths inside the run, one per frame, None where none was drawn."""
    if not row["overlays"]:
        return [None] * len(row["frames"])
    paths: list[str | None] = []
    for frame, data in zip(row["frames"], row["overlays"], strict=True):
        path = f"overlays/{file_stem(row['item_id'], frame['frame_index'])}.jpg"
        staging.replace(path, data)
        paths.append(path)
    return paths
