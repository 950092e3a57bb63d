"""The speed chart of README.md as SVG, from tests/bench/figures.json; readable on light and dark pages."""

import json
from html import escape
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).parents[1] / "bench" / "figures.json"
MACHINE = "A"
CASES = ("p512", "mp12")

WIDTH_PX, LABEL_PX, GAP_PX = 820, 205, 40
ROW_PX, BAR_PX, TOP_PX = 26, 15, 64

STYLE = """
  text { font: 13px -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; fill: #1f2328 }
  .title { font-weight: 600 } .note, .value { fill: #59636e } .note { font-size: 12px }
  .fsf { font-weight: 600 } .value.fsf { fill: #bc4c00 }
  rect { fill: #afb8c1 } rect.fsf { fill: #e8710a } line { stroke: #59636e; stroke-dasharray: 3 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .note, .value { fill: #9198a1 } .value.fsf { fill: #f0883e }
    rect { fill: #4d5561 } rect.fsf { fill: #f0883e } line { stroke: #9198a1 }
  }
"""


def chart(figures: dict[str, Any]) -> str:
    """Return the SVG: a panel for each case, a bar for each contender, a dashed line at the bare session's rate."""
    contenders = [name for name in figures["contenders"] if name != "bare"]
    contenders.sort(key=lambda name: -figures["frames_per_s"][MACHINE]["mp12"][name])
    height_px = TOP_PX + ROW_PX * len(contenders) + 34
    panel_px = (WIDTH_PX - LABEL_PX - GAP_PX * len(CASES)) // len(CASES)
    machine = figures["machines"][MACHINE]
    caption = f"{machine['cpu']}, {machine['date']}, {figures['command']}. Dashed: the bare ONNX Runtime session."
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {height_px}" width="{WIDTH_PX}" '
        f'height="{height_px}" role="img" aria-label="{escape(caption)}">'
    )
    lines = [
        opening,
        f"<style>{STYLE}</style>",
    ]
    for row, name in enumerate(contenders):
        label = escape(figures["contenders"][name])
        lines.append(_text(LABEL_PX - 10, _middle(row), label, _kind(name, "label"), anchor="end"))
    for column, case in enumerate(CASES):
        left_px = LABEL_PX + column * (panel_px + GAP_PX)
        lines += _panel(figures, case, contenders, left_px=left_px, width_px=panel_px)
    lines += [_text(0, height_px - 8, escape(caption), "note"), "</svg>", ""]
    return "\n".join(lines)


def _panel(figures: dict[str, Any], case: str, contenders: list[str], *, left_px: int, width_px: int) -> list[str]:
    """Return the elements of one case."""
    rates = figures["frames_per_s"][MACHINE][case]
    px_per_frame = (width_px - 45) / rates["bare"]
    limit_px = left_px + px_per_frame * rates["bare"]
    bottom_px = TOP_PX + ROW_PX * len(contenders)
    lines = [
        _text(left_px, 20, escape(figures["cases"][case]), "title"),
        _text(left_px, 38, "frames/s while all workers return masks", "note"),
        f'<line x1="{limit_px:.1f}" x2="{limit_px:.1f}" y1="{TOP_PX - 8}" y2="{bottom_px}"/>',
        _text(limit_px, TOP_PX - 12, f"{rates['bare']:g}", "note", anchor="middle"),
    ]
    for row, name in enumerate(contenders):
        top_px, bar_px = TOP_PX + ROW_PX * row + (ROW_PX - BAR_PX) / 2, px_per_frame * rates[name]
        lines.append(
            f'<rect class="{_kind(name, "bar")}" x="{left_px}" y="{top_px:.1f}" width="{bar_px:.1f}" height="{BAR_PX}" '
            'rx="2"/>'
        )
        value = f"{rates[name]:g}"
        # Beyond the bar, or inside it where the dashed line would cross the digits.
        crossed = left_px + bar_px < limit_px < left_px + bar_px + 42
        if crossed:
            lines.append(_text(left_px + bar_px - 6, _middle(row), value, "inside", anchor="end"))
        else:
            lines.append(_text(left_px + bar_px + 6, _middle(row), value, _kind(name, "value")))
    return lines


def _kind(name: str, kind: str) -> str:
    return f"{kind} fsf" if name == "fsf" else kind


def _middle(row: int) -> float:
    """Return the baseline of the text of a row."""
    return TOP_PX + ROW_PX * row + ROW_PX / 2 + 4.5


def _text(x_px: float, y_px: float, text: str, kind: str, *, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x_px:.1f}" y="{y_px:.1f}" text-anchor="{anchor}">{text}</text>'


def read_figures() -> dict[str, Any]:
    """Return the measured figures."""
    figures: dict[str, Any] = json.loads(FIGURES.read_text())
    return figures
