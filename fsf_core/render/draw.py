"""One frame with its masks drawn in: class colours over the image or alone, and a legend. Knows no files, no video."""

# K classes, H×W pixels

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from fsf_core import masks
from fsf_core.options import Style

_TEXT_LINES_PER_IMAGE = 28
"""Height of the image over height of the legend's text; the text is smaller where the legend would not fit."""
_MIN_TEXT_PX = 9
_READABLE_TEXT_PX = 14
_LINE_HEIGHT = 1.4
"""Distance between two lines over height of the text."""
_WIDEST_SHARE = "100.00 %"
_WHITE = (255, 255, 255)
_LEGEND_BACKGROUND = 0.35
"""Factor by which the image is darkened behind the legend."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderStyle:
    """How frames are drawn."""

    style: Style
    """blend: class colours blended over the image; mask: class colours alone."""
    legend: bool
    """Whether class names and their shares are written into the upper left corner."""
    clear_background: bool
    """Whether class 0 is left unblended; for style blend."""
    names: tuple[str, ...]
    """Name of every class."""
    palette: tuple[tuple[int, int, int], ...]
    """RGB of every class."""


def paint(image_HWC: NDArray[np.uint8], class_map_HW: masks.ClassMap, look: RenderStyle) -> NDArray[np.uint8]:
    """Draw the class map of one frame.

    Args:
        image_HWC: uint8 BGR.
        class_map_HW: at the image's size or another; it is enlarged to the image's size without interpolation.
        look: style, names and colours.

    Returns:
        uint8 BGR, at the image's size.
    """
    palette_K3 = np.asarray(look.palette, np.uint8)
    height_px, width_px = image_HWC.shape[:2]
    shares = class_shares(class_map_HW, len(palette_K3))
    if class_map_HW.shape != (height_px, width_px):
        class_map_HW = cv2.resize(class_map_HW, (width_px, height_px), interpolation=cv2.INTER_NEAREST)  # type: ignore[assignment] # of the same kind
    if look.style == "mask":
        drawn_HWC = masks.colour_map(class_map_HW, palette_K3[:, ::-1])
    else:
        drawn_HWC = masks.overlay(image_HWC, class_map_HW, palette_K3, clear_background=look.clear_background)
    if not look.legend:
        return drawn_HWC
    return draw_legend(drawn_HWC, names=look.names, palette=look.palette, shares=shares)


def class_shares(class_map_HW: masks.ClassMap, num_classes: int) -> list[float]:
    """Return the share of every class, 0 to 1."""
    pixels_K = np.bincount(class_map_HW.reshape(-1), minlength=num_classes)
    shares: list[float] = (pixels_K / max(1, int(pixels_K.sum()))).tolist()
    return shares


def draw_legend(
    image_HWC: NDArray[np.uint8],
    *,
    names: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    shares: Sequence[float],
) -> NDArray[np.uint8]:
    """Draw a legend into the upper left corner: one line per class with its colour, name and share.

    Args:
        image_HWC: uint8 BGR; not changed.
        names: name of every class.
        palette: RGB of every class.
        shares: share of every class in the image, 0 to 1.

    Returns:
        A copy of the image with the legend; lines that do not fit with the smallest text are cut off.
    """
    height_px, width_px = image_HWC.shape[:2]
    text_px = max(_MIN_TEXT_PX, _fitting_text_px(height_px, width_px, names, height_px // _TEXT_LINES_PER_IMAGE))
    drawn_HWC = np.array(image_HWC)
    _draw_lines(drawn_HWC, text_px, [*zip(names, palette, shares, strict=True)])
    return drawn_HWC


def add_legend(
    image_HWC: NDArray[np.uint8],
    *,
    names: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    shares: Sequence[float],
) -> NDArray[np.uint8]:
    """Return the image with a readable legend, enlarged to the right if the image is too small for it.

    Args:
        image_HWC: uint8 BGR; not changed.
        names: name of every class. Of more than 28 classes, only those that occur are listed.
        palette: RGB of every class.
        shares: share of every class in the image, 0 to 1.

    Returns:
        uint8 BGR: the legend in the upper left corner if it covers at most half of each side, else beside the image.
    """
    lines = [*zip(names, palette, shares, strict=True)]
    if len(lines) > _TEXT_LINES_PER_IMAGE:
        lines = [line for line in lines if line[2] > 0]
    listed = [name for name, _, _ in lines]
    height_px, width_px = image_HWC.shape[:2]
    text_px = _fitting_text_px(height_px // 2, width_px // 2, listed, height_px // _TEXT_LINES_PER_IMAGE)
    if text_px >= _READABLE_TEXT_PX:
        drawn_HWC = np.array(image_HWC)
        _draw_lines(drawn_HWC, text_px, lines)
        return drawn_HWC
    rows, columns = _legend_size(listed, _READABLE_TEXT_PX)
    drawn_HWC = np.zeros((max(height_px, rows), width_px + columns, 3), np.uint8)
    drawn_HWC[:height_px, :width_px] = image_HWC
    _draw_lines(drawn_HWC[:, width_px:], _READABLE_TEXT_PX, lines)
    return drawn_HWC


def _fitting_text_px(height_px: int, width_px: int, names: Sequence[str], max_px: int) -> int:
    """Return the height of the text, up to max_px, with which a legend fits into an area."""
    rows, columns = _legend_size(names, 100)
    return min(max_px, int(100 * min(height_px / rows, width_px / columns)))


def _legend_size(names: Sequence[str], text_px: int) -> tuple[int, int]:
    """Return rows and columns of a legend."""
    edge_px = text_px // 2
    names_px = max(_width_px(name, text_px) for name in names)
    rows = round(text_px * _LINE_HEIGHT) * len(names) + edge_px
    return rows, 4 * edge_px + text_px + names_px + _width_px(_WIDEST_SHARE, text_px)


def _draw_lines(
    drawn_HWC: NDArray[np.uint8], text_px: int, lines: Sequence[tuple[str, tuple[int, int, int], float]]
) -> None:
    """Draw name, colour and share of every class into the upper left corner, in place."""
    line_px, edge_px = round(text_px * _LINE_HEIGHT), text_px // 2
    rows, columns = _legend_size([name for name, _, _ in lines], text_px)
    corner_HWC = drawn_HWC[:rows, :columns]
    corner_HWC[:] = corner_HWC * _LEGEND_BACKGROUND
    for number, (name, colour, ratio) in enumerate(lines):
        top = edge_px + number * line_px
        box = ((edge_px, top), (edge_px + text_px, top + text_px))
        cv2.rectangle(drawn_HWC, *box, colour[::-1], cv2.FILLED)
        cv2.rectangle(drawn_HWC, *box, _WHITE)
        share = f"{100 * ratio:.2f} %"
        right = columns - edge_px - _width_px(share, text_px)
        for text, left in ((name, 2 * edge_px + text_px), (share, right)):
            cv2.putText(drawn_HWC, text, (left, top + round(0.85 * text_px)), _WHITE, _font(), text_px)


def _width_px(text: str, text_px: int) -> int:
    """Return the width of a text in pixels."""
    left, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), _font(), text_px)
    return int(left + width)


@cache
def _font() -> cv2.FontFace:
    """Return OpenCV's built-in font, which has Latin, Greek, Cyrillic and Chinese."""
    return cv2.FontFace("sans")
