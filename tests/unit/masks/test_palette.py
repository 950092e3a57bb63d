import cv2
import numpy as np
import pytest

from fsf_core import masks


def test_palette_is_pascal_vocs():
    palette = masks.voc_palette(256)
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 5: (128, 0, 128)}
    known |= {7: (128, 128, 128), 8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128), 21: (128, 64, 128)}
    known |= {255: (224, 224, 192)}
    assert {k: tuple(palette[k].tolist()) for k in known} == known


def test_a_thousand_classes_have_a_thousand_colours():
    palette = masks.voc_palette(1000)
    assert len(np.unique(palette, axis=0)) == 1000
    assert np.array_equal(palette[:256], masks.voc_palette(256))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_overlay_blends_60_to_40_and_can_leave_the_background_clear(dtype):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)
    class_map = rng.integers(0, 4, (20, 30)).astype(dtype)
    palette = masks.voc_palette(4)
    expected = cv2.addWeighted(image, 0.6, np.ascontiguousarray(palette[class_map][..., ::-1]), 0.4, 0)
    assert np.array_equal(masks.colour_map(class_map, palette), palette[class_map])
    assert np.array_equal(masks.overlay(image, class_map, palette), expected)
    expected[class_map == 0] = image[class_map == 0]
    assert np.array_equal(masks.overlay(image, class_map, palette, clear_background=True), expected)


def test_an_overlay_of_another_size_raises_value_error():
    with pytest.raises(ValueError, match="one size"):
        masks.overlay(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint8), masks.voc_palette(2))
