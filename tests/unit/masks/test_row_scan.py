"""Counts and regions of rows that come in blocks equal those of the whole class map."""

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fsf_core.masks import RowScan, find_regions, measure


def blocks_of(rng, shape, classes, block):
    coarse = rng.integers(0, classes, (-(-shape[0] // block), -(-shape[1] // block)))
    dtype = np.uint8 if classes <= 255 else np.uint16
    return np.ascontiguousarray(np.kron(coarse, np.ones((block, block), int))[: shape[0], : shape[1]].astype(dtype))


def assert_equal_counts(class_map_HW, classes, min_px, cuts):
    whole = measure(class_map_HW, num_classes=classes)
    scan = RowScan(width_px=class_map_HW.shape[1], num_classes=classes, min_region_px=min_px)
    for rows_HW in np.split(class_map_HW, sorted(cuts)):
        scan.add(rows_HW)
    found = scan.end()
    for name in ("pixels_K", "components_K", "largest_component_px_K"):
        assert getattr(found, name).tolist() == getattr(whole, name).tolist(), name
    expected = find_regions(whole, min_px=min_px)
    for field in dataclasses.fields(expected):
        np.testing.assert_array_equal(getattr(found.regions, field.name), getattr(expected, field.name), field.name)


@settings(max_examples=80, deadline=None)
@given(
    classes=st.one_of(st.integers(1, 4), st.integers(250, 300)),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    block=st.integers(1, 5),
    min_px=st.sampled_from([1, 1, 2, 9]),
    cuts=st.lists(st.integers(0, 40), max_size=6),
    seed=st.integers(0, 2**32 - 1),
)
def test_counts_and_regions_do_not_depend_on_how_the_rows_come(classes, shape, block, min_px, cuts, seed):
    assert_equal_counts(blocks_of(np.random.default_rng(seed), shape, classes, block), classes, min_px, cuts)


def test_a_map_wider_than_a_block_is_counted_row_by_row():
    rng = np.random.default_rng(1)
    assert_equal_counts(blocks_of(rng, (5, 70_000), 3, 1), 3, 2, [2])
    assert_equal_counts(blocks_of(rng, (300, 1_000), 3, 3), 3, 4, [7, 8, 200])


def test_without_regions_there_are_only_counts():
    scan = RowScan(width_px=3, num_classes=2, min_region_px=None)
    scan.add(np.eye(3, dtype=np.uint8))
    found = scan.end()
    assert found.regions is None
    assert found.pixels_K.tolist() == [6, 3]
