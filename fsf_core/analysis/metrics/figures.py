"""The document of masks against labels, made of a confusion table alone. Knows no files and no runs."""

# N items, K classes, B draws

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsf_core.analysis.metrics.bootstrap import interval, resampled_figures
from fsf_core.analysis.metrics.tallies import (
    CLASS_FIGURES,
    HEADLINES,
    Floats,
    Rows,
    figures_of,
    pooled,
    read_rows,
    sums_of,
)

DRAWS = 1000
"""Samples behind an interval."""
LEVEL = 0.95
"""Share of the samples that an interval holds."""
MIN_ITEMS = 2
"""Fewest items that an interval is made of."""
_CHUNK_ITEMS = 4096


def metrics_document(
    confusion: pa.Table, classes: Sequence[str], *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Any]:
    """Return the metrics of a confusion table: plain numbers, None where a figure is undefined.

    Args:
        confusion: of the schema CONFUSION: a row per item, segment, label class and predicted class.
        classes: names in the order of the ids.
        draws: samples for the intervals; 0 for none.
        seed: of the samples.
    """
    rows = read_rows(confusion)
    matrix_KK = pooled(rows, len(classes))
    items_by_figure = _items_by_figure(rows, len(classes))
    sums_SK = _pooled_sums(rows, len(classes))
    figures = figures_of(sums_SK)
    return {
        **{name: _number(figures.headlines[name]) for name in HEADLINES},
        "classes": [
            {
                "id": class_id,
                "name": name,
                **{figure: _number(figures.by_class[figure][class_id]) for figure in CLASS_FIGURES},
                "support_px": int(matrix_KK[class_id].sum()),
                "items": int(items_by_figure["iou"][class_id]),
            }
            for class_id, name in enumerate(classes)
        ],
        "confusion": matrix_KK.tolist(),
        "items": len(rows.item_ids),
        "pixels": int(matrix_KK.sum()),
        "intervals": _intervals(rows, classes, items_by_figure, draws=draws, seed=seed),
        "published": published_figures(matrix_KK, classes),
    }


def published_figures(matrix_KK: NDArray[np.int64], classes: Sequence[str]) -> dict[str, Any]:
    """Return the figures as the authors of FastSegFormer define them (their utils/utils_metrics.py).

    Every denominator is at least 1, so a class that occurs nowhere counts as 0 in the means over all classes.
    """
    hits, labelled, predicted = np.diag(matrix_KK), matrix_KK.sum(1), matrix_KK.sum(0)
    iou = hits / np.maximum(labelled + predicted - hits, 1)
    recall = hits / np.maximum(labelled, 1)
    precision = hits / np.maximum(predicted, 1)
    return {
        "miou": float(iou.mean()),
        "mean_recall": float(recall.mean()),
        "mean_precision": float(precision.mean()),
        "accuracy": float(hits.sum() / max(matrix_KK.sum(), 1)),
        "classes": [
            {"id": class_id, "name": name, "iou": each[0], "recall": each[1], "precision": each[2]}
            for class_id, (name, each) in enumerate(
                zip(classes, np.stack([iou, recall, precision], axis=1).tolist(), strict=True)
            )
        ],
    }


def item_figures(confusion: pa.Table, num_classes: int) -> pa.Table:
    """Return one row per item: item_id, pixels, and its own headline figures, null where undefined.

    Ascending by item_id. A class that an item holds neither in its label nor in its mask is left out of its means.
    """
    rows = read_rows(confusion)
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in ("pixels", *HEADLINES)}
    for first in range(0, len(rows.item_ids), _CHUNK_ITEMS):
        sums_NSK = sums_of(rows, num_classes, first=first, last=min(first + _CHUNK_ITEMS, len(rows.item_ids)))
        columns["pixels"].append(sums_NSK[:, 0].sum(-1).astype(np.int64))
        for name, values in figures_of(sums_NSK).headlines.items():
            columns[name].append(values)
    types = {name: pa.int64() if name == "pixels" else pa.float64() for name in columns}
    return pa.table(
        {
            "item_id": pa.array(rows.item_ids, pa.string()),
            **{
                name: pa.array(np.concatenate(parts) if parts else [], types[name], from_pandas=True)
                for name, parts in columns.items()
            },
        }
    )


def _pooled_sums(rows: Rows, num_classes: int) -> Floats:
    """Return the sums of all items together."""
    whole = Rows(
        item_ids=[""],
        item_M=np.zeros_like(rows.item_M),
        label_M=rows.label_M,
        predicted_M=rows.predicted_M,
        counts_M4=rows.counts_M4,
    )
    sums_SK: Floats = sums_of(whole, num_classes)[0]
    return sums_SK


def _items_by_figure(rows: Rows, num_classes: int) -> dict[str, NDArray[np.int64]]:
    """Return for each figure and class in how many items it is defined: the class is in label, mask, or either."""
    in_label_NK, in_mask_NK = np.zeros((2, len(rows.item_ids), num_classes), np.bool_)
    in_label_NK[rows.item_M, rows.label_M] = True
    in_mask_NK[rows.item_M, rows.predicted_M] = True
    in_either_NK = in_label_NK | in_mask_NK
    defined = {"recall": in_label_NK, "precision": in_mask_NK}
    return {figure: defined.get(figure, in_either_NK).sum(0) for figure in CLASS_FIGURES}


def _intervals(
    rows: Rows, classes: Sequence[str], items_by_figure: dict[str, NDArray[np.int64]], *, draws: int, seed: int
) -> dict[str, Any]:
    """Return the intervals of the headline figures and of each class; None for what fewer than two items define.

    Every sample that holds the only item with a class repeats its figure: the interval would be a point.
    """
    items = len(rows.item_ids)
    stated = {
        "method": "percentile bootstrap over items",
        "level": LEVEL,
        "draws": draws,
        "seed": seed,
        "items": items,
    }
    missing = None
    if items < MIN_ITEMS:
        missing = f"{items} item{'' if items == 1 else 's'} with labelled pixels; an interval needs {MIN_ITEMS}"
    if draws < 1:
        missing = "not asked for"
    samples = None if missing else resampled_figures(rows, len(classes), draws=draws, seed=seed)
    return {
        **stated,
        "reason": missing,
        **{name: _bounds(samples and samples.headlines[name]) for name in HEADLINES},
        "classes": [
            {
                "id": class_id,
                "name": name,
                **{
                    figure: _bounds(
                        samples.by_class[figure][:, class_id] if samples and shown[class_id] >= MIN_ITEMS else None
                    )
                    for figure, shown in items_by_figure.items()
                },
            }
            for class_id, name in enumerate(classes)
        ],
    }


def _bounds(samples_B: Floats | None) -> dict[str, float] | None:
    bounds = None if samples_B is None else interval(samples_B, LEVEL)
    return None if bounds is None else {"low": bounds[0], "high": bounds[1]}


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
