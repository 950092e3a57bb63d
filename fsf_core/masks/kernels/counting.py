"""Two class maps counted against each other, and colours looked up, in one pass over the pixels.

A pixel is in the boundary band of its class if the square of 2d+1 pixels around it holds another value or leaves the
image: what erosion by a 3×3 square, d times, takes away. One row of run lengths and one column counter decide that, at
a cost that does not depend on d.
"""

# L label classes, P predicted classes, H×W pixels

from typing import Any

import numpy as np

from fsf_core.masks.kernels.compiling import compiled


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
    side_px = 2 * d + 1
    inside_l = np.empty(width_px, np.bool_)
    inside_p = np.empty(width_px, np.bool_)
    rows_l = np.zeros(width_px, np.int32)
    rows_p = np.zeros(width_px, np.int32)
    for y in range(height_px + d):
        if y < height_px:
            above = max(y - 1, 0)
            _find_inside(label_HW[y], d, inside_l)
            _find_inside(predicted_HW[y], d, inside_p)
            _extend_columns(label_HW[above], label_HW[y], inside_l, rows_l)
            _extend_columns(predicted_HW[above], predicted_HW[y], inside_p, rows_p)
        else:  # below the image is outside
            rows_l[:] = 0
            rows_p[:] = 0
        if y >= d:
            wrong = _count_row(label_HW[y - d], predicted_HW[y - d], rows_l, rows_p, side_px, cells_LP4, ignored_V)
            if wrong >= 0:
                return wrong
    return -1


@compiled
def _find_inside(row_W: Any, d: int, inside_W: Any) -> None:
    """Mark the pixels whose d neighbours to the left and to the right exist and hold their value."""
    width_px = row_W.size
    start = 0
    while start < width_px:
        end = start + 1
        while end < width_px and row_W[end] == row_W[start]:
            end += 1
        for x in range(start, min(start + d, end)):
            inside_W[x] = False
        for x in range(start + d, end - d):
            inside_W[x] = True
        for x in range(max(end - d, start), end):
            inside_W[x] = False
        start = end


@compiled
def _extend_columns(above_W: Any, row_W: Any, inside_W: Any, rows_W: Any) -> None:
    """Count the consecutive rows of one value, up to this one, in which each column is inside."""
    for x in range(row_W.size):
        if not inside_W[x]:
            rows_W[x] = 0
        elif row_W[x] == above_W[x]:
            rows_W[x] += 1
        else:
            rows_W[x] = 1


@compiled
def _count_row(
    label_W: Any, predicted_W: Any, rows_l: Any, rows_p: Any, side_px: int, cells_LP4: Any, ignored_V: Any
) -> Any:
    """Count one row, pixels of one cell at a time; a column is interior where its last `side_px` rows were inside."""
    width_px = label_W.size
    start = 0
    while start < width_px:
        label, predicted = label_W[start], predicted_W[start]
        end = start
        in_l = in_p = in_both = 0
        while end < width_px and label_W[end] == label and predicted_W[end] == predicted:
            band_l = rows_l[end] < side_px
            band_p = rows_p[end] < side_px
            in_l += band_l
            in_p += band_p
            in_both += band_l and band_p
            end += 1
        if label >= cells_LP4.shape[0]:
            ignored_V[label] += end - start
        elif predicted >= cells_LP4.shape[1]:
            return np.int64(predicted)
        else:
            cell = cells_LP4[label, predicted]
            cell[0] += end - start
            cell[1] += in_l
            cell[2] += in_p
            cell[3] += in_both
        start = end
    return -1


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
