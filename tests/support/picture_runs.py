"""Finished runs over pictures and videos, built without a model: the masks are those that a test gives.

Knows the tables of a run and how to commit them. Knows no Ray.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from PIL import Image

from fsf_core import masks, runs
from fsf_core.keys import item_key, unit_key
from fsf_core.media.video import decode_frames, index_video
from fsf_core.schema import CLASS_STATS, FAILURES, MASKS, REGIONS, UNITS, conform, with_columns
from tests.support import clips, ledger

NAMES = ("background", "sunburn", "Fäule", "wind scar")


@dataclass(frozen=True, kw_only=True)
class Item:
    """An item of a run, and the masks of its frames; none of a failed item."""

    item_id: str
    source: Path
    class_maps: Sequence[np.ndarray]
    is_video: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    uri: str | None = None
    """Where the run has read it; its source by default."""


def image(home: Path, item_id: str, class_map_HW: np.ndarray, *, name: str | None = None, **extra: Any) -> Item:
    """Write a picture of the size of a mask; returns its item."""
    path = home / (name or item_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([*item_id.encode()])
    path.write_bytes(cv2.imencode(path.suffix, rng.integers(0, 256, (*class_map_HW.shape, 3), np.uint8))[1].tobytes())
    return Item(item_id=item_id, source=path, class_maps=[class_map_HW], extra=extra)


def video(home: Path, item_id: str, *, frames: int, num_classes: int = 4) -> Item:
    """Write a video; returns its item with a random mask for every frame."""
    path = home / "clips" / f"{hashlib.sha256(item_id.encode()).hexdigest()[:8]}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(clips.clip(frames=frames))
    shape = next(iter(decode_frames(path, index_video(path)))).image_HWC.shape[:2]
    rng = np.random.default_rng(frames)
    tiles = [rng.integers(0, num_classes, (1 + shape[0] // 16, 1 + shape[1] // 16)) for _ in range(frames)]
    drawn = [np.kron(each, np.ones((16, 16), int))[: shape[0], : shape[1]].astype(np.uint8) for each in tiles]
    return Item(item_id=item_id, source=path, class_maps=drawn, is_video=True)


def pages(home: Path, item_id: str, class_maps: Sequence[np.ndarray]) -> Item:
    """Write a TIFF of random pages of the sizes of masks; returns its item, for a run of all pages."""
    path = home / item_id
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([*item_id.encode()])
    first, *others = (Image.fromarray(rng.integers(0, 256, (*each.shape, 3), np.uint8)) for each in class_maps)
    first.save(path, save_all=True, append_images=others)
    return Item(item_id=item_id, source=path, class_maps=class_maps)


def of_many_classes(home: Path) -> tuple[str, np.ndarray]:
    """Return a run over one picture in which 300 classes occur, and its mask: uint16."""
    class_map_HW = np.kron(np.arange(300).reshape(15, 20), np.ones((2, 2))).astype(np.uint16)
    names = [f"class {number}" for number in range(300)]
    return finished(home / "run", [image(home, "a.png", class_map_HW)], names=names), class_map_HW


def failed(item_id: str) -> Item:
    """Return an item that was not scored."""
    return Item(item_id=item_id, source=Path("/nowhere"), class_maps=[])


def finished(
    out: Path | str,
    items: Sequence[Item],
    *,
    names: Sequence[str] = NAMES,
    palette: Sequence[tuple[int, int, int]] | None = None,
    per_part: int = 2,
    columns: pa.Schema | None = None,
    regions: Sequence[Mapping[str, Any]] | None = None,
    fingerprint: Mapping[str, Any] | None = None,
    publish: bool = True,
) -> str:
    """Commit the items as parts of a few items each, and publish; returns the run folder."""
    colours = palette or masks.voc_colours(len(names))
    facts = {"classes": [*names], "palette": [[*colour] for colour in colours], "bundle_sha256": "ab" * 32}
    if regions is not None:
        facts["tables"] = ["regions"]
    facts |= {"manifest": "/lists/a.csv", "precision": "fp32", "mask_size": "original", **(fingerprint or {})}
    with ledger.claim_run(str(out), fingerprint=facts, details={"honour_exif": True}) as attempt:
        for start in range(0, len(items), per_part):
            _commit(attempt, items[start : start + per_part], np.array(colours, np.uint8), names, columns, regions)
        if publish:
            failures = sum(not item.class_maps for item in items)
            counts = {"total": len(items), "scored": len(items) - failures, "failed": failures}
            ledger.publish(attempt, {"items": counts})
    return str(out)


def _commit(attempt, items, palette_K3, names, columns, regions):
    tables = {"masks": [], "class_stats": [], "failures": [], "units": []}
    for item in items:
        _add(item, attempt.run_id, palette_K3, names, tables)
    schema = with_columns(MASKS, columns or ())
    committed = {
        "masks": conform(pa.Table.from_pylist(tables["masks"], schema=schema), schema),
        "class_stats": conform(pa.Table.from_pylist(tables["class_stats"], schema=CLASS_STATS), CLASS_STATS),
        "failures": conform(pa.Table.from_pylist(tables["failures"], schema=FAILURES), FAILURES),
    }
    if regions is not None:
        ids = {item.item_id for item in items}
        rows = [row for row in regions if row["item_id"] in ids]
        committed["regions"] = conform(pa.Table.from_pylist(rows, schema=REGIONS), REGIONS)
    runs.commit(attempt.staging, committed, pa.Table.from_pylist(tables["units"], schema=UNITS))


def _add(item, run_id, palette_K3, names, tables):
    """Add the rows of an item to all tables."""
    count = len(item.class_maps)
    for number, class_map_HW in enumerate(item.class_maps):
        data = item.source.read_bytes()
        height, width = class_map_HW.shape
        tables["masks"].append(
            {
                "item_id": item.item_id,
                "frame_index": number,
                "pts_s": number / 25 if item.is_video else None,
                "uri": item.uri or str(item.source),
                "height_px": height,
                "width_px": width,
                "mask": {"bytes": masks.encode_png(class_map_HW, palette_K3), "path": None},
                "item_sha256": hashlib.sha256(data).hexdigest(),
                "item_version": "1",
                "run_id": run_id,
                "bundle_sha256": "ab" * 32,
                **item.extra,
            }
        )
        for class_id, name in enumerate(names):
            pixels = int((class_map_HW == class_id).sum())
            row = {"item_id": item.item_id, "frame_index": number, "class_id": class_id, "class_name": name}
            row |= {"pixels": pixels, "ratio": pixels / class_map_HW.size, "components": 1}
            tables["class_stats"].append(row | {"largest_component_px": pixels})
    if not count:
        row = {"item_id": item.item_id, "uri": str(item.source), "stage": "decode", "error_type": "FetchError"}
        tables["failures"].append(row | {"error_message": "gone; copy it again", "attempts": 1})
    tables["units"].append(
        {
            "unit_key": unit_key(item.item_id, 0),
            "item_key": item_key(item.item_id),
            "item_id": item.item_id,
            "segment": 0,
            "segments": 1,
            "frames": count,
            "first_frame": 0,
            "last_frame": max(0, count - 1),
            "failed": not count,
        }
    )


def class_maps(run_uri: str) -> dict[tuple[str, int], np.ndarray]:
    """Return the masks of a run by item and frame."""
    rows = runs.read_table(run_uri, "masks", columns=["item_id", "frame_index", "mask"]).to_pylist()
    return {(row["item_id"], row["frame_index"]): masks.decode_png(row["mask"]["bytes"]) for row in rows}


def decoded(path: Path) -> list[np.ndarray]:
    """Return the frames of a video."""
    return [frame.image_HWC for frame in decode_frames(path, index_video(path))]
