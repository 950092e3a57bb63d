"""Connected regions of a class map, such as defects to be counted. Knows no class names, no file and no video."""

# H×W pixels, h×w cells of the network's grid, R regions

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fsf_core.masks import kernels
from fsf_core.masks.class_map import FrameMask, GridWinners, nearest_cells


@dataclass(frozen=True, kw_only=True, slots=True)
class Regions:
    """The regions of one class map, by class, then by their first pixel in raster order."""

    class_id_R: NDArray[np.int32]
    pixels_R: NDArray[np.int64]
    top_px_R: NDArray[np.int32]
    """First row of the bounding box."""
    left_px_R: NDArray[np.int32]
    height_px_R: NDArray[np.int32]
    width_px_R: NDArray[np.int32]
    centroid_row_R: NDArray[np.float64]
    """Mean row of the pixels."""
    centroid_column_R: NDArray[np.float64]
    mean_probability_R: NDArray[np.float64]
    """Mean of the probability of the class in the nearest cell of the grid, over the pixels whose nearest cell the
    class wins; NaN where there are none, and where the model returned a class map."""
    touches_border_R: NDArray[np.bool_]
    """Whether a pixel is in the first or last row or column of the class map."""

    def __len__(self) -> int:
        """Return the number of regions."""
        return len(self.pixels_R)


def find_regions(mask: FrameMask, *, min_px: int, grid: GridWinners | None = None) -> Regions:
    """Find the connected regions of all classes but 0; pixels that touch at a corner are connected.

    Takes memory for the regions found, 300 bytes each at most, and for a row of the map.

    Args:
        mask: a class map and its statistics.
        min_px: regions of fewer pixels are left out.
        grid: winners on the network's grid; None for those of the mask, if it has any.
    """
    height_px, width_px = mask.class_map_HW.shape
    # As many as can be of each class: that many there are, that many have room, and none is above the largest.
    most_K = np.minimum(mask.components_K, mask.pixels_K // min_px) * (mask.largest_component_px_K >= min_px)
    most = int(most_K[1:].sum())
    cells = _cells(grid or mask.grid, height_px, width_px)
    found = kernels.find_regions(kernels.as_input(mask.class_map_HW), cells, min_px, most)
    return as_regions(found, height_px, width_px)


def as_regions(found: "kernels.Found", height_px: int, width_px: int) -> Regions:
    """Return regions of a class map of this size as the kernel found them, in the same order."""
    bottom_px, right_px = found.bottom + 1, found.right + 1
    on_border = (found.top == 0) | (found.left == 0) | (bottom_px == height_px) | (right_px == width_px)
    return Regions(
        class_id_R=found.class_id.astype(np.int32),
        pixels_R=found.pixels,
        top_px_R=found.top.astype(np.int32),
        left_px_R=found.left.astype(np.int32),
        height_px_R=(bottom_px - found.top).astype(np.int32),
        width_px_R=(right_px - found.left).astype(np.int32),
        centroid_row_R=found.rows / found.pixels,
        centroid_column_R=found.columns / found.pixels,
        mean_probability_R=found.won / np.where(found.won_px > 0, found.won_px, np.nan),
        touches_border_R=on_border,
    )


def _cells(grid: GridWinners | None, height_px: int, width_px: int) -> "kernels.Cells":
    """Return the grid as the kernel takes it."""
    grid = grid or GridWinners(winner_hw=np.empty((0, 0), np.uint16), probability_hw=np.empty((0, 0), np.float32))
    rows, columns = grid.winner_hw.shape
    column_W = nearest_cells(width_px, columns)
    start_w = np.searchsorted(column_W, np.arange(columns + 1))
    return kernels.Cells(
        kernels.as_input(grid.winner_hw),
        kernels.as_input(grid.probability_hw),
        kernels.as_input(nearest_cells(height_px, rows)),
        kernels.as_input(column_W),
        kernels.as_input(start_w),
    )
