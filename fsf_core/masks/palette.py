"""Colours of classes, and class maps drawn in them."""

# K classes, H×W pixels

import cv2
import numpy as np
from numpy.typing import NDArray

from fsf_core.masks.class_map import ClassMap


def voc_palette(num_classes: int) -> NDArray[np.uint8]:
    """PASCAL VOC's colours as RGB [K, 3]: bit 0, 1, 2 of the class give the top bit of red, green, blue, and so on.

    The rule is VOC's own for 256 classes and simply goes on: all colours stay different up to 2**24 classes.
    """
    classes = np.arange(num_classes)
    palette_K3 = np.zeros((num_classes, 3), np.int64)
    for level in range(8):
        for channel in range(3):
            palette_K3[:, channel] |= (classes >> (3 * level + channel) & 1) << (7 - level)
    return palette_K3.astype(np.uint8)


def voc_colours(num_classes: int) -> tuple[tuple[int, int, int], ...]:
    """`voc_palette` as plain numbers."""
    return tuple((red, green, blue) for red, green, blue in voc_palette(num_classes).tolist())


def colour_map(class_map_HW: ClassMap, palette_K3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Paint every pixel in the colour of its class: uint8 [H, W, 3], channels in the palette's order."""
    if class_map_HW.max(initial=0) >= len(palette_K3):
        raise ValueError(f"found class {class_map_HW.max()} and {len(palette_K3)} colours; expected a colour for each")
    if class_map_HW.dtype != np.uint8:
        return palette_K3[class_map_HW]
    table = np.zeros((256, 1, 3), np.uint8)
    table[: len(palette_K3), 0] = palette_K3[:256]
    return np.asarray(cv2.applyColorMap(class_map_HW, table), np.uint8)


def overlay(
    image_HWC: NDArray[np.uint8],
    class_map_HW: ClassMap,
    palette_K3: NDArray[np.uint8],
    *,
    clear_background: bool = False,
) -> NDArray[np.uint8]:
    """Blend 0.6 of the picture with 0.4 of the class colours, as FastSegFormer's tools do.

    Args:
        image_HWC: uint8 BGR, at the size of the class map.
        class_map_HW: class of every pixel.
        palette_K3: RGB of every class.
        clear_background: leave the pixels of class 0 as they are.

    Returns:
        uint8 BGR.
    """
    if image_HWC.shape != (*class_map_HW.shape, 3):
        raise ValueError(f"the picture is {image_HWC.shape}, the class map {class_map_HW.shape}; expected one size")
    blended = cv2.addWeighted(image_HWC, 0.6, colour_map(class_map_HW, palette_K3[:, ::-1]), 0.4, 0)
    if clear_background:
        cv2.copyTo(image_HWC, (class_map_HW == 0).view(np.uint8), blended)
    return np.asarray(blended, np.uint8)
