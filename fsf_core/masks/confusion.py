"""A label counted against a class map, cell by cell. Knows no files and no figures made of the counts."""

# H×W pixels, K classes, n cells

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fsf_core.errors import LabelError
from fsf_core.masks import kernels
from fsf_core.masks.class_map import ClassMap, class_map_dtype

BAND_SHARE = 0.02
"""Width of the boundary band as a share of the image's diagonal: Boundary IoU (Cheng et al., CVPR 2021)."""

DENSE_CLASSES = 512
"""Classes up to which every pair has a counter: 8 MB at most."""

COUNTS = ("pixels", "label_boundary_px", "predicted_boundary_px", "shared_boundary_px")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cells:
    """Counts per label class and predicted class; only pairs that occur, ordered by both."""

    label_class_id: NDArray[np.int32]
    predicted_class_id: NDArray[np.int32]
    pixels: NDArray[np.int64]
    label_boundary_px: NDArray[np.int64]
    """Of those pixels, the ones within the band inside the label's region of their class."""
    predicted_boundary_px: NDArray[np.int64]
    """Of those pixels, the ones within the band inside the predicted region of their class."""
    shared_boundary_px: NDArray[np.int64]
    """Of those pixels, the ones within both bands."""
    ignored_px_by_value: dict[int, int] = field(default_factory=dict)
    """Pixels whose label is no class, by the label's value."""

    @property
    def ignored_px(self) -> int:
        """Pixels whose label is no class."""
        return sum(self.ignored_px_by_value.values())

    @property
    def counted_px(self) -> int:
        """Pixels whose label is a class."""
        return int(self.pixels.sum())

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the counts by the names of their columns in the table confusion."""
        return {name: getattr(self, name) for name in ("label_class_id", "predicted_class_id", *COUNTS)}


def count(label_HW: ClassMap, class_map_HW: ClassMap, num_classes: int) -> Cells:
    """Count pixels and boundary pixels of each pair of label class and predicted class.

    The boundary band of a class holds the pixels of its region within d pixels of another value or of the image's
    border, where d is 2 % of the diagonal, rounded half to even as in the authors' code, and at least 1. An ignored
    value ends a region like any other.

    Args:
        label_HW: values of num_classes and above are ignored.
        class_map_HW: classes below num_classes wherever the label is not ignored.
        num_classes: classes of the model.

    Raises:
        LabelError: the sizes differ, or the class map holds a value that is no class.
    """
    if label_HW.shape != class_map_HW.shape:
        found, expected = (f"{width}×{height}" for height, width in (label_HW.shape, class_map_HW.shape))
        raise LabelError(
            f"the label has {found} pixels, expected the {expected} of its mask; export the label at the size of the "
            "image, or score with masks of that size"
        )
    dtype = class_map_dtype(num_classes)
    highest = int(np.iinfo(dtype).max)
    label, predicted = (_narrowed(each, dtype) for each in (label_HW, class_map_HW))
    if num_classes > DENSE_CLASSES:
        return _count_sparse(label, predicted, num_classes)
    ignored_V = np.zeros(np.iinfo(dtype).max + 1, np.int64)
    cells_LP4 = np.zeros((num_classes, num_classes, len(COUNTS)), np.int64)
    wrong = kernels.count_cells(label, predicted, boundary_px(*label.shape), cells_LP4, ignored_V)
    if wrong >= 0:
        raise _no_class(wrong, num_classes)
    found_n, found_m = np.nonzero(cells_LP4[..., 0])
    if label_HW.dtype.itemsize > dtype.itemsize:  # values above the highest were counted as that
        above_V = np.bincount(label_HW[label_HW > highest], minlength=highest + 1)
        ignored_V = np.pad(ignored_V, (0, len(above_V) - len(ignored_V))) + above_V
        ignored_V[highest] -= above_V.sum()
    return _cells(found_n, found_m, cells_LP4[found_n, found_m].T, ignored_V)


def _narrowed(map_HW: ClassMap, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a map in a type whose highest value is no class; what is above becomes that."""
    if map_HW.dtype.itemsize > dtype.itemsize:
        map_HW = np.minimum(map_HW, np.iinfo(dtype).max)
    return kernels.as_input(map_HW.astype(dtype, copy=False))


def _count_sparse(label_HW: ClassMap, predicted_HW: ClassMap, num_classes: int) -> Cells:
    """Count as `count` does, in memory that grows with the pixels instead of the pairs of classes."""
    counted_HW = label_HW < num_classes
    label_m, predicted_m = label_HW[counted_HW], predicted_HW[counted_HW]
    if predicted_m.max(initial=0) >= num_classes:
        raise _no_class(int(predicted_m.max()), num_classes)
    in_label_m, in_predicted_m = (_band(each)[counted_HW] for each in (label_HW, predicted_HW))
    codes, cell_m = np.unique(label_m.astype(np.int64) << 16 | predicted_m, return_inverse=True)
    bands = (np.ones_like(in_label_m), in_label_m, in_predicted_m, in_label_m & in_predicted_m)
    counts_4n = np.stack([np.bincount(cell_m[band_m], minlength=len(codes)) for band_m in bands])
    return _cells(codes >> 16, codes & 0xFFFF, counts_4n, np.bincount(label_HW[~counted_HW]))


def _band(map_HW: ClassMap) -> NDArray[np.bool_]:
    """Return which pixels are in the boundary band of their region."""
    d = boundary_px(*map_HW.shape)
    square = np.ones((2 * d + 1, 2 * d + 1), np.uint8)
    band_HW: NDArray[np.bool_] = np.asarray(cv2.erode(map_HW, square)) != np.asarray(cv2.dilate(map_HW, square))
    band_HW[:d] = band_HW[-d:] = True
    band_HW[:, :d] = band_HW[:, -d:] = True
    return band_HW


def _cells(
    labels_n: NDArray[Any], predicted_n: NDArray[Any], counts_4n: NDArray[Any], ignored_V: NDArray[Any]
) -> Cells:
    return Cells(
        label_class_id=labels_n.astype(np.int32),
        predicted_class_id=predicted_n.astype(np.int32),
        **dict(zip(COUNTS, counts_4n, strict=True)),
        ignored_px_by_value={int(value): int(ignored_V[value]) for value in np.flatnonzero(ignored_V)},
    )


def _no_class(value: int, num_classes: int) -> LabelError:
    return LabelError(
        f"the mask holds the value {value} where its label has a class, expected classes below {num_classes}; name "
        "every class that it holds"
    )


def merge(parts: Iterable[Cells]) -> Cells:
    """Add up the counts of several frames."""
    sums: dict[tuple[int, int], NDArray[np.int64]] = {}
    ignored: Counter[int] = Counter()
    for cells in parts:
        ignored.update(cells.ignored_px_by_value)
        counts_n4 = np.stack([getattr(cells, name) for name in COUNTS], axis=1)
        pairs = zip(cells.label_class_id.tolist(), cells.predicted_class_id.tolist(), strict=True)
        for pair, counts_4 in zip(pairs, counts_n4, strict=True):
            sums[pair] = sums[pair] + counts_4 if pair in sums else counts_4
    pairs_n = sorted(sums)
    ids_2n = np.asarray(pairs_n, np.int32).reshape(-1, 2).T
    counts_n4 = np.asarray([sums[pair] for pair in pairs_n], np.int64).reshape(-1, len(COUNTS))
    return Cells(
        label_class_id=ids_2n[0],
        predicted_class_id=ids_2n[1],
        **dict(zip(COUNTS, counts_n4.T, strict=True)),
        ignored_px_by_value=dict(sorted(ignored.items())),
    )


def boundary_px(height_px: int, width_px: int) -> int:
    """Return the width of the boundary band of an image."""
    return max(1, round(BAND_SHARE * math.hypot(height_px, width_px)))
