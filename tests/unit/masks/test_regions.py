"""Connected regions equal OpenCV's, add up to the statistics of their classes, and need little memory."""

import time
import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsf_core.masks import GridWinners, find_regions, make_mask, measure


def blocks(shape, classes, block, seed):
    """A map of random blocks: many regions, joined at corners and enclosed by each other."""
    coarse = np.random.default_rng(seed).integers(0, classes, (-(-shape[0] // block), -(-shape[1] // block)))
    dtype = np.uint8 if classes <= 255 else np.uint16
    return np.ascontiguousarray(np.kron(coarse, np.ones((block, block), int))[: shape[0], : shape[1]].astype(dtype))


def by_opencv(class_map_HW, min_px):
    """Rows of class, pixels, box, centroid and whether the border is touched, by class and first pixel."""
    height, width = class_map_HW.shape
    rows = []
    for class_id in np.unique(class_map_HW[class_map_HW > 0]).tolist():
        count, labels, stats, centroids = cv2.connectedComponentsWithStats((class_map_HW == class_id).astype(np.uint8))
        first = {label: np.flatnonzero(labels.ravel() == label)[0] for label in range(1, count)}
        for label in sorted(first, key=first.__getitem__):
            left, top, box_w, box_h, pixels = stats[label].tolist()
            touches = left == 0 or top == 0 or left + box_w == width or top + box_h == height
            column, row = centroids[label].tolist()
            if pixels >= min_px:
                rows.append((class_id, pixels, top, left, box_h, box_w, row, column, touches))
    return rows


def rows_of(found):
    columns = (
        found.class_id_R, found.pixels_R, found.top_px_R, found.left_px_R, found.height_px_R, found.width_px_R,
        found.centroid_row_R, found.centroid_column_R, found.touches_border_R,
    )  # fmt: skip
    return [*zip(*(column.tolist() for column in columns), strict=True)]


def assert_equals_opencv(class_map_HW, classes, min_px):
    found = rows_of(find_regions(measure(class_map_HW, num_classes=classes), min_px=min_px))
    expected = by_opencv(class_map_HW, min_px)
    assert [(*row[:6], row[8]) for row in found] == [(*row[:6], row[8]) for row in expected]
    assert np.array([row[6:8] for row in found]) == pytest.approx(np.array([row[6:8] for row in expected]), abs=1e-9)


@settings(max_examples=80, deadline=None)
@given(
    classes=st.one_of(st.integers(1, 4), st.integers(2, 300)),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    block=st.integers(1, 5),
    min_px=st.sampled_from([1, 1, 2, 9]),
    seed=st.integers(0, 2**32 - 1),
)
def test_regions_equal_those_of_opencv_in_raster_order_by_class(classes, shape, block, min_px, seed):
    assert_equals_opencv(blocks(shape, classes, block, seed), classes, min_px)


@pytest.mark.parametrize("classes", [2, 4, 300])
def test_sums_of_regions_equal_the_statistics_of_their_classes(classes):
    mask = measure(blocks((301, 277), classes, 3, 1), num_classes=classes)

    found = find_regions(mask, min_px=1)

    pixels = np.bincount(found.class_id_R, found.pixels_R, classes)
    assert pixels[1:].tolist() == mask.pixels_K[1:].tolist()
    assert np.bincount(found.class_id_R, minlength=classes)[1:].tolist() == mask.components_K[1:].tolist()
    for class_id in range(1, classes):
        largest = found.pixels_R[found.class_id_R == class_id].max(initial=0)
        assert largest == mask.largest_component_px_K[class_id]


def spiral(side):
    """One region whose arms meet only at the end, and its background."""
    drawn = np.zeros((side, side), np.uint8)
    at = [0, side - 1]
    for inset in range(0, side // 2, 2):
        low, high = at[0] + inset, at[1] - inset
        cv2.rectangle(drawn, (low, low), (high, high), 1, 1)
        drawn[low + 1, low] = 0
        if inset:
            drawn[low, low - 2 : low] = 1
            drawn[low - 1, low - 2] = 0
    return drawn


@pytest.mark.parametrize(
    "class_map",
    [
        spiral(41),
        np.indices((20, 31)).sum(0).astype(np.uint8) % 2,  # a checkerboard: one region of each class, by its corners
        (np.indices((21, 30)) % 2 == 0).all(0).astype(np.uint8),  # pixels that touch nothing
        np.eye(9, dtype=np.uint8)[::-1].copy(),
        np.array([[1, 0, 0, 0, 1], [0, 1, 0, 1, 0], [0, 0, 1, 0, 0], [1, 0, 0, 0, 2]], np.uint8),
        np.zeros((5, 5), np.uint8),
        np.ones((1, 1), np.uint8),
    ],
    ids=["spiral", "checkerboard", "isolated", "diagonal", "letter", "empty", "pixel"],
)
def test_shapes_equal_those_of_opencv(class_map):
    assert_equals_opencv(class_map, 3, 1)


def probability_by_hand(class_map, grid_winner, grid_probability):
    """Mean probability of every region over its pixels whose nearest cell is of its class, region by region."""
    rows, columns = (
        np.minimum(((np.arange(size) + 0.5) * cells / size).astype(int), cells - 1)
        for size, cells in zip(class_map.shape, grid_winner.shape, strict=True)
    )
    winner, probability = grid_winner[np.ix_(rows, columns)], grid_probability[np.ix_(rows, columns)].astype(float)
    means = []
    for class_id in np.unique(class_map[class_map > 0]).tolist():
        count, labels = cv2.connectedComponents((class_map == class_id).astype(np.uint8))
        first = {label: np.flatnonzero(labels.ravel() == label)[0] for label in range(1, count)}
        for label in sorted(first, key=first.__getitem__):
            chosen = (labels == label) & (winner == class_id)
            means.append(probability[chosen].mean() if chosen.any() else np.nan)
    return means


@pytest.mark.parametrize("size", [(60, 75), (20, 25), (213, 190), (7, 8), (1, 40)])
def test_the_probability_of_a_region_is_the_mean_of_its_nearest_cells_that_the_class_wins(size):
    scores = np.random.default_rng(7).normal(size=(3, 5, 6)).astype(np.float32)
    scores = np.stack([cv2.resize(plane, (25, 20), interpolation=cv2.INTER_CUBIC) for plane in scores]) * 2
    probabilities = np.exp(scores) / np.exp(scores).sum(0)
    mask = make_mask(probabilities, height_px=size[0], width_px=size[1], keep_grid=True)

    found = find_regions(mask, min_px=1).mean_probability_R

    expected = probability_by_hand(mask.class_map_HW, probabilities.argmax(0), probabilities.max(0))
    assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert np.isfinite(found).sum() > len(found) / 2


def test_a_region_that_wins_no_cell_and_one_of_a_class_map_have_no_probability():
    class_map = np.array([[1, 0, 2, 2]], np.uint8)
    grid = GridWinners(winner_hw=np.array([[0, 2]], np.uint16), probability_hw=np.array([[0.75, 0.5]], np.float32))
    mask = measure(class_map, num_classes=3)

    assert find_regions(mask, min_px=1, grid=grid).mean_probability_R.tolist() == pytest.approx(
        [np.nan, 0.5], nan_ok=True
    )
    assert np.isnan(find_regions(mask, min_px=1).mean_probability_R).all()


def test_twelve_megapixels_of_specks_take_memory_for_those_that_are_asked_for():
    """300 classes, every fourth pixel a region of its own: three million of them, none of four pixels."""
    class_map = np.zeros((3000, 4000), np.uint16)
    class_map[::2, ::2] = np.random.default_rng(0).integers(1, 300, (1500, 2000))
    mask = measure(class_map, num_classes=300)
    find_regions(measure(class_map[:4, :4].copy(), num_classes=300), min_px=1)  # compiles

    started = time.process_time()
    tracemalloc.start()
    found = find_regions(mask, min_px=1)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    assert len(found) == 3_000_000
    assert peak_bytes < 300 * len(found)

    del found
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    assert len(find_regions(mask, min_px=2)) == 0
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes - before < 4 << 20
    assert time.process_time() - started < 20
