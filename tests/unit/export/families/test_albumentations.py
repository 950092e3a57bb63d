"""A transform that albumentations saved beside a model tells of its input what this project repeats exactly."""

import json

import pytest

from fsf_core.export.families.albumentations import NAME, input_of_transform
from fsf_core.export.model_document import read_value

NORMALIZE = {
    "__class_fullname__": "Normalize",
    "p": 1.0,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "max_pixel_value": 255.0,
    "normalization": "standard",
}
RESIZE = {"__class_fullname__": "Resize", "p": 1.0, "height": 256, "width": 320, "interpolation": 1}
PAD = {
    "__class_fullname__": "PadIfNeeded",
    "p": 1.0,
    "min_height": None,
    "min_width": None,
    "pad_height_divisor": 32,
    "pad_width_divisor": 32,
    "position": "center",
    "border_mode": 0,
    "fill": 0.0,
}
TENSOR = {"__class_fullname__": "albumentations.pytorch.transforms.ToTensorV2", "p": 1.0, "transpose_mask": False}
LEVELS = {"scale": 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def read(folder, *steps, text=None):
    compose = {"__class_fullname__": "Compose", "p": 1.0, "transforms": list(steps)}
    (folder / NAME).write_text(text or json.dumps({"__version__": "1.4.24", "transform": compose}))
    found, note = input_of_transform(folder)
    return found and {key: read_value("input", key, value, key) for key, value in found.items()}, note


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([RESIZE, NORMALIZE], {"resize": "stretch", "size": (256, 320), "interpolation": "linear"} | LEVELS),
        ([RESIZE | {"interpolation": 2}, NORMALIZE, TENSOR], {"interpolation": "cubic"} | LEVELS),
        ([PAD, NORMALIZE], {"resize": "own", "multiple_of": 32, "padding": (0, 0, 0), "align": "centre"} | LEVELS),
        (
            [PAD | {"border_mode": 4, "position": "top_left"}, NORMALIZE],
            {"padding_mode": "reflect", "align": "top-left"},
        ),
        ([RESIZE, NORMALIZE | {"max_pixel_value": 1, "mean": 0, "std": 1}], {"scale": 1, "mean": (0,) * 3}),
    ],
    ids=["resize", "cubic", "padding", "mirrored", "levels"],
)
def test_steps_become_entries_of_the_document(steps, expected, tmp_path):
    found, note = read(tmp_path, *steps)
    assert {key: found.get(key) for key in expected} == expected
    assert (note == "") == ("scale" in found)


def test_a_transform_without_normalisation_leaves_it_open(tmp_path):
    found, note = read(tmp_path, RESIZE, TENSOR)
    assert found.keys() == {"resize", "size", "interpolation"}
    assert "no step for the normalisation" in note


@pytest.mark.parametrize(
    ("steps", "named"),
    [
        ([{"__class_fullname__": "LongestMaxSize", "p": 1.0, "max_size": 512}, NORMALIZE], "LongestMaxSize"),
        ([NORMALIZE, PAD], "PadIfNeeded after Normalize"),
        ([PAD | {"pad_width_divisor": 64}, NORMALIZE], "PadIfNeeded to another size"),
        ([RESIZE | {"interpolation": 4}, NORMALIZE], "Resize with OpenCV's filter 4"),
        ([RESIZE, NORMALIZE | {"normalization": "min_max"}], "Normalize by min_max"),
        ([RESIZE | {"p": 0.5}, NORMALIZE], "Resize with probability 0.5"),
    ],
)
def test_a_step_that_is_not_repeated_exactly_is_named_and_nothing_is_taken(steps, named, tmp_path):
    found, note = read(tmp_path, *steps)
    assert found is None
    assert named in note


@pytest.mark.parametrize("text", ["{", "[]", '{"transform": {"transforms": [1]}}', '{"transform": null}'])
def test_another_document_is_no_transform(text, tmp_path):
    found, note = read(tmp_path, text=text)
    assert found is None
    assert "cannot be read" in note


def test_a_folder_without_a_transform_needs_no_word(tmp_path):
    assert input_of_transform(tmp_path) == ({}, "")
