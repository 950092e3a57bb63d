"""Per-class sums of a confusion table, and the figures that are ratios of them.

Definitions, for class c with confusion[label, predicted] n over all pixels whose label is a class:
hits d = n[c,c], labelled r = Σ n[c,·], predicted c = Σ n[·,c]; IoU = d/(r+c−d), recall = d/r, precision = d/c,
dice = 2d/(r+c). A ratio of zeros is undefined: NaN here, null in documents, and left out of every mean.
Boundary IoU is the IoU of the boundary bands (Cheng et al., CVPR 2021).
"""

# N items, K classes, M rows of the table

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CLASS_FIGURES = ("iou", "recall", "precision", "dice", "boundary_iou")
MEANS = {
    "miou": "iou",
    "mean_recall": "recall",
    "mean_precision": "precision",
    "mean_dice": "dice",
    "mean_boundary_iou": "boundary_iou",
}
"""Headline figures that are means over classes."""
HEADLINES = ("miou", "accuracy", "mean_recall", "mean_precision", "mean_dice", "fwiou", "mean_boundary_iou")
SUMS = 6
"""Sums per class: labelled, predicted, hits; in the band of the label, of the prediction, hits in both."""


class Figures(NamedTuple):
    """Figures of one set of items, or of many: arrays [...] and [..., K], NaN where undefined."""

    headlines: dict[str, Floats]
    by_class: dict[str, Floats]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """The rows of a confusion table as arrays, in the order of its item ids."""

    item_ids: list[str]
    """Ascending; N."""
    item_M: NDArray[np.int64]
    """Index into item_ids; ascending."""
    label_M: NDArray[np.int64]
    predicted_M: NDArray[np.int64]
    counts_M4: NDArray[np.int64]
    """Pixels, in the label's band, in the predicted band, in both."""


def read_rows(confusion: pa.Table) -> Rows:
    """Return the rows of a table of the schema CONFUSION in an order that does not depend on the table's."""
    ids = confusion.column("item_id").combine_chunks()
    unique = pc.unique(ids).sort()
    item_M = pc.index_in(ids, value_set=unique).to_numpy(zero_copy_only=False).astype(np.int64)
    order = np.argsort(item_M, kind="stable")
    names = ("pixels", "label_boundary_px", "predicted_boundary_px", "shared_boundary_px")
    return Rows(
        item_ids=unique.to_pylist(),
        item_M=item_M[order],
        label_M=_column(confusion, "label_class_id")[order],
        predicted_M=_column(confusion, "predicted_class_id")[order],
        counts_M4=np.stack([_column(confusion, name) for name in names], axis=1)[order],
    )


def _column(table: pa.Table, name: str) -> NDArray[np.int64]:
    values: NDArray[np.int64] = table.column(name).to_numpy().astype(np.int64)
    return values


def pooled(rows: Rows, num_classes: int) -> NDArray[np.int64]:
    """Return the confusion matrix over all items: int64 [label, predicted]; exact up to 2**53 pixels."""
    cell = rows.label_M * num_classes + rows.predicted_M
    sums = np.bincount(cell, rows.counts_M4[:, 0], minlength=num_classes * num_classes)
    return sums.astype(np.int64).reshape(num_classes, num_classes)


def sums_of(rows: Rows, num_classes: int, *, first: int = 0, last: int | None = None) -> Floats:
    """Return the sums per item and class of the items first <= i < last: float64 [N, SUMS, K].

    Whole numbers, exact up to 2**53.
    """
    last = len(rows.item_ids) if last is None else last
    start, end = np.searchsorted(rows.item_M, [first, last])
    item, label, predicted = (a[start:end] for a in (rows.item_M, rows.label_M, rows.predicted_M))
    pixels, in_label, in_predicted, in_both = rows.counts_M4[start:end].T
    hit = label == predicted
    sums_NSK = np.zeros((last - first, SUMS, num_classes))
    terms = (label, pixels), (predicted, pixels), (label, pixels * hit), (label, in_label), (predicted, in_predicted)
    for at, (class_id, values) in enumerate((*terms, (label, in_both * hit))):
        cell = (item - first) * num_classes + class_id
        sums_NSK[:, at] = np.bincount(cell, values, minlength=(last - first) * num_classes).reshape(-1, num_classes)
    return sums_NSK


def figures_of(sums_SK: Floats) -> Figures:
    """Return the figures of sums: float64 [..., SUMS, K]."""
    labelled, predicted, hits, in_label, in_predicted, in_both = np.moveaxis(sums_SK, -2, 0)
    by_class = {
        "iou": _ratio(hits, labelled + predicted - hits),
        "recall": _ratio(hits, labelled),
        "precision": _ratio(hits, predicted),
        "dice": _ratio(2 * hits, labelled + predicted),
        "boundary_iou": _ratio(in_both, in_label + in_predicted - in_both),
    }
    total = labelled.sum(-1)
    headlines = {name: _mean(by_class[figure]) for name, figure in MEANS.items()}
    headlines["accuracy"] = _ratio(hits.sum(-1), total)
    headlines["fwiou"] = _ratio(np.nansum(by_class["iou"] * labelled, axis=-1), total)
    return Figures({name: headlines[name] for name in HEADLINES}, by_class)


def _ratio(part: Any, whole: Any) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)
    return ratio


def _mean(figures_K: Floats) -> Floats:
    """Return the mean over the classes that have the figure; NaN if none has."""
    defined_K = ~np.isnan(figures_K)
    return _ratio(np.where(defined_K, figures_K, 0).sum(-1), defined_K.sum(-1))
