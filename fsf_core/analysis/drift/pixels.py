"""Pixels whose class differs between two runs, on the frames that both have scored.

The masks of the first run are copied to a temporary file, those of the second are compared with them as they are read.
Memory grows with the number of shared frames by some 50 bytes each, not with their masks.
"""

# J classes of both runs together, H×W pixels

import hashlib
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsf_core.analysis.drift.classes import JointClasses, join_classes
from fsf_core.keys import KEY_BYTES, item_key
from fsf_core.masks import decode_png
from fsf_core.runs import RunReader

BATCH_ROWS = 64
"""Masks in memory at once, of each run."""

_OTHER_SIZE, _TOO_LARGE = -1, -2

_COLUMNS = ["item_id", "frame_index", "mask", "item_sha256", "item_version"]


@dataclass(kw_only=True)
class Changes:
    """Changed pixels of some frames."""

    frames: int = 0
    pixels: int = 0
    changed: int = 0

    @property
    def share(self) -> float | None:
        """Changed pixels as a share of all; None without frames."""
        return self.changed / self.pixels if self.pixels else None

    def add(self, pixels: int, changed: int) -> None:
        """Count one frame."""
        self.frames += 1
        self.pixels += pixels
        self.changed += changed


@dataclass(kw_only=True)
class PixelChanges:
    """What two runs made of the frames that both have scored."""

    every: Changes = field(default_factory=Changes)
    """Of all shared frames with masks of one size."""
    same_source: Changes = field(default_factory=Changes)
    """Of those whose source file is the same in both runs."""
    other_size: int = 0
    """Shared frames whose masks have two sizes: they are not compared."""
    too_large: int = 0
    """Shared frames whose mask is too large for a PNG, in a run at least: they are not compared either."""
    items: dict[str, Changes] = field(default_factory=lambda: defaultdict(Changes))
    """By item id."""
    transitions_JJ: NDArray[np.int64]
    """Changed pixels by class in the first run (rows) and in the second."""
    classes: JointClasses

    def item_table(self) -> pa.Table:
        """Return item_id, frames, pixels, changed and changed_share of every shared item."""
        found = self.items
        return pa.table(
            {
                "item_id": pa.array([*found], pa.string()),
                "frames": pa.array([one.frames for one in found.values()], pa.int64()),
                "pixels": pa.array([one.pixels for one in found.values()], pa.int64()),
                "changed": pa.array([one.changed for one in found.values()], pa.int64()),
                "changed_share": pa.array([one.share for one in found.values()], pa.float64()),
            }
        )


def changed_pixels(
    a: RunReader, b: RunReader, item_ids: Sequence[str] | None = None, *, classes: JointClasses | None = None
) -> PixelChanges:
    """Compare the masks of two runs, pixel by pixel.

    Args:
        a: one run.
        b: another; its classes are matched with those of `a` by name.
        item_ids: items that both have scored; None to look them up.
        classes: of both, where they were matched already.

    Raises:
        OutputError: the runs have no class in common, or a committed file is missing or damaged.
    """
    classes = classes or join_classes(a.classes, b.classes)
    count = len(classes.names)
    found = PixelChanges(transitions_JJ=np.zeros((count, count), np.int64), classes=classes)
    shared = {*item_ids} if item_ids is not None else _scored(a) & _scored(b)
    if not shared:
        return found
    with tempfile.TemporaryFile(prefix="fsf-masks-") as file, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        copied = _copy_masks(a, shared, file)
        for rows in _rows(b, shared):
            for one in pool.map(lambda row: _compare(row, copied.find(row), classes), rows):
                if one is not None:
                    _count(found, one)
    return found


@dataclass(frozen=True, kw_only=True)
class _Compared:
    item_id: str
    same_source: bool
    pixels: int
    changed: int
    """_OTHER_SIZE where the masks have two sizes, _TOO_LARGE where one is too large for a PNG."""
    cells: NDArray[np.int64]
    """Cells of the J×J transitions, and their pixels in `counts`."""
    counts: NDArray[np.int64]


def _count(found: PixelChanges, one: _Compared) -> None:
    """Add one frame."""
    if one.changed < 0:
        found.other_size += one.changed == _OTHER_SIZE
        found.too_large += one.changed == _TOO_LARGE
        return
    found.every.add(one.pixels, one.changed)
    found.items[one.item_id].add(one.pixels, one.changed)
    if one.same_source:
        found.same_source.add(one.pixels, one.changed)
    found.transitions_JJ.reshape(-1)[one.cells] += one.counts


class _CopiedMasks:
    """Masks in a temporary file, found by item and frame."""

    def __init__(self, file: IO[bytes], keys: list[bytes], sources: list[bytes], ends: list[int]) -> None:
        self._descriptor = file.fileno()
        order = np.argsort(np.asarray(keys, f"S{KEY_BYTES}"), kind="stable")
        self._keys = np.asarray(keys, f"S{KEY_BYTES}")[order]
        self._sources = np.asarray(sources, "S8")[order]
        stops = np.asarray(ends, np.int64)
        self._stops, self._starts = stops[order], np.concatenate([[0], stops[:-1]]).astype(np.int64)[order]

    def find(self, row: dict[str, Any]) -> tuple[bytes, bool] | None:
        """Return the mask of the same item and frame, and whether its source is the same; None if there is none."""
        key = np.asarray([_frame_key(row)], f"S{KEY_BYTES}")
        at = int(np.searchsorted(self._keys, key)[0])
        if at == len(self._keys) or self._keys[at] != key[0]:
            return None
        start, stop = int(self._starts[at]), int(self._stops[at])
        source = _source(row)
        same = bool(source) and self._sources[at] == np.asarray([source], "S8")[0]
        return os.pread(self._descriptor, stop - start, start), bool(same)


def _copy_masks(run: RunReader, shared: set[str], file: IO[bytes]) -> _CopiedMasks:
    """Copy the masks of some items to a file."""
    keys: list[bytes] = []
    sources: list[bytes] = []
    ends: list[int] = []
    written = 0
    for rows in _rows(run, shared):
        for row in rows:
            written += file.write(row["mask"]["bytes"] or b"")
            keys.append(_frame_key(row))
            sources.append(_source(row))
            ends.append(written)
    file.flush()
    return _CopiedMasks(file, keys, sources, ends)


def _rows(run: RunReader, shared: set[str]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of masks of some items, batch by batch."""
    for batch in run.iter_batches("masks", columns=_COLUMNS, batch_rows=BATCH_ROWS):
        chosen = pa.array([item_id in shared for item_id in batch.column("item_id").to_pylist()], pa.bool_())
        rows = batch.filter(chosen).to_pylist()
        if rows:
            yield rows


def _frame_key(row: dict[str, Any]) -> bytes:
    frame = int(row["frame_index"]).to_bytes(8, "big")
    return hashlib.blake2b(item_key(row["item_id"]) + frame, digest_size=KEY_BYTES).digest()


def _source(row: dict[str, Any]) -> bytes:
    """Return a key of the bytes that a frame is from; empty where the run does not know them."""
    known = row["item_sha256"] or row["item_version"]
    return hashlib.blake2b(known.encode(), digest_size=8).digest() if known else b""


def _compare(row: dict[str, Any], other: tuple[bytes, bool] | None, classes: JointClasses) -> _Compared | None:
    """Compare one mask with that of the first run; None where that has none."""
    if other is None:
        return None
    png_a, same_source = other
    png_b = row["mask"]["bytes"]
    nothing = np.empty(0, np.int64)
    if not png_a or not png_b:
        return _Compared(
            item_id=row["item_id"], same_source=same_source, pixels=0, changed=_TOO_LARGE, cells=nothing, counts=nothing
        )
    if png_a == png_b and classes.same_ids:
        pixels = int.from_bytes(png_b[16:20], "big") * int.from_bytes(png_b[20:24], "big")
        return _Compared(
            item_id=row["item_id"], same_source=same_source, pixels=pixels, changed=0, cells=nothing, counts=nothing
        )
    map_a, map_b = classes.of_a[decode_png(png_a)], classes.of_b[decode_png(png_b)]
    if map_a.shape != map_b.shape:
        return _Compared(
            item_id=row["item_id"],
            same_source=same_source,
            pixels=0,
            changed=_OTHER_SIZE,
            cells=nothing,
            counts=nothing,
        )
    differ = map_a != map_b
    cells = map_a[differ].astype(np.int64) * len(classes.names) + map_b[differ]
    unique, counts = np.unique(cells, return_counts=True)
    return _Compared(
        item_id=row["item_id"],
        same_source=same_source,
        pixels=map_a.size,
        changed=len(cells),
        cells=unique,
        counts=counts.astype(np.int64),
    )


def _scored(run: RunReader) -> set[str]:
    """Return the ids of the items that have masks."""
    found: set[str] = set()
    for batch in run.iter_batches("masks", columns=["item_id"], batch_rows=1 << 16):
        found.update(batch.column("item_id").unique().to_pylist())
    return found
