"""Differences of metrics between two runs, over the items that both have labels of."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsf_core.analysis.metrics.bootstrap import interval, resampled_figures
from fsf_core.analysis.metrics.tallies import figures_of, read_rows, sums_of
from fsf_core.runs import RunReader

LEVEL = 0.95
"""Of the intervals."""

HEADLINES = ("miou", "accuracy", "mean_recall", "mean_precision", "mean_dice")


def metric_changes(a: RunReader, b: RunReader, *, draws: int, seed: int) -> dict[str, Any] | None:
    """Return metrics of both runs over shared labelled items, and their differences with paired intervals.

    A draw takes the same items in both runs, so that what is hard in an item does not widen the interval.

    Returns:
        None where the runs share no labelled item, or have other classes.
    """
    if a.classes != b.classes:
        return None
    tables = [a.confusion(), b.confusion()]
    ids = [pc.unique(table.column("item_id")) for table in tables]
    shared = ids[0].filter(pc.is_in(ids[0], ids[1]))
    if not len(shared):
        return None
    rows = [read_rows(_of(table, shared)) for table in tables]
    classes = len(a.classes)
    whole = [figures_of(sums_of(each, classes).sum(0)) for each in rows]
    drawn = [resampled_figures(each, classes, draws=draws, seed=seed) for each in rows]
    every = (*whole, *drawn)
    found = [_row(name, *(each.headlines[name] for each in every)) for name in HEADLINES]
    found += [
        _row(f"iou {name}", *(each.by_class["iou"][..., class_id] for each in every))
        for class_id, name in enumerate(a.classes)
    ]
    return {"paired": True, "items": len(shared), "level": LEVEL, "rows": found}


def _of(table: pa.Table, item_ids: pa.Array) -> pa.Table:
    return table.filter(pc.is_in(table.column("item_id"), item_ids))


def _row(name: str, a: Any, b: Any, drawn_a: Any, drawn_b: Any) -> dict[str, Any]:
    """Return one metric of both runs and its difference; null where undefined."""
    values = [float(np.asarray(each).reshape(-1)[0]) for each in (a, b)]
    bounds = interval(np.asarray(drawn_b) - np.asarray(drawn_a), LEVEL)
    first, second = (None if np.isnan(value) else value for value in values)
    both = first is not None and second is not None
    return {
        "name": name,
        "a": first,
        "b": second,
        "difference": values[1] - values[0] if both else None,
        "low": bounds[0] if bounds and both else None,
        "high": bounds[1] if bounds and both else None,
    }
