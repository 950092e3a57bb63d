"""The sections of a page, laid out for the template: texts, figures and cards. Reads nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fsf_core.report import charts, classes, failures, items
from fsf_core.report.choose import FrameKey, Measure, Reason
from fsf_core.report.page import clock, metric, number, percent
from fsf_core.report.pictures import Picture

HELD_CLASSES = 3
"""Classes that are named below a picture."""

FIRST_ROWS = 25
"""Rows of the table of items for readers without scripts, and on paper."""

INPUTS = (
    # column, title, meaning, whether it is a share
    ("confidence", "Confidence", "Mean probability of the winning class.", True),
    ("uncertain_share", "Uncertain share", "Grid cells whose two best classes are within 0.2.", True),
    ("brightness", "Brightness", "Mean luma of the input of the network, 0 to 255.", False),
    ("contrast", "Contrast", "Standard deviation of that luma.", False),
    ("sharpness", "Sharpness", "Variance of its Laplacian.", False),
)


def class_section(rows: Sequence[classes.ClassRow]) -> dict[str, Any]:
    """Return the rows of the classes, and the axis of their charts."""
    shown, tail = classes.split_tail(rows)
    before = any(row.share_before is not None for row in rows)
    return {"rows": shown, "tail": tail, "axis": classes.log_axis(shown), "before": before}


def picture_section(
    names: Sequence[str], pictures: Sequence[Picture], chosen: Mapping[FrameKey, Sequence[Reason]]
) -> dict[str, Any]:
    """Return the cards: question by question, each picture once, with all its reasons."""
    order = {key: place for place, key in enumerate(chosen)}
    shown = sorted(pictures, key=lambda picture: order[picture.key])
    measures: dict[str, Measure] = {}
    for reasons in chosen.values():
        for reason in reasons:
            measures.setdefault(reason.measure.key, reason.measure)
    missing = sum(picture.photo is None for picture in shown)
    about = (
        f"{number(len(shown))} frames worth a look, chosen from all frames of the run; of an item, the most extreme "
        "one for each question. Open a picture to compare it with its mask."
    )
    if missing:
        about += f" {number(missing)} of them without the source, which could not be read: the card has the reason."
    return {
        "cards": [_card(names, picture, chosen[picture.key]) for picture in shown],
        "measures": [*measures.values()],
        "labels": any(picture.label for picture in shown),
        "about": about,
    }


def _card(names: Sequence[str], picture: Picture, reasons: Sequence[Reason]) -> dict[str, Any]:
    item_id, frame = picture.key
    at = "" if picture.pts_s is None else f" at {clock(picture.pts_s)}"
    name = f"{item_id} · frame {frame}{at}" if at or frame else item_id
    held = [(k, share) for k, share in picture.shares if k != 0 or len(names) == 1][:HELD_CLASSES]
    spoken = ", ".join(f"{names[k]} {percent(share)}" for k, share in held) or f"{names[0]} alone"
    if picture.photo is None:
        spoken += ", mask alone"
    return {
        "name": name,
        "spoken": f"Open {name}: {spoken}",
        "photo": picture.photo,
        "mask": picture.mask,
        "label": picture.label,
        "other": picture.other,
        "notes": picture.notes,
        "holds": held,
        "reasons": [
            {
                "key": reason.measure.key,
                "rank": reason.rank,
                "title": reason.measure.title,
                "value": _value(reason),
            }
            for reason in reasons
        ],
    }


def _value(reason: Reason) -> str:
    if reason.value is None:
        return ""
    show = {"percent": percent, "metric": metric}.get(reason.measure.unit, number)
    return show(reason.value)


def input_section(features: pa.Table, before: pa.Table | None = None) -> dict[str, Any] | None:
    """Draw the measures that need no label; None for a run that has none of them.

    Args:
        features: one row per item.
        before: the same of another run.
    """
    figures = []
    for name, title, meaning, is_share in INPUTS:
        values = classes.column_floats(features, name)
        values = values[np.isfinite(values)]
        other = None if before is None else classes.column_floats(before, name)
        chart = charts.histogram(values, other, percent=is_share)
        if chart is None:
            continue
        show = percent if is_share else number
        low, median, high = (show(float(value)) for value in np.quantile(values, (0.05, 0.5, 0.95)))
        figures.append({"title": title, "meaning": meaning, "chart": chart, "low": low, "median": median, "high": high})
    return {"figures": figures, "before": before is not None} if figures else None


def failure_section(groups: Sequence[failures.FailureGroup], total: int) -> dict[str, Any]:
    """Return the groups, and how many failures are in none of them."""
    return {"groups": groups, "total": total, "hidden": total - sum(group.count for group in groups)}


def item_section(table: items.ItemTable) -> dict[str, Any]:
    """Describe which items are in the table, and format the first rows."""
    if table.is_whole:
        about = f"All {number(table.items)} items." if table.items > 1 else "The only item."
    else:
        failed = "failed ones, " if any(row[1] != items.SCORED for row in table.rows) else ""
        about = (
            f"{number(len(table.rows))} of {number(table.items)} items: {failed}the extremes of every column, and a "
            f"random sample (seed {items.SEED}). All of them are in the tables of the run."
        )
    first = [
        [_cell(value, column) for value, column in zip(row, table.columns, strict=True)]
        for row in table.rows[:FIRST_ROWS]
    ]
    return {"about": about, "columns": table.columns, "first": first}


def _cell(value: Any, column: items.Column) -> str:
    if value is None:
        return "–"
    if column.kind == "text":
        return str(value)
    show = {"percent": percent, "metric": metric}.get(column.kind, number)
    return show(value)
