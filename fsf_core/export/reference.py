"""The reference path from a model's output to the class map: plain arithmetic, in the memory of a few planes.

Shares no code with the kernels and the graphs that it is the reference for. Knows outputs, sizes and profiles.
"""

# K classes, H×W pixels or cells

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from fsf_core.model.bundle import Output
from fsf_core.model.preprocess import Profile, crop, place, uncrop
from fsf_core.options import Corners


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """The scores of an image's pixels, one class at a time: all of them would fill the memory.

    They are the class probabilities, or the logits where these are resized.
    """

    output_KHW: NDArray[np.float32]
    """The model's output: scores, or class ids 1HW."""
    height_px: int
    width_px: int
    profile: Profile
    output: Output
    """What the output means."""
    num_classes: int

    @cached_property
    def _cells(self) -> NDArray[np.float32]:
        """What is resized, on the network's grid, without padding, at its place in the image; class ids stay."""
        box = place(self.height_px, self.width_px, self.profile)
        inner_KHW = uncrop(crop(self.output_KHW, box, self.profile), box, self.profile)
        if self.output.kind != "logits" or self.output.resized == "logits":
            return inner_KHW
        cells_KHW = np.asarray(inner_KHW - inner_KHW.max(axis=0, keepdims=True), np.float32)
        np.exp(cells_KHW, out=cells_KHW)
        cells_KHW /= cells_KHW.sum(axis=0, keepdims=True)
        return cells_KHW

    @cached_property
    def _ids(self) -> NDArray[np.intp]:
        """Class ids of the pixels, by the nearest cell."""
        ids_HW = self._cells[0]
        rows, columns = (
            nearest_cells(size, cells, self.output.corners)
            for size, cells in zip((self.height_px, self.width_px), ids_HW.shape, strict=True)
        )
        return np.asarray(ids_HW[rows][:, columns], np.intp)

    def plane(self, class_id: int) -> NDArray[np.float32]:
        """Return the score of one class at every pixel: softmax, crop, resize; or 1 where its id is."""
        if self.output.kind == "class_map":
            return np.asarray(self._ids == class_id, np.float32)
        return resized(self._cells[class_id], self.height_px, self.width_px, self.output.corners)

    @cached_property
    def class_map(self) -> NDArray[np.intp]:
        """The class of every pixel: that of the largest score, the first of equal ones."""
        return self._decided[0]

    @cached_property
    def best(self) -> NDArray[np.float32]:
        """The score of that class; of the foreground, its distance from the threshold on either side of it."""
        return self._decided[1]

    @cached_property
    def _decided(self) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        if self.output.kind == "class_map":
            return self._ids, np.ones(self._ids.shape, np.float32)
        if self.output.is_binary:
            beyond_HW = self.plane(1) - np.float32(self._limit)
            return np.asarray(beyond_HW >= 0, np.intp), np.abs(beyond_HW)
        best_HW = self.plane(0)
        class_map_HW = np.zeros(best_HW.shape, np.intp)
        for class_id in range(1, self.num_classes):
            plane_HW = self.plane(class_id)
            class_map_HW[plane_HW > best_HW] = class_id
            np.maximum(best_HW, plane_HW, out=best_HW)
        return class_map_HW, best_HW

    @property
    def _limit(self) -> float:
        """The score of the foreground from which on a pixel is foreground."""
        threshold = self.output.threshold
        return math.log(threshold) - math.log1p(-threshold) if self.output.resized == "logits" else threshold

    def margins(self, class_map_HW: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return, at the pixels where another class map differs, by how much this one prefers its own class.

        That is a difference of probabilities; where logits are resized, the largest that theirs can make.
        """
        rows, columns = np.nonzero(self.class_map != class_map_HW)
        chosen = np.asarray(class_map_HW[rows, columns], np.intp)
        margins = self.best[rows, columns]
        if self.output.is_binary:
            margins = margins if self.output.resized == "logits" else 2 * margins
        else:
            for class_id in np.unique(chosen).tolist():
                at = chosen == class_id
                if class_id < self.num_classes:  # a class that does not exist has no probability
                    margins[at] -= self.plane(class_id)[rows[at], columns[at]]
        return np.tanh(margins / 2) if self.output.resized == "logits" else margins


def nearest_cells(size: int, cells: int, corners: Corners) -> NDArray[np.intp]:
    """Return the nearest cell of every pixel along one side: by centres, or by upper left corners in float32."""
    if corners == "asymmetric":
        scale = np.float32(cells) / np.float32(size)
        return np.asarray(np.minimum(np.floor(np.arange(size, dtype=np.float32) * scale), cells - 1), np.intp)
    return np.asarray(np.floor((np.arange(size) + 0.5) * (cells / size) + 1e-9), np.intp)


def resized(plane_hw: NDArray[np.float32], height_px: int, width_px: int, corners: Corners) -> NDArray[np.float32]:
    """Return a plane of scores at another size, bilinear."""
    if corners == "half-pixel":
        return np.asarray(cv2.resize(plane_hw, (width_px, height_px), interpolation=cv2.INTER_LINEAR), np.float32)
    for axis, size in enumerate((height_px, width_px)):
        cells = plane_hw.shape[axis]
        position = np.linspace(0, cells - 1, size) if size > 1 else np.zeros(1)
        before = np.minimum(position.astype(np.intp), max(cells - 2, 0))
        weight = np.float32(position - before).reshape((-1, 1) if axis == 0 else (1, -1))
        behind = np.minimum(before + 1, cells - 1)
        plane_hw = plane_hw.take(before, axis) * (1 - weight) + plane_hw.take(behind, axis) * weight
    return plane_hw


def tie_margin(output_absmax: float, output: Output, noise_share: float) -> float:
    """Return the difference of two probabilities up to which float rounding decides between their classes.

    Two classes change places where each of their logits is off by half of their difference. With every logit off by d,
    that takes a difference of 2d at most, and one of tanh(d) between the probabilities. Softmax and resize add the
    last digits of float32.

    Args:
        output_absmax: largest absolute value of the output.
        output: what the output means.
        noise_share: largest error of the output by rounding, as a share of output_absmax.
    """
    if output.kind == "class_map":
        return 0.0
    noise = noise_share * output_absmax
    return float(np.tanh(noise) if output.holds_logits else 2 * noise) + 1e-6
