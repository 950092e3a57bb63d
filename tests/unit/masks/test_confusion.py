import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsf_core.errors import LabelError
from fsf_core.masks import confusion
from fsf_core.masks.confusion import COUNTS, count, merge


def boundary(mask, ratio=0.02):
    """The boundary region of a binary mask, from the definition of Cheng et al. 2021: G minus its erosion."""
    height, width = mask.shape
    distance = max(1, round(ratio * math.sqrt(height**2 + width**2)))
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=distance)
    return mask & ~eroded[1 : height + 1, 1 : width + 1].astype(bool)


def expected_cells(label, predicted, classes):
    valid = label < classes
    found = {}
    bands_l = {c: boundary(label == c) for c in range(classes)}
    bands_p = {c: boundary(predicted == c) for c in range(classes)}
    for left in range(classes):
        for right in range(classes):
            cell = valid & (label == left) & (predicted == right)
            if cell.any():
                in_l, in_p = cell & bands_l[left], cell & bands_p[right]
                found[left, right] = (cell.sum(), in_l.sum(), in_p.sum(), (in_l & in_p).sum())
    return found


def as_dict(cells):
    pairs = zip(cells.label_class_id.tolist(), cells.predicted_class_id.tolist(), strict=True)
    return dict(zip(pairs, zip(*(getattr(cells, name).tolist() for name in COUNTS), strict=True), strict=True))


def blocks(rng, height, width, classes, size):
    """Regions of `size` pixels, so that some pixels are deep inside."""
    small = rng.integers(0, classes, (-(-height // size), -(-width // size)))
    return np.repeat(np.repeat(small, size, 0), size, 1)[:height, :width]


@settings(max_examples=150, deadline=None)
@given(
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    classes=st.integers(1, 6),
    sizes=st.tuples(st.sampled_from([1, 3, 17, 60, 200]), st.sampled_from([1, 3, 17, 60, 200])),
    ignored=st.sampled_from([0.0, 0.1, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_cells_equal_those_of_the_definition(height, width, classes, sizes, ignored, seed):
    rng = np.random.default_rng(seed)
    label = blocks(rng, height, width, classes, sizes[0]).astype(np.uint8)
    predicted = blocks(rng, height, width, classes, sizes[1]).astype(np.uint8)
    label[blocks(rng, height, width, 100, sizes[0]) < 100 * ignored] = 255
    cells = count(label, predicted, classes)
    assert as_dict(cells) == expected_cells(label, predicted, classes)
    assert cells.ignored_px == (label >= classes).sum()
    assert cells.counted_px + cells.ignored_px == label.size


@pytest.mark.parametrize("shape", [(3, 700), (700, 3), (200, 300), (1, 1)])
def test_boundary_iou_of_each_class_equals_the_reference(shape):
    rng = np.random.default_rng(1)
    label, predicted = (blocks(rng, *shape, 3, 45).astype(np.uint8) for _ in range(2))
    cells = as_dict(count(label, predicted, 3))
    for c in range(3):
        in_l, in_p = boundary(label == c), boundary(predicted == c)
        shared = cells.get((c, c), (0, 0, 0, 0))[3]
        union = sum(v[1] for (left, _), v in cells.items() if left == c)
        union += sum(v[2] for (_, right), v in cells.items() if right == c) - shared
        assert (shared, union) == ((in_l & in_p).sum(), (in_l | in_p).sum())


@pytest.mark.parametrize("classes", [300, 600, 65536])
def test_many_classes_are_counted(classes):
    rng = np.random.default_rng(2)
    label, predicted = (rng.integers(0, classes, (60, 80)).astype(np.uint16) for _ in range(2))
    label[:5] = 65535
    cells = count(label, predicted, classes)
    valid = label < classes
    pairs, pixels = np.unique(np.stack([label[valid], predicted[valid]], 1), axis=0, return_counts=True)
    assert np.array_equal(np.stack([cells.label_class_id, cells.predicted_class_id], 1), pairs)
    assert np.array_equal(cells.pixels, pixels)
    assert cells.ignored_px_by_value == ({} if classes == 65536 else {65535: 400})


def test_values_that_are_no_class_are_ignored_and_counted_by_value():
    label = np.array([[0, 1, 7, 255, 255]], np.uint8)
    cells = count(label, np.zeros_like(label), 2)
    assert as_dict(cells).keys() == {(0, 0), (1, 0)}
    assert cells.ignored_px_by_value == {7: 1, 255: 2}


def test_values_above_255_are_counted_by_value_and_are_no_class():
    label = np.array([[0, 1, 257, 24001, 255, 256]], np.uint16)
    cells = count(label, np.zeros(label.shape, np.uint8), 2)
    assert as_dict(cells).keys() == {(0, 0), (1, 0)}
    assert cells.ignored_px_by_value == {255: 1, 256: 1, 257: 1, 24001: 1}
    with pytest.raises(LabelError, match="expected classes below 2"):
        count(np.zeros(label.shape, np.uint8), label, 2)
    with pytest.raises(LabelError, match="expected classes below 2"):
        count(np.zeros((1, 1), np.uint8), np.array([[256]], np.uint16), 2)


def test_a_label_of_another_size_is_refused_even_with_as_many_pixels():
    with pytest.raises(LabelError, match=r"the label has 2×8 pixels, expected the 4×4 of its mask"):
        count(np.zeros((8, 2), np.uint8), np.zeros((4, 4), np.uint8), 2)


@pytest.mark.parametrize("classes", [2, 600])
def test_a_predicted_value_that_is_no_class_is_refused_unless_the_label_is_ignored_there(classes):
    label, predicted = np.zeros((2, 3), np.uint16), np.zeros((2, 3), np.uint16)
    predicted[1, 2] = 999
    label[1, 2] = 1000
    assert count(label, predicted, classes).counted_px == 5
    label[1, 2] = 0
    with pytest.raises(LabelError, match="expected classes below"):
        count(label, predicted, classes)


def test_frames_add_up():
    rng = np.random.default_rng(3)
    frames = [(rng.integers(0, 3, (9, 9)).astype(np.uint8), rng.integers(0, 2, (9, 9)).astype(np.uint8)) for _ in "abc"]
    merged = merge(count(*frame, 2) for frame in frames)
    expected = {}
    for frame in frames:
        for pair, counts in as_dict(count(*frame, 2)).items():
            expected[pair] = tuple(np.add(expected.get(pair, (0, 0, 0, 0)), counts))
    assert as_dict(merged) == expected
    assert merged.ignored_px == sum((label == 2).sum() for label, _ in frames)
    assert merge([]).counted_px == 0


def test_the_width_of_the_band_is_that_of_the_published_code():
    assert confusion.boundary_px(512, 512) == 14
    assert confusion.boundary_px(3000, 4000) == 100
    assert confusion.boundary_px(10, 10) == 1
