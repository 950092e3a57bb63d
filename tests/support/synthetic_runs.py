"""Runs of any size, committed through the ledger without a model: drawn oranges, and masks that are wrong by design.

    python -m tests.support.synthetic_runs OUT --images 50000

A handful of pictures is drawn once, and many items name each of them. Knows the tables of a run. Knows no Ray.
"""

# H×W pixels, K classes

import argparse
import hashlib
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from fsf_core import masks, runs
from fsf_core.demo import oranges
from fsf_core.keys import item_key, unit_key
from fsf_core.manifest.rows import LABEL_COLUMN
from fsf_core.masks import confusion
from fsf_core.schema import CLASS_STATS, CONFUSION, FAILURES, MASKS, UNITS, conform
from tests.support import ledger

PART_ROWS = 2048
SIZE_HW = (192, 256)
FPS = 8


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a run holds."""

    images: int = 10
    videos: int = 0
    video_frames: int = 48
    failures: int = 0
    pictures: int = 12
    """Different images, each of which many items name."""
    classes: int = 4
    labels: bool = True
    measured: bool = True
    """Whether rows have confidence, brightness and the like, as those of older versions do not."""
    finished: bool = True
    ids: Sequence[str] = ()
    """Ids of the first images, instead of invented ones."""
    reasons: Sequence[str] = ()
    """Messages of the failures, in turn."""
    names: Sequence[str] = ()
    shift_px: int = 3
    """By how far the predictions of some pictures are off; another shift is another model."""


def names_of(shape: Shape) -> tuple[str, ...]:
    """Return the class names of a run."""
    known = tuple(shape.names) or oranges.CLASS_NAMES
    return (*known[: shape.classes], *(f"class {k}" for k in range(len(known), shape.classes)))


def make(out: Path, shape: Shape, *, summary: dict | None = None) -> str:
    """Write a run and the pictures that it was made from, which are in the folder beside it; returns its folder."""
    sources = _draw(out.parent / "sources", shape.pictures)
    names, palette = names_of(shape), masks.voc_colours(shape.classes)
    fingerprint = {
        "classes": [*names], "palette": [[*colour] for colour in palette], "bundle_sha256": "ab" * 32,
        "precision": "fp32", "manifest": str(out.parent / "list.csv"), "mask_size": "original",
        **({"tables": ["confusion"], "columns": {LABEL_COLUMN: "string"}} if shape.labels else {}),
    }  # fmt: skip
    details = {"fsf_version": "0.1.0", "bundle": "/models/oranges", "provider": "cpu", "honour_exif": True}
    with ledger.claim_run(str(out), fingerprint=fingerprint, details=details) as attempt:
        for rows in _batched(_items(shape, sources), PART_ROWS):
            _commit(attempt, shape, rows)
        if shape.finished:
            ledger.publish(attempt, summary or _summary(attempt, shape))
    return str(out)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Frame:
    item_id: str
    frame_index: int
    pts_s: float | None
    uri: str
    picture: int
    variant: int
    failed: str | None = None


def _items(shape: Shape, sources: list[Path]) -> Iterator[list[_Frame]]:
    """Yield the frames of each item."""
    for number in range(shape.images):
        name = shape.ids[number] if number < len(shape.ids) else f"line-{number % 3}/{number:05d}.jpg"
        picture = number % shape.pictures
        yield [_frame(name, str(sources[picture]), picture, number)]
    for number in range(shape.videos):
        yield [
            _frame(f"belt-{number}.mp4", "/gone/belt.mp4", (number + at) % shape.pictures, at, at=at)
            for at in range(shape.video_frames)
        ]
    reasons = shape.reasons or ("found 0 bytes, expected an image; replace the file",)
    for number in range(shape.failures):
        reason = reasons[number % len(reasons)]
        yield [
            _Frame(item_id=f"failed/{number:05d}.jpg", frame_index=0, pts_s=None, uri="/gone", picture=0, variant=0,
                   failed=reason)
        ]  # fmt: skip


def _frame(item_id: str, uri: str, picture: int, variant: int, *, at: int | None = None) -> _Frame:
    return _Frame(
        item_id=item_id,
        frame_index=at or 0,
        pts_s=None if at is None else at / FPS,
        uri=uri,
        picture=picture,
        variant=variant * 7 % 5,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Mask:
    png: bytes
    cells: confusion.Cells
    stats: masks.FrameMask
    measures: dict[str, float]


@cache
def _predict(picture: int, variant: int, classes: int, shift_px: int) -> _Mask:
    """Return the label of a picture, and a mask that is the label but for an error of a size."""
    image_HWC, label_HW = oranges.draw_orange(picture, height_px=SIZE_HW[0], width_px=SIZE_HW[1])
    if classes > len(oranges.CLASS_NAMES):  # every class occurs somewhere
        label_HW = np.where(label_HW > 0, 1 + (label_HW.astype(np.int64) - 1 + 3 * picture) % (classes - 1), 0)
    label_HW = np.minimum(label_HW, classes - 1).astype(masks.class_map_dtype(classes))
    predicted_HW = np.roll(label_HW, shift_px * variant, axis=1)
    if variant == 4 and classes > 2:
        predicted_HW = np.where(predicted_HW == 1, 2, predicted_HW).astype(label_HW.dtype)
    grey_HW = cv2.cvtColor(image_HWC, cv2.COLOR_BGR2GRAY)
    rng = np.random.default_rng((picture, variant))
    confidence = float(0.99 - 0.04 * variant - 0.02 * rng.random())
    return _Mask(
        png=masks.encode_png(predicted_HW, masks.voc_palette(classes)),
        cells=confusion.count(label_HW, predicted_HW, classes),
        stats=masks.measure(predicted_HW, num_classes=classes),
        measures={
            "confidence": confidence,
            "uncertain_share": (1 - confidence) / 2,
            "brightness": float(grey_HW.mean()),
            "contrast": float(grey_HW.std()),
            "sharpness": float(cv2.Laplacian(grey_HW, cv2.CV_64F).var()),
        },
    )


def _commit(attempt: runs.Attempt, shape: Shape, items: Sequence[list[_Frame]]) -> None:
    """Commit some items as one part."""
    names = names_of(shape)
    frames = [frame for item in items for frame in item if frame.failed is None]
    made = [_predict(frame.picture, frame.variant, shape.classes, shape.shift_px) for frame in frames]
    rows = {
        "item_id": [frame.item_id for frame in frames],
        "frame_index": [frame.frame_index for frame in frames],
        "pts_s": [frame.pts_s for frame in frames],
        "uri": [frame.uri for frame in frames],
        "height_px": [SIZE_HW[0]] * len(frames),
        "width_px": [SIZE_HW[1]] * len(frames),
        "mask": [{"bytes": mask.png, "path": None} for mask in made],
        "run_id": [attempt.run_id] * len(frames),
        "bundle_sha256": ["ab" * 32] * len(frames),
        "item_sha256": [_sha256(frame.uri) for frame in frames],
    }
    if shape.measured:
        rows |= {name: [mask.measures[name] for mask in made] for name in _predict(0, 0, 4, 3).measures}
    rows = _table(rows, MASKS, len(frames))
    if shape.labels:
        labels = [f"{frame.uri.rpartition('.')[0]}.label.png" for frame in frames]
        rows = rows.append_column(LABEL_COLUMN, pa.array(labels, pa.string()))
    tables = {
        "masks": rows,
        "class_stats": _class_stats(names, frames, made),
        "failures": pa.Table.from_pylist(
            [
                {"item_id": frame.item_id, "uri": frame.uri, "stage": "decode", "frame_index": None,
                 "error_type": "DecodeError", "error_message": frame.failed, "attempts": 1}
                for item in items for frame in item if frame.failed is not None
            ],
            schema=FAILURES,
        ),
    }  # fmt: skip
    if shape.labels:
        tables["confusion"] = _confusion(frames, made)
    runs.commit(attempt.staging, tables, pa.Table.from_pylist([_unit(item) for item in items], schema=UNITS))


def _table(columns: dict, schema: pa.Schema, rows: int) -> pa.Table:
    """Return the columns that the schema has; nulls in those that are not given."""
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(rows, field.type)
        for field in schema
    ]
    return conform(pa.Table.from_arrays(arrays, schema=schema), schema)


def _class_stats(names: Sequence[str], frames: Sequence[_Frame], made: Sequence[_Mask]) -> pa.Table:
    classes = len(names)
    pixels = np.array([mask.stats.pixels_K for mask in made]).reshape(-1)
    columns = {
        "item_id": [frame.item_id for frame in frames for _ in names],
        "frame_index": np.repeat([frame.frame_index for frame in frames], classes),
        "class_id": np.tile(np.arange(classes), len(frames)),
        "class_name": [*names] * len(frames),
        "pixels": pixels,
        "ratio": pixels / (SIZE_HW[0] * SIZE_HW[1]),
        "components": np.array([mask.stats.components_K for mask in made]).reshape(-1),
        "largest_component_px": np.array([mask.stats.largest_component_px_K for mask in made]).reshape(-1),
    }
    return _table(columns, CLASS_STATS, len(pixels))


def _confusion(frames: Sequence[_Frame], made: Sequence[_Mask]) -> pa.Table:
    """Return the rows of confusion: one per item and cell, over all its frames."""
    cells: dict[tuple[str, int, int], list[int]] = {}
    for frame, mask in zip(frames, made, strict=True):
        found = mask.cells.columns()
        for row in zip(*(found[name].tolist() for name in CONFUSION.names[2:]), strict=True):
            sums = cells.setdefault((frame.item_id, *row[:2]), [0] * 4)
            sums[:] = (a + b for a, b in zip(sums, row[2:], strict=True))
    rows = [(item, 0, label, predicted, *sums) for (item, label, predicted), sums in cells.items()]
    columns = zip(*rows, strict=True) if rows else [()] * len(CONFUSION.names)
    return _table(dict(zip(CONFUSION.names, columns, strict=True)), CONFUSION, len(rows))


def _unit(item: list[_Frame]) -> dict:
    first, failed = item[0], item[0].failed is not None
    return {
        "unit_key": unit_key(first.item_id, 0), "item_key": item_key(first.item_id), "item_id": first.item_id,
        "segment": 0, "segments": 1, "frames": 0 if failed else len(item), "first_frame": 0,
        "last_frame": 0 if failed else item[-1].frame_index, "failed": failed,
    }  # fmt: skip


def _summary(attempt: runs.Attempt, shape: Shape) -> dict:
    """Return the totals as the job counts them."""
    pixels = np.zeros(shape.classes, np.int64)
    frames = 0
    for receipt in runs.load_ledger(attempt.uri).receipts():
        pixels[: len(receipt.pixels)] += np.asarray(receipt.pixels, np.int64)
        frames += receipt.frames
    scored = shape.images + shape.videos
    return {
        "run_id": attempt.run_id, "out": attempt.uri, "attempt": 1,
        "items": {"total": scored + shape.failures, "scored": scored, "failed": shape.failures, "not_in_manifest": 0},
        "frames": frames, "failures": {"DecodeError": shape.failures} if shape.failures else {},
        "classes": [
            {"id": k, "name": name, "pixels": int(pixels[k]), "ratio": float(pixels[k] / max(1, pixels.sum()))}
            for k, name in enumerate(names_of(shape))
        ],
        "provider": "cpu", "actors": 2, "seconds": 61.5, "scoring_seconds": 55.2, "reused_items": 0,
        "bundle_sha256": "ab" * 32, "precision": "fp32",
    }  # fmt: skip


def _draw(folder: Path, count: int) -> list[Path]:
    """Draw pictures and their labels, unless they are there; returns the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"orange-{number:03d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.exists():
            image_HWC, label_HW = oranges.draw_orange(number, height_px=SIZE_HW[0], width_px=SIZE_HW[1])
            path.with_suffix(".label.png").write_bytes(masks.encode_png(label_HW, masks.voc_palette(4)))
            path.write_bytes(cv2.imencode(".jpg", image_HWC, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())
    return paths


@cache
def _sha256(path: str) -> str | None:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if Path(path).exists() else None


def _batched(items: Iterator[list[_Frame]], rows: int) -> Iterator[list[list[_Frame]]]:
    while batch := [*itertools.islice(items, rows)]:
        yield batch


def main() -> None:
    """Write one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    for name, default in (
        ("images", 1000),
        ("videos", 2),
        ("failures", 7),
        ("classes", 4),
        ("shift-px", 3),
        ("pictures", 12),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    shape = Shape(
        images=given.images, videos=given.videos, failures=given.failures, classes=given.classes,
        shift_px=given.shift_px, pictures=given.pictures,
    )  # fmt: skip
    sys.stdout.write(make(given.out, shape) + "\n")


if __name__ == "__main__":
    main()
