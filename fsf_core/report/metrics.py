"""Masks against labels on the page: figures with their intervals, and the confusion as a heat map."""

# K classes

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsf_core import runs
from fsf_core.analysis.metrics import item_figures, metrics_document
from fsf_core.report.colours import SHADES

HEAT_CLASSES = 16
"""Classes with a row and a column of the heat map; the others are added up."""

SMALLEST_ERROR = 1e-3
"""Share of a row from which on a wrong cell is shaded; the shades are logarithmic up to 1."""


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Figures of a run with labels."""

    document: dict[str, Any]
    """As `fsf evaluate` prints it."""
    miou_by_item: dict[str, float]
    """Mean IoU of every item over the classes of its label or its mask."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One cell of the heat map."""

    share: float | None
    """Of the pixels of its row; None where the row has none."""
    pixels: int
    shade: str
    """CSS class."""


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """Confusion by label (rows) and prediction (columns)."""

    names: list[str]
    rows: list[list[Cell]]
    others: int
    """Classes that are added up in the last row and column; 0 if every class has its own."""


def read_metrics(run: runs.RunReader, known: dict[str, Any] | None = None) -> Metrics | None:
    """Compute the metrics of a run; None for a run without labels.

    Args:
        run: finished or not.
        known: its metrics, where its summary has them.
    """
    confusion = run.confusion()
    if not confusion.num_rows:
        return None
    items = item_figures(confusion, len(run.classes))
    pairs = zip(items.column("item_id").to_pylist(), items.column("miou").to_pylist(), strict=True)
    return Metrics(
        document=known or metrics_document(confusion, run.classes),
        miou_by_item={item: value for item, value in pairs if value is not None},
    )


def bounds(intervals: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    """Return the ends of the interval of a figure; None where it has none."""
    found = intervals.get(name)
    return (float(found["low"]), float(found["high"])) if found else None


def metrics_section(metrics: Metrics, names: Sequence[str]) -> dict[str, Any]:
    """Return what the template shows."""
    document = metrics.document
    intervals = document["intervals"]
    by_class = {each["id"]: each for each in intervals["classes"]}
    rows = [
        {**each, "interval": bounds(by_class.get(each["id"], {}), "iou")}
        for each in document["classes"]
        if each["iou"] is not None
    ]
    headline = [
        ("Mean IoU", "miou"),
        ("Pixel accuracy", "accuracy"),
        ("Mean recall", "mean_recall"),
        ("Mean precision", "mean_precision"),
        ("Mean Dice", "mean_dice"),
        ("Frequency-weighted IoU", "fwiou"),
        ("Mean boundary IoU", "mean_boundary_iou"),
    ]
    return {
        "figures": [
            {"title": title, "value": document[name], "interval": bounds(intervals, name)}
            for title, name in headline
            if document.get(name) is not None
        ],
        "rows": rows,
        "absent": [each["name"] for each in document["classes"] if each["iou"] is None],
        "labelled": document["items"],
        "intervals": intervals,
        "published": document["published"],
        "heat": heat_map(np.asarray(document["confusion"], np.int64), names),
    }


def heat_map(confusion_KK: NDArray[np.int64], names: Sequence[str]) -> HeatMap:
    """Return the confusion as shares of the pixels of each label class.

    Args:
        confusion_KK: pixels by label class and predicted class.
        names: of the classes.
    """
    present = np.flatnonzero(confusion_KK.sum(0) + confusion_KK.sum(1))
    shown = present
    if len(present) > HEAT_CLASSES:
        weight = confusion_KK.sum(1)[present]
        shown = np.sort(present[np.argsort(-weight, kind="stable")[: HEAT_CLASSES - 1]])
    others = np.setdiff1d(present, shown)
    table_RR = confusion_KK[np.ix_(shown, shown)]
    shown_names = [names[int(k)] for k in shown]
    if len(others):
        right = confusion_KK[np.ix_(shown, others)].sum(1)
        below = confusion_KK[np.ix_(others, shown)].sum(0)
        corner = confusion_KK[np.ix_(others, others)].sum()
        table_RR = np.block([[table_RR, right[:, None]], [below[None], np.array([[corner]])]])
        shown_names.append(f"{len(others)} others")
    totals = table_RR.sum(1)
    # Among the others, a cell holds confusions of each with each, and is shaded as neither right nor wrong.
    own = len(shown)
    rows = [
        [
            _cell(int(pixels), int(totals[at]), right=at == to, shaded=not at == to == own)
            for to, pixels in enumerate(row)
        ]
        for at, row in enumerate(table_RR)
    ]
    return HeatMap(names=shown_names, rows=rows, others=len(others))


def _cell(pixels: int, total: int, *, right: bool, shaded: bool) -> Cell:
    if not total:
        return Cell(share=None, pixels=pixels, shade="h0")
    share = pixels / total
    if right:
        step = round(share * SHADES)
    else:
        step = round(SHADES * (1 + math.log10(share) / -math.log10(SMALLEST_ERROR))) if share > SMALLEST_ERROR else 0
    return Cell(share=share, pixels=pixels, shade=f"{'h' if right else 'e'}{step if shaded else 0}")
