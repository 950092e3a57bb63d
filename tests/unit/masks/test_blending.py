"""Windows put together equal OpenCV's resize and a plain weighted sum; where one counts alone, its own mask."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsf_core.masks import WindowBlend, make_mask, plan_side, softmax


def scores_of(rng, classes, grid):
    """Smooth scores, so that classes have areas."""
    coarse = rng.normal(0, 3, (classes, 3, 4)).astype(np.float32)
    return np.stack([cv2.resize(plane, grid[::-1], interpolation=cv2.INTER_CUBIC) for plane in coarse])


def put_together(rows, columns, windows, classes):
    blend = WindowBlend(rows, columns, num_classes=classes, corners="half-pixel")
    blocks = [
        block
        for (row, column), probabilities in windows.items()
        for block in blend.add(
            row,
            column,
            make_mask(probabilities, height_px=rows.window_px, width_px=columns.window_px).class_map_HW,
            probabilities,
        )
    ]
    tops = [top for top, _ in blocks]
    assert tops == [0, *np.cumsum([len(block) for _, block in blocks])[:-1]], "row by row, without gaps"
    return np.concatenate([block for _, block in blocks])


def by_opencv(rows, columns, windows, classes):
    """The sums of the resized planes by weight, with their margins."""
    sums = np.zeros((classes, rows.size_px, columns.size_px))
    for (row, column), probabilities in windows.items():
        weight = rows.weights[row][:, None].astype(float) * columns.weights[column]
        size = (columns.window_px, rows.window_px)
        planes = np.stack([cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR) for plane in probabilities])
        top, left = rows.starts[row], columns.starts[column]
        sums[:, top : top + size[1], left : left + size[0]] += planes * weight
    ordered = np.sort(sums, axis=0)
    return sums.argmax(0), ordered[-1] - ordered[-2]


def windows_of(rng, rows, columns, classes, grid):
    return {
        (row, column): softmax(scores_of(rng, classes, grid))
        for row in range(len(rows.starts))
        for column in range(len(columns.starts))
    }


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(8, 90), st.integers(8, 90)),
    overlap=st.integers(0, 12),
    grid=st.sampled_from([(24, 28), (6, 7), (7, 5), (40, 31)]),
    classes=st.integers(2, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_class_map_is_the_largest_weighted_sum_of_the_resized_scores(size, overlap, grid, classes, seed):
    rows = plan_side(size[0], window_px=24, overlap_px=overlap)
    columns = plan_side(size[1], window_px=28, overlap_px=overlap)
    windows = windows_of(np.random.default_rng(seed), rows, columns, classes, grid)
    found = put_together(rows, columns, windows, classes)
    expected, margin = by_opencv(rows, columns, windows, classes)
    assert found.dtype == np.uint8
    assert found.shape == (rows.size_px, columns.size_px)
    differs = found != expected
    assert margin[differs].max(initial=0) < 1e-6, "but for ties in the last bits"


@pytest.mark.parametrize("overlap", [0, 10])
def test_where_one_window_counts_alone_the_picture_has_its_mask(overlap):
    rng = np.random.default_rng(7)
    rows, columns = (plan_side(size, window_px=32, overlap_px=overlap) for size in (96, 128))
    windows = windows_of(rng, rows, columns, 4, (9, 11))
    found = put_together(rows, columns, windows, 4)
    alone = 0
    for (row, column), probabilities in windows.items():
        own_HW = make_mask(probabilities, height_px=32, width_px=32).class_map_HW
        top, left = rows.starts[row], columns.starts[column]
        counts = (rows.weights[row] == 1)[:, None] & (columns.weights[column] == 1)
        assert (found[top : top + 32, left : left + 32][counts] == own_HW[counts]).all()
        alone += counts.sum()
    assert alone == found.size if overlap == 0 else 0.4 * found.size < alone < found.size


def test_more_than_255_classes_take_16_bits():
    rows = columns = plan_side(20, window_px=16, overlap_px=4)
    windows = {at: np.zeros((300, 2, 2), np.float32) for at in [(0, 0), (0, 1), (1, 0), (1, 1)]}
    for plane in windows.values():
        plane[299] = 1
    found = put_together(rows, columns, windows, 300)
    assert found.dtype == np.uint16
    assert (found == 299).all()
