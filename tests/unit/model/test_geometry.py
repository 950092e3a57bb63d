"""Every way of resizing, padding and cropping has its size, and what it does to the image is undone in place."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsf_core.model.geometry import MAX_ENLARGED_PX, input_hw, place, resized_hw, shown
from fsf_core.model.preprocess import PROFILES, Profile, crop, fit, uncrop

STRETCH, LETTERBOX = PROFILES["fastsegformer"], PROFILES["fastsegformer-train"]
FREE = replace(STRETCH, name="custom", mode="own", height_px=0, width_px=0)
SHORT = replace(FREE, mode="short-side", short_side_px=96, max_long_side_px=300)
CLOSEST = replace(FREE, mode="closest-side", target_hw=(96, 128))
RECTANGLE = replace(LETTERBOX, height_px=0, width_px=0, target_hw=(128, 160), multiple_of=32)
CROP = replace(STRETCH, height_px=80, width_px=64, target_hw=(96, 90), cropped=True, uncovered="sky")

FORMS = {
    "stretch": STRETCH,
    "letterbox": LETTERBOX,
    "letterbox at the corner": replace(LETTERBOX, align="top-left", padding_mode="edge"),
    "letterbox to multiples": RECTANGLE,
    "letterbox resized to multiples": replace(RECTANGLE, to_multiple="resize"),
    "short side": SHORT,
    "short side half up": replace(SHORT, rounding="half-up"),
    "short side half even": replace(SHORT, rounding="half-even"),
    "short side as detr": replace(SHORT, rounding="detr", multiple_of=32, to_multiple="resize-up"),
    "short side padded": replace(SHORT, multiple_of=32, align="top-left"),
    "short side mirrored": replace(SHORT, multiple_of=32, padding_mode="reflect"),
    "closest side": CLOSEST,
    "closest side to multiples": replace(CLOSEST, multiple_of=32, to_multiple="resize"),
    "own": FREE,
    "own padded": replace(FREE, multiple_of=32),
    "own resized": replace(FREE, multiple_of=16, to_multiple="resize-down"),
    "own cropped": replace(FREE, height_px=70, width_px=90, cropped=True, uncovered="sky"),
    "short side cropped": replace(SHORT, height_px=96, width_px=96, cropped=True, uncovered="sky"),
    "crop": CROP,
    "crop with halves to even": replace(CROP, align="centre-even", width_px=63),
}
forms = pytest.mark.parametrize("profile", FORMS.values(), ids=FORMS)
SIZES = [(240, 320), (251, 333), (96, 500), (400, 61), (33, 33)]


@forms
def test_a_profile_survives_its_json(profile):
    assert Profile.from_json(profile.to_json()) == profile
    assert profile.describe()


@forms
@given(st.integers(1, 400), st.integers(1, 400))
@settings(deadline=None, max_examples=25)
def test_the_input_has_the_size_that_is_foretold_and_holds_the_box(profile, height_px, width_px):
    box = place(height_px, width_px, profile)
    frame = fit(np.full((height_px, width_px, 3), 7, np.uint8), replace(profile, padding=(200, 200, 200)))

    assert frame.shape[:2] == input_hw(height_px, width_px, profile) == box.input_hw
    assert frame.flags.c_contiguous
    if profile.is_fixed:
        assert box.input_hw == (profile.height_px, profile.width_px)
    elif profile.multiple_of > 1:
        assert box.input_hw[0] % profile.multiple_of == box.input_hw[1] % profile.multiple_of == 0
    rows, columns = slice(box.top_px, box.top_px + box.height_px), slice(box.left_px, box.left_px + box.width_px)
    assert frame[rows, columns].size == box.height_px * box.width_px * 3
    assert (frame[rows, columns] == 7).all()
    if profile.padding_mode == "constant":
        assert (frame == 7).sum() == frame[rows, columns].size
    if profile.needs_input_grid is False and not profile.cropped:
        assert (box.height_px, box.width_px) == box.input_hw


@forms
@pytest.mark.parametrize(("height_px", "width_px"), SIZES)
def test_each_pixel_comes_back_to_its_place(profile, height_px, width_px):
    """The image holds its own coordinates; as scores they are undone as the mask stage does it."""
    down, across = np.mgrid[:height_px, :width_px]
    image = np.stack([down * 255 / height_px, across * 255 / width_px, down * 0], axis=2)
    linear = replace(profile, interpolation="linear", channel_order="bgr")
    box = place(height_px, width_px, linear)
    scores_KHW = fit(np.rint(image).astype(np.uint8), linear).transpose(2, 0, 1).astype(np.float32)

    whole_KHW = uncrop(crop(scores_KHW, box, linear), box, linear)
    back = [cv2.resize(plane, (width_px, height_px), interpolation=cv2.INTER_LINEAR) for plane in whole_KHW[:2]]

    inside = shown(box, height_px, width_px, linear)
    # A cell of the input covers several pixels; half of one is lost at an edge, and a level is up to two pixels.
    limits = [
        1 + size / 255 + size / resized for size, resized in zip((height_px, width_px), box.resized_hw, strict=True)
    ]
    assert np.abs(back[0] * height_px / 255 - down)[inside].max() <= limits[0]
    assert np.abs(back[1] * width_px / 255 - across)[inside].max() <= limits[1]


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 120), st.integers(1, 120))
@settings(deadline=None, max_examples=200)
def test_what_a_crop_shows_are_the_pixels_whose_centres_are_inside(height_px, width_px, rows, columns):
    profile = replace(FREE, height_px=rows, width_px=columns, cropped=True, uncovered="sky")
    for form in (profile, replace(profile, mode="stretch", target_hw=(96, 90))):
        box = place(height_px, width_px, form)
        for side, size, start, length, resized in (
            (0, height_px, box.hidden_top_px, box.height_px, box.resized_hw[0]),
            (1, width_px, box.hidden_left_px, box.width_px, box.resized_hw[1]),
        ):
            inside = [y for y in range(size) if start * 2 * size <= (2 * y + 1) * resized < (start + length) * 2 * size]
            assert [*range(size)][shown(box, height_px, width_px, form)[side]] == inside


def test_scores_of_a_crop_that_are_stretched_are_left_as_they_are():
    profile = replace(SHORT, height_px=128, width_px=64, cropped=True)
    box = place(240, 320, profile)
    scores_KHW = np.zeros((2, 32, 16), np.float32)

    assert crop(scores_KHW, box, profile) is uncrop(scores_KHW, box, profile) is scores_KHW
    assert shown(box, 240, 320, profile) == (slice(0, 240), slice(0, 320))


def test_a_sliver_is_not_enlarged_until_the_memory_is_full():
    with pytest.raises(ValueError, match="which the model's preprocessing enlarges to 96x9600000; expected at most"):
        resized_hw(1, 100_000, replace(SHORT, max_long_side_px=0))
    assert resized_hw(9000, 9000, FREE) == (9000, 9000) > (MAX_ENLARGED_PX**0.5,) * 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"height_px": 0},
        {"height_px": 0, "width_px": 0},
        {"mode": "short-side"},
        {"mode": "closest-side"},
        {"multiple_of": 0},
        {"target_hw": (0, 3)},
    ],
)
def test_a_profile_without_what_its_form_needs_is_no_profile(wrong):
    with pytest.raises(ValueError, match="expected"):
        replace(STRETCH, **wrong)
