"""Regions in the encodings of other programs, read by COCO's own tools and by decoders written from the definitions."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco

from fsf_core.publish.regions import find_regions, outlines
from fsf_core.publish.run_lengths import brush_bytes, coco_counts, compress_counts, row_counts
from tests.support.brushes import decode_brush

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")


def _masks():
    """Class maps of every difficulty: noise, holes, one pixel wide, whole, of many classes."""
    rng = np.random.default_rng(0)
    for number in range(120):
        height, width = rng.integers(1, 16, 2)
        yield rng.integers(0, 2 + number % 4, (height, width)).astype(np.uint8)
        yield (rng.random((height, width)) < 0.85).astype(np.uint8)
    yield np.ones((5, 7), np.uint8)
    yield np.zeros((5, 7), np.uint8)
    yield np.kron(rng.integers(0, 300, (6, 5)), np.ones((9, 8))).astype(np.uint16)
    large = np.zeros((300, 400), np.uint8)
    cv2.circle(large, (200, 150), 140, 1, 25)
    cv2.line(large, (0, 0), (399, 299), 2)
    yield large


MASKS = list(_masks())


def _whole(region, shape):
    left, top, width, height = region.box
    mask_HW = np.zeros(shape, np.bool_)
    mask_HW[top : top + height, left : left + width] = region.region_hw
    return mask_HW


def test_regions_are_those_of_opencv_and_make_up_the_mask():
    for class_map_HW in MASKS:
        drawn_HW = np.zeros_like(class_map_HW)
        count = 0
        for region in find_regions(class_map_HW):
            mask_HW = _whole(region, class_map_HW.shape)
            assert region.pixels == mask_HW.sum()
            assert mask_HW.any(axis=1)[[region.top_px, region.top_px + region.region_hw.shape[0] - 1]].all()
            drawn_HW[mask_HW] = region.class_id
            count += 1
        np.testing.assert_array_equal(drawn_HW, class_map_HW)
        expected = (
            cv2.connectedComponents((class_map_HW == class_id).astype(np.uint8), connectivity=8)[0] - 1
            for class_id in np.unique(class_map_HW)
            if class_id
        )
        assert count == sum(expected)


def test_coco_run_lengths_are_those_of_its_own_tools():
    for class_map_HW in MASKS:
        height, width = map(int, class_map_HW.shape)
        for region in find_regions(class_map_HW):
            mask_HW = _whole(region, class_map_HW.shape)
            counts = coco_counts(
                region.region_hw, top_px=region.top_px, left_px=region.left_px, height_px=height, width_px=width
            )
            expected = coco.encode(np.asfortranarray(mask_HW.view(np.uint8)))
            assert compress_counts(counts) == expected["counts"].decode()
            plain = coco.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
            np.testing.assert_array_equal(coco.decode(plain).astype(np.bool_), mask_HW)


def test_outlines_without_holes_are_drawn_by_coco_pixel_for_pixel():
    """There is one line more for every hole: a part of the background that touches the rest at corners at most."""
    drawn = 0
    for class_map_HW in MASKS:
        height, width = map(int, class_map_HW.shape)
        for region in find_regions(class_map_HW):
            mask_HW = _whole(region, class_map_HW.shape)
            lines = outlines(region)
            background = np.pad(~mask_HW, 1, constant_values=True).astype(np.uint8)
            assert len(lines) == cv2.connectedComponents(background, connectivity=4)[0] - 1
            assert min(lines[0]) >= 0
            if len(lines) == 1:
                found = coco.decode(coco.merge(coco.frPyObjects(lines, height, width)))
                np.testing.assert_array_equal(found.astype(np.bool_), mask_HW)
                drawn += 1
    assert drawn > 500


def test_rows_of_a_region_come_back_from_cvat_run_lengths():
    for class_map_HW in MASKS:
        for region in find_regions(class_map_HW):
            counts = row_counts(region.region_hw)
            values = np.repeat(np.arange(len(counts)) % 2, counts).reshape(region.region_hw.shape)
            np.testing.assert_array_equal(values.astype(np.bool_), region.region_hw)


@pytest.mark.parametrize("width", [1, 2, 4, 5, 64, 65, 16_384, 16_385, 40_000])
def test_brush_strokes_of_any_length_come_back(width):
    """Lengths at which the next kind of block begins, and runs that need several blocks."""
    mask_HW = np.zeros((3, width), np.bool_)
    mask_HW[1] = True
    mask_HW[2, ::3] = True

    np.testing.assert_array_equal(decode_brush(brush_bytes(mask_HW), mask_HW.shape), mask_HW * 255)


def test_brush_strokes_of_any_mask_come_back():
    for class_map_HW in MASKS[:40]:
        mask_HW = class_map_HW == 1
        np.testing.assert_array_equal(decode_brush(brush_bytes(mask_HW), mask_HW.shape), mask_HW * 255)
