"""One row per item of a run: class ratios and figures, over all frames of the item.

Reads a run in batches; memory grows with items and classes, not with frames, masks or parts.
"""

# I items, K classes

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fsf_core.runs import RunReader
from fsf_core.schema import MASKS, is_own

FIGURES = ("confidence", "uncertain_share", "brightness", "contrast", "sharpness")
"""Columns of masks that are averaged over the frames of an item."""

BATCH_ROWS = 1 << 16
"""Rows of a table in memory at once."""

PENDING_ROWS = 1 << 18
"""Rows of partial sums over frames that are held before equal items are merged."""

PENDING_CELLS = 1 << 22
"""Sums of one item and class that are held before they are added up; 64 MB."""

_FIRST = ("uri", "height_px", "width_px", "item_sha256", "item_version", "bundle_sha256")
_SUMS = ("frames", "timed", *(f"{name}.{kind}" for name in FIGURES for kind in ("sum", "count")))


def item_features(run: RunReader) -> pa.Table:
    """Return one row for each item of a run that has scored frames.

    Args:
        run: finished or not. While a job is writing it, a video segment that was tried again may count twice.

    Returns:
        item_id, kind (image or video), uri, frames, height_px and width_px (of its first row), pixels (of all its
        masks), item_sha256, item_version, bundle_sha256; confidence, uncertain_share, brightness, contrast and
        sharpness, each the mean over the frames that have it, null where none has (runs of older versions); for every
        class id `ratio.<id>`, its share of the item's pixels, and `components.<id>`, its connected regions per frame.
        The order of the rows is not defined.

    Raises:
        OutputError: a committed file is missing or damaged.
    """
    frames = _merge_items(_frames_by_item(run))
    pixels_IK, components_IK = _classes_by_item(run, frames.column("item_id"))
    total_I = pixels_IK.sum(1)
    count_I = frames.column("frames").to_numpy()
    columns: dict[str, Any] = {
        "item_id": frames.column("item_id"),
        "kind": pc.if_else(pc.greater(frames.column("timed"), 0), "video", "image"),
        "uri": frames.column("uri"),
        "frames": frames.column("frames"),
        "height_px": frames.column("height_px"),
        "width_px": frames.column("width_px"),
        "pixels": pa.array(total_I),
        **{name: frames.column(name) for name in ("item_sha256", "item_version", "bundle_sha256")},
        **{name: _mean(frames, name) for name in FIGURES},
    }
    for class_id in range(len(run.classes)):
        columns[f"ratio.{class_id}"] = pa.array(pixels_IK[:, class_id] / np.maximum(total_I, 1))
    for class_id in range(len(run.classes)):
        columns[f"components.{class_id}"] = pa.array(components_IK[:, class_id] / np.maximum(count_I, 1))
    return pa.table(columns)


def ratios(features: pa.Table) -> NDArray[np.float64]:
    """Return the ratios of a table of `item_features` as an array I×K."""
    names = [name for name in features.column_names if name.startswith("ratio.")]
    return np.column_stack([features.column(name).to_numpy() for name in names] or [np.empty((features.num_rows, 0))])


def _frames_by_item(run: RunReader) -> Iterator[pa.Table]:
    """Yield for each batch of masks one row per item: what its first row holds, and sums over its frames."""
    for batch in run.iter_batches("masks", columns=["item_id", "pts_s", *_FIRST, *FIGURES], batch_rows=BATCH_ROWS):
        # A part of an older version may hold a column of the manifest under the name of a figure.
        known = [name for name in FIGURES if is_own(batch.schema.field(name))]
        rows = pa.table(batch)
        sums = rows.group_by("item_id", use_threads=False).aggregate(
            [
                ([], "count_all"),
                ("pts_s", "count"),
                *((name, "first") for name in _FIRST),
                *((name, kind) for name in known for kind in ("sum", "count")),
            ]
        )
        zeros = pa.array(np.zeros(sums.num_rows))
        yield pa.table(
            {
                "item_id": sums.column("item_id"),
                "frames": sums.column("count_all"),
                "timed": sums.column("pts_s_count"),
                **{name: sums.column(f"{name}_first") for name in _FIRST},
                **{
                    f"{name}.{kind}": (sums.column(f"{name}_{kind}").cast(pa.float64()) if name in known else zeros)
                    for name in FIGURES
                    for kind in ("sum", "count")
                },
            }
        )


def _merge_items(tables: Iterator[pa.Table]) -> pa.Table:
    """Return one row for each item of all tables."""
    pending, held = [_no_frames()], 0
    for table in tables:
        pending.append(table)
        held += table.num_rows
        if held > PENDING_ROWS:
            pending = [_add_up(pending)]
            held = 0
    return _add_up(pending)


def _add_up(tables: Sequence[pa.Table]) -> pa.Table:
    """Merge the rows of equal items."""
    every = pa.concat_tables(tables, promote_options="permissive")
    merged = every.group_by("item_id", use_threads=False).aggregate(
        [*((name, "first") for name in _FIRST), *((name, "sum") for name in _SUMS)]
    )
    columns = {"item_id": merged.column("item_id")}
    columns |= {name: merged.column(f"{name}_first") for name in _FIRST}
    columns |= {name: merged.column(f"{name}_sum") for name in _SUMS}
    return pa.table(columns)


def _no_frames() -> pa.Table:
    """Return no rows of what `_frames_by_item` yields."""
    fields = [("item_id", pa.string()), *((name, MASKS.field(name).type) for name in _FIRST)]
    fields += [("frames", pa.int64()), ("timed", pa.int64()), *((name, pa.float64()) for name in _SUMS[2:])]
    return pa.schema(fields).empty_table()


def _mean(frames: pa.Table, name: str) -> pa.Array:
    """Return the mean of a figure; null where no frame has it, and NaN counts as none."""
    count = frames.column(f"{name}.count").to_numpy()
    total = frames.column(f"{name}.sum").fill_null(0).to_numpy()
    mean = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return pa.array(mean, pa.float64(), mask=~np.isfinite(mean))


def _classes_by_item(run: RunReader, item_ids: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pixels and connected regions of every class of these items, summed over their frames: I×K."""
    classes = len(run.classes)
    pixels_IK = np.zeros((len(item_ids), classes), np.int64)
    components_IK = np.zeros_like(pixels_IK)
    pending: list[tuple[pa.Array, NDArray[np.int64], NDArray[np.int64]]] = []
    held = 0

    def add() -> None:
        if not pending:
            return
        rows = pc.index_in(pa.concat_arrays([ids for ids, _, _ in pending]), item_ids.combine_chunks())
        rows = rows.fill_null(-1).to_numpy(zero_copy_only=False)
        start = 0
        for ids, pixels, components in pending:
            chosen = rows[start : start + len(ids)]
            known = chosen >= 0  # others were committed since masks was read
            pixels_IK[chosen[known]] += pixels[known]
            components_IK[chosen[known]] += components[known]
            start += len(ids)
        pending.clear()

    columns = ["item_id", "class_id", "pixels", "components"]
    for batch in run.iter_batches("class_stats", columns=columns, batch_rows=BATCH_ROWS):
        pending.append(_class_sums(batch, classes))
        held += len(pending[-1][0])
        if held * classes > PENDING_CELLS:
            add()
            held = 0
    add()
    return pixels_IK, components_IK


def _class_sums(batch: pa.RecordBatch, classes: int) -> tuple[pa.Array, NDArray[np.int64], NDArray[np.int64]]:
    """Return the items of a batch of class_stats, and their pixels and regions of every class."""
    encoded = batch.column("item_id").dictionary_encode()
    cells = encoded.indices.to_numpy().astype(np.int64) * classes + batch.column("class_id").to_numpy()
    size = len(encoded.dictionary) * classes
    # Sums of float64 are exact below 2^53 pixels.
    sums = [
        np.bincount(cells, weights=batch.column(name).to_numpy(), minlength=size).astype(np.int64).reshape(-1, classes)
        for name in ("pixels", "components")
    ]
    return encoded.dictionary, sums[0], sums[1]
