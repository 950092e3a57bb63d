"""Finished runs whose figures a test chooses: what `fsf select` reads, without a model and without Ray."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from fsf_core import masks, runs
from fsf_core.media import rasters
from fsf_core.schema import CLASS_STATS, FAILURES, MASKS, conform, with_columns
from tests.support import ledger
from tests.support.ledger import ScoredUnit, rows_of

CLASSES = ("background", "sunburn", "ulcer")
SIDE_PX = 20
LIST = "/lists/all.csv"
"""The manifest of the runs."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One scored frame; its mask has the ratios, in bands of whole pixels."""

    item_id: str
    frame_index: int = 0
    pts_s: float | None = None
    """Time of a video's frame."""
    ratios: Sequence[float] = (1.0, 0.0, 0.0)
    class_map_HW: np.ndarray | None = None
    """The mask, instead of ratios."""
    as_tiff: bool = False
    """Whether the mask is a TIFF beside the tables, as that of a picture which is too large for a PNG."""
    probability: Sequence[float | None] | None = (0.9, 0.8, 0.7)
    """Mean class probabilities where a class occurs; None for a model without any."""
    uncertain_share: float | None = 0.1
    confidence: float | None = 0.9
    brightness: float | None = 100.0
    contrast: float | None = 40.0
    sharpness: float | None = 300.0
    label_ignored_px: int | None = None
    """Of its label; None for a frame without one."""
    passed: Mapping[str, Any] = field(default_factory=dict)
    """Columns that the manifest passed through."""


def class_map(frame: Frame) -> np.ndarray:
    """Return the mask of a frame."""
    if frame.class_map_HW is not None:
        return frame.class_map_HW
    counts = np.round(np.asarray(frame.ratios) * SIDE_PX**2).astype(int)
    counts[0] += SIDE_PX**2 - counts.sum()
    classes = np.arange(len(counts), dtype=masks.class_map_dtype(len(counts)))
    return np.repeat(classes, counts).reshape(SIDE_PX, SIDE_PX)


def write_run(
    uri: str,
    frames: Iterable[Frame],
    *,
    classes: Sequence[str] = CLASSES,
    failed: Sequence[str] = (),
    passed: pa.Schema | None = None,
    uris: Mapping[str, str] | None = None,
    finished: bool = True,
) -> str:
    """Write a run with one part of these frames, and one of the failed items; returns its folder."""
    frames = [*frames]
    palette = [tuple(colour) for colour in masks.voc_palette(len(classes)).tolist()]
    fingerprint = {"classes": classes, "palette": palette, "manifest": LIST}
    with ledger.claim_run(uri, fingerprint=fingerprint, details={}):
        for frame in frames:
            if frame.as_tiff:
                _write_tiff(frame, ledger.newest_staging(uri), len(classes))
        if frames:
            runs.commit(
                ledger.newest_staging(uri),
                _tables(frames, classes, passed or pa.schema([]), uris or {}),
                _units(frames),
            )
        for item_id in failed:
            ledger.commit(uri, ledger.image(item_id, failed=True))
    if finished:
        ledger.publish(uri, {"items": {"scored": len(frames), "failed": len(failed)}}, derived=[])
    return uri


def _tiff_path(frame: Frame) -> str:
    return f"{runs.MASK_FILES}/{frame.item_id}-{frame.frame_index}.tif"


def _write_tiff(frame: Frame, staging: runs.Staging, classes: int) -> None:
    map_HW = class_map(frame)
    height_px, width_px = map_HW.shape
    with (
        staging.replacing(_tiff_path(frame)) as path,
        rasters.MaskWriter(
            path, height_px=height_px, width_px=width_px, num_classes=classes, palette_K3=masks.voc_palette(classes)
        ) as writer,
    ):
        writer.write(0, map_HW)


def _tables(
    frames: Sequence[Frame], classes: Sequence[str], passed: pa.Schema, uris: Mapping[str, str]
) -> dict[str, pa.Table]:
    schema = with_columns(MASKS, passed)
    maps = [class_map(frame) for frame in frames]
    rows = [_mask_row(frame, map_HW, len(classes), uris) for frame, map_HW in zip(frames, maps, strict=True)]
    stats = [row for frame, map_HW in zip(frames, maps, strict=True) for row in _stat_rows(frame, map_HW, classes)]
    return {
        "masks": conform(pa.Table.from_pylist(rows, schema=schema), schema),
        "class_stats": conform(pa.Table.from_pylist(stats, schema=CLASS_STATS), CLASS_STATS),
        "failures": FAILURES.empty_table(),
    }


def _mask_row(frame: Frame, map_HW: np.ndarray, classes: int, uris: Mapping[str, str]) -> dict[str, Any]:
    figures = ("uncertain_share", "confidence", "brightness", "contrast", "sharpness", "pts_s", "label_ignored_px")
    return {
        **{name: getattr(frame, name) for name in figures},
        **frame.passed,
        "item_id": frame.item_id,
        "frame_index": frame.frame_index,
        "uri": uris.get(frame.item_id, f"/photos/{frame.item_id}"),
        "height_px": map_HW.shape[0],
        "width_px": map_HW.shape[1],
        "mask": {
            "bytes": None if frame.as_tiff else masks.encode_png(map_HW, masks.voc_palette(classes)),
            "path": _tiff_path(frame) if frame.as_tiff else None,
        },
        "run_id": "20261122T000000Z-00000000",
        "bundle_sha256": "ab" * 32,
    }


def _stat_rows(frame: Frame, map_HW: np.ndarray, classes: Sequence[str]) -> Iterable[dict[str, Any]]:
    for class_id, pixels in enumerate(np.bincount(map_HW.ravel(), minlength=len(classes)).tolist()):
        probability = None if frame.probability is None or not pixels else frame.probability[class_id]
        yield {
            "item_id": frame.item_id,
            "frame_index": frame.frame_index,
            "class_id": class_id,
            "class_name": classes[class_id],
            "pixels": pixels,
            "ratio": pixels / map_HW.size,
            "components": int(pixels > 0),
            "largest_component_px": pixels,
            "mean_probability": probability,
        }


def _units(frames: Sequence[Frame]) -> pa.Table:
    by_item: dict[str, list[int]] = {}
    for frame in frames:
        by_item.setdefault(frame.item_id, []).append(frame.frame_index)
    return rows_of(
        [
            ScoredUnit(item_id=item_id, frames=len(indices), first_frame=min(indices))
            for item_id, indices in by_item.items()
        ]
    )
