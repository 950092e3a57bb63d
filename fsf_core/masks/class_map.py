"""Class scores to class maps and their per-class statistics. Knows no model, no file and no video.

The class map is the argmax of the class probabilities, or of other scores, each plane resized to the image with
OpenCV's INTER_LINEAR, as in FastSegFormer. It is computed without resizing: interpolation between four samples is a
convex combination, so where the four agree on the winner, so does every pixel between them. Only tiles whose corners
disagree are interpolated.
Pixels can differ from the resized planes only where two classes tie to the last bits.
"""

# K classes, H×W pixels of the image, h×w cells of the network's grid

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsf_core.errors import MaskError
from fsf_core.masks import kernels
from fsf_core.options import Corners
from fsf_core.schema import UNCERTAIN_MARGIN

NOT_FINITE = (
    "found NaN or infinity among the class probabilities, expected finite numbers: the network overflowed on this "
    "input; use the float32 model"
)
"""Message of the error of a frame with such a probability."""

ClassMap = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True, slots=True)
class GridWinners:
    """The most probable class of every cell of the network's grid, without padding."""

    winner_hw: NDArray[np.uint16]
    """Its id; the lowest of equally probable ones."""
    probability_hw: NDArray[np.float32]
    """Its probability."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameMask:
    """The class map of one frame and its statistics."""

    class_map_HW: ClassMap
    """Class of every pixel, at the size of the image: uint8, or uint16 above 255 classes."""
    pixels_K: NDArray[np.int64]
    """Pixels of each class; the sum is H·W."""
    components_K: NDArray[np.int64]
    """Connected regions of each class, 8-connected as in OpenCV and COCO tools: a scratch one pixel wide is one region
    at every angle."""
    largest_component_px_K: NDArray[np.int64]
    """Pixels of the largest region of each class; 0 where there is none."""
    mean_probability_K: NDArray[np.float64]
    """Mean probability of each class over the grid cells that have it; NaN where it wins none, and where the model
    returned a class map instead of scores. A class can win cells but no pixel (an image smaller than the grid), or
    pixels but no cell."""
    confidence: float
    """Mean over the grid of the largest class probability; NaN where the model returned a class map."""
    uncertain_share: float
    """Share of the grid's cells whose two largest class probabilities differ by less than 0.2; 0 of a single class, NaN
    where the model returned a class map."""
    grid: GridWinners | None
    """Winners on the network's grid; None where they are not kept, or the model returned a class map."""


def class_map_dtype(num_classes: int) -> np.dtype[Any]:
    """Return the dtype of a class map: uint8 up to 255 classes, since label readers take 255 for ignore, else uint16.

    Raises:
        ValueError: not 1 to 65536 classes.
    """
    if not 1 <= num_classes <= 1 + np.iinfo(np.uint16).max:
        raise ValueError(f"found {num_classes} classes; expected 1 to 65536")
    return np.dtype(np.uint8 if num_classes <= np.iinfo(np.uint8).max else np.uint16)


def softmax(scores_Khw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the softmax over the classes (axis 0) as float32.

    Within a few units in the last place of torch and NumPy, and the same bits on every processor.
    """
    scores_Khw = kernels.as_input(scores_Khw.astype(np.float32, copy=False))
    probabilities_Khw = np.empty(scores_Khw.shape, np.float32)
    classes = scores_Khw.shape[0]
    kernels.softmax_planes(scores_Khw.reshape(classes, -1), probabilities_Khw.reshape(classes, -1))
    return probabilities_Khw


def make_mask(
    probabilities_Khw: NDArray[np.float32],
    *,
    height_px: int,
    width_px: int,
    keep_grid: bool = False,
    scores_Khw: NDArray[np.float32] | None = None,
    corners: Corners = "half-pixel",
    logits: bool = False,
) -> FrameMask:
    """Draw the class map at the size of the image and compute its statistics.

    Components are always counted, from the runs that are drawn anyway; it takes less than a tenth of the time.
    Beyond the map itself, memory grows with the grid and with the width of the image, not with their product.

    Args:
        probabilities_Khw: float32, from `softmax`; may be a view, such as the crop of a letterbox.
        height_px: rows of the image, more or fewer than the grid's.
        width_px: columns of the image.
        keep_grid: whether the mask keeps the winners on the grid, which regions need.
        scores_Khw: float32 of any range, such as logits, whose argmax is the class map; None for the probabilities.
        corners: how the resize places its samples.
        logits: whether the probabilities are the softmax of what is given: the same as to give that, in less time.

    Raises:
        MaskError: a probability or a score is NaN or infinite.
    """
    if probabilities_Khw.ndim != 3 or 0 in probabilities_Khw.shape or probabilities_Khw.dtype != np.float32:  # noqa: PLR2004 # axes
        raise ValueError(
            f"found {probabilities_Khw.dtype} probabilities of shape {probabilities_Khw.shape}; "
            "expected float32 [classes, rows, columns], each at least 1"
        )
    if height_px < 1 or width_px < 1:
        raise ValueError(f"found an image of {height_px}x{width_px} pixels; expected at least 1 on both sides")
    assert scores_Khw is None or scores_Khw.shape == probabilities_Khw.shape, "one score for each probability"
    classes, height_cells, width_cells = probabilities_Khw.shape
    cells = height_cells * width_cells
    if logits and scores_Khw is not None:
        probabilities_Khw, logits = softmax(probabilities_Khw), False
    given_Khw = kernels.as_input(probabilities_Khw if scores_Khw is None else scores_Khw)
    softmax_Khw = np.empty((classes, height_cells if logits else 0, width_cells), np.float32)
    winner_hw = np.empty((height_cells, width_cells), np.uint16)
    best_hw = np.empty((height_cells if keep_grid else 0, width_cells), np.float32)
    wins_K = np.zeros(classes, np.int64)
    summed_K = np.zeros(classes, np.float64)
    margin = np.float32(UNCERTAIN_MARGIN)
    uncertain = kernels.grid_winners(
        given_Khw.reshape(classes, cells),
        width_cells,
        softmax_Khw.reshape(classes, -1 if logits else 0),
        winner_hw.reshape(cells),
        best_hw.reshape(-1),
        wins_K,
        summed_K,
        margin,
    )
    if uncertain >= 0 and scores_Khw is not None:
        wins_K[:], summed_K[:] = 0, 0
        won_hw = best_hw if keep_grid else np.empty((1, width_cells), np.float32)
        uncertain = kernels.won_cells(
            kernels.as_input(probabilities_Khw), winner_hw, won_hw, wins_K, summed_K, margin
        )  # fmt: skip
    if uncertain < 0:
        raise MaskError(NOT_FINITE)
    drawn_Khw = kernels.as_input(softmax_Khw) if logits else given_Khw
    class_map_HW = np.empty((height_px, width_px), class_map_dtype(classes))
    pixels_K = np.zeros(classes, np.int64)
    components_K = np.zeros(classes, np.int64)
    largest_K = np.zeros(classes, np.int64)
    kernels.draw(
        drawn_Khw,
        winner_hw,
        axis(height_px, height_cells, corners),
        axis(width_px, width_cells, corners),
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
        mean_probability_K=summed_K / np.where(wins_K > 0, wins_K, np.nan),
        confidence=float(summed_K.sum() / winner_hw.size),
        uncertain_share=uncertain / winner_hw.size,
        grid=GridWinners(winner_hw=winner_hw, probability_hw=best_hw) if keep_grid else None,
    )


def nearest(
    class_ids_hw: NDArray[np.float32],
    *,
    height_px: int,
    width_px: int,
    num_classes: int,
    corners: Corners = "half-pixel",
) -> NDArray[np.unsignedinteger[Any]]:
    """Return a class map on the network's grid at the size of the image: every pixel has the class of its nearest cell.

    Args:
        class_ids_hw: ids as float32, which holds them exactly.
        height_px: rows of the image.
        width_px: columns of the image.
        num_classes: classes of the model.
        corners: which cell is the nearest: half-pixel by the centres, asymmetric by the upper left corners.

    Raises:
        MaskError: a number is no class.
    """
    wrong_hw = ~((class_ids_hw >= 0) & (class_ids_hw < num_classes)) | (class_ids_hw != np.trunc(class_ids_hw))
    if wrong_hw.any():
        found = f"{class_ids_hw[wrong_hw][0]:g}"
        raise MaskError(
            f"found {found} in the class map, expected whole numbers from 0 to {num_classes - 1}; "
            "export the bundle again with a name for each class that the model outputs"
        )
    ids_hw = class_ids_hw.astype(class_map_dtype(num_classes))
    cells = nearest_cells if corners == "half-pixel" else asymmetric_cells
    rows, columns = map(cells, (height_px, width_px), ids_hw.shape)
    class_map_HW: NDArray[np.unsignedinteger[Any]] = ids_hw[rows[:, None], columns]
    return class_map_HW


def nearest_cells(size_px: int, cells: int) -> NDArray[np.int64]:
    """Return the nearest cell of every pixel along one side, in integers, as in the fused graph."""
    return np.asarray((2 * np.arange(size_px) + 1) * cells // (2 * size_px), np.int64)


def asymmetric_cells(size_px: int, cells: int) -> NDArray[np.int64]:
    """Return the cell of every pixel along one side, as PyTorch's nearest finds it, which computes in float32.

    In whole numbers, pixel · cells // pixels, 3 % of all pairs of sizes up to 3,000 have another cell somewhere.
    """
    scaled = np.arange(size_px, dtype=np.float32) * (np.float32(cells) / np.float32(size_px))
    return np.minimum(scaled.astype(np.int64), cells - 1)


def measure(class_map_HW: ClassMap, *, num_classes: int) -> FrameMask:
    """Compute the statistics of a class map that the model returned; those of probabilities are NaN.

    Args:
        class_map_HW: uint8 or uint16.
        num_classes: classes of the model.

    Raises:
        MaskError: the map holds a class of num_classes or above.
    """
    if class_map_HW.ndim != 2 or 0 in class_map_HW.shape or class_map_HW.dtype not in (np.uint8, np.uint16):  # noqa: PLR2004 # axes
        raise ValueError(
            f"found a {class_map_HW.dtype} class map of shape {class_map_HW.shape}; expected uint8 or uint16 [H, W]"
        )
    counts = [np.zeros(num_classes, np.int64) for _ in range(3)]
    if not kernels.measure(kernels.as_input(class_map_HW), *counts):
        raise MaskError(
            f"found class {class_map_HW.max()}, expected classes below {num_classes}: "
            "the model outputs more classes than its bundle names; export the bundle again"
        )
    return FrameMask(
        class_map_HW=class_map_HW,
        pixels_K=counts[0],
        components_K=counts[1],
        largest_component_px_K=counts[2],
        mean_probability_K=np.full(num_classes, np.nan),
        confidence=np.nan,
        uncertain_share=np.nan,
        grid=None,
    )


@lru_cache(maxsize=64)  # images of a run have few sizes
def axis(size_px: int, cells: int, corners: Corners) -> "kernels.Axis":
    """Compute between which two samples every pixel falls, and how far along.

    Band b is between sample b-1 and sample b; the first and the last band have one sample only.
    Coordinates are float64, as in OpenCV with IPP (every x86 wheel). OpenCV without IPP rounds them to float32 first,
    which moves a weight by up to 3e-5 on a grid of 300 cells.
    """
    cells_per_px = cells / size_px
    position = (np.arange(size_px) + 0.5) * cells_per_px - 0.5
    if corners == "aligned":
        cells_per_px = (cells - 1) / max(size_px - 1, 1)
        position = np.arange(size_px) * cells_per_px
    before = np.floor(position)
    weight = (position - before).astype(np.float32)
    weight[(before < 0) | (before >= cells - 1)] = 0
    return kernels.Axis(np.clip(before + 1, 0, cells).astype(np.int32), weight, cells_per_px)
