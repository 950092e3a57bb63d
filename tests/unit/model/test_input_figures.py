"""Brightness, contrast and sharpness equal OpenCV's and NumPy's own, computed the long way."""

import cv2
import numpy as np
import pytest

from fsf_core.model.input_figures import input_figures
from fsf_core.model.preprocess import PROFILES, fit

RNG = np.random.default_rng(4)
PICTURES = {
    "noise": RNG.integers(0, 256, (224, 224, 3), np.uint8),
    "smooth": cv2.GaussianBlur(RNG.integers(0, 256, (200, 260, 3), np.uint8), (0, 0), 3),
    "checkerboard": np.repeat(np.indices((512, 512)).sum(0)[..., None] % 2 * 255, 3, 2).astype(np.uint8),
    "black": np.zeros((9, 7, 3), np.uint8),
    "white": np.full((9, 7, 3), 255, np.uint8),
    "ramp": np.repeat((np.arange(4096 * 3000) % 251).reshape(3000, 4096)[..., None], 3, 2).astype(np.uint8),
    "one row": RNG.integers(0, 256, (1, 33, 3), np.uint8),
    "one pixel": np.full((1, 1, 3), (10, 200, 30), np.uint8),
}


def by_hand(input_HWC, code):
    luma = cv2.cvtColor(input_HWC, code)
    return luma.mean(), luma.std(), cv2.Laplacian(luma, cv2.CV_64F).var()


@pytest.mark.parametrize("name", PICTURES)
def test_figures_equal_those_of_numpy_in_float64(name):
    for order, code in (("rgb", cv2.COLOR_RGB2GRAY), ("bgr", cv2.COLOR_BGR2GRAY)):
        assert input_figures(PICTURES[name], order) == pytest.approx(by_hand(PICTURES[name], code), rel=1e-12, abs=1e-9)


def test_luma_weighs_the_channels_as_rec_601_and_in_the_order_of_the_network():
    red_bgr = np.zeros((40, 40, 3), np.uint8)
    red_bgr[..., 2] = 255

    as_rgb = fit(red_bgr, PROFILES["fastsegformer"])

    assert input_figures(as_rgb, "rgb") == (76, 0, 0)  # 0.299 * 255
    assert input_figures(as_rgb, "bgr") == (29, 0, 0)  # 0.114 * 255, of a network that takes blue first


def test_the_padding_of_a_letterbox_is_part_of_the_input():
    black = np.zeros((100, 400, 3), np.uint8)

    found = input_figures(fit(black, PROFILES["fastsegformer-train"]), "rgb")

    assert found.brightness == pytest.approx(128 * 3 / 4)  # 56 of 224 rows are the picture's
