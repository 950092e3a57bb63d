"""ONNX files of transformers are recognised by the configuration beside them, or above a folder named onnx."""

import json

import onnx
import pytest

from fsf_core.errors import ConfigError
from fsf_core.export.families import optimum
from fsf_core.export.families.found import FamilyRequest
from fsf_core.export.families.registry import family_of
from tests.support.tiny_onnx import tiny_onnx
from tests.unit.export.families.test_transformers_files import SEGFORMER, folder

REQUEST = FamilyRequest(source="model")
PREPROCESSING = {
    "image_processor_type": "SegformerImageProcessor",
    "do_resize": True, "size": {"height": 224, "width": 224}, "resample": 2,
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": False,
}  # fmt: skip
CONFIG = SEGFORMER | {"id2label": {"0": "floor", "1": "wall", "2": "door", "3": "lamp"}}


def write(path, *files, config=CONFIG):
    folder(path, config, preprocessor_config=PREPROCESSING)
    for name in files:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(tiny_onnx().SerializeToString())
    return path


@pytest.mark.parametrize("given", [".", "onnx/model.onnx"])
def test_preprocessing_and_classes_are_those_of_the_folder(tmp_path, given):
    write(tmp_path, "onnx/model.onnx")
    path = tmp_path / given
    assert family_of(path).name == "optimum"
    found = optimum.read(path, REQUEST)
    assert found.onnx == str(tmp_path / "onnx" / "model.onnx")
    assert found.classes == ("floor", "wall", "door", "lamp")
    assert found.document["input"]["size"] == "224x224"
    assert found.document["output"] == {"kind": "logits", "resized": "logits"}


def test_weights_come_first_and_other_files_are_not_claimed(tmp_path):
    write(tmp_path, "model.onnx", "model.safetensors")
    assert family_of(tmp_path).name == "transformers"
    assert optimum.recognises(tmp_path / "model.onnx")
    assert not optimum.recognises(tmp_path / "config.json")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet50"}))
    assert not optimum.recognises(tmp_path / "model.onnx")
    assert not optimum.recognises(tmp_path / "nothing.onnx")


def test_the_number_of_classes_is_that_of_the_configuration_whatever_they_are_called(tmp_path):
    write(tmp_path, "model.onnx", config=SEGFORMER | {"id2label": {"0": "LABEL_0"}})
    found = optimum.read(tmp_path, FamilyRequest(source="model", classes=("background", "crack")))
    assert (found.classes, found.document["output"]["kind"]) == ((), "binary_logit")


def test_one_of_several_files_is_asked_for(tmp_path):
    write(tmp_path, "onnx/model.onnx", "onnx/model_quantized.onnx")
    with pytest.raises(ConfigError, match=r"has the ONNX files \['onnx/model.onnx', 'onnx/model_quantized.onnx'\]"):
        optimum.read(tmp_path, REQUEST)


def test_a_model_with_queries_is_refused(tmp_path):
    config = {"model_type": "mask2former", "architectures": ["Mask2FormerForUniversalSegmentation"]}
    write(tmp_path, "model.onnx", config=config)
    with pytest.raises(ConfigError, match="is an ONNX file of mask2former, whose masks are made of queries"):
        optimum.read(tmp_path, REQUEST)


def test_an_unknown_architecture_is_refused(tmp_path):
    write(tmp_path, "model.onnx", config=CONFIG | {"model_type": "newformer"})
    with pytest.raises(ConfigError, match=r"cannot be read: .*; expected one of a model that transformers knows"):
        optimum.read(tmp_path, REQUEST)


def test_the_scores_are_chosen_among_other_outputs(tmp_path):
    write(tmp_path, "model.onnx")
    model = tiny_onnx()
    model.graph.output[0].name, model.graph.node[-1].output[0] = "logits", "logits"
    model.graph.node.append(onnx.helper.make_node("Identity", ["logits"], ["again"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("again", onnx.TensorProto.FLOAT, None))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert optimum.read(tmp_path, REQUEST).document["output"]["name"] == "logits"
