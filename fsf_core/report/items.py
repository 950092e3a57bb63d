"""The table of items: every item of a small run, and of a large one the rows that people would look for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsf_core import runs
from fsf_core.report.classes import column_floats
from fsf_core.safe_text import printable

MAX_ROWS = 2_000
"""Rows of a page; 2,000 are about 300 kB and sort at once."""

FAILED_SHARE = 0.25
"""Largest share of the rows that failures take in a run that is larger than the table."""

SEED = 0

SCORED = "scored"
"""State of an item without a failure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of the table."""

    key: str
    title: str
    kind: str
    """text, int, percent, metric or number."""
    ascending: bool = False
    """Whether its smallest values are the ones to look at."""


@dataclass(frozen=True, kw_only=True)
class ItemTable:
    """Rows of the page, and how they were chosen."""

    columns: list[Column]
    rows: list[list[Any]]
    items: int
    """Items of the run, failed ones included."""

    @property
    def is_whole(self) -> bool:
        """Whether every item has a row."""
        return len(self.rows) >= self.items


def item_rows(
    run: runs.RunReader,
    features: pa.Table,
    *,
    classes: Sequence[int],
    figures: Mapping[str, tuple[Column, Mapping[str, float]]],
    failures: Iterable[tuple[str, str]],
) -> ItemTable:
    """Choose and format the rows.

    Args:
        run: the run.
        features: one row per scored item.
        classes: classes with a column of their share.
        figures: further columns, by key: how they are shown, and item id to value.
        failures: item id and reason of the failed items. A video of which a segment failed has frames too: it is one
            row, with its figures and its reason.
    """
    columns = [
        Column(key="item", title="Item", kind="text"),
        Column(key="state", title="State", kind="text"),
        Column(key="frames", title="Frames", kind="int"),
        *(column for column, _ in figures.values()),
        Column(key="confidence", title="Confidence", kind="percent", ascending=True),
        Column(key="uncertain_share", title="Uncertain", kind="percent"),
        Column(key="brightness", title="Brightness", kind="number", ascending=True),
        Column(key="sharpness", title="Sharpness", kind="number", ascending=True),
        *(Column(key=f"ratio.{k}", title=run.classes[k], kind="percent") for k in classes),
    ]
    ids = features.column("item_id").to_pylist()
    values = {column.key: _values(column.key, features, figures, ids) for column in columns[2:]}
    kept = {key for key, found in values.items() if key == "frames" or np.isfinite(found).any()}
    columns = [column for column in columns if column.key in {"item", "state"} | kept]
    reasons = dict(failures)
    scored = {*ids}
    lost = [(item, reason) for item, reason in reasons.items() if item not in scored]
    total = len(ids) + len(lost)
    limit = MAX_ROWS if total <= MAX_ROWS else int(MAX_ROWS * FAILED_SHARE)
    failed = [[printable(item), printable(reason), *([None] * (len(columns) - 2))] for item, reason in lost[:limit]]
    partly = [row for row, item in enumerate(ids) if item in reasons][: limit - len(failed)]
    rows = [
        [
            printable(ids[row]),
            printable(reasons.get(ids[row], SCORED)),
            *(_cell(values[column.key][row], column.kind) for column in columns[2:]),
        ]
        for row in _choose(columns[2:], values, len(ids), MAX_ROWS - len(failed), partly)
    ]
    return ItemTable(columns=columns, rows=[*failed, *rows], items=total)


def as_json(table: ItemTable) -> dict[str, Any]:
    """Return the table for the script of the page."""
    columns = [{"kind": column.kind, "ascending": column.ascending} for column in table.columns]
    return {"columns": columns, "rows": table.rows}


def _values(
    key: str, features: pa.Table, figures: Mapping[str, tuple[Column, Mapping[str, float]]], ids: Sequence[str]
) -> NDArray[np.float64]:
    if key in figures:
        found = figures[key][1]
        return np.array([found.get(item, np.nan) for item in ids], np.float64)
    return column_floats(features, key)


def _choose(
    columns: Sequence[Column], values: Mapping[str, NDArray[np.float64]], items: int, most: int, kept: Sequence[int]
) -> list[int]:
    """Return the rows to show, in the order of the run: all, or some, the extremes of every column and a sample."""
    if items <= most:
        return [*range(items)]
    chosen = dict.fromkeys(kept)
    each = max(1, (most - len(chosen)) * 3 // (4 * max(1, len(columns))))
    for column in columns:
        found = values[column.key]
        order = np.argsort(found if column.ascending else -found, kind="stable")
        usable = order[np.isfinite(found[order])]
        chosen |= dict.fromkeys(usable[:each].tolist())
    for row in np.random.default_rng(SEED).permutation(items).tolist():
        if len(chosen) >= most:
            break
        chosen[row] = None
    return sorted(chosen)


def _cell(value: float, kind: str) -> float | int | None:
    """Return a value short enough for a page: integers, or four significant digits."""
    if not np.isfinite(value):
        return None
    return int(value) if kind == "int" else float(f"{value:.4g}")
