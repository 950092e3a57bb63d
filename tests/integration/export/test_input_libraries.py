"""Sizes, filters and crops equal those of the libraries that models are trained with, on images of every shape."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from fsf_core.export.families.optional import load
from fsf_core.model.filters import resize
from fsf_core.model.geometry import resized_hw
from fsf_core.model.preprocess import PROFILES, fit

STRETCH = PROFILES["fastsegformer"]
FREE = replace(STRETCH, name="custom", mode="own", height_px=0, width_px=0)
IMAGES = 40


def shapes(seed, most=400):
    """Sizes of images and of what they become: common ones, slivers of 1 pixel, extreme aspect ratios."""
    rng = np.random.default_rng(seed)
    for number in range(IMAGES):
        sides = [int(rng.choice([rng.integers(1, 6), rng.integers(6, most), 224, 256])) for _ in range(4)]
        if number % 10 == 0:
            sides[1] = int(rng.integers(1000, 3000))
        if number % 12 == 0:
            sides[2] = sides[0]
        yield tuple(sides), rng


def pictures(seed):
    for (height_px, width_px, *wanted), rng in shapes(seed):
        noise = rng.integers(0, 256, (height_px, width_px, 3), np.uint8)
        yield np.where(noise > 127, 255, 0).astype(np.uint8) if height_px % 3 == 0 else noise, *wanted


@pytest.fixture(scope="module")
def torchvision():
    return load("torchvision.transforms.v2.functional", "torchvision")


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos"])
def test_the_filters_of_torchvision_have_its_pixels(name, torchvision):
    for image, height_px, width_px in pictures(1):
        tensor = torchvision.pil_to_tensor(Image.fromarray(image))
        mode = torchvision.InterpolationMode(name)
        expected = torchvision.resize(tensor, [height_px, width_px], interpolation=mode, antialias=True)

        found = resize(image, height_px, width_px, f"torchvision-{name}")
        np.testing.assert_array_equal(found, expected.permute(1, 2, 0).numpy(), str((image.shape, height_px, width_px)))


@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_the_filters_of_torchvisions_presets_have_its_pixels(name):
    """transforms, not v2: in float32, rounded; except where float noise decides which of two levels is nearer."""
    transforms = load("torchvision.transforms.functional", "torchvision")
    mode, different, pixels = transforms.InterpolationMode(name), 0, 0
    for image, height_px, width_px in pictures(5):
        if width_px == 1:  # torch 2.13 then gives every row the same values
            continue
        tensor = transforms.pil_to_tensor(Image.fromarray(image))
        expected = transforms.resize(tensor, [height_px, width_px], interpolation=mode, antialias=True)
        floats = transforms.resize(tensor.float(), [height_px, width_px], interpolation=mode, antialias=True)
        halves = (floats.clamp(0, 255) % 1 - 0.5).abs().permute(1, 2, 0).numpy() < 1e-3

        found, expected = resize(image, height_px, width_px, f"torchvision-float-{name}"), expected.permute(1, 2, 0)
        np.testing.assert_array_equal(found[~halves], expected.numpy()[~halves])
        different, pixels = different + int((found != expected.numpy()).sum()), pixels + found.size
    assert different <= 1e-4 * pixels


@pytest.mark.parametrize("name", ["uint8-bilinear", "uint8-bicubic", "nearest", "nearest-exact"])
def test_the_filters_of_torch_on_levels_have_its_pixels(name):
    import torch

    mode = name.removeprefix("uint8-")
    corners = {} if "nearest" in mode else {"align_corners": False}
    for image, height_px, width_px in pictures(2):
        tensor = torch.from_numpy(image).permute(2, 0, 1)[None]
        expected = torch.nn.functional.interpolate(tensor, size=(height_px, width_px), mode=mode, **corners)

        found, expected = resize(image, height_px, width_px, f"torch-{name}"), expected[0].permute(1, 2, 0).numpy()
        if name == "nearest-exact":  # a centre between two cells is float noise
            found, expected = (_off_boundaries(pixels, image.shape) for pixels in (found, expected))
        np.testing.assert_array_equal(found, expected, str((image.shape, height_px, width_px)))


def _off_boundaries(pixels_HWC, shape):
    """Return the pixels whose centres are inside of a cell of an image of this shape."""
    rows, columns = (
        (2 * np.arange(new) + 1) * old % (2 * new) != 0
        for old, new in zip(shape[:2], pixels_HWC.shape[:2], strict=True)
    )
    return pixels_HWC[rows][:, columns]


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_the_filters_of_torch_on_floats_have_its_numbers_as_levels(mode):
    """The nearest level, except where float noise decides which of two is nearer."""
    import torch

    for image, height_px, width_px in pictures(3):
        tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        size = (height_px, width_px)
        floats = torch.nn.functional.interpolate(tensor, size=size, mode=mode, align_corners=False)
        expected = floats.clamp(0, 255)[0].permute(1, 2, 0).numpy()

        found = resize(image, height_px, width_px, f"torch-{mode}")
        assert np.abs(found - expected).max() <= 0.5 + 1e-3
        clear = np.abs(expected % 1 - 0.5) > 1e-3
        np.testing.assert_array_equal(found[clear], np.rint(expected)[clear])


@pytest.mark.parametrize("name", ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"])
def test_the_filters_of_pillow_have_its_pixels(name):
    for image, height_px, width_px in pictures(4):
        expected = Image.fromarray(image).resize((width_px, height_px), Image.Resampling[name.upper()])
        np.testing.assert_array_equal(resize(image, height_px, width_px, f"pil-{name}"), np.asarray(expected))


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("linear", cv2.INTER_LINEAR),
        ("nearest", cv2.INTER_NEAREST),
        ("cubic", cv2.INTER_CUBIC),
        ("area", cv2.INTER_AREA),
        ("lanczos", cv2.INTER_LANCZOS4),
    ],
)
def test_the_filters_of_opencv_have_its_pixels(name, flag):
    for image, height_px, width_px in pictures(5):
        expected = cv2.resize(image, (width_px, height_px), interpolation=flag)
        np.testing.assert_array_equal(resize(image, height_px, width_px, name), expected)


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("statistics", [IMAGENET, ((0.5,) * 3, (0.5,) * 3)], ids=["imagenet", "half"])
def test_the_normalisation_is_that_of_the_libraries_to_the_digits_that_the_manual_states(statistics, torchvision):
    import torch

    mean, std = statistics
    transforms = load("transformers.image_transforms", "transformers")
    image = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    found = replace(STRETCH, mean=mean, std=std).levels()

    scaled = transforms.rescale(image.transpose(2, 0, 1), 1 / 255)
    of_pil = transforms.normalize(scaled, mean, std, input_data_format="channels_first")
    np.testing.assert_array_equal(found, of_pil[:, :, 0])

    in_levels = [torch.tensor(numbers) * 255.0 for numbers in statistics]
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    fused = torchvision.normalize(tensor.to(torch.float32), *in_levels)[:, :, 0].numpy()
    own = replace(STRETCH, scale=1.0, mean=tuple(in_levels[0].tolist()), std=tuple(in_levels[1].tolist()))
    np.testing.assert_array_equal(own.levels(), fused)

    others = [
        torchvision.normalize(torchvision.to_dtype(tensor, torch.float32, scale=True), mean, std)[:, :, 0].numpy(),
        (((image / 255.0) - np.array(mean)) / np.array(std)).astype(np.float32)[:, 0].T,
        fused,
    ]
    assert max(np.abs(found - other).max() for other in others) < 1e-6


# -------------------------------------------------------------------------------------------------------------- sizes


def sizes(seed):
    rng = np.random.default_rng(seed)
    return [*rng.integers(1, 2000, (400, 2)).tolist(), [1, 1], [1, 1999], [97, 97], [96, 97], [97, 500], [3000, 1]]


@pytest.mark.parametrize("longest", [0, 150, 1000])
def test_the_short_side_is_torchvisions(longest):
    geometry = load("torchvision.transforms.v2.functional._geometry", "torchvision")
    short = replace(FREE, mode="short-side", short_side_px=97, max_long_side_px=longest)
    for shape in sizes(longest):
        rows, columns = geometry._compute_resized_output_size(tuple(shape), [97], max_size=longest or None)
        assert resized_hw(*shape, short) == (max(1, rows), max(1, columns)), shape


@pytest.mark.parametrize("longest", [0, 97, 150, 1000])
def test_the_short_side_is_that_of_hugging_face(longest):
    transforms = load("transformers.image_transforms", "transformers")
    short = replace(FREE, mode="short-side", short_side_px=97, max_long_side_px=longest)
    for height_px, width_px in sizes(longest):
        rows, columns = transforms.get_size_with_aspect_ratio((height_px, width_px), 97, longest or None)
        found = resized_hw(height_px, width_px, replace(short, rounding="detr"))
        assert found == (max(1, rows), max(1, columns)), (height_px, width_px)
        if longest != 97:
            image = np.empty((height_px, width_px, 1), np.uint8)
            expected = transforms.get_resize_output_image_size(image, 97, False, longest or None, "channels_last")
            assert resized_hw(height_px, width_px, short) == tuple(max(1, side) for side in expected)


@pytest.mark.parametrize("multiple", [1, 32])
def test_the_closest_side_is_dpts(multiple):
    dpt = load("transformers.models.dpt.image_processing_pil_dpt", "transformers")
    closest = replace(FREE, mode="closest-side", target_hw=(96, 128), multiple_of=multiple, to_multiple="resize")
    for height_px, width_px in sizes(multiple):
        image = np.empty((1, height_px, width_px), np.uint8)
        expected = dpt.get_resize_output_image_size(image, (96, 128), True, multiple)
        rows, columns = expected.height, expected.width
        assert resized_hw(height_px, width_px, closest) == (max(multiple, rows), max(multiple, columns))


def test_a_crop_is_that_of_torchvision_and_of_hugging_face(torchvision):
    transforms = load("transformers.image_transforms", "transformers")
    crop = replace(FREE, height_px=65, width_px=48, cropped=True, padding=(0, 0, 0), channel_order="bgr")
    for image, _, _ in pictures(6):
        if min(image.shape[0] - 65, image.shape[1] - 48) >= 0:  # smaller ones have two roundings of their padding
            expected = transforms.center_crop(image, (65, 48), "channels_last", "channels_last")
            np.testing.assert_array_equal(fit(image, crop), expected)
        tensor = torchvision.pil_to_tensor(Image.fromarray(image))
        expected = torchvision.center_crop(tensor, [65, 48]).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(fit(image, replace(crop, align="centre-even")), expected)
