"""How much of a run each class covers: over all pixels, and from item to item."""

# K classes

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

MAX_CLASSES = 24
"""Classes with a row of their own on the page; the others are in a list that can be opened."""

SMALLEST_SHARE = 1e-7
"""Shares below are drawn there."""

BACKGROUND_SHARE = 0.5
"""A class that covers more of all pixels is not what people look for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassRow:
    """One class over a whole run."""

    class_id: int
    name: str
    pixels: int
    share: float
    """Of all pixels, 0 to 1."""
    items: int
    """Items that hold it."""
    items_share: float
    low: float
    """Share of an item's pixels: 10th percentile over the items that hold the class."""
    median: float
    high: float
    """90th percentile."""
    share_before: float | None = None
    """Share of all pixels in the other run; None where that has no such class, or no pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogAxis:
    """A logarithmic axis of shares, for small charts in the cells of a table."""

    decades: int
    """Powers of ten from the smallest share to 100 %."""

    @classmethod
    def of(cls, shares: Iterable[float]) -> "LogAxis":
        """Return the axis that holds some shares."""
        smallest = min((share for share in shares if share > SMALLEST_SHARE), default=0.01)
        return cls(decades=max(2, math.ceil(-math.log10(smallest) - 1e-9)))

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Places, 0 to 1, and labels of the powers of ten."""
        return [(1 - power / self.decades, f"{100 * 10.0**-power:g} %") for power in range(self.decades, -1, -1)]

    def place(self, share: float) -> float:
        """Return where a share is, 0 to 1."""
        if share <= 0:
            return 0.0
        return max(0.0, min(1.0, 1 + math.log10(share) / self.decades))


def log_axis(rows: Sequence[ClassRow]) -> LogAxis:
    """Return the axis that holds the shares of some classes."""
    return LogAxis.of(share for row in rows for share in (row.share, row.low))


def class_rows(
    names: Sequence[str], pixels_K: NDArray[np.int64], features: pa.Table, before: Mapping[int, float] | None = None
) -> list[ClassRow]:
    """Return a row for each class, in the order of the ids.

    Args:
        names: of every class.
        pixels_K: of every class over all frames.
        features: one row per scored item, with a column ratio.<class id> for each class.
        before: share of each class in another run.
    """
    total = max(1, int(pixels_K.sum()))
    rows = []
    for class_id, name in enumerate(names):
        ratios = np.nan_to_num(column_floats(features, f"ratio.{class_id}"))
        held = ratios[ratios > 0]
        low, median, high = np.quantile(held, (0.1, 0.5, 0.9)).tolist() if len(held) else (0.0, 0.0, 0.0)
        rows.append(
            ClassRow(
                class_id=class_id,
                name=name,
                pixels=int(pixels_K[class_id]),
                share=float(pixels_K[class_id] / total),
                items=len(held),
                items_share=len(held) / max(1, features.num_rows),
                low=low,
                median=median,
                high=high,
                share_before=before.get(class_id) if before else None,
            )
        )
    return rows


def split_tail(rows: Sequence[ClassRow]) -> tuple[list[ClassRow], list[ClassRow]]:
    """Return the classes that have a row of their own and the others: the largest ones first, in the order of ids."""
    if len(rows) <= MAX_CLASSES:
        return [*rows], []
    largest = {row.class_id for row in sorted(rows, key=lambda row: (-row.pixels, row.class_id))[:MAX_CLASSES]}
    return [row for row in rows if row.class_id in largest], [row for row in rows if row.class_id not in largest]


def classes_of_interest(rows: Sequence[ClassRow], count: int) -> list[int]:
    """Return the largest classes that do not cover most of the run: what a gallery or a column of a table is for."""
    present = [row for row in rows if row.pixels]
    rare = [row for row in present if row.share <= BACKGROUND_SHARE and row.class_id != 0]
    chosen = sorted(rare or present, key=lambda row: (-row.pixels, row.class_id))[:count]
    return sorted(row.class_id for row in chosen)


def column_floats(table: pa.Table, name: str) -> NDArray[np.float64]:
    """Return a column of numbers with NaN for null; all NaN if the table lacks it."""
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    values: Any = table.column(name).cast(pa.float64())
    return np.asarray(values.to_numpy())
