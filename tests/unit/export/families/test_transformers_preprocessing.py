"""What image processors of real checkpoints write becomes keys of the document, or is refused by name."""

import json
import re

import pytest

from fsf_core.export.families.optional import load

load("transformers", "transformers")

from fsf_core.export.families.transformers.preprocessing import read_preprocessing  # noqa: E402 - needs the library

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "do_normalize": True}
LEVELS = {"channel_order": "rgb", "scale": 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
HALVES = {"channel_order": "rgb", "scale": 255, "mean": [0.5] * 3, "std": [0.5] * 3}


def read(path, model_type, content, *, name="preprocessor_config.json"):
    (path / name).write_text(json.dumps(content))
    return read_preprocessing(path, {"model_type": model_type})


def keys(found):
    """Return the document without the filter, which depends on the library's backend."""
    return {key: value for key, value in found.document.items() if key != "interpolation"}


@pytest.mark.parametrize(
    ("model_type", "content", "expected"),
    [
        pytest.param(
            "segformer",
            {
                **IMAGENET,
                "do_resize": True,
                "feature_extractor_type": "SegformerFeatureExtractor",
                "resample": 2,
                "reduce_labels": True,
                "size": 96,
            },
            {**LEVELS, "resize": "stretch", "size": "96x96"},
            id="segformer-of-2022",
        ),
        pytest.param(
            "upernet",
            {
                **IMAGENET,
                "do_resize": True,
                "do_rescale": True,
                "do_reduce_labels": True,
                "resample": 2,
                "image_processor_type": "SegformerImageProcessor",
                "rescale_factor": 0.00392156862745098,
                "size": {"height": 96, "width": 64},
            },
            {**LEVELS, "resize": "stretch", "size": "96x64"},
            id="upernet",
        ),
        pytest.param(
            "dpt",
            {
                "do_normalize": True,
                "do_resize": True,
                "ensure_multiple_of": 1,
                "image_mean": [0.5] * 3,
                "image_std": [0.5] * 3,
                "feature_extractor_type": "DPTFeatureExtractor",
                "keep_aspect_ratio": False,
                "resample": 2,
                "size": 96,
            },
            {**HALVES, "resize": "stretch", "size": "96x96"},
            id="dpt-large-ade",
        ),
        pytest.param(
            "dpt",
            {
                "do_normalize": True,
                "do_resize": True,
                "ensure_multiple_of": 32,
                "keep_aspect_ratio": True,
                "image_mean": [0.5] * 3,
                "image_std": [0.5] * 3,
                "image_processor_type": "DPTImageProcessor",
                "resample": 3,
                "size": {"height": 96, "width": 96},
            },
            {**HALVES, "resize": "closest-side", "size": "96x96", "multiple_of": 32, "to_multiple": "resize"},
            id="dpt-aspect-ratio",
        ),
        pytest.param(
            "beit",
            {
                "crop_size": 64,
                "do_center_crop": False,
                "do_normalize": True,
                "do_resize": True,
                "image_mean": [0.5] * 3,
                "image_std": [0.5] * 3,
                "feature_extractor_type": "BeitFeatureExtractor",
                "resample": 2,
                "size": 64,
                "reduce_labels": True,
            },
            {**HALVES, "resize": "stretch", "size": "64x64"},
            id="beit-of-2022",
        ),
        pytest.param(
            "mobilevit",
            {
                "crop_size": {"height": 64, "width": 64},
                "do_center_crop": True,
                "do_flip_channel_order": True,
                "do_rescale": True,
                "do_resize": True,
                "image_processor_type": "MobileViTImageProcessor",
                "resample": 2,
                "rescale_factor": 0.00392156862745098,
                "size": {"shortest_edge": 72},
            },
            {
                "channel_order": "bgr",
                "scale": 255,
                "mean": [0.0] * 3,
                "std": [1.0] * 3,
                "resize": "short-side",
                "short_side": 72,
                "rounding": "truncate",
                "crop": "64x64",
                "uncovered": "stretch",
                "padding": [0, 0, 0],
                "align": "centre",
            },
            id="deeplabv3-mobilevit",
        ),
        pytest.param(
            "mask2former",
            {
                **IMAGENET,
                "do_rescale": True,
                "do_resize": True,
                "ignore_index": 255,
                "num_labels": 150,
                "resample": 2,
                "image_processor_type": "Mask2FormerImageProcessor",
                "reduce_labels": True,
                "rescale_factor": 0.00392156862745098,
                "size": {"height": 96, "width": 96},
                "size_divisor": 0,
            },
            {**LEVELS, "resize": "stretch", "size": "96x96"},
            id="mask2former-swin-ade-semantic",
        ),
        pytest.param(
            "maskformer",
            {
                **IMAGENET,
                "do_resize": True,
                "feature_extractor_type": "MaskFormerFeatureExtractor",
                "ignore_index": 255,
                "max_size": 160,
                "reduce_labels": True,
                "resample": 2,
                "size": 64,
                "size_divisibility": 32,
            },
            {
                **LEVELS,
                "resize": "short-side",
                "short_side": 64,
                "max_long_side": 160,
                "rounding": "detr",
                "multiple_of": 32,
                "to_multiple": "resize-up",
            },
            id="maskformer-of-2022",
        ),
        pytest.param(
            "oneformer",
            {
                **IMAGENET,
                "class_info_file": "ade20k_panoptic.json",
                "do_resize": True,
                "ignore_index": 255,
                "image_processor_type": "OneFormerImageProcessor",
                "num_text": 134,
                "num_labels": 150,
                "repo_path": "shi-labs/oneformer_demo",
                "size": {"shortest_edge": 64, "longest_edge": 256},
                "max_size": 256,
                "do_reduce_labels": True,
            },
            {**LEVELS, "resize": "short-side", "short_side": 64, "max_long_side": 256, "rounding": "detr"},
            id="oneformer",
        ),
        pytest.param(
            "segformer",
            {"do_resize": False, "do_normalize": False, "do_rescale": False},
            {"channel_order": "rgb", "scale": 1.0, "mean": [0.0] * 3, "std": [1.0] * 3, "resize": "own"},
            id="levels-as-they-are",
        ),
    ],
)
def test_settings_become_keys(tmp_path, model_type, content, expected):
    found = read(tmp_path, model_type, content)
    assert found.why_not == ""
    assert keys(found) == expected


@pytest.mark.parametrize(
    ("model_type", "content", "reason"),
    [
        ("segformer", {**IMAGENET, "do_blur": True}, "do_blur may change pixels, and is unknown here"),
        ("segformer", {**IMAGENET, "do_center_crop": True}, "do_center_crop may .* ignored by SegformerImageProcessor"),
        ("mask2former", {**IMAGENET, "size": {"height": 64, "width": 64}, "size_divisor": 0,
                         "pad_size": {"height": 80, "width": 80}}, "stretches the padding"),
        ("eomt", {"do_split_image": True}, "overlapping windows"),
        ("eomt", {"do_pad": True, "size": {"shortest_edge": 64, "longest_edge": 64}}, "stretches the padding"),
        ("dpt", {"do_pad": True, "size_divisor": 14, "size": 96}, "no level of an image"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_over_is_named_and_left_to_be_asked_for(tmp_path, model_type, content, reason):
    found = read(tmp_path, model_type, content)
    assert re.search(reason, found.why_not)
    assert "resize" not in found.document


def test_a_filter_that_differs_for_large_images_alone_is_left_to_be_asked_for(tmp_path, monkeypatch):
    from torchvision.transforms.v2 import functional

    resize = functional.resize
    monkeypatch.setattr(functional, "resize", lambda *given, **more: resize(*given, **{**more, "antialias": False}))
    found = read(tmp_path, "segformer", {**IMAGENET, "size": 512})
    assert "the filter of SegformerImageProcessor differs" in found.why_not
    assert keys(found) == {**LEVELS, "resize": "stretch", "size": "512x512"}


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text("{")
    found = read_preprocessing(tmp_path, {"model_type": "segformer"})
    assert found.document == {}
    assert found.why_not.startswith("preprocessor_config.json cannot be read: ")


def test_the_file_may_be_that_of_a_whole_processor(tmp_path):
    content = {"image_processor": {**IMAGENET, "image_processor_type": "SegformerImageProcessor", "size": 64}}
    found = read(tmp_path, "segformer", content, name="processor_config.json")
    assert keys(found) == {**LEVELS, "resize": "stretch", "size": "64x64"}
    assert found.file == "processor_config.json"


def test_of_two_files_that_of_the_whole_processor_counts_where_it_has_the_settings(tmp_path):
    """A release that keeps one file leaves the other of an older one in the folder."""
    own = {**IMAGENET, "image_processor_type": "SegformerImageProcessor", "size": 64}
    read(tmp_path, "segformer", own)
    both = read(tmp_path, "segformer", {"image_processor": own | {"size": 96}}, name="processor_config.json")
    assert (both.document["size"], both.file) == ("96x96", "processor_config.json")
    legacy = read(tmp_path, "segformer", {"processor_class": "SomeProcessor"}, name="processor_config.json")
    assert (legacy.document["size"], legacy.file) == ("64x64", "preprocessor_config.json")
    (tmp_path / "preprocessor_config.json").unlink()
    assert read_preprocessing(tmp_path, {"model_type": "segformer"}).document == {}


def test_a_folder_without_such_a_file_gives_nothing(tmp_path):
    assert read_preprocessing(tmp_path, {"model_type": "segformer"}).document == {}
