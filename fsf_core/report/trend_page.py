"""The page of `fsf trend`: classes and figures night by night, as one HTML file that opens from disk."""

import itertools
from typing import Any

from fsf_core.report.page import render_page

WIDTH_PX, HEIGHT_PX, MARGIN_PX = 300, 84, 8
CHARTS = 48
"""Charts of a group; classes with an alarm come first, then the most frequent ones."""

TITLES = {
    "classes": ("Classes", "Share of all pixels of each class."),
    "inputs": ("Inputs", "What the network sees: means over the items of a night; size in pixels."),
    "confidence": ("Confidence", "How sure the network is: means over the items of a night."),
}


def trend_page(document: dict[str, Any]) -> str:
    """Return the page of a trend document."""
    nights = document["nights"]
    groups = []
    for key, (title, about) in TITLES.items():
        rows = sorted(document[key], key=lambda row: (not any(row["alarms"]), -max(_known(row["values"]), default=0)))
        rows = rows if key == "classes" else document[key]
        charts = [_chart(row) for row in rows[:CHARTS]]
        groups.append(
            {
                "key": key, "title": title, "about": about, "charts": charts, "more": len(rows) - len(charts),
                "percent": key == "classes",
            }
        )  # fmt: skip
    data = {
        "doc": document,
        "groups": groups,
        "alarmed": sum(bool(night["alarms"]) for night in nights),
        "alarms": [_farthest(night["alarms"]) for night in nights],
        "unfinished": [night for night in nights if night["state"] != "finished"],
        "first": nights[0]["name"] if nights else "",
        "last": nights[-1]["name"] if nights else "",
        "reference": document["reference"]["run"].rstrip("/").rpartition("/")[2],
    }
    return render_page(data, palette=[], rows=None, template="trend.html.j2")


def _farthest(alarms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one alarm for each name: the first one, which is the farthest above its limit."""
    found: dict[str, dict[str, Any]] = {}
    for alarm in alarms:
        found.setdefault(alarm["name"], alarm)
    return [*found.values()]


def _chart(row: dict[str, Any]) -> dict[str, Any]:
    """Return the points of a chart: one per night with a value, and lines between neighbours."""
    values, known = row["values"], _known([*row["values"], row["reference"]])
    least, most = min(known, default=None), max(known, default=None)
    low, high = least or 0.0, 1.0 if most is None else most
    if high <= low:
        low, high = low - (abs(low) or 1) * 0.05, high + (abs(high) or 1) * 0.05
    step = (WIDTH_PX - 2 * MARGIN_PX) / max(1, len(values) - 1)

    def place(value: float) -> float:
        return round(HEIGHT_PX - MARGIN_PX - (value - low) / (high - low) * (HEIGHT_PX - 2 * MARGIN_PX), 1)

    points = [
        {"x": round(MARGIN_PX + at * step, 1), "y": place(value), "alarm": bool(row["alarms"][at])}
        if value is not None
        else None
        for at, value in enumerate(values)
    ]
    pairs = [pair for pair in itertools.pairwise(points) if None not in pair]
    return {
        "name": row["name"],
        "low": least,
        "high": most,
        "last": next((value for value in reversed(values) if value is not None), None),
        "reference": row["reference"],
        "reference_y": None if row["reference"] is None else place(row["reference"]),
        "points": [point for point in points if point is not None],
        "lines": pairs,
        "alarms": sum(bool(each) for each in row["alarms"]),
    }


def _known(values: list[float | None]) -> list[float]:
    return [value for value in values if value is not None]
