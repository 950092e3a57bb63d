"""The figures of a run's frames as means over items: per unit in the receipts, per item for the summary.

The receipts hold them, so that the end of a job reads no table for them. Knows no files.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsf_core.runs.key_arrays import keys_of
from fsf_core.schema import FRAME_FIGURES, UNITS, is_own

if TYPE_CHECKING:
    from fsf_core.keys import Keys

QUANTILES = {"min": 0.0, "p05": 0.05, "p50": 0.5, "p95": 0.95, "max": 1.0}
"""Quantiles over items, linear between two of them, by their key in summary.json."""


def with_means(units: pa.Table, masks: pa.Table) -> pa.Table:
    """Return the units with the mean of every figure over the frames of the unit; null where no frame has it.

    Args:
        units: schema UNITS, in any state.
        masks: the rows of their frames, in the order of the units.
    """
    starts, filled = _starts(units)
    if masks.num_rows != int(starts[-1]):
        raise ValueError(f"found {masks.num_rows} rows of masks, expected the {starts[-1]} frames of the units")
    for name in FRAME_FIGURES:
        values = np.full(units.num_rows, np.nan)
        # In an older run, the manifest may have passed a column of this name through.
        if name in masks.column_names and is_own(masks.schema.field(name)) and masks.num_rows:
            frames = masks.column(name).to_numpy().astype(np.float64)
            known = np.isfinite(frames)
            sums = np.add.reduceat(np.where(known, frames, 0.0), starts[:-1][filled])
            counts = np.add.reduceat(known, starts[:-1][filled], dtype=np.int64)
            values[filled] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        field = UNITS.field(name)
        column = pa.array(values, field.type, mask=np.isnan(values))
        units = units.set_column(units.schema.get_field_index(name), field, column)
    return units


def _starts(units: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return where the frames of every unit begin, with the end at last, and which units have any."""
    frames = units.column("frames").to_numpy()
    return np.concatenate([[0], np.cumsum(frames, dtype=np.int64)]), frames > 0


class ItemMeans:
    """Collects the figures of units, and describes their distribution over items; 20 bytes per image."""

    def __init__(self) -> None:
        self._images: list[NDArray[np.float32]] = []
        self._videos: list[tuple[Keys, NDArray[np.int32], NDArray[np.float32]]] = []

    def add(self, units: pa.Table) -> None:
        """Add the units of a part."""
        values = np.column_stack([_floats(units.column(name)) for name in FRAME_FIGURES])
        single = units.column("segments").to_numpy() == 1
        self._images.append(values[single])
        if not single.all():
            frames = units.column("frames").to_numpy()[~single]
            self._videos.append((keys_of(units.column("item_key"))[~single], frames, values[~single]))

    def describe(self) -> dict[str, Mapping[str, Any] | None]:
        """Return items, mean and quantiles over items by figure; None for a figure that no item has."""
        every = np.concatenate([np.empty((0, len(FRAME_FIGURES)), np.float32), *self._images, self._of_videos()])
        return {name: _describe(every[:, k]) for k, name in enumerate(FRAME_FIGURES)}

    def _of_videos(self) -> NDArray[np.float32]:
        """Return the figures of items with several units: the means over their frames."""
        if not self._videos:
            return np.empty((0, len(FRAME_FIGURES)), np.float32)
        keys, frames, values = (np.concatenate(parts) for parts in zip(*self._videos, strict=True))
        items, at = np.unique(keys, return_inverse=True)
        known = np.isfinite(values)
        weights = np.where(known, frames[:, np.newaxis], 0)
        totals, sums = (np.zeros((len(items), values.shape[1])) for _ in range(2))
        np.add.at(totals, at, weights)
        np.add.at(sums, at, np.where(known, values, 0) * weights)
        means: NDArray[np.float32] = np.where(totals > 0, sums / np.maximum(totals, 1), np.nan).astype(np.float32)
        return means


def _floats(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """Return a column with NaN for null."""
    found: NDArray[np.float32] = column.to_numpy().astype(np.float32)
    return found


def _describe(values: NDArray[np.float32]) -> Mapping[str, Any] | None:
    found = values[np.isfinite(values)].astype(np.float64)
    if not len(found):
        return None
    quantiles = np.quantile(found, [*QUANTILES.values()]).tolist()
    return {"items": len(found), "mean": float(found.mean()), **dict(zip(QUANTILES, quantiles, strict=True))}
