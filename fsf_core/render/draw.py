"""One frame as it is shown: the class colours over the picture or alone, and a legend. Knows no files and no video."""

# K classes, H×W pixels

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from fsf_core import masks
from fsf_core.options import Style

_LINES_ON_SCREEN = 28
"""How many lines of the legend's height a picture has."""
_MIN_TEXT_PX = 9
_WHITE = (255, 255, 255)
_SHADE = 0.35
"""What the legend's background leaves of the picture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderStyle:
    """How frames are drawn."""

    style: Style
    """blend: the class colours over the picture; mask: the colours alone."""
    legend: bool
    """Whether names and shares of the classes stand in a corner."""
    clear_background: bool
    """Whether class 0 is left clear in a blend."""
    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    """RGB of every class."""


def paint(image_HWC: NDArray[np.uint8], class_map_HW: masks.ClassMap, look: RenderStyle) -> NDArray[np.uint8]:
    """Draw one frame.

    Args:
        image_HWC: uint8 BGR.
        class_map_HW: of the picture's size or the network's.
        look: as it says.

    Returns:
        uint8 BGR, of the picture's size.
    """
    palette_K3 = np.asarray(look.palette, np.uint8)
    height_px, width_px = image_HWC.shape[:2]
    pixels_K = np.bincount(class_map_HW.reshape(-1), minlength=len(palette_K3))
    if class_map_HW.shape != (height_px, width_px):
        class_map_HW = cv2.resize(class_map_HW, (width_px, height_px), interpolation=cv2.INTER_NEAREST)  # type: ignore[assignment] # of the same kind
    if look.style == "mask":
        drawn = masks.colour_map(class_map_HW, palette_K3[:, ::-1])
    else:
        drawn = masks.overlay(image_HWC, class_map_HW, palette_K3, clear_background=look.clear_background)
    if look.legend:
        drawn = np.array(drawn)
        _add_legend(drawn, pixels_K / max(1, int(pixels_K.sum())), look)
    return drawn


def _add_legend(drawn_HWC: NDArray[np.uint8], ratio_K: NDArray[np.float64], look: RenderStyle) -> None:
    """Write a line a class into the upper left corner; what does not fit is cut off."""
    text_px = max(_MIN_TEXT_PX, drawn_HWC.shape[0] // _LINES_ON_SCREEN)
    line_px, edge_px = round(text_px * 1.4), text_px // 2
    names_left = 2 * edge_px + text_px
    names_right = names_left + max(_width_px(name, text_px) for name in look.names)
    width_px = names_right + 2 * edge_px + _width_px("100.00 %", text_px)
    corner_HWC = drawn_HWC[: line_px * len(look.names) + edge_px, :width_px]
    corner_HWC[:] = corner_HWC * _SHADE
    for k, (name, colour) in enumerate(zip(look.names, look.palette, strict=True)):
        top = edge_px + k * line_px
        box = ((edge_px, top), (edge_px + text_px, top + text_px))
        cv2.rectangle(drawn_HWC, *box, colour[::-1], cv2.FILLED)
        cv2.rectangle(drawn_HWC, *box, _WHITE)
        share = f"{100 * float(ratio_K[k]):.2f} %"
        for text, left in ((name, names_left), (share, width_px - edge_px - _width_px(share, text_px))):
            cv2.putText(drawn_HWC, text, (left, top + round(0.85 * text_px)), _WHITE, _font(), text_px)


def _width_px(text: str, text_px: int) -> int:
    left, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), _font(), text_px)
    return int(left + width)


@cache
def _font() -> cv2.FontFace:
    """OpenCV's own, which has Latin, Greek, Cyrillic and Chinese."""
    return cv2.FontFace("sans")
