"""One frame as it is shown: the class colours over the picture or alone, and a legend. Knows no files and no video."""

# K classes, H×W pixels

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fsf_core import masks

Style = Literal["blend", "mask"]

_LINES_ON_SCREEN = 28
"""How many lines of the legend's height a picture has."""
_MIN_TEXT_PX = 9
_SHADE = 0.35
"""What the legend's background leaves of the picture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
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


def paint(image_HWC: NDArray[np.uint8], class_map_HW: masks.ClassMap, look: Look) -> NDArray[np.uint8]:
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


def _add_legend(drawn_HWC: NDArray[np.uint8], ratio_K: NDArray[np.float64], look: Look) -> None:
    """Write a line a class into the upper left corner; what does not fit is cut off."""
    text_px = max(_MIN_TEXT_PX, drawn_HWC.shape[0] // _LINES_ON_SCREEN)
    font = ImageFont.load_default(size=text_px)
    line_px, edge_px = round(text_px * 1.4), round(text_px * 0.5)
    name_px = max(round(font.getlength(name)) for name in look.names)
    share_px = round(font.getlength("100.00 %"))
    width_px = 4 * edge_px + text_px + name_px + share_px
    panel = Image.new("RGB", (width_px, line_px * len(look.names) + edge_px))
    pen = ImageDraw.Draw(panel)
    for k, (name, colour) in enumerate(zip(look.names, look.palette, strict=True)):
        top = edge_px + k * line_px
        pen.rectangle((edge_px, top, edge_px + text_px, top + text_px), fill=colour, outline=(255, 255, 255))
        pen.text((2 * edge_px + text_px, top + text_px // 2), name, (255, 255, 255), font, anchor="lm")
        share = f"{100 * float(ratio_K[k]):.2f} %"
        pen.text((width_px - edge_px, top + text_px // 2), share, (255, 255, 255), font, anchor="rm")
    panel_HWC = np.asarray(panel)[: drawn_HWC.shape[0], : drawn_HWC.shape[1], ::-1]
    corner_HWC = drawn_HWC[: panel_HWC.shape[0], : panel_HWC.shape[1]]
    inked = panel_HWC.any(axis=2, keepdims=True)
    corner_HWC[:] = np.where(inked, panel_HWC, (corner_HWC * _SHADE).astype(np.uint8))
