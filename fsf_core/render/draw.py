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
"""Height of the image over height of the legend's text."""
_MIN_TEXT_PX = 9
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
    pixels_K = np.bincount(class_map_HW.reshape(-1), minlength=len(palette_K3))
    if class_map_HW.shape != (height_px, width_px):
        class_map_HW = cv2.resize(class_map_HW, (width_px, height_px), interpolation=cv2.INTER_NEAREST)  # type: ignore[assignment] # of the same kind
    if look.style == "mask":
        drawn_HWC = masks.colour_map(class_map_HW, palette_K3[:, ::-1])
    else:
        drawn_HWC = masks.overlay(image_HWC, class_map_HW, palette_K3, clear_background=look.clear_background)
    if not look.legend:
        return drawn_HWC
    shares_K = pixels_K / max(1, int(pixels_K.sum()))
    return draw_legend(drawn_HWC, names=look.names, palette=look.palette, shares=shares_K.tolist())


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
        A copy of the image with the legend; lines that do not fit are cut off.
    """
    drawn_HWC = np.array(image_HWC)
    text_px = max(_MIN_TEXT_PX, drawn_HWC.shape[0] // _TEXT_LINES_PER_IMAGE)
    line_px, edge_px = round(text_px * 1.4), text_px // 2
    names_left = 2 * edge_px + text_px
    names_right = names_left + max(_width_px(name, text_px) for name in names)
    width_px = names_right + 2 * edge_px + _width_px("100.00 %", text_px)
    corner_HWC = drawn_HWC[: line_px * len(names) + edge_px, :width_px]
    corner_HWC[:] = corner_HWC * _LEGEND_BACKGROUND
    for k, (name, colour) in enumerate(zip(names, palette, strict=True)):
        top = edge_px + k * line_px
        box = ((edge_px, top), (edge_px + text_px, top + text_px))
        cv2.rectangle(drawn_HWC, *box, colour[::-1], cv2.FILLED)
        cv2.rectangle(drawn_HWC, *box, _WHITE)
        share = f"{100 * shares[k]:.2f} %"
        for text, left in ((name, names_left), (share, width_px - edge_px - _width_px(share, text_px))):
            cv2.putText(drawn_HWC, text, (left, top + round(0.85 * text_px)), _WHITE, _font(), text_px)
    return drawn_HWC


def _width_px(text: str, text_px: int) -> int:
    """Return the width of a text in pixels."""
    left, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), _font(), text_px)
    return int(left + width)


@cache
def _font() -> cv2.FontFace:
    """Return OpenCV's built-in font, which has Latin, Greek, Cyrillic and Chinese."""
    return cv2.FontFace("sans")
