"""Runs of any number of items with given ratios, figures and class maps, written as a job writes them, in seconds.

Knows the tables of a run. Knows no model, no images and no stages.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import masks, runs
from fsf_core.keys import item_key, unit_key
from fsf_core.schema import CLASS_STATS, FAILURES, MASKS, UNITS
from tests.support import ledger

SIDE_PX = 100
"""Height and width of the images: a ratio of 0.01 % is a pixel."""

FIGURES = ("confidence", "uncertain_share", "brightness", "contrast", "sharpness")


def make_run(
    uri: str,
    ratios: Any,
    *,
    figures: Mapping[str, Any] | None = None,
    item_ids: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    class_maps: Any = None,
    sizes: Any = None,
    sources: Sequence[str] | None = None,
    digests: Sequence[str] | None = None,
    uris: Sequence[str] | None = None,
    failed: Sequence[str] = (),
    frames: Sequence[int] | None = None,
    bundle: str = "ab" * 32,
    part_rows: int = 4096,
    finished: bool = True,
    older: bool = False,
    fingerprint: Mapping[str, Any] | None = None,
    passed_through: Mapping[str, Any] | None = None,
    confusion: pa.Table | None = None,
) -> str:
    """Write a run.

    Args:
        uri: where.
        ratios: I×K; the ratio of every class in every item, or with `frames` in every frame.
        figures: brightness and so on, a number for every row of `ratios`, or one for all.
        item_ids: of the items.
        class_names: of the classes.
        class_maps: a class map for every row; without, every row has the same tiny one.
        sizes: (height, width) of every row; those of the class maps, or SIDE_PX.
        sources: a text for every item; equal texts are equal source files. The id by default.
        digests: item_sha256 of every item, instead of those of `sources`.
        uris: of the items.
        failed: ids of items that failed, beside those that did not.
        frames: number of frames of each item, which are videos.
        bundle: sha256 of the bundle.
        part_rows: rows of each part; a video may be split over several.
        finished: whether the run is published.
        older: whether the version that wrote the run knew no figures.
        fingerprint: further entries.
        passed_through: columns of the manifest, a value for every row of `ratios`.
        confusion: counts of labels, of which each item's rows are in its part.

    Returns:
        The uri.
    """
    ratios = np.atleast_2d(np.asarray(ratios, float))
    classes = ratios.shape[1]
    names = [*(class_names or (f"class_{k}" for k in range(classes)))]
    palette = masks.voc_palette(classes)
    ids = [*(item_ids if item_ids is not None else (f"item_{at:06d}" for at in range(len(frames or ratios))))]
    row_items = np.repeat(np.arange(len(ids)), frames) if frames is not None else np.arange(len(ids))
    row_frames = np.concatenate([np.arange(count) for count in frames]) if frames is not None else np.zeros(len(ids))
    known = {"bundle_sha256": bundle, "precision": "fp32", "mask_size": "original", "classes": names}
    known |= {"palette": palette.tolist(), **(fingerprint or {})}
    tiny = masks.encode_png(np.zeros((2, 2), np.uint8), palette)
    sizes = None if sizes is None else np.broadcast_to(sizes, (len(row_items), 2)).tolist()
    pixels = np.rint(ratios * SIDE_PX * SIDE_PX).astype(np.int64)
    with ledger.claim_run(uri, fingerprint=known, details={"bundle": "bundles/gone", "honour_exif": True}) as attempt:
        for start in range(0, len(row_items), part_rows):
            at = np.arange(start, min(start + part_rows, len(row_items)))
            rows = {
                "ids": [ids[k] for k in row_items[at]],
                "frames": row_frames[at].astype(np.int64),
                "digests": [
                    digests[k] if digests else hashlib.sha256((sources or ids)[k].encode()).hexdigest()
                    for k in row_items[at]
                ],
                "uris": [uris[k] if uris else f"/photos/{ids[k]}" for k in row_items[at]],
                "timed": frames is not None,
            }
            pngs = [tiny] * len(at) if class_maps is None else [masks.encode_png(class_maps[k], palette) for k in at]
            shapes = [np.shape(class_maps[k]) for k in at] if class_maps is not None else [(SIDE_PX, SIDE_PX)] * len(at)
            if sizes is not None:
                shapes = [sizes[k] for k in at]
            given = {name: np.broadcast_to(values, len(row_items))[at] for name, values in (figures or {}).items()}
            tables = {
                "masks": _masks(rows, pngs, shapes, {} if older else given, attempt.run_id, bundle),
                "class_stats": _class_stats(rows, pixels[at], names),
                "failures": FAILURES.empty_table(),
            }
            for name, values in (passed_through or {}).items():
                column = pa.array([values[k] for k in at])
                tables["masks"] = tables["masks"].append_column(pa.field(name, column.type), column)
            if confusion is not None:
                mine = pc.is_in(confusion.column("item_id"), value_set=pa.array(rows["ids"]))
                tables["confusion"] = confusion.filter(mine)
            runs.commit(attempt.staging, tables, _units(rows, start))
        if failed:
            ledger.commit(attempt, *(ledger.image(name, failed=True) for name in failed))
        if finished:
            total = len(ids) + len(failed)
            items = {"total": total, "scored": len(ids), "failed": len(failed), "not_in_manifest": 0}
            sums = pixels.sum(0)
            described = [
                {"id": k, "name": name, "pixels": int(sums[k]), "ratio": float(sums[k] / max(1, sums.sum()))}
                for k, name in enumerate(names)
            ]
            ledger.publish(attempt, {"items": items, "frames": len(row_items), "classes": described, "failures": {}})
    return uri


def _masks(
    rows: Mapping[str, Any],
    pngs: list[bytes],
    shapes: list[Any],
    figures: Mapping[str, Any],
    run_id: str,
    bundle: str,
) -> pa.Table:
    count = len(rows["ids"])
    columns: dict[str, Any] = {name: pa.nulls(count, MASKS.field(name).type) for name in MASKS.names}
    columns |= {
        "item_id": rows["ids"],
        "frame_index": rows["frames"],
        "uri": rows["uris"],
        "height_px": [height for height, _ in shapes],
        "width_px": [width for _, width in shapes],
        "mask": [{"bytes": png, "path": None} for png in pngs],
        "item_sha256": rows["digests"],
        "item_version": ["1234 1700000000000000000"] * count,
        "run_id": [run_id] * count,
        "bundle_sha256": [bundle] * count,
    }
    if rows["timed"]:
        columns["pts_s"] = rows["frames"] / 25
    columns |= {name: np.asarray(values, float) for name, values in figures.items()}
    return pa.table({name: pa.array(columns[name], MASKS.field(name).type) for name in MASKS.names}, schema=MASKS)


def _class_stats(rows: Mapping[str, Any], pixels: Any, names: Sequence[str]) -> pa.Table:
    count, classes = pixels.shape
    columns = {
        "item_id": np.repeat(np.asarray(rows["ids"], object), classes),
        "frame_index": np.repeat(rows["frames"], classes),
        "class_id": np.tile(np.arange(classes), count),
        "class_name": [*names] * count,
        "pixels": pixels.reshape(-1),
        "ratio": (pixels / np.maximum(pixels.sum(1, keepdims=True), 1)).reshape(-1),
        "components": (pixels > 0).reshape(-1).astype(int),
        "largest_component_px": pixels.reshape(-1),
        "mean_probability": pa.nulls(pixels.size, pa.float64()),
    }
    return pa.table(
        {name: pa.array(columns[name], CLASS_STATS.field(name).type) for name in CLASS_STATS.names}, schema=CLASS_STATS
    )


def _units(rows: Mapping[str, Any], start: int) -> pa.Table:
    """Return a unit for each item of a part; of a video, its frames in this part are a segment."""
    found: dict[str, list[int]] = {}
    for name, frame in zip(rows["ids"], rows["frames"].tolist(), strict=True):
        found.setdefault(name, []).append(frame)
    return pa.Table.from_pylist(
        [
            {
                "unit_key": unit_key(name, frames[0]),
                "item_key": item_key(name),
                "item_id": name,
                "segment": frames[0],
                "segments": 1,
                "frames": len(frames),
                "first_frame": frames[0],
                "last_frame": frames[-1],
                "failed": False,
                "row_digest": None,
            }
            for name, frames in found.items()
        ],
        schema=UNITS,
    )
