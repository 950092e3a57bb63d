"""Charts as SVG, drawn by Vega-Lite when the report is made: the page needs no script for them, and prints them sharp.

Colours are CSS variables, so that they follow the theme of the page. No text of the data is drawn here: titles and ids
are in the page around a chart.
"""

import math
import re
from typing import Any

import numpy as np
import vl_convert
from markupsafe import Markup
from numpy.typing import NDArray

VEGA_LITE = "6.4"

_FONT = "ui-sans-serif, system-ui, sans-serif"
_AXIS = {
    "labelColor": "currentColor",
    "titleColor": "currentColor",
    "domainColor": "currentColor",
    "tickColor": "currentColor",
    "gridColor": "currentColor",
    "gridOpacity": 0.12,
    "domainOpacity": 0.4,
    "tickOpacity": 0.4,
    "labelFont": _FONT,
    "titleFont": _FONT,
    "labelFontSize": 11,
    "titleFontSize": 11,
    "titleFontWeight": "normal",
}
_CONFIG = {"background": "transparent", "axis": _AXIS, "view": {"stroke": None}, "aria": False}

_ROLES = re.compile(r' (?:role|aria-roledescription|aria-label)="[^"]*"')

_COUNTS = {"tickCount": 3, "tickMinStep": 1, "format": "d", "domain": False, "ticks": False}

HISTOGRAM_BINS = 24
MAX_POINTS = 240
"""Points of a line; longer series are averaged."""


def histogram(values: NDArray[np.float64], other: NDArray[np.float64] | None = None, *, percent: bool) -> Markup | None:
    """Draw how many items have which value; of another run as an outline, scaled to the same number of items.

    Args:
        values: one per item; NaN is left out.
        other: the same of another run.
        percent: whether they are shares.

    Returns:
        The chart; None without values.
    """
    values = values[np.isfinite(values)]
    other = None if other is None else other[np.isfinite(other)]
    if not len(values):
        return None
    both = values if other is None or not len(other) else np.concatenate([values, other])
    low, high = float(both.min()), float(both.max())
    if high <= low:
        low, high = low - 0.5 * (abs(low) or 1) * 0.1, high + 0.5 * (abs(high) or 1) * 0.1
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    counts = np.histogram(values, edges)[0]
    bars = [{"a": float(a), "b": float(b), "n": int(n)} for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)]
    axis = {"format": ".0%" if percent and high - low > 0.05 else ".2%" if percent else "~s", "tickCount": 3}  # noqa: PLR2004
    x = {"field": "a", "type": "quantitative", "title": None, "axis": {**axis, "grid": False}, "scale": {"zero": False}}
    y = {"field": "n", "type": "quantitative", "title": None, "axis": _COUNTS}
    layers: list[dict[str, Any]] = [
        {
            "data": {"values": bars},
            "mark": {"type": "rect", "color": "var(--accent)", "opacity": 0.75},
            "encoding": {"x": x, "x2": {"field": "b"}, "y": y, "y2": {"datum": 0}},
        }
    ]
    if other is not None and len(other):
        scaled = np.histogram(other, edges)[0] * (len(values) / len(other))
        steps = [{"a": float(a), "n": float(n)} for a, n in zip(edges, [*scaled, scaled[-1]], strict=True)]
        layers.append(
            {
                "data": {"values": steps},
                "mark": {"type": "line", "interpolate": "step-after", "color": "var(--ink)", "strokeWidth": 1.25},
                "encoding": {"x": x, "y": y},
            }
        )
    return _svg({"width": 210, "height": 84, "layer": layers})


def timeline(seconds: NDArray[np.int64], ratios: dict[int, NDArray[np.float64]], *, width: int = 940) -> Markup:
    """Draw the share of some classes over the seconds of a video.

    Args:
        seconds: of every point, ascending.
        ratios: class id to its share at each of them.
        width: of the chart, in pixels.
    """
    at, series = _averaged(seconds, ratios)
    rows = [
        {"s": float(s), "k": k, "r": float(r)} for k, values in series.items() for s, r in zip(at, values, strict=True)
    ]
    scale = {"domain": [*series], "range": [f"var(--k{k})" for k in series]}
    line = {
        "type": "area" if len(at) > 1 else "point",
        "interpolate": "monotone",
        "fillOpacity": 0.12,
        "line": {"strokeWidth": 1.5},
        "clip": True,
    }
    return _svg(
        {
            "width": width,
            "height": 120,
            "data": {"values": rows},
            "mark": line,
            "encoding": {
                "x": {
                    "field": "s",
                    "type": "quantitative",
                    "title": None,
                    "scale": {"nice": False},
                    "axis": {"grid": False, "values": _times(at), "labelExpr": _CLOCK},
                },
                "y": {
                    "field": "r",
                    "type": "quantitative",
                    "title": None,
                    "stack": None,
                    "axis": {"format": ".1%", "tickCount": 4, "domain": False, "ticks": False},
                },
                "color": {"field": "k", "type": "nominal", "scale": scale, "legend": None},
            },
        }
    )


_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
_MAX_TIMES = 10


def _times(seconds: NDArray[np.float64]) -> list[int]:
    """Return at most _MAX_TIMES whole seconds to write at an axis."""
    first, last = math.ceil(seconds[0]), math.floor(seconds[-1])
    step = next((step for step in _STEPS_S if (last - first) / step < _MAX_TIMES), max(1, (last - first) // _MAX_TIMES))
    return [*range(-(-first // step) * step, last + 1, step)]


_CLOCK = "format(floor(datum.value / 60), 'd') + ':' + format(datum.value % 60, '02d')"


def _averaged(
    seconds: NDArray[np.int64], ratios: dict[int, NDArray[np.float64]]
) -> tuple[NDArray[np.float64], dict[int, NDArray[np.float64]]]:
    """Return at most MAX_POINTS points: means of neighbours."""
    if len(seconds) <= MAX_POINTS:
        return seconds.astype(np.float64), ratios
    starts = np.unique(np.linspace(0, len(seconds), MAX_POINTS, endpoint=False).astype(int))
    sizes = np.diff([*starts, len(seconds)])
    return np.add.reduceat(seconds, starts) / sizes, {
        k: np.add.reduceat(values, starts) / sizes for k, values in ratios.items()
    }


def _svg(spec: dict[str, Any]) -> Markup:
    """Draw a chart; it is hidden from screen readers, which read the text beside it."""
    drawn: str = vl_convert.vegalite_to_svg({"config": _CONFIG, **spec}, vl_version=VEGA_LITE, allowed_base_urls=[])
    whole = _ROLES.sub("", drawn).replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)
    return Markup(whole)  # noqa: S704 - of numbers alone; Vega escapes its text
