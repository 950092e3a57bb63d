"""An exported model of PaddleSeg is read from the transforms of its document; others are refused by name."""

import pytest
import yaml

from fsf_core.errors import ConfigError
from fsf_core.export.families import paddleseg
from fsf_core.export.families.found import FamilyRequest
from tests.support.deployed_onnx import deployed_onnx

NORMALIZE = {"type": "Normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
RESIZE = {"type": "Resize", "target_size": [1024, 512]}
DEPLOY = {
    "model": "model.pdmodel",
    "params": "model.pdiparams",
    "transforms": [RESIZE, NORMALIZE],
    "input_shape": [-1, 3, -1, -1],
    "output_op": "argmax",
    "output_dtype": "int32",
}
KNOWN = {
    "interpolation": "linear",
    "channel_order": "rgb",
    "scale": 255,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


def folder(tmp_path, deploy=DEPLOY, name="deploy.yaml"):
    (tmp_path / name).write_text(yaml.safe_dump({"Deploy": deploy}))
    (tmp_path / "model.onnx").write_bytes(deployed_onnx(end="int32 NHW").SerializeToString())
    return tmp_path


def read(path):
    assert paddleseg.recognises(path)
    return paddleseg.read(path, FamilyRequest(source="inference_model"))


def input_keys(*steps):
    return paddleseg.document_of(DEPLOY | {"transforms": list(steps)}, "deploy.yaml")["input"]


@pytest.mark.parametrize("given", [".", "model.onnx"])
@pytest.mark.parametrize("name", ["deploy.yaml", "inference.yml"])
def test_a_folder_and_its_model_are_read_alike(tmp_path, given, name):
    found = read(folder(tmp_path, name=name) / given)
    assert found.onnx == str(tmp_path / "model.onnx")
    assert found.document == {
        "input": KNOWN | {"resize": "stretch", "size": "512x1024"},
        "output": {"kind": "class_map", "corners": "asymmetric"},
    }
    assert "floating-point numbers" in found.notes[0]


@pytest.mark.parametrize(("output_op", "kind"), [("softmax", "probabilities"), ("none", "logits"), (None, None)])
def test_the_end_of_the_graph_is_what_the_document_has(output_op, kind):
    output = paddleseg.document_of(DEPLOY | {"output_op": output_op}, "deploy.yaml")["output"]
    assert output.get("kind") == kind
    assert output.get("resized") == ("logits" if output_op == "none" else None)


def test_normalize_without_numbers_has_those_of_paddleseg():
    keys = input_keys({"type": "Normalize"})
    assert (keys["scale"], keys["mean"], keys["std"], keys["resize"]) == (255, [0.5], [0.5], "own")


def test_without_transforms_the_levels_are_taken_as_they_are():
    keys = paddleseg.document_of(DEPLOY | {"transforms": None}, "deploy.yaml")["input"]
    assert (keys["resize"], keys["scale"], keys["mean"], keys["std"]) == ("own", 1, 0, 1)


def test_a_kept_ratio_limits_both_sides():
    keys = input_keys(RESIZE | {"keep_ratio": True, "size_divisor": 32}, NORMALIZE)
    sides = {"resize": "short-side", "short_side": 512, "max_long_side": 1024, "rounding": "half-even"}
    assert keys == KNOWN | sides | {"multiple_of": 32, "to_multiple": "resize-up"}


def test_a_divisor_rounds_a_fixed_size_up():
    assert input_keys(RESIZE | {"target_size": [398, 224], "size_divisor": 32})["size"] == "224x416"


def test_resizes_by_one_side():
    keys = input_keys({"type": "ResizeByLong", "long_size": 600})
    assert (keys["short_side"], keys["max_long_side"]) == (600, 600)
    keys = input_keys({"type": "ResizeByShort", "short_size": 400})
    assert (keys["short_side"], "max_long_side" in keys) == (400, False)


def test_padding_to_a_square_is_a_letterbox_at_the_top_left():
    keys = input_keys(
        {"type": "ResizeByLong", "long_size": 512}, {"type": "Padding", "target_size": [512, 512]}, NORMALIZE
    )
    letterbox = {"resize": "letterbox", "size": "512x512", "rounding": "half-even", "align": "top-left"}
    assert keys == KNOWN | letterbox | {"padding": [128, 128, 128]}


def test_padding_behind_normalize_is_brought_back_to_levels():
    steps = RESIZE | {"target_size": [512, 512], "keep_ratio": True}, NORMALIZE
    keys = input_keys(*steps, {"type": "Padding", "target_size": [512, 512], "im_padding_value": 0})
    assert keys["padding"] == [124, 116, 104]


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ({"type": "LimitLong", "max_long": 2048}, "the transform 'LimitLong'"),
        ({"type": "ResizeByShort", "short_size": 400, "max_size": 900}, "max_size of ResizeByShort"),
        (RESIZE | {"interp": "RANDOM"}, "interp 'RANDOM'"),
        (RESIZE | {"target_size": [512]}, r"the size \[512\]"),
        (RESIZE | {"target_size": [512, True]}, "the size True"),
        ({"type": "Padding", "target_size": [512, 512]}, "Padding to"),
        ({"type": "ResizeByLong"}, "the size None"),
        (NORMALIZE | {"std": [1, 2]}, "std"),
        ("Resize", "the transforms"),
    ],
)
def test_transforms_that_are_not_supported_are_refused(step, reason):
    with pytest.raises(ConfigError, match=rf"{reason}.*not supported; expected .*--model-config"):
        input_keys(step)


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([{"type": "ResizeByShort", "short_size": 512}, RESIZE], "Resize behind another transform of the size"),
        (
            [RESIZE | {"target_size": [64, 64], "keep_ratio": True}, NORMALIZE, {"type": "Padding", "target_size": 64}],
            r"im_padding_value 127\.5, the levels \[75",
        ),
    ],
)
def test_transforms_that_keys_cannot_express_together_are_refused(steps, reason):
    with pytest.raises(ConfigError, match=f"{reason}.*not supported"):
        input_keys(*steps)


def test_a_folder_without_an_onnx_file_is_refused_with_the_command_that_converts_it(tmp_path):
    (folder(tmp_path) / "model.onnx").unlink()
    (tmp_path / "inference.json").touch()
    (tmp_path / "inference.pdiparams").touch()
    with pytest.raises(
        ConfigError, match=r"paddle2onnx .*--model_filename inference\.json --params_filename inference\."
    ):
        read(tmp_path)


def test_of_several_onnx_files_one_has_to_be_named(tmp_path):
    (folder(tmp_path) / "half.onnx").touch()
    with pytest.raises(ConfigError, match=r"\['half.onnx', 'model.onnx'\]; give one of them"):
        read(tmp_path)


def test_other_folders_are_left_to_others(tmp_path):
    assert not paddleseg.recognises(tmp_path)
    for content in ("Deploy: [", "- a", "Deploy: {model: a}", "Deploy: 1"):
        (tmp_path / "deploy.yaml").write_text(content)
        assert not paddleseg.recognises(tmp_path)
    assert not paddleseg.recognises(folder(tmp_path) / "deploy.yaml")
