"""Overlapping windows of a picture to its class map, row block by row block. Knows no model and no files.

Where one window alone counts, the picture has that window's own mask, pixel for pixel. Where several do, their scores,
resized as the contract resizes them, are added by weight, and the largest sum wins. Memory grows with the width of the
picture and the height of a window: the sums of the rows that two rows of windows share, and the masks of one.
"""

# K classes, H×W pixels of the picture, h×w cells of a window's grid

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fsf_core.masks import kernels
from fsf_core.masks.class_map import ClassMap, axis, class_map_dtype
from fsf_core.masks.windows import Side, Span
from fsf_core.options import Corners


class WindowBlend:
    """The class map of one picture, from the masks and scores of its windows."""

    def __init__(self, rows: Side, columns: Side, *, num_classes: int, corners: Corners) -> None:
        """Begin with the first rows.

        Args:
            rows: windows from top to bottom.
            columns: windows from left to right.
            num_classes: of the model.
            corners: how the resize of scores places its samples.
        """
        self._rows, self._columns = rows, columns
        self._num_classes, self._corners = num_classes, corners
        self._maps: dict[int, ClassMap] = {}
        self._sums: dict[tuple[int, int], NDArray[np.float32]] = {}
        self._axes: dict[tuple[int, ...], tuple[kernels.Axis, kernels.Axis]] = {}

    def add(
        self, row: int, column: int, class_map_HW: ClassMap, scores_Khw: NDArray[np.float32]
    ) -> Iterator[tuple[int, ClassMap]]:
        """Add a window: those of a row from left to right, then those of the next row.

        Args:
            row: number of the row of windows.
            column: number of the window in it.
            class_map_HW: its mask.
            scores_Khw: what the mask was drawn from.

        Yields:
            The first row and the class map of every block of rows that is now complete, from top to bottom, in the
            whole width.
        """
        for place, span in self._rows.spans_of(row):
            for at, across in self._columns.spans_of(column):
                self._add_part(row, column, (place, at), span, across, class_map_HW, scores_Khw)
        if column + 1 == len(self._columns.starts):
            for place, span in self._rows.spans_of(row):
                if span.last == row:
                    yield span.start, self._maps.pop(place)

    def _axes_of(self, grid_hw: tuple[int, ...]) -> tuple["kernels.Axis", "kernels.Axis"]:
        """Return between which cells of the grid the rows and columns of a window are."""
        if grid_hw not in self._axes:
            sides = zip((self._rows.window_px, self._columns.window_px), grid_hw, strict=True)
            down, across = (axis(window_px, cells, self._corners) for window_px, cells in sides)
            self._axes[grid_hw] = (down, across)
        return self._axes[grid_hw]

    def _add_part(
        self,
        row: int,
        column: int,
        place: tuple[int, int],
        down: Span,
        across: Span,
        class_map_HW: ClassMap,
        scores_Khw: NDArray[np.float32],
    ) -> None:
        """Add the part of a window that is in a span of rows and a span of columns."""
        rows = slice(down.start - self._rows.starts[row], down.stop - self._rows.starts[row])
        columns = slice(across.start - self._columns.starts[column], across.stop - self._columns.starts[column])
        size = (down.stop - down.start, across.stop - across.start)
        if place[0] not in self._maps:
            whole = (size[0], self._columns.size_px)
            self._maps[place[0]] = np.empty(whole, class_map_dtype(self._num_classes))
        target_HW = self._maps[place[0]][:, across.start : across.stop]
        if not (down.is_shared or across.is_shared):
            target_HW[:] = class_map_HW[rows, columns]
            return
        if place not in self._sums:
            self._sums[place] = np.zeros((self._num_classes, *size), np.float32)
        down_axis, across_axis = self._axes_of(scores_Khw.shape[1:])
        kernels.add_scores(
            kernels.as_input(scores_Khw),
            kernels.as_input(down_axis.band[rows]),
            kernels.as_input(down_axis.weight[rows]),
            kernels.as_input(across_axis.band[columns]),
            kernels.as_input(across_axis.weight[columns]),
            kernels.as_input(self._rows.weights[row][rows]),
            kernels.as_input(self._columns.weights[column][columns]),
            self._sums[place],
        )
        if row == down.last and column == across.last:
            winners_HW = np.empty(size, target_HW.dtype)
            kernels.write_winners(self._sums.pop(place), winners_HW)
            target_HW[:] = winners_HW
