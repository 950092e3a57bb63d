"""From class scores to class maps and what is counted in them. Knows no model, no file and no video.

The class map is the argmax of the class probabilities after each plane was resized to the picture with OpenCV's
INTER_LINEAR, as FastSegFormer does it, and it is found without resizing: interpolation between four samples is a
convex combination, so where the four agree on the winner, everything between them does. Only tiles whose corners
disagree are interpolated. Pixels can differ from the resized planes only where two classes tie to the last bits.
"""

# K classes, H×W pixels of the picture, h×w cells of the network's grid

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsf_core.errors import MaskError
from fsf_core.masks import kernels

ClassMap = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameMask:
    """The class map of one frame and what was counted while it was drawn."""

    class_map_HW: ClassMap
    """Class of every pixel at the size of the picture: uint8, or uint16 with more than 255 classes."""
    pixels_K: NDArray[np.int64]
    """Pixels of each class; they add up to H·W."""
    components_K: NDArray[np.int64]
    """Connected regions of each class. Pixels that touch at a corner are connected, as in OpenCV and COCO tools: a
    scratch one pixel wide is one region at every angle."""
    largest_component_px_K: NDArray[np.int64]
    """Pixels of the largest region of each class; 0 where there is none."""
    mean_probability_K: NDArray[np.float64]
    """Mean probability of a class over the cells of the network's grid that it wins; NaN where it wins none, and where
    the model answered a class map instead of scores. A class can win cells and lose every pixel (a picture smaller
    than the grid), or the other way round."""


def class_map_dtype(num_classes: int) -> np.dtype[Any]:
    """What a class map of this many classes is made of; 255 stays free in uint8, readers of labels take it for ignore.

    Raises:
        ValueError: more than 65536 classes, or none.
    """
    if not 1 <= num_classes <= 1 + np.iinfo(np.uint16).max:
        raise ValueError(f"found {num_classes} classes; expected 1 to 65536")
    return np.dtype(np.uint8 if num_classes <= np.iinfo(np.uint8).max else np.uint16)


def softmax(scores_Khw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities over the classes (axis 0): minus the maximum, exponential, divided by the sum.

    Within a few units in the last place of torch's and NumPy's, and the same bits on every processor.
    """
    scores_Khw = kernels.as_input(scores_Khw.astype(np.float32, copy=False))
    probabilities_Khw = np.empty(scores_Khw.shape, np.float32)
    classes = scores_Khw.shape[0]
    kernels.softmax_planes(scores_Khw.reshape(classes, -1), probabilities_Khw.reshape(classes, -1))
    return probabilities_Khw


def make_mask(probabilities_Khw: NDArray[np.float32], *, height_px: int, width_px: int) -> FrameMask:
    """Draw the class map at the size of the picture and count on the way.

    Components are always counted: they come from the runs that are drawn anyway, for less than a tenth of the time.
    Beyond the map itself, memory grows with the grid and with the width of the picture, not with their product.

    Args:
        probabilities_Khw: float32, from `softmax`; may be a view, such as a letterbox cut away.
        height_px: rows of the picture, more or fewer than the grid's.
        width_px: columns of the picture.

    Raises:
        MaskError: a probability is NaN or infinite.
    """
    if probabilities_Khw.ndim != 3 or 0 in probabilities_Khw.shape or probabilities_Khw.dtype != np.float32:  # noqa: PLR2004 # axes
        raise ValueError(
            f"found {probabilities_Khw.dtype} probabilities of shape {probabilities_Khw.shape}; "
            "expected float32 [classes, rows, columns], none of them 0"
        )
    if height_px < 1 or width_px < 1:
        raise ValueError(f"the picture is {height_px}x{width_px}; both sides must be at least 1")
    classes, height_cells, width_cells = probabilities_Khw.shape
    probabilities_Khw = kernels.as_input(probabilities_Khw)

    winner_hw = np.empty((height_cells, width_cells), np.uint16)
    wins_K = np.zeros(classes, np.int64)
    summed_K = np.zeros(classes, np.float64)
    if not kernels.grid_winners(probabilities_Khw, winner_hw, wins_K, summed_K):
        raise MaskError(
            "found NaN or infinity among the class probabilities; expected finite numbers: "
            "the network overflowed on this input, try the float32 model"
        )
    class_map_HW = np.empty((height_px, width_px), class_map_dtype(classes))
    pixels_K = np.zeros(classes, np.int64)
    components_K = np.zeros(classes, np.int64)
    largest_K = np.zeros(classes, np.int64)
    kernels.draw(
        probabilities_Khw,
        winner_hw,
        _axis(height_px, height_cells),
        _axis(width_px, width_cells),
        class_map_HW,
        pixels_K,
        components_K,
        largest_K,
    )
    return FrameMask(
        class_map_HW=class_map_HW,
        pixels_K=pixels_K,
        components_K=components_K,
        largest_component_px_K=largest_K,
        mean_probability_K=np.divide(summed_K, wins_K, out=np.full(classes, np.nan), where=wins_K > 0),
    )


def measure(class_map_HW: ClassMap, *, num_classes: int) -> FrameMask:
    """Count what `make_mask` counts, in a class map that the model drew itself; it has no probabilities to average.

    Args:
        class_map_HW: uint8 or uint16.
        num_classes: of the model.

    Raises:
        MaskError: a class is num_classes or above.
    """
    if class_map_HW.ndim != 2 or 0 in class_map_HW.shape or class_map_HW.dtype not in (np.uint8, np.uint16):  # noqa: PLR2004 # axes
        raise ValueError(
            f"found a {class_map_HW.dtype} class map of shape {class_map_HW.shape}; expected uint8 or uint16 [H, W]"
        )
    counts = [np.zeros(num_classes, np.int64) for _ in range(3)]
    if not kernels.measure(kernels.as_input(class_map_HW), *counts):
        raise MaskError(
            f"found class {class_map_HW.max()}, expected classes below {num_classes}: "
            "the model answers more classes than its bundle names"
        )
    return FrameMask(
        class_map_HW=class_map_HW,
        pixels_K=counts[0],
        components_K=counts[1],
        largest_component_px_K=counts[2],
        mean_probability_K=np.full(num_classes, np.nan),
    )


def _axis(pixels: int, cells: int) -> "kernels.Axis":
    """Between which two samples the centre of every pixel lies, and how far along (half-pixel centres).

    Band b lies between sample b-1 and sample b; the first and the last band have one sample only.
    Coordinates are float64, as in OpenCV with IPP (every x86 wheel). OpenCV without IPP rounds them to float32 first,
    which moves a weight by up to 3e-5 on a grid of 300 cells: two builds of OpenCV differ by that much.
    """
    position = (np.arange(pixels) + 0.5) * (cells / pixels) - 0.5
    before = np.floor(position)
    weight = (position - before).astype(np.float32)
    weight[(before < 0) | (before >= cells - 1)] = 0
    return kernels.Axis(np.clip(before + 1, 0, cells).astype(np.int32), weight, cells / pixels)
