"""Class scores of overlapping windows added up at the size of the picture. Knows no windows and no files."""

# K classes, H×W pixels, h×w cells of the network's grid

from typing import Any

import numpy as np

from fsf_core.machine_code.compiling import compiled


@compiled
def add_scores(
    scores_Khw: Any, band_H: Any, between_H: Any, band_W: Any, between_W: Any, weight_H: Any, weight_W: Any,
    sums_KHW: Any,
) -> None:  # fmt: skip
    """Resize scores to some rows and columns of a window, and add them by weight.

    Args:
        scores_Khw: float32, on the grid of the window.
        band_H: int32, for each row of pixels the row of the grid below it, as in `Axis`.
        between_H: float32, how far along it is from the row of the grid above.
        band_W: the same of columns.
        between_W: the same of columns.
        weight_H: float32, weight of each row.
        weight_W: float32, weight of each column.
        sums_KHW: float32, added to.
    """
    classes, height, width = scores_Khw.shape
    columns = band_W.size
    left = np.empty(columns, np.int32)
    right = np.empty(columns, np.int32)
    for x in range(columns):
        left[x] = max(band_W[x] - 1, 0)
        right[x] = min(band_W[x], width - 1)
    first = left[0]
    end = right[columns - 1] + 1
    line = np.empty(width, np.float32)
    for k in range(classes):
        for y in range(band_H.size):
            upper = scores_Khw[k, max(band_H[y] - 1, 0)]
            lower = scores_Khw[k, min(band_H[y], height - 1)]
            for x in range(first, end):
                line[x] = upper[x] + (lower[x] - upper[x]) * between_H[y]
            sums = sums_KHW[k, y]
            for x in range(columns):
                value = line[left[x]] + (line[right[x]] - line[left[x]]) * between_W[x]
                sums[x] += value * (weight_H[y] * weight_W[x])


@compiled
def write_winners(sums_KHW: Any, class_map_HW: Any) -> None:
    """Write the class of the largest sum of every pixel; the lowest class wins a tie."""
    classes, height, width = sums_KHW.shape
    best = np.empty(width, np.float32)
    winner = np.empty(width, np.int32)
    for y in range(height):
        plane = sums_KHW[0, y]
        for x in range(width):
            best[x] = plane[x]
            winner[x] = 0
        for k in range(1, classes):
            plane = sums_KHW[k, y]
            for x in range(width):
                winner[x] = k if plane[x] > best[x] else winner[x]
                best[x] = max(best[x], plane[x])
        row = class_map_HW[y]
        for x in range(width):
            row[x] = winner[x]
