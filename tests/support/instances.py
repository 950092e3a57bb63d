"""Ultralytics' steps from the outputs of an instance model to a class map, in NumPy, written from its definition."""

# B boxes, H×W pixels of the input

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def suppressed(
    boxes: Floats, num_classes: int, *, confidence: float = 0.25, iou: float = 0.7
) -> tuple[Floats, Floats, NDArray[np.intp], Floats]:
    """Return corners, confidence, class and coefficients of the boxes that non-maximum suppression leaves, best first.

    Args:
        boxes: centre, sides, scores and coefficients: [1, 4 + classes + coefficients, B].
        num_classes: number of classes.
        confidence: score that a box has to exceed.
        iou: overlap above which the less confident of two boxes of a class goes.
    """
    rows = boxes[0].T
    scores = rows[:, 4 : 4 + num_classes]
    best, score = scores.argmax(axis=1), scores.max(axis=1)
    corners = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], axis=1)
    left = [at for at in np.argsort(-score, kind="stable") if score[at] > confidence]
    kept = []
    while left:
        first, *left = left
        kept.append(first)
        left = [at for at in left if best[at] != best[first] or _overlap(corners[at], corners[first]) <= iou]
    kept = kept[:300]
    return corners[kept], score[kept], best[kept], rows[kept, 4 + num_classes :]


def _overlap(one: Floats, other: Floats) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = np.prod(np.maximum(sides, 0))
    return float(common / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - common))


def painted(
    corners: Floats, classes: NDArray[np.intp], coefficients: Floats, prototypes: Floats, size: tuple[int, int]
) -> NDArray[np.int32]:
    """Return the class map [H, W]: 0 is background, and the most confident instance, painted last, is on top."""
    height_px, width_px = size
    result = np.zeros(size, np.int32)
    rows, columns = np.mgrid[0:height_px, 0:width_px]
    instances = zip(corners, classes, coefficients, strict=True)
    for (x1, y1, x2, y2), number, weights in reversed(list(instances)):
        mask = np.tensordot(weights, prototypes[0], axes=1)
        inside = cv2.resize(mask, (width_px, height_px), interpolation=cv2.INTER_LINEAR) > 0
        result[inside & (columns >= x1) & (columns < x2) & (rows >= y1) & (rows < y2)] = number + 1
    return result
