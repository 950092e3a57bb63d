"""Exports of Ultralytics are known by their metadata, and read as its predictor reads them; others are refused."""

import pickle
import zipfile

import pytest

from fsf_core.errors import ConfigError
from fsf_core.export.families import ultralytics
from fsf_core.export.families.found import FamilyRequest
from tests.support.deployed_onnx import deployed_onnx

METADATA = {
    "author": "Ultralytics",
    "task": "semantic",
    "stride": "32",
    "batch": "1",
    "imgsz": "[256, 320]",
    "names": "{0: 'road', 1: 'sky', 2: 'car', 3: 'tree', 4: 'person'}",
    "channels": "3",
    "args": "{'batch': 1, 'half': False, 'dynamic': False}",
}
DYNAMIC = METADATA | {"args": "{'batch': 1, 'dynamic': True}"}
LETTERBOX = {
    "size": "256x320",
    "resize": "letterbox",
    "rounding": "half-even",
    "interpolation": "linear",
    "channel_order": "rgb",
    "scale": 255,
    "mean": 0,
    "std": 1,
    "padding": 114,
    "align": "centre",
}


def saved(tmp_path, **options):
    path = tmp_path / "best"
    path.write_bytes(deployed_onnx(**{"metadata": METADATA, "end": "uint8 NHW", **options}).SerializeToString())
    return path


def read(path, **options):
    assert ultralytics.recognises(path)
    return ultralytics.read(path, FamilyRequest(source="best.onnx", **options))


def test_a_semantic_export_of_one_size(tmp_path):
    found = read(saved(tmp_path, size=(256, 320)))
    assert found.document == {"input": LETTERBOX, "output": {"kind": "class_map", "corners": "asymmetric"}}
    assert found.classes == ("road", "sky", "car", "tree", "person")
    assert not found.notes


def test_a_dynamic_export_is_padded_to_multiples_of_its_stride(tmp_path):
    found = read(saved(tmp_path, metadata=DYNAMIC))
    assert found.document["input"] == LETTERBOX | {"multiple_of": 32}
    assert "multiples of 32" in found.notes[0]


def test_logits_are_enlarged_to_the_input_first(tmp_path):
    found = read(saved(tmp_path, end="logits", enlarge=False))
    assert found.document["output"] == {"kind": "logits", "layout": "NKHW", "resized": "logits", "grid": "input"}


def test_logits_of_one_class_are_foreground_above_0(tmp_path):
    found = read(saved(tmp_path, end="logits", num_classes=1, metadata=METADATA | {"names": "{0: 'road'}"}))
    assert found.document["output"]["kind"] == "binary_logit"


@pytest.mark.parametrize(("imgsz", "size"), [("640", "640x640"), ("(384, 640)", "384x640"), ("[]", None), ("?", None)])
def test_the_size_is_what_the_metadata_has(imgsz, size):
    assert ultralytics.input_keys(METADATA | {"imgsz": imgsz}).get("size") == size


@pytest.mark.parametrize("task", ["detect", "obb", "pose", "classify", "depth", "novel"])
def test_other_tasks_are_refused_with_what_they_give(tmp_path, task):
    with pytest.raises(
        ConfigError, match=rf"for the task '{task}'.*expected semantic \(-sem\) or segment.*yolo export"
    ):
        read(saved(tmp_path, metadata=METADATA | {"task": task}))


@pytest.mark.parametrize(("task", "given"), [("semantic", "abcd"), ("segment", "abcde"), ("segment", "abcdefg")])
def test_another_number_of_names_is_refused_before_a_class_is_met(tmp_path, task, given):
    with pytest.raises(ConfigError, match=rf"{len(given)} class names are given, but the metadata .* has 5 classes"):
        read(saved(tmp_path, metadata=METADATA | {"task": task}), classes=tuple(given))


def test_names_that_are_given_replace_those_of_the_metadata(tmp_path):
    assert read(saved(tmp_path), classes=tuple("abcde")).document["output"]["kind"] == "class_map"


def test_images_of_other_channels_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="images of 4 channels, expected 3"):
        read(saved(tmp_path, metadata=METADATA | {"channels": "4"}))


def test_a_pickled_model_is_refused_with_the_command_that_exports_it(tmp_path):
    path = tmp_path / "weights"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("best/data.pkl", b"\x80\x02cultralytics.nn.tasks\nSemanticModel\nq\x00.")
    with pytest.raises(ConfigError, match=r"pickled Python objects.*yolo export model=FILE\.pt format=onnx"):
        read(path)


def test_an_export_for_another_runtime_is_refused(tmp_path):
    (tmp_path / "metadata.yaml").write_text("task: semantic\nstride: 32\nimgsz: [640, 640]\nnames: {0: a}\n")
    with pytest.raises(ConfigError, match="for another runtime, expected its ONNX file"):
        read(tmp_path)


def test_what_is_not_of_ultralytics_is_left_to_others(tmp_path):
    other = tmp_path / "other"
    other.write_bytes(deployed_onnx(end="logits", metadata={"names": "a,b", "task": "semantic"}).SerializeToString())
    weights = tmp_path / "weights"
    with zipfile.ZipFile(weights, "w") as archive:
        archive.writestr("best/data.pkl", pickle.dumps({"a": 1}))
    text = tmp_path / "metadata.yaml"
    text.write_text("task: [")
    assert not any(map(ultralytics.recognises, (other, weights, text, tmp_path, tmp_path / "missing")))
