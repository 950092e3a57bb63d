"""Class colours, and class maps painted with them."""

# K classes, H×W pixels

import cv2
import numpy as np
from numpy.typing import NDArray

from fsf_core.masks.class_map import ClassMap


def voc_palette(num_classes: int) -> NDArray[np.uint8]:
    """Return PASCAL VOC's colours as uint8 RGB [K, 3].

    Bits 0, 1, 2 of the class become the top bits of red, green, blue, bits 3, 4, 5 the next ones, and so on. VOC stops
    at 256 classes; the same rule keeps colours distinct up to 2**24.
    """
    classes = np.arange(num_classes)
    palette_K3 = np.zeros((num_classes, 3), np.int64)
    for level in range(8):
        for channel in range(3):
            palette_K3[:, channel] |= (classes >> (3 * level + channel) & 1) << (7 - level)
    return palette_K3.astype(np.uint8)


def voc_colours(num_classes: int) -> tuple[tuple[int, int, int], ...]:
    """Return `voc_palette` as tuples of int."""
    return tuple((red, green, blue) for red, green, blue in voc_palette(num_classes).tolist())


def colour_map(class_map_HW: ClassMap, palette_K3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Paint every pixel in the colour of its class: uint8 [H, W, 3], channels in the palette's order.

    Raises:
        ValueError: a class has no colour.
    """
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
    """Blend 0.6 of the image with 0.4 of the class colours, as FastSegFormer's tools do.

    Args:
        image_HWC: uint8 BGR, at the size of the class map.
        class_map_HW: class of every pixel.
        palette_K3: RGB of every class.
        clear_background: leave pixels of class 0 unblended.

    Returns:
        uint8 BGR.

    Raises:
        ValueError: the sizes differ, or a class has no colour.
    """
    if image_HWC.shape != (*class_map_HW.shape, 3):
        raise ValueError(
            f"found an image of {image_HWC.shape} and a class map of {class_map_HW.shape}; expected one size"
        )
    blended = cv2.addWeighted(image_HWC, 0.6, colour_map(class_map_HW, palette_K3[:, ::-1]), 0.4, 0)
    if clear_background:
        cv2.copyTo(image_HWC, (class_map_HW == 0).view(np.uint8), blended)
    return np.asarray(blended, np.uint8)
