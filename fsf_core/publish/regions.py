"""Connected regions of a class map, each in its box, and their outlines. Knows arrays only."""

# H×W pixels of a frame, h×w pixels of a region's box

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fsf_core.masks import ClassMap
from fsf_core.publish.run_lengths import Bools

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Region:
    """Pixels of one class that touch, at corners too."""

    class_id: int
    pixels: int
    top_px: int
    left_px: int
    region_hw: Bools
    """Which pixels of its box belong to it."""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, width and height in pixels."""
        height, width = self.region_hw.shape
        return self.left_px, self.top_px, width, height


def find_regions(class_map_HW: ClassMap) -> Iterator[Region]:
    """Yield the regions of every class but 0: class by class, and from the top of the frame down."""
    present = np.bincount(class_map_HW.ravel())
    for class_id in np.flatnonzero(present[1:]) + 1:
        top, left, box_HW = _box_of(class_map_HW == class_id)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(box_HW.view(np.uint8), connectivity=8)
        order = 1 + np.lexsort((stats[1:, cv2.CC_STAT_LEFT], stats[1:, cv2.CC_STAT_TOP]))
        for label in order.tolist():
            x, y, width, height, pixels = stats[label].tolist()
            yield Region(
                class_id=int(class_id),
                pixels=pixels,
                top_px=top + y,
                left_px=left + x,
                region_hw=labels[y : y + height, x : x + width] == label,
            )


def outlines(region: Region) -> list[list[int]]:
    """Return the closed lines between a region and the rest, along the edges of pixels.

    Returns:
        Lines of x and y in turn, in pixels of the frame; 0, 0 is the upper left corner of the first pixel. The first
        one encloses the region, each further one a hole.
    """
    corners, by_row, by_column = _corners(region.region_hw)
    xs, ys = (corners[:, 1] + region.left_px).tolist(), (corners[:, 0] + region.top_px).tolist()
    steps = (_partners(by_row), _partners(by_column))
    unseen = dict.fromkeys(range(len(corners)))
    lines = []
    while unseen:
        start = at = next(iter(unseen))
        line: list[int] = []
        while not line or at != start:
            for partner in steps:
                del unseen[at]
                line += (xs[at], ys[at])
                at = partner[at]
        lines.append(line)
    return lines


def _box_of(mask_HW: Bools) -> tuple[int, int, Bools]:
    """Return top, left and the content of the smallest box around what is set."""
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return top, left, np.ascontiguousarray(mask_HW[top : rows[-1] + 1, left : columns[-1] + 1])


def _corners(region_hw: Bools) -> tuple[Ints, Ints, Ints]:
    """Return the points, as row and column, at which the border of a region turns, and their order in rows and columns.

    In each row the first and the second are the ends of an edge, the third and the fourth, and so on; so in columns. A
    point where two pixels touch at their corners is there twice. Its order in the column is such that the line goes
    around both pixels at once, because they are connected.
    """
    padded = np.zeros(np.add(region_hw.shape, 2), np.int8)
    padded[1:-1, 1:-1] = region_hw
    before, after = padded[:-1, :-1] + padded[1:, 1:], padded[:-1, 1:] + padded[1:, :-1]  # the two diagonals
    touching = ((before == 2) & (after == 0)) | ((before == 0) & (after == 2))  # noqa: PLR2004 - both pixels
    points = np.argwhere(((before + after) % 2 == 1) | touching)
    at = tuple(points.T)
    twice = touching[at]
    corners = np.repeat(points, 1 + twice, axis=0)
    falling = np.repeat(before[at] == 2, 1 + twice)  # noqa: PLR2004 - both pixels
    number = np.arange(len(corners))
    # Of a point that is there twice, the first ends the edge to its left.
    return corners, number, np.lexsort((np.where(falling, -number, number), corners[:, 0], corners[:, 1]))


def _partners(order: Ints) -> list[int]:
    """Return for each corner the other end of its edge."""
    found = np.empty(len(order), np.int64)
    found[order[0::2]], found[order[1::2]] = order[1::2], order[0::2]
    partners: list[int] = found.tolist()
    return partners
