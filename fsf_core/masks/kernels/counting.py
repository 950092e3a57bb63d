"""Two class maps counted against each other, and colours looked up, in one pass over the pixels.

A pixel is in the boundary band of its class if the square of 2d+1 pixels around it holds another value or leaves the
image: what erosion by a 3×3 square, d times, takes away. One row of run lengths and one column counter decide that, at
a cost that does not depend on d.
"""

# L label classes, P predicted classes, H×W pixels

from typing import Any

import numpy as np

from fsf_core.machine_code.compiling import compiled, inner


@compiled
def count_cells(label_HW: Any, predicted_HW: Any, d: int, cells_LP4: Any, ignored_V: Any) -> Any:
    """Count pixels and boundary pixels of each pair of classes.

    Args:
        label_HW: values of L or above are ignored.
        predicted_HW: classes below P where the label is not ignored.
        d: width of the boundary band.
        cells_LP4: int64, added to: pixels, those in the label's band, in the prediction's, in both.
        ignored_V: int64, added to: pixels by ignored value.

    Returns:
        -1, or the first predicted value that is no class, with incomplete counts.
    """
    height_px, width_px = label_HW.shape
    changes_W = np.zeros((width_px + 7) // 8 * 8, np.uint8)
    inside_W = np.empty(width_px, np.int32)
    rows_2W = np.zeros((2, width_px), np.int32)
    for y in range(height_px + d):
        if y < height_px:
            above = max(y - 1, 0)
            _find_inside(label_HW[y], d, changes_W, inside_W)
            _extend_columns(label_HW[above], label_HW[y], inside_W, rows_2W[0])
            _find_inside(predicted_HW[y], d, changes_W, inside_W)
            _extend_columns(predicted_HW[above], predicted_HW[y], inside_W, rows_2W[1])
        else:  # below the image is outside
            rows_2W[:] = 0
        if y >= d:
            wrong = _count_row(
                label_HW[y - d], predicted_HW[y - d], rows_2W, 2 * d + 1, changes_W, cells_LP4, ignored_V
            )
            if wrong >= 0:
                return wrong
    return -1


@inner
def _find_inside(row_W: Any, d: int, changes_W: Any, inside_W: Any) -> None:
    """Mark by 1 the pixels whose d neighbours to the left and to the right exist and hold their value."""
    width_px = row_W.size
    for x in range(width_px - 1):
        changes_W[x] = row_W[x] != row_W[x + 1]
    changes_W[width_px - 1] = 1
    words = changes_W.view(np.uint64)
    inside_W[:] = 0
    start = 0
    for w in range(words.size):
        if words[w] != 0:
            for x in range(8 * w, min(8 * w + 8, width_px)):
                if changes_W[x] != 0:
                    inside_W[start + d : max(x + 1 - d, start + d)] = 1
                    start = x + 1


@inner
def _extend_columns(above_W: Any, row_W: Any, inside_W: Any, rows_W: Any) -> None:
    """Count the consecutive rows of one value, up to this one, in which each column is inside."""
    for x in range(row_W.size):
        rows_W[x] = (rows_W[x] * np.int32(row_W[x] == above_W[x]) + np.int32(1)) * inside_W[x]


@inner
def _count_row(
    label_W: Any, predicted_W: Any, rows_2W: Any, side_px: int, changes_W: Any, cells_LP4: Any, ignored_V: Any
) -> Any:
    """Count one row, a run of one cell at a time; a column is interior where its last `side_px` rows were inside."""
    width_px = label_W.size
    for x in range(width_px - 1):
        changes_W[x] = (label_W[x] != label_W[x + 1]) | (predicted_W[x] != predicted_W[x + 1])
    changes_W[width_px - 1] = 1
    words = changes_W.view(np.uint64)
    start = 0
    for w in range(words.size):
        if words[w] != 0:
            for x in range(8 * w, min(8 * w + 8, width_px)):
                if changes_W[x] != 0:
                    label, predicted = label_W[x], predicted_W[x]
                    if label >= cells_LP4.shape[0]:
                        ignored_V[label] += x + 1 - start
                    elif predicted >= cells_LP4.shape[1]:
                        return np.int64(predicted)
                    else:
                        _count_run(rows_2W[:, start : x + 1], side_px, cells_LP4[label, predicted])
                    start = x + 1
    return -1


@inner
def _count_run(rows_2W: Any, side_px: int, counts_4: Any) -> None:
    """Count the pixels of a run of one cell."""
    side = np.int32(side_px)
    in_label, in_predicted, in_both = np.int32(0), np.int32(0), np.int32(0)
    for x in range(rows_2W.shape[1]):
        band_label = np.int32(rows_2W[0, x] < side)
        band_predicted = np.int32(rows_2W[1, x] < side)
        in_label += band_label
        in_predicted += band_predicted
        in_both += band_label & band_predicted
    counts_4[0] += rows_2W.shape[1]
    counts_4[1] += in_label
    counts_4[2] += in_predicted
    counts_4[3] += in_both


@compiled
def look_up_colours(image_HWC: Any, colours_N: Any, values_N: Any, values_HW: Any) -> Any:
    """Replace each pixel by the value of its colour.

    Args:
        image_HWC: uint8, the first three channels count.
        colours_N: uint32 codes, first channel highest, ascending.
        values_N: value of each.
        values_HW: written.

    Returns:
        -1, or the index (y·W + x) of the first pixel whose colour is not listed.
    """
    height_px, width_px = values_HW.shape
    last = np.uint32(0xFFFFFFFF)
    value = values_N[0]
    for y in range(height_px):
        for x in range(width_px):
            colour = (
                np.uint32(image_HWC[y, x, 0]) << np.uint32(16)
                | np.uint32(image_HWC[y, x, 1]) << np.uint32(8)
                | np.uint32(image_HWC[y, x, 2])
            )
            if colour != last:
                at = np.searchsorted(colours_N, colour)
                if at == colours_N.size or colours_N[at] != colour:
                    return y * width_px + x
                last = colour
                value = values_N[at]
            values_HW[y, x] = value
    return -1
