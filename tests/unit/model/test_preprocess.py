"""Preprocessing gives the pixels of the published code, and scores are mapped back to the image."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fsf_core.model.preprocess import PROFILES, Profile, crop, fit, normalise, place, read_by_fit

STRETCH, LETTERBOX = PROFILES["fastsegformer"], PROFILES["fastsegformer-train"]
SIZES = [(224, 224), (480, 640), (640, 480), (1, 1), (223, 225), (7, 500), (3000, 4000), (225, 112)]

sides = st.integers(1, 2000)


def noise(height_px, width_px):
    return np.random.default_rng(height_px * 10_000 + width_px).integers(0, 256, (height_px, width_px, 3), np.uint8)


def published_letterbox(image_BGR):
    """Letterbox as FastSegFormer unet.py::detect_image does: resize_image of utils/utils.py on an RGB image."""
    image = Image.fromarray(np.ascontiguousarray(image_BGR[..., ::-1]))
    iw, ih = image.size
    scale = min(224 / iw, 224 / ih)
    nw, nh = int(iw * scale), int(ih * scale)
    canvas = Image.new("RGB", (224, 224), (128, 128, 128))
    canvas.paste(image.resize((nw, nh), Image.BICUBIC), ((224 - nw) // 2, (224 - nh) // 2))
    return np.asarray(canvas)


@pytest.mark.parametrize(("height_px", "width_px"), SIZES)
def test_letterbox_equals_the_training_code(height_px, width_px):
    image = noise(height_px, width_px)

    np.testing.assert_array_equal(fit(image, LETTERBOX), published_letterbox(image))


@pytest.mark.parametrize(("height_px", "width_px"), SIZES)
def test_stretch_equals_the_deployed_tools(height_px, width_px):
    image = noise(height_px, width_px)

    expected = cv2.resize(image, (224, 224), interpolation=cv2.INTER_LINEAR)[..., ::-1]

    np.testing.assert_array_equal(fit(image, STRETCH), expected)


def test_channels_are_in_the_networks_order():
    blue = np.zeros((10, 20, 3), np.uint8)
    blue[..., 0] = 255

    assert fit(blue, STRETCH)[0, 0].tolist() == [0, 0, 255]
    assert fit(blue, replace(STRETCH, channel_order="bgr"))[0, 0].tolist() == [255, 0, 0]


def test_padding_is_in_the_networks_channel_order():
    profile = replace(LETTERBOX, padding=(1, 2, 3))

    assert fit(noise(10, 1000), profile)[0, 0].tolist() == [1, 2, 3]
    assert fit(noise(10, 1000), replace(profile, channel_order="bgr"))[0, 0].tolist() == [1, 2, 3]


def garbage_beside(image_HWC, rows, columns, seed):
    """Return an image with other pixels wherever rows and columns do not cross."""
    changed = np.random.default_rng(seed).integers(0, 256, image_HWC.shape, np.uint8)
    changed[np.ix_(rows, columns)] = image_HWC[np.ix_(rows, columns)]
    return changed


LINEAR = {
    "stretched": STRETCH,
    "letterbox": replace(LETTERBOX, interpolation="linear"),
    "to an odd size": replace(STRETCH, height_px=37, width_px=101),
    "short side": replace(STRETCH, mode="short-side", height_px=96, width_px=96, short_side_px=128),
}


@pytest.mark.parametrize("profile", LINEAR.values(), ids=LINEAR)
@given(height_px=st.integers(1, 900), width_px=st.integers(1, 900))
@settings(deadline=None, max_examples=60)
def test_fit_looks_at_no_pixels_but_those_that_read_by_fit_names(profile, height_px, width_px):
    image_HWC = noise(height_px, width_px)
    found = read_by_fit(height_px, width_px, profile)
    rows, columns = found or (np.arange(height_px), np.arange(width_px))
    for seed in range(2):
        fitted = fit(garbage_beside(image_HWC, rows, columns, seed), profile)
        np.testing.assert_array_equal(fitted, fit(image_HWC, profile))


@pytest.mark.parametrize(
    ("height_px", "width_px"),
    [(448, 448), (672, 1120), (2688, 3584), (3000, 4000), (1080, 1920), (6000, 225), (224, 9000), (2, 65_500)],
)
def test_fit_of_large_images_looks_at_two_rows_and_columns_a_sample(height_px, width_px):
    rows, columns = read_by_fit(height_px, width_px, STRETCH)
    image_HWC = noise(height_px, width_px)
    fitted = fit(garbage_beside(image_HWC, rows, columns, 1), STRETCH)
    np.testing.assert_array_equal(fitted, fit(image_HWC, STRETCH))
    assert rows.size <= 4 * 224
    assert columns.size <= 4 * 224


@pytest.mark.parametrize("interpolation", ["area", "cubic", "pil-bilinear", "torch-bilinear"])
def test_other_filters_may_look_at_all_pixels(interpolation):
    assert read_by_fit(3000, 4000, replace(STRETCH, interpolation=interpolation)) is None
    assert read_by_fit(224, 224, STRETCH) is None


@given(sides, sides)
@settings(deadline=None)
def test_the_box_is_inside_the_input_and_keeps_the_aspect_ratio(height_px, width_px):
    box = place(height_px, width_px, LETTERBOX)

    assert 0 <= box.top_px <= box.top_px + box.height_px <= 224
    assert 0 <= box.left_px <= box.left_px + box.width_px <= 224
    assert max(box.height_px, box.width_px) in {223, 224}  # int() of 223.99… is the published code's, too
    assert abs((224 - box.height_px) - 2 * box.top_px) <= 1
    assert abs((224 - box.width_px) - 2 * box.left_px) <= 1


@given(st.integers(1, 300), st.integers(1, 300))
@settings(deadline=None, max_examples=50)
def test_crop_returns_exactly_the_box_that_fit_filled(height_px, width_px):
    grey = np.full((height_px, width_px, 3), 7, np.uint8)
    scores_KHW = fit(grey, LETTERBOX).transpose(2, 0, 1).astype(np.float32)

    inner = crop(scores_KHW, place(height_px, width_px, LETTERBOX), LETTERBOX)

    assert (inner == 7).all()
    assert (scores_KHW == 7).sum() == inner.size


def test_without_padding_crop_returns_the_scores_of_any_grid():
    scores_KHW = np.zeros((4, 56, 56), np.float32)

    assert crop(scores_KHW, place(480, 640, STRETCH), STRETCH) is scores_KHW
    assert crop(scores_KHW, place(300, 300, LETTERBOX), LETTERBOX) is scores_KHW


def test_padding_on_a_coarser_grid_raises_value_error():
    with pytest.raises(ValueError, match="56x56 grid"):
        crop(np.zeros((4, 56, 56), np.float32), place(480, 640, LETTERBOX), LETTERBOX)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize(("height_px", "width_px"), [(1, 10_000), (10_000, 1), (2, 65_000), (1, 1)])
def test_slivers_keep_at_least_one_pixel(profile, height_px, width_px):
    fitted = fit(noise(height_px, width_px), profile)

    assert fitted.shape == (224, 224, 3)
    assert fitted.flags.c_contiguous
    assert place(height_px, width_px, profile).height_px >= 1


def test_fit_of_a_view_equals_fit_of_its_copy():
    image = noise(300, 500)[::2, ::-1]

    for profile in PROFILES.values():
        np.testing.assert_array_equal(fit(image, profile), fit(np.ascontiguousarray(image), profile))


@pytest.mark.parametrize(
    "profile",
    [STRETCH, replace(STRETCH, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)), replace(STRETCH, scale=1.0)],
    ids=["plain", "imagenet", "unscaled"],
)
def test_levels_equal_the_formula_bit_for_bit(profile):
    image_HW3 = noise(64, 64)
    mean, std = np.float32(profile.mean), np.float32(profile.std)

    formula = (image_HW3.astype(np.float32) / np.float32(profile.scale) - mean) / std
    levels_C256 = profile.levels()

    assert levels_C256.dtype == np.float32
    for channel in range(3):
        np.testing.assert_array_equal(levels_C256[channel][image_HW3[..., channel]], formula[..., channel])


def test_levels_of_the_published_profile_are_0_to_1():
    assert STRETCH.levels().min() == 0
    assert STRETCH.levels().max() == 1


@pytest.mark.parametrize(
    "wrong",
    [{"height_px": 0}, {"width_px": -1}, {"scale": 0.0}, {"std": (1.0, 0.0, 1.0)}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_an_invalid_profile_raises_value_error(wrong):
    with pytest.raises(ValueError, match=r"at least 1|above 0"):
        replace(STRETCH, **wrong)


def test_profiles_are_immutable():
    with pytest.raises(AttributeError):
        STRETCH.scale = 1.0
    with pytest.raises(TypeError):
        PROFILES["mine"] = Profile


@pytest.mark.parametrize("count", [0, 1, 3])
def test_normalise_equals_the_table_bit_for_bit(count):
    frames = np.random.default_rng(0).integers(0, 256, (count, 17, 19, 3)).astype(np.uint8)
    levels = np.random.default_rng(1).standard_normal((3, 256)).astype(np.float32)
    expected = np.moveaxis(np.stack([levels[c][frames[..., c]] for c in range(3)]), 0, 1)
    got = normalise(frames, levels)
    assert got.dtype == np.float32
    assert got.tobytes() == expected.tobytes()


def test_normalise_with_the_default_profile_divides_by_255():
    frames = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    got = normalise(frames, STRETCH.levels())
    assert np.array_equal(got[0, 2].ravel(), np.arange(256, dtype=np.float32) / np.float32(255))


def test_normalise_accepts_views_and_read_only_memory():
    frames = np.random.default_rng(0).integers(0, 256, (2, 10, 12, 3)).astype(np.uint8)
    frames.flags.writeable = False
    view = frames[:, 1:8, ::-1]
    assert np.array_equal(normalise(view, STRETCH.levels()), normalise(view.copy(), STRETCH.levels()))


def test_a_profile_of_an_earlier_version_keeps_its_bytes_and_later_fields_are_held_where_they_are_used():
    later = replace(LETTERBOX, align="top-left", layout="NHWC", dtype="uint8")

    assert {"align", "layout", "dtype"} & {*LETTERBOX.to_json()} == set()
    assert Profile.from_json(LETTERBOX.to_json()) == LETTERBOX
    assert Profile.from_json(later.to_json()) == later
    with pytest.raises(ValueError, match=r"unknown preprocessing fields \['alien'\]"):
        Profile.from_json(LETTERBOX.to_json() | {"alien": 1})


@pytest.mark.parametrize(("height_px", "width_px"), SIZES)
def test_a_letterbox_at_the_top_left_has_its_padding_right_and_below(height_px, width_px):
    profile = replace(LETTERBOX, align="top-left")
    centred, corner = place(height_px, width_px, LETTERBOX), place(height_px, width_px, profile)
    framed = fit(noise(height_px, width_px), profile)

    assert (corner.top_px, corner.left_px) == (0, 0)
    assert (corner.height_px, corner.width_px) == (centred.height_px, centred.width_px)
    inner = fit(noise(height_px, width_px), LETTERBOX)[centred.top_px :, centred.left_px :]
    np.testing.assert_array_equal(
        framed[: corner.height_px, : corner.width_px], inner[: corner.height_px, : corner.width_px]
    )
    assert (framed[corner.height_px :] == 128).all()
    assert (framed[:, corner.width_px :] == 128).all()


@pytest.mark.parametrize(
    ("name", "flag"), [("nearest", cv2.INTER_NEAREST), ("cubic", cv2.INTER_CUBIC), ("area", cv2.INTER_AREA)]
)
def test_an_interpolation_of_opencv_is_opencvs(name, flag):
    expected = cv2.resize(noise(123, 300), (224, 224), interpolation=flag)

    np.testing.assert_array_equal(fit(noise(123, 300), replace(STRETCH, interpolation=name)), expected[..., ::-1])


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos"])
def test_an_interpolation_of_pillow_is_pillows(name):
    expected = Image.fromarray(noise(123, 300)).resize((224, 224), Image.Resampling[name.upper()])
    found = fit(noise(123, 300), replace(STRETCH, interpolation=f"pil-{name}"))

    np.testing.assert_array_equal(found, np.asarray(expected)[..., ::-1])


def test_a_description_names_all_that_changes_the_input():
    imagenet = replace(LETTERBOX, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), channel_order="bgr")

    assert STRETCH.describe() == "224x224 pixels, stretched by linear, RGB, levels / 255"
    assert imagenet.describe() == (
        "224x224 pixels, letterboxed (centre, padding [128, 128, 128]) by pil-bicubic, BGR, "
        "(levels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]"
    )
