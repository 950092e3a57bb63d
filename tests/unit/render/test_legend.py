"""A legend is readable on images of any size: in the corner where there is room, else beside the image."""

import numpy as np
import pytest

from fsf_core.masks import voc_colours
from fsf_core.render.draw import RenderStyle, add_legend, paint

NAMES = ("background", "sunburn", "ulcer", "wind_scarring")


def legend_of(image_HWC, shares, names=NAMES):
    return add_legend(image_HWC, names=names, palette=voc_colours(len(names)), shares=shares)


def swatches(image_HWC, names=NAMES):
    """Return the pixels of each class's colour."""
    return [int((image_HWC == colour[::-1]).all(axis=2).sum()) for colour in voc_colours(len(names))[1:]]


@pytest.mark.parametrize(("height_px", "width_px"), [(512, 512), (3000, 4000), (4000, 600), (400, 3000)])
def test_the_legend_is_in_the_corner_of_an_image_with_room(height_px, width_px):
    image_HWC = np.full((height_px, width_px, 3), 150, np.uint8)
    drawn_HWC = legend_of(image_HWC, [0.25] * 4)
    changed = np.argwhere((drawn_HWC != image_HWC).any(axis=2)).max(axis=0)

    assert drawn_HWC.shape == image_HWC.shape
    assert changed[0] < height_px / 2
    assert changed[1] < width_px / 2
    assert min(swatches(drawn_HWC)) >= 10 * 10


@pytest.mark.parametrize(("height_px", "width_px"), [(48, 64), (224, 224), (20, 2000)])
def test_the_legend_is_beside_an_image_without_room(height_px, width_px):
    image_HWC = np.full((height_px, width_px, 3), 150, np.uint8)
    drawn_HWC = legend_of(image_HWC, [0.25] * 4)

    assert drawn_HWC.shape[1] > width_px
    assert np.array_equal(drawn_HWC[:height_px, :width_px], image_HWC)
    assert min(swatches(drawn_HWC[:, width_px:])) >= 10 * 10


def test_of_many_classes_only_those_that_occur_are_listed():
    names = tuple(f"class {number}" for number in range(150))
    shares = [0.5 * (number in {3, 90}) for number in range(150)]
    drawn_HWC = legend_of(np.full((300, 400, 3), 150, np.uint8), shares, names)
    found = swatches(drawn_HWC, names)

    assert [number for number, pixels in enumerate(found, start=1) if pixels > 50] == [3, 90]


def test_text_of_a_rendered_video_shrinks_until_the_legend_fits_into_the_frame():
    """It was cut off at the right of upright videos."""
    image_HWC = np.full((1920, 400, 3), 150, np.uint8)
    class_map_HW = np.zeros((1920, 400), np.uint8)
    look = {"style": "blend", "clear_background": False, "names": NAMES, "palette": voc_colours(4)}
    plain, drawn = (paint(image_HWC, class_map_HW, RenderStyle(**look, legend=legend)) for legend in (False, True))

    assert np.argwhere((plain != drawn).any(axis=2)).max(axis=0)[1] < 400 - 1
