"""Files of QGIS Deepness carry their normalisation; how a picture becomes a tile is left to be asked for."""

import json

import pytest

from fsf_core.errors import ConfigError
from fsf_core.export.families import deepness
from fsf_core.export.families.found import FamilyRequest
from tests.support.deployed_onnx import deployed_onnx

METADATA = {
    "model_type": json.dumps("Segmentor"),
    "class_names": json.dumps({0: "_background", 1: "building", 2: "woodland", 3: "water", 4: "road"}),
    "resolution": json.dumps(50),
    "standardization_mean": json.dumps([0.485, 0.456, 0.406]),
    "standardization_std": json.dumps([0.229, 0.224, 0.225]),
}


def read(tmp_path, end="softmax", **changes):
    path = tmp_path / "landcover"
    path.write_bytes(deployed_onnx(end=end, metadata=METADATA | changes).SerializeToString())
    assert deepness.recognises(path)
    return deepness.read(path, FamilyRequest(source="landcover.onnx"))


def test_names_and_standardisation_are_read(tmp_path):
    found = read(tmp_path)
    assert found.classes == ("_background", "building", "woodland", "water", "road")
    assert found.document == {
        "input": {
            "channel_order": "rgb",
            "scale": 255,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
        "output": {},
    }


def test_without_standardisation_there_is_none():
    metadata = {"model_type": "Segmentor", "tile_size": "512", "seg_thresh": "0.3"}
    document = deepness.document_of(metadata, has_one_channel=True)
    assert document["input"] == {"channel_order": "rgb", "scale": 255, "mean": 0, "std": 1, "size": "512x512"}
    assert document["output"] == {"threshold": 0.3}


@pytest.mark.parametrize("mean", ["[1, 2]", "0.5", "[0.5, null, 1]", "mean"])
def test_a_standardisation_that_cannot_be_read_is_left_to_be_asked_for(mean):
    metadata = {"standardization_mean": mean, "standardization_std": "[0.5]"}
    document = deepness.document_of(metadata, has_one_channel=True)
    assert document["input"] == {"channel_order": "rgb", "scale": 255, "std": [0.5]}


def test_a_threshold_of_several_channels_is_a_note_because_class_0_is_what_deepness_makes_of_it(tmp_path):
    found = read(tmp_path, seg_thresh="0.5")
    assert found.document["output"] == {}
    assert "class 0 to pixels whose largest number is below seg_thresh 0.5" in found.notes[0]
    assert not read(tmp_path, seg_thresh="0").notes


@pytest.mark.parametrize("task", ["Detector", "Regressor", "superresolution"])
def test_other_tasks_are_refused(tmp_path, task):
    with pytest.raises(ConfigError, match=f"model_type {task}, expected Segmentor"):
        read(tmp_path, model_type=json.dumps(task))


def test_other_files_are_left_to_others(tmp_path):
    path = tmp_path / "m"
    for metadata in ({}, {"model_type": "Segmentor"}, {"model_type": "Unet", "resolution": "1"}):
        path.write_bytes(deployed_onnx(end="logits", metadata=metadata).SerializeToString())
        assert not deepness.recognises(path)
