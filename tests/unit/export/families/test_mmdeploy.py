"""A folder of MMDeploy is read step by step, as its SDK runs it; steps that are not supported are refused by name."""

import json

import pytest

from fsf_core.config import ExportConfig
from fsf_core.errors import ConfigError
from fsf_core.export.families import mmdeploy
from fsf_core.export.families.found import FamilyRequest
from fsf_core.export.inspection import inspect_model
from fsf_core.export.job import export
from tests.support.deployed_onnx import deployed_onnx

NORMALIZE = {"type": "Normalize", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "to_rgb": True}
RESIZE = {"type": "Resize", "keep_ratio": False, "size": [1024, 512]}
COLLECT = {"type": "Collect", "keys": ["img"], "meta_keys": ["img_shape", "ori_shape"]}
LOAD = {"type": "LoadImageFromFile"}
TENSOR = {"type": "ImageToTensor", "keys": ["img"]}
STEPS = [LOAD, RESIZE, NORMALIZE, TENSOR, COLLECT]
DEPLOY = {
    "version": "1.3.1",
    "task": "Segmentor",
    "models": [{"name": "fcn", "net": "end2end.onnx", "weights": "", "backend": "onnxruntime", "batch_size": 1}],
    "customs": [],
}
KNOWN = {
    "channel_order": "rgb",
    "scale": 1,
    "mean": [123.675, 116.28, 103.53],
    "std": [58.395, 57.12, 57.375],
    "interpolation": "linear",
    "honour_exif": True,
}


def pipeline(steps=STEPS, **parameters):
    tasks = [
        {"type": "Task", "module": "Transform", "name": "Preprocess", "transforms": steps},
        {"name": "fcn", "type": "Task", "module": "Net", "input_map": {"img": "input"}},
        {
            "type": "Task",
            "module": "mmseg",
            "name": "postprocess",
            "component": "ResizeMask",
            "params": {"type": "FCNHead", "num_classes": 5, "with_argmax": True, **parameters},
        },
    ]
    return {"pipeline": {"input": ["img"], "output": ["post_output"], "tasks": tasks}}


def folder(tmp_path, *, steps=STEPS, deploy=DEPLOY, **parameters):
    (tmp_path / "deploy.json").write_text(json.dumps(deploy))
    (tmp_path / "pipeline.json").write_text(json.dumps(pipeline(steps, **parameters)))
    (tmp_path / "detail.json").write_text(json.dumps({"codebase": {"config": "fcn_cityscapes-512x1024.py"}}))
    (tmp_path / "end2end.onnx").write_bytes(deployed_onnx(end="int64 N1HW").SerializeToString())
    return tmp_path


def read(path, classes=("a", "b", "c", "d", "e")):
    assert mmdeploy.recognises(path)
    return mmdeploy.read(path, FamilyRequest(source="work_dir", classes=classes))


def input_keys(steps):
    return mmdeploy.document_of(pipeline(steps), "pipeline.json")[0]["input"]


@pytest.mark.parametrize("given", [".", "end2end.onnx"])
def test_a_folder_and_its_model_are_read_alike(tmp_path, given):
    found = read(folder(tmp_path) / given)
    assert found.onnx == str(tmp_path / "end2end.onnx")
    assert found.document == {
        "input": KNOWN | {"resize": "stretch", "size": "512x1024"},
        "output": {"kind": "class_map", "corners": "asymmetric"},
    }


def test_without_argmax_the_output_is_logits():
    document, classes = mmdeploy.document_of(pipeline(with_argmax=False, num_classes=150), "p")
    assert document["output"] == {"kind": "logits", "layout": "NKHW", "resized": "logits"}
    assert classes == 150


def test_a_kept_ratio_limits_both_sides():
    steps = [LOAD, RESIZE | {"keep_ratio": True, "size": [2048, 512]}, NORMALIZE]
    sides = {"resize": "short-side", "short_side": 512, "max_long_side": 2048, "rounding": "half-up"}
    assert input_keys(steps) == KNOWN | sides


def test_one_number_is_both_sides_and_a_negative_one_leaves_the_longer_free():
    assert input_keys([RESIZE | {"size": 640}, NORMALIZE])["size"] == "640x640"
    keys = input_keys([RESIZE | {"size": [256, -1]}, NORMALIZE])
    assert (keys["resize"], keys["short_side"], keys["rounding"]) == ("short-side", 256, "truncate")


def test_padding_behind_normalize_is_brought_back_to_levels():
    pad = {"type": "Pad", "size_divisor": 32, "pad_val": 0}
    keep = RESIZE | {"keep_ratio": True}
    keys = input_keys([keep, NORMALIZE, pad])
    assert (keys["multiple_of"], keys["to_multiple"], keys["align"]) == (32, "pad", "top-left")
    assert keys["padding"] == [124, 116, 104]
    assert input_keys([keep, NORMALIZE, pad | {"pad_val": {"img": [0, 0, 0]}}])["padding"] == [124, 116, 104]
    assert input_keys([keep, pad, NORMALIZE])["padding"] == [0, 0, 0]


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ({"type": "CenterCrop", "crop_size": 224}, "the step 'CenterCrop'"),
        (RESIZE | {"interpolation": "sinc"}, "the filter 'sinc'"),
        (RESIZE | {"size": [1, 2, 3]}, "the size"),
        (RESIZE | {"size": None}, "the size"),
        ({"type": "Pad", "size": [512, 512]}, "Pad with"),
        ({"type": "Pad", "size_divisor": 8, "padding_mode": "reflect"}, "padding_mode"),
        ({"type": "Pad", "size_divisor": 8, "pad_val": 255}, "pad_val 255 of Pad, the levels"),
        ({"type": "Pad", "size_divisor": 8, "pad_val": {"img": [10, 20, 30]}}, "pad_val .* of Pad"),
        ({"type": "Pad", "size_divisor": 8, "pad_val": []}, r"pad_val \[\] of Pad"),
        (NORMALIZE | {"mean": [0.5]}, "mean"),
        (NORMALIZE | {"std": None}, "std"),
        (LOAD | {"color_type": "grayscale"}, "color_type"),
    ],
)
def test_steps_that_are_not_supported_are_refused(step, reason):
    others = [other for other in STEPS if other["type"] != step["type"]]
    with pytest.raises(ConfigError, match=rf"{reason}.*not supported; expected .*--model-config"):
        input_keys([*others, step])


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([RESIZE, NORMALIZE, RESIZE], "the step Resize twice"),
        ([{"type": "Pad", "size_divisor": 8}, RESIZE, NORMALIZE], "Resize behind Pad"),
    ],
)
def test_an_order_of_steps_that_keys_cannot_express_is_refused(steps, reason):
    with pytest.raises(ConfigError, match=f"{reason}, which is not supported"):
        input_keys(steps)


def test_class_names_are_asked_for_with_what_is_known_of_them(tmp_path):
    found = read(folder(tmp_path), classes=())
    assert found.about_classes == "the model has 5 classes without names, which are those of fcn_cityscapes-512x1024.py"
    config = ExportConfig(model=str(tmp_path), out=str(tmp_path / "out"))
    with pytest.raises(ConfigError, match=r"no class names are given, .* none \(the model has 5 classes without names"):
        export(config)
    inspected = inspect_model(str(tmp_path))
    assert inspected.missing == ["classes"]
    assert found.about_classes in inspected.notes


def test_another_number_of_names_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"2 class names are given, but pipeline\.json of work_dir has 5 classes"):
        read(folder(tmp_path), classes=("a", "b"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"task": "Detector"}, "for the task 'Detector', expected a Segmentor"),
        ({"models": [DEPLOY["models"][0] | {"backend": "tensorrt", "net": "end2end.engine"}]}, "for tensorrt"),
        ({"models": [DEPLOY["models"][0] | {"net": "other.onnx"}]}, "which is not there"),
        ({"models": []}, "expected an ONNX file"),
    ],
)
def test_models_of_other_tasks_and_runtimes_are_refused(tmp_path, change, reason):
    with pytest.raises(ConfigError, match=reason):
        read(folder(tmp_path, deploy=DEPLOY | change))


def test_a_pipeline_of_no_segmentor_is_refused():
    broken = pipeline()
    broken["pipeline"]["tasks"].pop()
    with pytest.raises(ConfigError, match="ResizeMask"):
        mmdeploy.document_of(broken, "pipeline.json")


def test_other_folders_and_files_are_left_to_others(tmp_path):
    assert not mmdeploy.recognises(tmp_path)
    (tmp_path / "pipeline.json").write_text('{"pipeline": []}')
    (tmp_path / "deploy.json").write_text("[")
    assert not mmdeploy.recognises(tmp_path)
    assert not mmdeploy.recognises(tmp_path / "missing" / "end2end.onnx")
    assert not mmdeploy.recognises(folder(tmp_path) / "deploy.json")
